#!/usr/bin/env python3
"""The same GGUF files by aha and by llama.cpp: their logits, and the importance that both see in one text.

    ~/.cache/aha-venv/bin/python tools/llama_logits.py LLAMA MODEL...

LLAMA is a llama.cpp checkout with a build in build/bin (libllama, libggml); MODELs are Hugging Face folders, each written by aha convert,
as F32 unless --type says otherwise.  Differences are shares of a row's range of logits: the mean over the rows, and the worst.
Fails when a row is further apart than 2%, or when the likeliest tokens differ though the best is ahead by more than that.  A MODEL
that llama.cpp refuses, or that is not converted, is listed with the words and does not count.  Two known differences are looked into: YaRN's betas, which
llama.cpp does not read for every architecture, are given to it, and coded weights, for which it rounds what they are multiplied
with too, are decoded for it.  Of a MODEL with a tokenizer the importance of one text is compared too."""
import argparse
import array
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
from gguf import GGUFReader, quants

AHA = os.path.abspath(os.environ.get("AHA", "./aha"))
BOUND = 0.02
TEXT = "Using 8, 13 and 2, make 29. 8+13=21: 21+2=23, 21-2=19, 21*2=42 no\n8*2=16, 16+13=29 yes\nCheck: 8*2=16, 16+13=29 ok\n" * 3


def build_peer(llama, to):
    bins = os.path.join(llama, "build", "bin")
    here = os.path.dirname(os.path.abspath(__file__))
    subprocess.run([os.environ.get("CC", "cc"), "-std=c11", "-O1", "-Wall", "-I" + os.path.join(llama, "include"),
                    "-I" + os.path.join(llama, "ggml", "include"), os.path.join(here, "llama_logits.c"), "-o", to, "-L" + bins, "-lllama", "-lggml",
                    "-lggml-base", "-lggml-cpu", "-Wl,-rpath," + os.path.abspath(bins)], check=True)


def aha(*args, stdin=os.devnull):
    with open(stdin, "rb") as f:
        return subprocess.run([AHA, *args], check=True, stdin=f, capture_output=True).stdout.decode()


def ids_for(vocab, n):
    rng = np.random.default_rng(1)
    return [0] + [int(i) for i in rng.integers(3, vocab, n - 1)]


def betas(path):
    """YaRN's two, where the file has them"""
    r = GGUFReader(path)
    keys = [r.fields["general.architecture"].contents() + ".rope.scaling.yarn_beta_" + k for k in ("fast", "slow")]
    return [str(r.fields[k].contents()) for k in keys] if keys[0] in r.fields else []


def logits(peer, path, ids, d, sums="-", more=()):
    """(aha's, llama.cpp's) [T, V], or the words of a refusal"""
    r = GGUFReader(path)
    arch = r.fields["general.architecture"].contents()
    vocab = int(next(t for t in r.tensors if t.name == "token_embd.weight").shape[1])
    out = os.path.join(d, "logits")
    aha("score", "-m", path, "--act", "f32", "--tokens", ",".join(map(str, ids)), "--logits", out)
    mine = np.fromfile(out, "<f4").reshape(len(ids), vocab)
    p = subprocess.run([peer, path, arch, str(vocab), sums, *more], input=array.array("i", ids).tobytes(), capture_output=True, check=False)
    if p.returncode:
        words = [s for s in p.stderr.decode(errors="replace").splitlines() if "error" in s.lower() or "assert" in s.lower()]
        return None, (words or ["ended with " + str(p.returncode)])[0].strip()
    return (mine, np.frombuffer(p.stdout, "<f4").reshape(len(ids), vocab)), ""


def compare(mine, theirs):
    """(mean and worst difference as shares of the range, rows whose likeliest token differs beyond that, and at all)"""
    span = mine.max(1) - mine.min(1)
    apart = np.abs(mine - theirs).max(1) / span
    best = np.sort(mine, axis=1)[:, -2:]
    other = mine.argmax(1) != theirs.argmax(1)
    return apart.mean(), apart.max(), int((other & ((best[:, 1] - best[:, 0]) / span > BOUND)).sum()), int(other.sum())


