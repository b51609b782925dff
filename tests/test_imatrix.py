#!/usr/bin/env python3
"""aha imatrix and aha convert --imatrix as commands.  Prints TAP."""
import json
import os
import sys

from taplib import TINY, aha, check, main, test


def imatrix(d, name, *args):
    path = os.path.join(d, name)
    rc, out, err = aha("imatrix", "-m", TINY, "--task", "countdown3", "-n", "24", "-o", path, *args)
    check(rc == 0 and out == "" and "165 matrices" in err, rc, out, err)
    return path


def read(path):
    with open(path, "rb") as f:
        return f.read()


@test
def bits(d):
    """the same bytes from one thread, from three, and by the plain C kernels; other samples give others"""
    a = read(imatrix(d, "a.gguf", "--threads", "1"))
    check(a == read(imatrix(d, "b.gguf", "--threads", "3")) == read(imatrix(d, "c.gguf", "--cpu", "ref")))
    check(a != read(imatrix(d, "d.gguf", "--seed", "2")) and a[:4] == b"GGUF")


@test
def convert(d):
    """what is written with it differs, opens, and is nearer to the model; the same bytes from one thread and three"""
    im = imatrix(d, "im.gguf", "--seed", "5")
    kl = {}
    for name, args in (("plain", ()), ("one", ("--imatrix", im, "--threads", "1")), ("three", ("--imatrix", im, "--threads", "3"))):
        to = os.path.join(d, name + ".gguf")
        rc, out, err = aha("convert", TINY, to, "--type", "q2_k", *args)
        check((rc, out, err) == (0, "", ""), rc, out, err)
        rc, out, err = aha("eval", "kl", "-m", to, "--base", TINY, "--task", "countdown3", "-n", "64", "--json")
        check(rc == 0, err)
        kl[name] = json.loads(out)["kl"]
    check(read(os.path.join(d, "one.gguf")) == read(os.path.join(d, "three.gguf")) != read(os.path.join(d, "plain.gguf")))
    check(kl["one"] < kl["plain"], kl)  # measured 0.51 and 0.66


@test
def refusals(d):
    """what is there, wrong usage, a file that is none: one line, nothing written"""
    im = imatrix(d, "im.gguf")
    out_path = os.path.join(d, "x.gguf")
    rc, _, err = aha("imatrix", "-m", TINY, "--task", "countdown3", "-o", im)
    check(rc == 2 and "--force" in err, err)
    rc, _, err = aha("imatrix", "-m", TINY, "--task", "countdown3")
    check(rc == 2 and "-o OUT" in err, err)
    rc, _, err = aha("imatrix", "-m", TINY, "-o", out_path)
    check(rc == 2 and "FILE" in err, err)
    rc, _, err = aha("imatrix", "-m", "tests/golden/qwen3", "--task", "countdown3", "-o", out_path)
    check(rc == 1 and "tokenizer" in err, err)
    other = os.path.join(d, "qwen.gguf")
    check(aha("convert", "tests/golden/qwen3", other)[0] == 0)
    for bad, word in ((TINY, "folder"), (TINY + "/config.json", "entries"), (other, "no entry"), ("/nowhere/im", "nowhere")):
        rc, out, err = aha("convert", TINY, out_path, "--type", "q4_0", "--imatrix", bad)
        check(rc == 1 and out == "" and word in err and err.count("\n") == 1, rc, out, err)
        check(not os.path.exists(out_path) and not os.path.exists(out_path + ".tmp"))


if __name__ == "__main__":
    sys.exit(main())
