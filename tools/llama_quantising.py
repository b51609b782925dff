#!/usr/bin/env python3
"""Quantises a model by aha and by ggml (llama.cpp), the same tensors to the same types, and compares what is left of it.

    ~/.cache/aha-venv/bin/python tools/llama_quantising.py BUILD MODEL [--text FILE | --task TASK] [--n N] [--parts P] [--types q4_k,...] [--orders K]

BUILD holds libggml-base.so (the build folder of a llama.cpp checkout, or its bin); MODEL is a Hugging Face folder.  The matrix of
importance is aha's, made of other samples (or of the first half of FILE) than those that the divergence is measured on.  Per type, without and
with the matrix: relative error over all tensors of that type, sqrt(sum w (x - y)^2 / sum w x^2) with w 1 and with w the mean squares of
the columns' inputs; KL divergence from the model, activations not rounded, over P times N samples (of FILE once): its mean, and the difference of
both means with its standard error, which is that of the P parts' differences: both programs' files are measured on the same samples.

--orders K measures the divergence over K orders of the model's hidden columns instead.  A model computes the same function in any order of
them, but other columns share a block: each order is another draw of the rounding.  Per type the mean and the median of the orders, and in how
many of them aha is nearer.  The first order is the model's own."""
import argparse
import ctypes
import json
import os
import re
import shutil
import subprocess
import tempfile

import numpy as np
from gguf import GGUFReader, GGMLQuantizationType, quants

TYPES = "q8_0,q6_k,q5_k,q4_k,iq4_xs,q4_0,q3_k,q2_k"
AHA = os.path.abspath(os.environ.get("AHA", "./aha"))


def run(*args):
    return subprocess.run([AHA, *args], check=True, capture_output=True, text=True).stdout


def library(build):
    for d in (build, os.path.join(build, "bin")):
        path = os.path.join(d, "libggml-base.so")
        if os.path.exists(path):
            break
    lib = ctypes.CDLL(path)
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    return lib


def ggml_quantize(lib, kind, x, weight):
    """x [mats, rows, cols], weight [mats, cols] or None -> bytes"""
    parts = []
    for i, m in enumerate(np.ascontiguousarray(x, np.float32)):
        out = np.zeros(m.size * 4, np.uint8)
        w = None if weight is None else np.ascontiguousarray(weight[i], np.float32)
        n = lib.ggml_quantize_chunk(int(kind), m.ctypes.data, out.ctypes.data, 0, m.shape[0], m.shape[1], None if w is None else w.ctypes.data)
        parts.append(out[:n].tobytes())
    return b"".join(parts)


def importance(path):
    """name -> mean squares [mats, cols]"""
    t = {x.name: x.data for x in GGUFReader(path).tensors}
    out = {}
    for name, sums in t.items():
        if name.endswith(".in_sum2"):
            count = t[name[:-len(".in_sum2")] + ".counts"].reshape(-1, 1)
            mean = sums.reshape(len(count), -1) / np.maximum(count, 1)
            out[name[:-len(".in_sum2")]] = np.where(count > 0, mean, 1).astype(np.float32)
    return out


def plain_tensors(path):
    """name -> f32 [mats, rows, cols]"""
    out = {}
    for t in GGUFReader(path).tensors:
        shape = [int(v) for v in t.shape[::-1]]
        out[t.name] = np.array(t.data, np.float32).reshape([1] * (3 - len(shape)) + shape)
    return out


def by_ggml(lib, ours, to, plain, weights):
    """a copy of ours whose coded tensors hold what ggml makes of the same numbers"""
    shutil.copyfile(ours, to)
    with open(to, "r+b") as f:
        for t in GGUFReader(ours).tensors:
            if t.tensor_type in (GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16):
                continue
            x = plain[t.name]
            data = ggml_quantize(lib, t.tensor_type, x, weights.get(t.name) if weights else None)
            assert len(data) == t.n_bytes, (t.name, len(data), t.n_bytes)
            f.seek(t.data_offset)
            f.write(data)


def errors(path, kind, plain, weights):
    """(relative error, the same by importance) over the tensors of that type"""
    sums = np.zeros(4)
    for t in GGUFReader(path).tensors:
        if t.tensor_type != kind:
            continue
        x = plain[t.name].astype(np.float64)
        d = (quants.dequantize(t.data, t.tensor_type).reshape(x.shape) - x) ** 2
        w = weights.get(t.name)
        sums[:2] += d.sum(), (x ** 2).sum()
        if w is not None:
            w = (w / w.mean(axis=1, keepdims=True))[:, None, :]
            sums[2:] += (w * d).sum(), (w * x ** 2).sum()
    return np.sqrt(sums[0] / sums[1]), np.sqrt(sums[2] / sums[3])


def divergences(path, base, tests):
    """mean divergence, of each part"""
    return np.array([json.loads(run("eval", "kl", "-m", path, "--base", base, "--act", "f32", *test, "--json"))["kl"] for test in tests])


def reordered(name, x, order):
    """the tensor [..., rows, cols] in a model whose hidden columns stand in that order"""
    if re.search(r"(token_embd|^output|attn_(q|k|v|q_a|kv_a_mqa)|ffn_(gate|up)(_inp|_exps|_shexp)?|(attn|ffn|output)_norm)\.weight$", name):
        return x[..., order]
    return x[..., order, :] if re.search(r"(attn_output|ffn_down(_exps|_shexp)?)\.weight$", name) else x


def reordered_sums(name, x, order):
    """the same for a tensor of importance, which knows columns only: where rows are moved it stays"""
    at = name.removesuffix(".in_sum2")
    return x if at == name or re.search(r"attn_output|ffn_down", at) else reordered(at, x, order)


