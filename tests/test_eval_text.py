#!/usr/bin/env python3
"""aha eval perplexity and aha eval kl, against the same figures computed here from the logits of aha score.  Prints TAP."""
import array
import json
import math
import os
import sys

from taplib import TINY, aha, check, main, test

TEXT = "Using 8, 13 and 2, make 29. 8+13=21: 21+2=23, 21-2=19, 21*2=42 no\n8*2=16, 16+13=29 yes Check: 8*2=16 ok, and so on; 12 apples.\n" * 2


def result(*args, text=""):
    rc, out, err = aha("eval", *args, "--json", text=text)
    check(rc == 0, out, err)
    return json.loads(out)


def near(got, want, what, bound=1e-5):
    check(abs(got - want) <= bound * max(1e-3, abs(want)), what, got, want)


def log_softmax(x):
    top = max(x)
    z = top + math.log(math.fsum(math.exp(v - top) for v in x))
    return [v - z for v in x]


def rows(d, model, ids):
    """log-probabilities [T][V] by aha score"""
    path = os.path.join(d, "logits")
    rc, _, err = aha("score", "-m", model, "--tokens", ",".join(map(str, ids)), "--logits", path)
    check(rc == 0, err)
    flat = array.array("f")
    with open(path, "rb") as f:
        flat.frombytes(f.read())
    V = len(flat) // len(ids)
    return [log_softmax(flat[i * V:(i + 1) * V]) for i in range(len(ids))]


def quantile(x, q):
    x, at = sorted(x), q * (len(x) - 1)
    i = int(at)
    return x[i] if i + 1 == len(x) else x[i] + (at - i) * (x[i + 1] - x[i])


def mean_and_error(x):
    m = math.fsum(x) / len(x)
    return m, math.sqrt(math.fsum((v - m) ** 2 for v in x) / (len(x) - 1) / len(x))


def setup(d):
    coded = os.path.join(d, "q2.gguf")
    check(aha("convert", TINY, coded, "--type", "q4_0")[0] == 0)
    path = os.path.join(d, "text")
    with open(path, "w", encoding="ascii") as f:
        f.write(TEXT)
    return coded, path


@test
def figures(d):
    """two windows of 60 tokens: every figure as computed here from both models' logits"""
    coded, path = setup(d)
    rc, out, err = aha("tokenize", "-m", TINY, text=TEXT)
    check(rc == 0, err)
    ids = [0] + json.loads(out)
    check(120 <= len(ids) < 180, len(ids))
    nll, nll_base, kl, same = [], [], [], 0
    for w in (ids[:60], [0] + ids[61:120]):
        base, model = rows(d, TINY, w), rows(d, coded, w)
        for i in range(30, 59):
            nll.append(-model[i][w[i + 1]])
            nll_base.append(-base[i][w[i + 1]])
            kl.append(math.fsum(math.exp(b) * (b - q) for b, q in zip(base[i], model[i])))
            same += base[i].index(max(base[i])) == model[i].index(max(model[i]))
    r = result("kl", "-m", coded, "--base", TINY, path, "--ctx", "60")
    check(r["tokens"] == len(nll) == 58 and r["passages"] == 2 and r["ctx"] == 60, r)
    for name, x in (("perplexity", nll), ("base_perplexity", nll_base), ("ratio", [a - b for a, b in zip(nll, nll_base)])):
        m, se = mean_and_error(x)
        near(r[name], math.exp(m), name)
        near(r[name + "_se"], math.exp(m) * se, name + "_se")
    m, se = mean_and_error(kl)
    near(r["kl"], m, "kl", 1e-4)
    near(r["kl_se"], se, "kl_se", 1e-4)
    for name, q in (("kl_median", 0.5), ("kl_99", 0.99), ("kl_999", 0.999), ("kl_max", 1)):
        near(r[name], quantile(kl, q), name, 1e-4)
    near(r["same_top"], same / 58, "same_top")
    check(r["kl"] > 1e-5 and r["kl_max"] > r["kl"], "nothing differs", r)
    p = result("perplexity", "-m", coded, "-", "--ctx", "60", text=TEXT)
    check(p["perplexity"] == r["perplexity"] and p["tokens"] == 58, p)
    p = result("perplexity", "-m", TINY, path, "--ctx", "60", "--n-tokens", "119")
    check(p["tokens"] == 29 and p["passages"] == 1, p)
    p = result("perplexity", "-m", TINY, path, "--ctx", "2000")
    check(p["tokens"] == len(ids) - 1 and p["passages"] == 1, p)


@test
def same(d):
    """the same figures from one thread and from three, and by the plain C kernels; a model is no way from itself"""
    coded, _ = setup(d)
    args = ("kl", "-m", coded, "--base", TINY, "--task", "countdown3", "-n", "6")
    a, b, c = (result(*args, *more) for more in (("--threads", "1"), ("--threads", "3"), ("--cpu", "ref")))
    check(c.pop("isa") == "ref" and a.pop("isa") == b.pop("isa") and a == b == c, a, b, c)
    a = result("kl", "-m", TINY, "--base", TINY, "--task", "countdown3", "-n", "6")
    check(a["kl"] == a["kl_max"] == 0 and a["ratio"] == 1 and a["same_top"] == 1 and a["tokens"] > 100, a)
    check(a["perplexity"] < 2, "its own corpus is no surprise", a)
    b = result("kl", "-m", TINY, "--base", TINY, "--task", "countdown3", "-n", "6", "--seed", "2")
    check(a["perplexity"] != b["perplexity"])
    rc, out, err = aha("eval", "kl", "-m", coded, "--base", TINY, "--task", "countdown3", "-n", "6")
    check(rc == 0 and "KL divergence" in out and "99.9%" in out and "+-" in out, out, err)


@test
def refusals(d):
    """what cannot be compared or read is refused in one line"""
    coded, path = setup(d)
    empty = os.path.join(d, "empty")
    with open(empty, "w", encoding="ascii"):
        pass
    for status, word, *args in (
            (2, "FILE", "perplexity"), (2, "not both", "perplexity", path, "--task", "countdown3"), (2, "countdown3", "perplexity", "--task", "contdown3"),
            (2, "--base", "kl", "-m", coded, path), (2, "--base", "perplexity", path, "--base", TINY), (2, "--ctx", "perplexity", path, "--ctx", "1"),
            (2, "no corpus", "perplexity", "--task", "countdown5"), (1, "nowhere", "perplexity", "/nowhere/text"),
            (2, "vocabulary", "kl", "-m", TINY, "--base", "tests/golden/qwen3", path), (1, "there is no", "kl", "-m", TINY, "--base", d + "/no", path)):
        rc, out, err = aha("eval", *args, *(["-m", TINY] if "-m" not in args else []))
        check(rc == status and out == "" and word in err and err.count("\n") <= 2, args, rc, out, err)
    rc, out, err = aha("eval", "perplexity", "-m", os.path.join("tests", "golden", "qwen3"), path)
    check(rc == 1 and "tokenizer" in err, err)
    # a text of nothing is the begin token alone
    rc, out, err = aha("eval", "perplexity", "-m", TINY, empty)
    check(rc == 1 and out == "" and "at least 2" in err, rc, out, err)


if __name__ == "__main__":
    sys.exit(main())
