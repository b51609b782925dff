#!/usr/bin/env python3
"""Activations in 8 bits: how far predictions are from those of activations in f32, on aha-tiny and on the same model with
columns a thousand times as large as others, as real models have them.  Prints TAP."""
import array
import json
import os
import shutil
import struct
import sys

from taplib import TINY, aha, check, main, test

LARGE = (5, 70, 100)  # columns of the residual stream, 1,024 times as large: a power of two, so that nothing else changes
READERS = {  # a norm's gain, the matrices that read what it norms
    "input_layernorm": ("self_attn.q_a_proj", "self_attn.q_proj", "self_attn.kv_a_proj_with_mqa"),
    "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj", "mlp.gate", "mlp.shared_experts.gate_proj", "mlp.shared_experts.up_proj",
                                 "mlp.experts.*.gate_proj", "mlp.experts.*.up_proj"),
}


def scaled(bits, by):
    """BF16 times a power of two"""
    return struct.unpack("<I", struct.pack("<f", struct.unpack("<f", struct.pack("<I", bits << 16))[0] * by))[0] >> 16


def with_large_columns(d):
    """aha-tiny with the same answers: gains of LARGE times 1,024, the columns that they meet divided by it"""
    to = os.path.join(d, "large")
    shutil.copytree(TINY, to)
    path = os.path.join(to, "model.safetensors")
    with open(path, "rb") as f:
        data = bytearray(f.read())
    n = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8:8 + n])

    def change(name, by):
        at, (start, end) = head.get(name), head[name]["data_offsets"]
        check(at["dtype"] == "BF16", name, at["dtype"])
        x = array.array("H")
        x.frombytes(bytes(data[8 + n + start:8 + n + end]))
        cols = at["shape"][-1]
        for row in range(len(x) // cols):
            for c in LARGE:
                x[row * cols + c] = scaled(x[row * cols + c], by)
        data[8 + n + start:8 + n + end] = x.tobytes()

    changed = 0
    for name in head:
        for norm, readers in READERS.items():
            if not name.endswith("." + norm + ".weight"):
                continue
            change(name, 1024)
            layer = name[:-len(norm + ".weight")]
            for r in readers:
                parts = [r.replace("*", str(e)) for e in range(8)] if "*" in r else [r]
                for part in parts:
                    if layer + part + ".weight" in head:
                        change(layer + part + ".weight", 1 / 1024)
                        changed += 1
    check(changed > 40, changed)
    with open(path, "wb") as f:
        f.write(data)
    return to


def divergence(path, base, *args):
    rc, out, err = aha("eval", "kl", "-m", path, "--base", base, "--base-act", "f32", "--task", "countdown3", "--n", "48", "--json", *args)
    check(rc == 0, err)
    return json.loads(out)


def bounded(d, model, name, types):
    for t in types:
        path = os.path.join(d, f"{name}-{t}.gguf")
        rc, _, err = aha("convert", model, path, "--type", t)
        check(rc == 0, err)
        r = divergence(path, path)
        print(f"# {name} {t}: KL {r['kl']:.6f} (largest {r['kl_max']:.4f}), the same token likeliest {100 * r['same_top']:.2f}%")
        check(0 < r["kl"] < 0.001, name, t, r["kl"])


@test
def tiny(d):
    """aha-tiny in Q8_0, Q6_K, Q4_K, Q4_0: the divergence is below 0.001"""
    bounded(d, TINY, "aha-tiny", ("q8_0", "q6_k", "q4_k", "q4_0"))


@test
def large_columns(d):
    """the same with three columns a thousand times as large, in types that have a zero: where a minimum stands for none, the model is lost"""
    large = with_large_columns(d)
    logits = []
    for m in (TINY, large):
        path = os.path.join(d, "logits")
        rc, _, err = aha("score", "-m", m, "--tokens", "0,300,301,302,303", "--logits", path)
        check(rc == 0, err)
        with open(path, "rb") as f:
            logits.append(f.read())
    check(logits[0] == logits[1], "the model with large columns is another model")
    bounded(d, large, "large columns", ("q8_0", "q6_k", "q4_0"))


if __name__ == "__main__":
    sys.exit(main())
