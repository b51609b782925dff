#!/usr/bin/env python3
"""Writes tests/data/quant/blocks.safetensors: blocks of every GGUF type and their values by the PyPI package `gguf`,
and the codes of F8.

    ~/.cache/aha-venv/bin/pip install -r tools/requirements-golden.txt
    ~/.cache/aha-venv/bin/python tools/quant_golden.py tests/data/quant/blocks.safetensors

For each type NAME:
  NAME.blocks  U8 [n, block_bytes]  zero, all ones, plausible and random blocks
  NAME.values  F32 [n, block]       what they decode to
  NAME.sum     I64 [1]              of 2048 further random blocks, whose bytes are splitmix64 of 0, 1, 2, ...: the sum of
                                    (bits of value i) * (2 i + 1) modulo 2^64, a NaN counting as 0x7fc00000.  They reach
                                    every row of every grid.
and F8_E4M3.values F32 [256], what PyTorch makes of each code.
"""
import sys

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants
from safetensors.torch import save_file

TYPES = ("Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S IQ4_NL IQ4_XS "
         "TQ1_0 MXFP4").split()
MANY = 2048


def splitmix(n):
    """n bytes"""
    z = (np.arange(1, n // 8 + 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (z ^ (z >> np.uint64(31))).view(np.uint8)[:n]


def values(t, blocks):
    with np.errstate(all="ignore"):
        return np.ascontiguousarray(quants.dequantize(blocks.copy(), t).reshape(len(blocks), -1), dtype=np.float32)


def main():
    out = {}
    for name in TYPES:
        t = GGMLQuantizationType[name]
        block, size = GGML_QUANT_SIZES[t]
        rng = np.random.Generator(np.random.Philox(int(t)))
        blocks = [np.zeros((1, size), np.uint8), np.full((1, size), 255, np.uint8), rng.integers(0, 256, (2, size), dtype=np.uint8)]
        try:
            blocks.append(quants.quantize(rng.standard_normal((1, block)).astype(np.float32), t).reshape(1, size))
        except NotImplementedError:
            pass  # the package only decodes this type
        blocks = np.concatenate(blocks)
        many = values(t, splitmix(MANY * size).reshape(MANY, size)).reshape(-1)
        bits = np.where(np.isnan(many), np.uint32(0x7FC00000), many.view(np.uint32)).astype(np.uint64)
        total = (bits * (np.arange(len(bits), dtype=np.uint64) * np.uint64(2) + np.uint64(1))).sum(dtype=np.uint64)
        out[name + ".blocks"] = torch.from_numpy(blocks)
        out[name + ".values"] = torch.from_numpy(values(t, blocks))
        out[name + ".sum"] = torch.tensor([int(total.view(np.int64))], dtype=torch.int64)
    out["F8_E4M3.values"] = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    save_file(out, sys.argv[1])


if __name__ == "__main__":
    main()
