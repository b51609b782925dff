#!/usr/bin/env python3
"""The program and hostile model files: little memory, little stack, a clock, a terminal that obeys what it is sent.  Prints TAP."""
import json
import os
import pty
import re
import resource
import shutil
import struct
import subprocess
import sys

from taplib import BIN, Skip, TINY, check, main, test

SECONDS = 60  # of a busy machine; what blocks would block for ever


def aha(*args, text=b"", memory=1 << 30, stack=None):
    def limits():
        if memory:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        if stack:
            resource.setrlimit(resource.RLIMIT_STACK, (stack, stack))

    r = subprocess.run([BIN, *args], input=text, capture_output=True, timeout=SECONDS, check=False, preexec_fn=limits,
                       env={**os.environ, "AHA_THREADS": "1"})  # each thread reserves memory of its own
    return r.returncode, r.stdout, r.stderr


def sound_refusal(got, *what):
    """an error in one line of printable text"""
    rc, _, err = got
    check(rc == 1 and err.count(b"\n") == 1 and len(err) > 30 and not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", err), *what, got)
    err.decode()


def tiny(d, name="m"):
    to = os.path.join(d, name)
    shutil.copytree(TINY, to)
    return to


def header(path):
    with open(path, "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        return json.loads(f.read(n)), f.read()


def put_header(path, h, data):
    text = json.dumps(h).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


@test
def names_on_a_terminal(d):
    """a tensor's name that is a terminal's command is shown, not obeyed"""
    m = tiny(d)
    weights = os.path.join(m, "model.safetensors")
    h, data = header(weights)
    for i, name in enumerate(["\x1b]0;pwned\x07", "\u009b31m", "\x1b[2J"]):
        h[name] = {"dtype": "U8", "shape": [1], "data_offsets": [len(data) + i, len(data) + i + 1]}
    put_header(weights, h, data + b"abc")
    for args in (["inspect", m], ["inspect", m, "--tensors"], ["inspect", weights, "--tensors"]):
        if not os.path.exists("/dev/pts/ptmx"):  # a root without /dev/pts: nobody can sit at a terminal there
            raise Skip("no pseudo-terminals here (is /dev/pts mounted?)")
        main, other = pty.openpty()
        with subprocess.Popen([BIN, *args], stdout=other, stderr=other, stdin=subprocess.DEVNULL) as p:
            os.close(other)
            out = b""
            try:
                while part := os.read(main, 65536):
                    out += part
            except OSError:  # the other end is closed
                pass
            os.close(main)
        check(p.returncode == 0 and b"pwned" in out and out.count(b"\xef\xbf\xbd") >= 2, args, out)
        ours = re.sub(rb"\x1b\[[0-9;]*[mK]", b"", out)
        check(b"\x1b" not in ours and b"\x07" not in ours and "\u009b".encode() not in ours and b"\x1b[31m" not in out, args, out)
    return None


@test
def index_names_on_a_terminal(d):
    """nor are names in error messages"""
    m = tiny(d)
    h, _ = header(os.path.join(m, "model.safetensors"))
    os.rename(os.path.join(m, "model.safetensors"), os.path.join(m, "\u009b31m.safetensors"))
    names = [k for k in h if k != "__metadata__"]
    for extra in ({"\x1b]0;x\x07": "\u009b31m.safetensors"}, {names[0]: "\u009b32m.safetensors"}):
        with open(os.path.join(m, "model.safetensors.index.json"), "w", encoding="utf-8") as f:
            json.dump({"weight_map": {**{k: "\u009b31m.safetensors" for k in names}, **extra}}, f)
        got = aha("run", "-m", m, "hi")
        sound_refusal(got, extra)
        check("\u009b".encode() not in got[2], got)


@test
def nothing_blocks(d):
    """a pipe, a device, a link to itself, a folder in the place of each file: an error or a model without it, at once"""
    files = ["config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json",
             "chat_template.jinja"]
    kinds = {"fifo": os.mkfifo, "random": lambda p: os.symlink("/dev/random", p), "zero": lambda p: os.symlink("/dev/zero", p),
             "loop": lambda p: os.symlink(os.path.basename(p), p), "folder": os.mkdir, "mem": lambda p: os.symlink("/proc/self/mem", p)}
    for name in files:
        for kind, make in kinds.items():
            m = tiny(d, f"{kind}-{name}")
            path = os.path.join(m, name)
            if os.path.exists(path):
                os.remove(path)
            if name == "model.safetensors.index.json":
                os.remove(os.path.join(m, "model.safetensors"))
            make(path)
            got = aha("run", "-m", m, "hi", "-n", "1", "--seed", "1")
            needed = name in ("config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json")
            check(got[0] == 1 if needed else got[0] in (0, 1), name, kind, got)
            if got[0] == 1:
                sound_refusal(got, name, kind)
            shutil.rmtree(m)


def bomb(unit, times):
    return b"[" + unit * times + b"0]"


@test
def bombs(d):
    """JSON that would need gigabytes, nests a million deep, or has a number of millions of digits, in 1 GB and a stack of 256 KB"""
    texts = {"objects": bomb(b"{},", 4000000), "lists": bomb(b"[[]],", 2000000), "deep": b"[" * 1000000, "deep objects": b'{"a":' * 1000000,
             "digits": b"[" + b"9" * 3000000 + b"]", "strings": b'{"weight_map":{' + b'"a":"b",' * 1000000 + b'"c":"d"}}'}
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors.index.json"):
        m = tiny(d, name)
        if name == "model.safetensors.index.json":
            os.remove(os.path.join(m, "model.safetensors"))
        for what, text in texts.items():
            with open(os.path.join(m, name), "wb") as f:
                f.write(text)
            sound_refusal(aha("run", "-m", m, "hi", "--threads", "1", stack=256 << 10), name, what)
        shutil.rmtree(m)
    m = tiny(d)
    weights = os.path.join(m, "model.safetensors")
    for what, text in texts.items():
        with open(weights, "wb") as f:
            f.write(struct.pack("<Q", len(text)) + text)
        sound_refusal(aha("inspect", weights, stack=256 << 10)[:1] + (b"", aha("run", "-m", m, "hi", stack=256 << 10)[2]), what)


@test
def sizes(d):
    """files beside the weights that are larger than any published one are not read: 64 MB refused in 256 MB"""
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"):
        m = tiny(d, name)
        with open(os.path.join(m, name), "wb") as f:
            f.truncate(64 << 20)
        sound_refusal(aha("run", "-m", m, "hi", memory=256 << 20), name)
        shutil.rmtree(m)


@test
def counts(d):
    """a file of 200 bytes that promises 2^32, 2^63 or 2^64-1 of something, in 512 MB"""
    def text(s):
        return struct.pack("<Q", len(s)) + s

    path = os.path.join(d, "x.gguf")
    for n in (1 << 32, 1 << 63, (1 << 64) - 1, 10**9):
        q = struct.pack("<Q", n)
        one = struct.pack("<Q", 1)
        for body in (q + one, one + q, struct.pack("<Q", 0) + one + q + b"x" * 100, struct.pack("<Q", 0) + one + text(b"k") + struct.pack("<I", 8) + q,
                     struct.pack("<Q", 0) + one + text(b"k") + struct.pack("<II", 9, 8) + q, struct.pack("<Q", 0) + one + text(b"k") + struct.pack("<II", 9, 0) + q,
                     one + struct.pack("<Q", 0) + q + b"t" * 40, one + struct.pack("<Q", 0) + text(b"t") + struct.pack("<I", 1) + q + struct.pack("<IQ", 0, 0),
                     one + struct.pack("<Q", 0) + text(b"t") + struct.pack("<I", 1) + one + struct.pack("<I", 0) + q):
            with open(path, "wb") as f:
                f.write((b"GGUF" + struct.pack("<I", 3) + body).ljust(200, b"\0"))
            for args in (["run", "-m", path, "hi"], ["plan", path], ["tokenize", "-m", path]):
                sound_refusal(aha(*args, memory=512 << 20), n, body, args)
        with open(path, "wb") as f:
            f.write(q + b"{" * 100)
        rc, out, _ = aha("inspect", path, memory=512 << 20)
        check(rc == 1 and b"problem" in out, rc, out)


@test
def little_stack(d):
    """long texts in a stack of 256 KB"""
    for unit in (b" ", b"Z", "\u0301\u0323".encode(), b"\n", b"1", b"<think>", b"\xff"):
        text = unit * ((1 << 17) // len(unit))
        rc, out, err = aha("tokenize", text=text, stack=256 << 10)
        check(rc == 0 and not err, unit, rc, err)
        rc, back, err = aha("tokenize", "--decode", text=out, stack=256 << 10)
        check(rc == 0 and back == text, unit, rc, err)


@test
def cut_characters(d):
    """answers of random bytes, cut anywhere, are valid UTF-8 and valid JSON"""
    odd = 0
    for seed in range(12):
        rc, out, err = aha("run", "--json", "--seed", str(seed), "-n", str(7 + seed), "--temperature", "100", "--top-p", "1", "hi")
        check(rc == 0, rc, err)
        reply = json.loads(out.decode())
        text = reply["thinking"] + reply["answer"]
        odd += "\ufffd" in text
        check(not re.search("[\ud800-\udfff]", text), text)
    check(odd > 2, "too few cut characters to prove anything:", odd)


if __name__ == "__main__":
    sys.exit(main())