def compare_sums(peer, model, path, d):
    """Importance of one text, by aha imatrix and as llama.cpp multiplies: (worst difference of a sum as a share of its matrix's largest,
    tensors compared).  One window, whose last token multiplies nothing."""
    text, im, sums = (os.path.join(d, x) for x in ("text", "im.gguf", "sums"))
    with open(text, "w", encoding="ascii") as f:
        f.write(TEXT)
    ids = json.loads(aha("tokenize", "-m", model, stdin=text))
    aha("imatrix", "-m", model, text, "--ctx", str(len(ids) + 2), "-o", im, "--force")
    _, words = logits(peer, path, ([0] + ids)[:-1], d, sums)
    assert not words, words
    mine = {t.name: t.data for t in GGUFReader(im).tensors}
    seen = {}
    with open(sums, encoding="ascii") as f:
        for line in f:
            name, mat, col, v = line.split()
            seen.setdefault(name, {})[int(mat), int(col)] = float(v)
    worst, n = 0.0, 0
    for name, cells in seen.items():
        if name + ".in_sum2" not in mine:
            continue
        a, b = np.array(mine[name + ".in_sum2"], np.float64), np.zeros(mine[name + ".in_sum2"].shape)
        for (mat, col), v in cells.items():
            b[mat, col] = v
        worst, n = max(worst, float((np.abs(a - b).max(1) / np.maximum(b.max(1), 1e-30)).max())), n + 1
    return worst, n


def decoded(model, coded, to):
    """a file of the same tensors in F32, with the values of `coded`"""
    aha("convert", model, to, "--type", "f32", "--force")
    value = {t.name: t for t in GGUFReader(coded).tensors}
    with open(to, "r+b") as f:
        for t in GGUFReader(to).tensors:
            x = quants.dequantize(value[t.name].data, value[t.name].tensor_type).astype("<f4").tobytes()
            assert len(x) == t.n_bytes
            f.seek(t.data_offset)
            f.write(x)
    return to


def line(name, both, tokens):
    mean, worst, wrong, other = compare(*both)
    apart = worst > BOUND or wrong > 0
    print(f"{name:28} mean {mean:.1e}  worst {worst:.1e}  likeliest differs in {other} rows of {tokens}, {wrong} beyond the bound"
          + ("   APART" if apart else ""), flush=True)
    return apart


def one(peer, model, a, d):
    path = os.path.join(d, "m.gguf")
    name = os.path.basename(os.path.normpath(model))
    try:
        aha("convert", model, path, "--type", a.type, "--force")
    except subprocess.CalledProcessError as e:
        print(f"{name:28} not converted: {e.stderr.decode().splitlines()[-1]}", flush=True)
        return False
    with open(os.path.join(model, "config.json"), encoding="utf-8") as f:
        ids = ids_for(json.load(f)["vocab_size"], a.tokens)
    both, words = logits(peer, path, ids, d)
    if both is None:
        print(f"{name:28} refused: {words}", flush=True)
        return False
    apart = line(name, both, a.tokens)
    if apart and betas(path):
        apart = line("  with the file's YaRN betas", logits(peer, path, ids, d, more=betas(path))[0], a.tokens)
    if apart and a.type != "f32":
        mine = both[0]
        theirs = logits(peer, decoded(model, path, os.path.join(d, "decoded.gguf")), ids, d)[0][1]
        apart = line("  its weights decoded to F32", (mine, theirs), a.tokens)
    if a.type == "f32" and os.path.exists(os.path.join(model, "tokenizer.json")):
        worst, n = compare_sums(peer, model, path, d)
        apart |= worst > 1e-3
        print(f"  importance of {n} tensors     worst {worst:.1e}" + ("   APART" if worst > 1e-3 else ""), flush=True)
    return apart


def main():
    p = argparse.ArgumentParser()
    p.add_argument("llama")
    p.add_argument("model", nargs="+")
    p.add_argument("--type", default="f32")
    p.add_argument("--tokens", type=int, default=64)
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as d:
        peer = os.path.join(d, "peer")
        build_peer(a.llama, peer)
        bad = sum([one(peer, m, a, d) for m in a.model])
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
