#!/usr/bin/env python3
"""Opens a GGUF file with the PyPI package `gguf` and compares every decoded matrix with a second file of the same model in F32.

    ~/.cache/aha-venv/bin/python tools/gguf_reads.py FILE F32_FILE RELATIVE_ERROR
"""
import sys

import numpy as np
from gguf import GGUFReader, quants


def main():
    coded, plain = GGUFReader(sys.argv[1]), GGUFReader(sys.argv[2])
    want = {t.name: t for t in plain.tensors}
    assert [t.name for t in coded.tensors] == list(want), "other tensors"
    worst = 0.0
    for t in coded.tensors:
        x = quants.dequantize(want[t.name].data, want[t.name].tensor_type).ravel()
        y = quants.dequantize(t.data, t.tensor_type).ravel()
        worst = max(worst, float(np.linalg.norm(x - y) / max(np.linalg.norm(x), 1e-30)))
    fields = coded.fields
    assert len(fields["tokenizer.ggml.tokens"].contents()) == len(fields["tokenizer.ggml.token_type"].contents())
    assert fields["tokenizer.chat_template"].contents()
    print(f"{len(want)} tensors, the worst within {worst:.4f}")
    return worst > float(sys.argv[3])


if __name__ == "__main__":
    sys.exit(main())
