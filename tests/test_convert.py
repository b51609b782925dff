#!/usr/bin/env python3
"""aha convert as a command: what it writes runs as the folder does, and where it refuses nothing is left.  Prints TAP."""
import os
import shutil
import subprocess
import sys
import tempfile

BIN = os.path.abspath(os.environ.get("AHA", "./aha"))
TINY = "models/aha-tiny"
ASK = "Using 8, 13 and 2, make 29."
TESTS = []


def test(f):
    TESTS.append(f)
    return f


def check(ok, *what):
    if not ok:
        raise AssertionError(" ".join(map(str, what)))


def aha(*args, text=""):
    r = subprocess.run([BIN, *args], input=text, capture_output=True, text=True, timeout=120, check=False)
    return r.returncode, r.stdout, r.stderr


def refused(d, status, word, *args):
    before = sorted(os.listdir(d))
    rc, out, err = aha("convert", *args)
    check(rc == status and out == "" and word in err and err.count("\n") <= 2, rc, out, err)
    check(sorted(os.listdir(d)) == before, os.listdir(d))


@test
def same_answer(d):
    """bf16 answers as the folder does, to the letter; ids are the same; the file is sound"""
    to = os.path.join(d, "a.gguf")
    check(aha("convert", TINY, to, "--draft") == (0, "", ""))
    check(os.listdir(d) == ["a.gguf"])
    a, b = (aha("run", "-m", m, ASK, "--seed", "1", "--think-display") for m in (TINY, to))
    check(a[0] == 0 and a[1] and a == b, a, b)
    a, b = (aha("tokenize", "-m", m, text="12 apples <think>, été 漢字") for m in (TINY, to))
    check(a[0] == 0 and a[1] and a == b, a, b)
    check(aha("inspect", to, "--data")[0] == 0)


@test
def every_type(d):
    """every type opens and answers"""
    for t in ("f32", "f16", "bf16", "q8_0", "q6_k", "q5_k", "q4_k", "q4_0", "iq4_xs", "q3_k", "q2_k", "r1-q4", "r1-q2"):
        to = os.path.join(d, t + ".gguf")
        check(aha("convert", TINY, to, "--type", t) == (0, "", ""), t)
        rc, out, err = aha("run", "-m", to, ASK, "--seed", "1", "-n", "8")
        check(rc == 0, t, out, err)


@test
def threads(d):
    """the same bytes from one thread and from three"""
    for n in ("1", "3"):
        check(aha("convert", TINY, os.path.join(d, n + ".gguf"), "--type", "q4_0", "--threads", n)[0] == 0)
    with open(os.path.join(d, "1.gguf"), "rb") as a, open(os.path.join(d, "3.gguf"), "rb") as b:
        check(a.read() == b.read())


@test
def out_is_there(d):
    """OUT is there: refused, its bytes untouched; --force replaces it; a folder or another name is no place to write"""
    to = os.path.join(d, "x.gguf")
    with open(to, "w", encoding="ascii") as f:
        f.write("mine")
    refused(d, 2, "--force", TINY, to)
    with open(to, encoding="ascii") as f:
        check(f.read() == "mine")
    check(aha("convert", TINY, to, "--force")[0] == 0 and os.path.getsize(to) > 1000000)
    refused(d, 2, "folder", TINY, d)
    refused(d, 2, ".gguf", TINY, os.path.join(d, "model.safetensors"))
    refused(d, 1, "Hugging Face folder", to, os.path.join(d, "y.gguf"))


@test
def bad_input(d):
    """a tensor that ends a byte behind the file, no folder, no such place, a type that is none: no file, no part of one"""
    bad = os.path.join(d, "bad")
    shutil.copytree(TINY, bad)
    weights = os.path.join(bad, "model.safetensors")
    os.truncate(weights, os.path.getsize(weights) - 1)
    out = os.path.join(d, "x.gguf")
    refused(d, 1, "model.safetensors", bad, out)
    refused(d, 1, "there is no", os.path.join(d, "none"), out)
    refused(d, 1, "nowhere", TINY, "/nowhere/x.gguf")
    refused(d, 2, "q9", TINY, out, "--type", "q9")
    refused(d, 2, "expected", TINY)


@test
def full_disk(d):
    """a disk that is full: said, and neither the file nor a part stays"""
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", d], capture_output=True, check=False).returncode:
        return "no small file system can be mounted"
    try:
        refused(d, 1, "space", TINY, os.path.join(d, "x.gguf"))
    finally:
        subprocess.run(["umount", d], check=True)
    return None


def main():
    failed = 0
    print(f"1..{len(TESTS)}")
    for i, t in enumerate(TESTS, 1):
        with tempfile.TemporaryDirectory() as d:
            try:
                skip = t(d)
                print(f"ok {i} - {t.__doc__}" + (f" # skip {skip}" if skip else ""))
            except Exception as e:  # pylint: disable=broad-except
                failed += 1
                print(f"not ok {i} - {t.__doc__}\n# {e}")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