def rewrite(source, to, change):
    """a copy of a GGUF file of f32, whose tensors hold change(name, numbers)"""
    shutil.copyfile(source, to)
    with open(to, "r+b") as f:
        for t in GGUFReader(source).tensors:
            x = change(t.name, np.array(t.data, np.float32).reshape([int(v) for v in t.shape[::-1]]))
            f.seek(t.data_offset)
            f.write(np.ascontiguousarray(x, np.float32).tobytes())


def by_order(lib, model, f32, im, test, types, count):
    """a table of the divergences over orders; every order's file of f32 must predict what the model does"""
    d = os.path.dirname(f32)
    moved, moved_im, ours, theirs = (os.path.join(d, x) for x in ("moved.gguf", "moved_im.gguf", "ours.gguf", "theirs.gguf"))
    width = plain_tensors(f32)["output_norm.weight"].size
    found = {}
    for k in range(count):
        order = np.random.default_rng(k).permutation(width) if k else np.arange(width)
        rewrite(f32, moved, lambda name, x: reordered(name, x, order))
        rewrite(im, moved_im, lambda name, x: reordered_sums(name, x, order))
        exact = divergences(moved, model, [test])[0]
        assert exact < 1e-6, f"order {k} is another model: {exact}"
        plain, weights = plain_tensors(moved), importance(moved_im)
        for kind in types:
            for matrix in (False, True):
                run("convert", moved, ours, "--type", kind, "--force", *(["--imatrix", moved_im] if matrix else []))
                by_ggml(lib, ours, theirs, plain, weights if matrix else None)
                found.setdefault((kind, matrix), []).append([divergences(x, model, [test])[0] for x in (ours, theirs)])
    print("| type | matrix | mean of orders: aha | ggml | median: aha | ggml | aha nearer in |\n|---|---|---|---|---|---|---|")
    for (kind, matrix), kl in found.items():
        kl = np.array(kl)
        mean, se, mid = kl.mean(axis=0), kl.std(axis=0, ddof=1) / np.sqrt(count), np.median(kl, axis=0)
        print(f"| {kind} | {'yes' if matrix else 'no'} | {mean[0]:.5f} +- {se[0]:.5f} | {mean[1]:.5f} +- {se[1]:.5f} | {mid[0]:.5f} | {mid[1]:.5f} | {(kl[:, 0] < kl[:, 1]).sum()} of {count} |", flush=True)
        print("  aha", *(f"{x:.4f}" for x in kl[:, 0]), "ggml", *(f"{x:.4f}" for x in kl[:, 1]), flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("build")
    p.add_argument("model")
    p.add_argument("--text")
    p.add_argument("--task", default="countdown3")
    p.add_argument("--n", default="128")
    p.add_argument("--parts", type=int, default=4)
    p.add_argument("--types", default=TYPES)
    p.add_argument("--orders", type=int, default=1)
    a = p.parse_args()
    lib = library(a.build)
    with tempfile.TemporaryDirectory() as d:
        f32, im, ours, theirs = (os.path.join(d, x) for x in ("f32.gguf", "im.gguf", "ours.gguf", "theirs.gguf"))
        learn, tests = ["--task", a.task, "-n", "256", "--seed", "7"], [["--task", a.task, "-n", a.n, "--seed", str(100 + i)] for i in range(a.parts)]
        if a.text:
            with open(a.text, encoding="utf-8", errors="replace") as f:
                text = f.read()
            for name, part in (("a", text[:len(text) // 2]), ("b", text[len(text) // 2:])):
                with open(os.path.join(d, name), "w", encoding="utf-8") as f:
                    f.write(part)
            learn, tests = [os.path.join(d, "a")], [[os.path.join(d, "b")]]
        run("convert", a.model, f32, "--type", "f32")
        run("imatrix", "-m", a.model, *learn, "-o", im)
        if a.orders > 1:
            by_order(lib, a.model, f32, im, tests[0], a.types.split(","), a.orders)
            return 0
        plain, weights = plain_tensors(f32), importance(im)
        print("| type | matrix | error: aha | ggml | weighted: aha | ggml | KL: aha | ggml | difference |\n|---|---|---|---|---|---|---|---|---|", flush=True)
        worse = apart_worse = 0
        for kind in a.types.split(","):
            for matrix in (False, True):
                run("convert", a.model, ours, "--type", kind, "--force", *(["--imatrix", im] if matrix else []))
                if all(t.tensor_type != GGMLQuantizationType[kind.upper()] for t in GGUFReader(ours).tensors):
                    print(f"| {kind} | no row of this model holds whole blocks of it |", flush=True)
                    break
                by_ggml(lib, ours, theirs, plain, weights if matrix else None)
                row = []
                for path in (ours, theirs):
                    row.append((*errors(path, GGMLQuantizationType[kind.upper()], plain, weights), divergences(path, a.model, tests)))
                (e, w, k), (e2, w2, k2) = row
                apart = k - k2
                se = apart.std(ddof=1) / np.sqrt(len(apart)) if len(apart) > 1 else np.nan
                worse += e > e2 if not matrix else w > w2
                apart_worse += apart.mean() > 3 * se
                print(f"| {kind} | {'yes' if matrix else 'no'} | {e:.5f} | {e2:.5f} | {w:.5f} | {w2:.5f} | {k.mean():.5f} | {k2.mean():.5f} | {apart.mean():+.5f} +- {se:.5f} |", flush=True)
        print(f"{worse} of the errors that are searched for are larger than ggml's; {apart_worse} of the divergences, by over three standard errors")
    return int(worse > 0)


if __name__ == "__main__":
    raise SystemExit(main())
