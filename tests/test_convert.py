#!/usr/bin/env python3
"""aha convert as a command: what it writes runs as the folder does, and where it refuses nothing is left.  Prints TAP."""
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

from taplib import BIN, Skip, TINY, aha, check, main, test

ASK = "Using 8, 13 and 2, make 29."


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


def plan(model, *more):
    """{type: row} of a plan"""
    rc, out, err = aha("plan", model, "--quick", "--json", "--disk-gb", "1000", *more)
    check(rc == 0, model, err)
    return {t["type"].lower(): t for t in json.loads(out)["types"]}


@test
def planned(d):
    """as aha plan says beforehand, to the byte: every type that is written, mixtures too, from folders and GGUF files of every family"""
    to = os.path.join(d, "a.gguf")
    types = {"f32", "f16", "bf16", "q8_0", "q6_k", "q5_k", "q4_k", "q4_0", "iq4_xs", "q3_k", "q2_k", "r1-q4", "r1-q2"}
    for model in (TINY, *("tests/golden/" + m for m in ("deepseek_v3-fp8", "deepseek_v3-mtp", "llama-llama3-tied", "qwen2-sharded", "qwen2-tied", "qwen3")),
                  *("tests/gguf/%s.gguf" % m for m in ("deepseek_v3-kv_b", "deepseek_v3-mtp", "llama-llama3-tied", "qwen2-00001-of-00003", "qwen3"))):
        rows = plan(model)
        check(set(rows) == types | {"as it is"}, model, sorted(rows))
        for t in types if model == TINY else ("bf16", "q8_0", "q4_k", "r1-q2"):
            check(aha("convert", model, to, "--type", t, "--force")[0] == 0, model, t)
            rc, out, err = aha("inspect", to, "--json")
            r = json.loads(out)
            check(rc == 0 and (r["bytes"], r["tensors"]) == (rows[t]["file_bytes"], rows[t]["tensors"]), model, t, r, rows[t], err)
            check(dict(plan(to)["as it is"], type=rows[t]["type"]) == rows[t], model, t, plan(to)["as it is"], rows[t])
    check(set(plan(TINY, "--type", "R1-Q2")) == {"r1-q2"})
    check(set(plan("tests/golden/deepseek_v3-mscale")) == {"as it is"}, "GGUF cannot say what this config says")
    rc, _, err = aha("plan", "tests/golden/deepseek_v3-mscale", "--quick", "--type", "q8_0")
    check(rc == 1 and "mscale" in err, rc, err)
    rc, _, err = aha("plan", TINY, "--quick", "--type", "IQ1_S")
    check(rc == 2 and "aha convert writes" in err, rc, err)


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
    refused(d, 2, "folder is of bf16", TINY, os.path.join(d, "y"), "--type", "q8_0")
    os.mkdir(os.path.join(d, "full"))
    with open(os.path.join(d, "full", "mine"), "w", encoding="ascii") as f:
        f.write("mine")
    refused(d, 2, "not empty", TINY, os.path.join(d, "full"), "--force")
    check(os.listdir(os.path.join(d, "full")) == ["mine"])


@test
def bad_input(d):
    """a tensor that ends a byte behind the file, no folder, no such place, a type that is none: no file, no part of one"""
    bad = os.path.join(d, "bad")
    shutil.copytree(TINY, bad)
    weights = os.path.join(bad, "model.safetensors")
    os.truncate(weights, os.path.getsize(weights) - 1)
    out = os.path.join(d, "x.gguf")
    refused(d, 1, "model.safetensors", bad, out)
    refused(d, 1, "model.safetensors", bad, os.path.join(d, "x"))
    short = os.path.join(d, "short.gguf")
    check(aha("convert", TINY, short)[0] == 0)
    os.truncate(short, os.path.getsize(short) - 1)
    for to in (out, os.path.join(d, "x")):
        refused(d, 1, "short.gguf", short, to)
    refused(d, 1, "there is no", os.path.join(d, "none"), out)
    refused(d, 1, "nowhere", TINY, "/nowhere/x.gguf")
    refused(d, 2, "q9", TINY, out, "--type", "q9")
    refused(d, 2, "expected", TINY)


@test
def full_disk(d):
    """a disk that is full: how much is missing is said before anything is written, and neither the file nor a part stays"""
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", d], capture_output=True, check=False).returncode:
        raise Skip("no small file system can be mounted")
    try:
        refused(d, 1, "space", TINY, os.path.join(d, "x.gguf"))
        refused(d, 1, "space", TINY, os.path.join(d, "x"))
    finally:
        subprocess.run(["umount", d], check=True)


@test
def disk_fills_up(d):
    """a disk that others fill meanwhile: no file, how much is missing, and with room the same command goes on"""
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", d], capture_output=True, check=False).returncode:
        raise Skip("no small file system can be mounted")
    to, ballast = os.path.join(d, "x.gguf"), os.path.join(d, "ballast")
    try:
        p = subprocess.Popen([BIN, "convert", TINY, to], stderr=subprocess.PIPE, text=True)
        part = os.path.join(d, "x.gguf.partial", "x.gguf")
        while p.poll() is None and not (os.path.exists(part) and os.path.getsize(part) > 500000):
            pass
        os.kill(p.pid, signal.SIGSTOP)
        with open(ballast, "wb") as f:
            try:
                while f.write(bytes(65536)):
                    f.flush()
            except OSError:
                pass
        os.kill(p.pid, signal.SIGCONT)
        err = p.communicate()[1]
        if p.returncode == 0:
            raise Skip("it was quicker than the disk was full")
        check(p.returncode == 1 and "No space left" in err and "more are needed" in err and "goes on" in err, err)
        check(sorted(os.listdir(d)) == ["ballast", "x.gguf.partial"])
        os.remove(ballast)
        rc, out, err = aha("convert", TINY, to)
        check(rc == 0 and "going on" in err and os.listdir(d) == ["x.gguf"], rc, out, err)
        with tempfile.TemporaryDirectory() as other:
            whole = os.path.join(other, "x.gguf")
            check(aha("convert", TINY, whole)[0] == 0)
            check(read(whole) == read(to))
    finally:
        subprocess.run(["umount", d], check=True)


# ---- to a folder, and from one GGUF file to another ----
def read(path):
    with open(path, "rb") as f:
        return f.read()


def weights(folder):
    """name -> dtype, shape, bytes of a folder's tensors"""
    out = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            data = read(os.path.join(folder, name))
            n = struct.unpack("<Q", data[:8])[0]
            for k, v in json.loads(data[8:8 + n]).items():
                if k != "__metadata__":
                    a, b = v["data_offsets"]
                    out[k] = v["dtype"], v["shape"], data[8 + n + a:8 + n + b]
    return out


@test
def there_and_back(d):
    """folder, GGUF, folder: the weights bit for bit, the ids, the chat form, the answer"""
    gguf, back = os.path.join(d, "a.gguf"), os.path.join(d, "back")
    check(aha("convert", TINY, gguf, "--draft") == (0, "", ""))
    check(aha("convert", gguf, back) == (0, "", ""))
    check(sorted(os.listdir(d)) == ["a.gguf", "back"])
    check(sorted(os.listdir(back)) == ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"], os.listdir(back))
    a, b = weights(TINY), weights(back)
    check(len(a) > 100 and a == b, len(a), len(b))
    text = "12 apples <think>, été 漢字 <｜User｜>\n\n  x1234567 " + "".join(map(chr, range(1, 700)))
    ids = [aha("tokenize", "-m", m, text=text) for m in (TINY, back)]
    check(ids[0][0] == 0 and ids[0] == ids[1])
    chat = json.dumps([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "12 + 3?"}])
    ids = [aha("tokenize", "--chat", "-m", m, text=chat) for m in (TINY, back)]
    check(ids[0][0] == 0 and ids[0] == ids[1])
    with open(os.path.join(TINY, "tokenizer_config.json"), encoding="utf-8") as f, open(os.path.join(back, "tokenizer_config.json"), encoding="utf-8") as g:
        x, y = json.load(f), json.load(g)
        check(x["chat_template"] == y["chat_template"] and x["eos_token"] == y["eos_token"] and x["bos_token"] == y["bos_token"])
    runs = [aha("run", "-m", m, ASK, "--seed", "1", "--think-display") for m in (TINY, back)]
    check(runs[0][0] == 0 and runs[0][1] and runs[0] == runs[1])
    forms = [json.loads(aha("inspect", m, "--json")[1]) for m in (TINY, back)]
    check(forms[0]["chat_form"] == forms[1]["chat_form"] and forms[1]["chat_form_recognised"] and forms[0]["stop"] == forms[1]["stop"], forms)
    # a folder to a folder: the words' files are kept as they are
    copy = os.path.join(d, "copy")
    check(aha("convert", TINY, copy, "--type", "f32") == (0, "", ""))
    check(read(os.path.join(copy, "tokenizer.json")) == read(os.path.join(TINY, "tokenizer.json")))
    check({v[0] for v in weights(copy).values()} == {"F32"})


@test
def shards(d):
    """a folder in shards with its index; GGUF in shards, named and marked as gguf-split does"""
    to = os.path.join(d, "hf")
    check(aha("convert", TINY, to, "--split", "1m") == (0, "", ""))
    with open(os.path.join(to, "model.safetensors.index.json"), encoding="utf-8") as f:
        index = json.load(f)
    files = sorted(set(index["weight_map"].values()))
    check(len(files) > 2 and files[0] == "model-00001-of-%05d.safetensors" % len(files), files)
    w = weights(to)
    check(w == weights(TINY) and set(w) == set(index["weight_map"]) and index["metadata"]["total_size"] == sum(len(v[2]) for v in w.values()))
    check(max(os.path.getsize(os.path.join(to, f)) for f in files) < 1100000)
    check(aha("convert", TINY, os.path.join(d, "s.gguf"), "--type", "q8_0", "--split", "512k") == (0, "", ""))
    parts = sorted(f for f in os.listdir(d) if f.endswith(".gguf"))
    check(len(parts) > 3 and parts == ["s-%05d-of-%05d.gguf" % (i + 1, len(parts)) for i in range(len(parts))], parts)
    check(aha("convert", TINY, os.path.join(d, "one.gguf"), "--type", "q8_0") == (0, "", ""))
    first = os.path.join(d, parts[0])
    runs = [aha("run", "-m", m, ASK, "--seed", "1", "--think-display") for m in (first, os.path.join(d, "one.gguf"))]
    check(runs[0][0] == 0 and runs[0] == runs[1], runs)
    check(b"split.count\x02\0\0\0" + struct.pack("<H", len(parts)) in read(first))  # type 2: U16, as other readers insist on
    refused(d, 2, "--force", TINY, os.path.join(d, "s.gguf"), "--type", "q8_0", "--split", "512k")
    check(aha("convert", first, os.path.join(d, "joined.gguf"), "--type", "q8_0") == (0, "", ""))
    check(read(os.path.join(d, "joined.gguf"))[-400000:] == read(os.path.join(d, "one.gguf"))[-400000:])


@test
def gguf_to_gguf(d):
    """another type of a GGUF file: the metadata stay, what is in the type already keeps its bits"""
    a, b, c = (os.path.join(d, n) for n in ("a.gguf", "b.gguf", "c.gguf"))
    check(aha("convert", TINY, a, "--type", "f32")[0] == 0)
    check(aha("convert", a, b, "--type", "q4_k")[0] == 0)
    check(aha("convert", TINY, c, "--type", "q4_k")[0] == 0)
    check(sorted(read(b)) == sorted(read(c)))  # bytes of F32, and the keys in another order
    check(aha("convert", c, b, "--type", "q4_k", "--force")[0] == 0)
    check(aha("convert", b, a, "--type", "q4_k", "--force")[0] == 0 and read(a) == read(b))
    words = [json.loads(aha("inspect", m, "--json")[1]) for m in (b, c)]
    check(words[0]["chat_form"] == words[1]["chat_form"] and words[0]["chat_form_recognised"] and aha("run", "-m", b, ASK, "--seed", "1") == aha("run", "-m", c, ASK, "--seed", "1"))


# ---- going on ----
@test
def killed(d):
    """killed again and again at random moments, then let run: the bytes of one run, for a file, a split one and a folder"""
    random.seed(3)
    cases = (("x.gguf", ["--type", "iq4_xs", "--threads", "1"]), ("x.gguf", ["--type", "iq4_xs", "--split", "300k", "--threads", "1"]),
             ("x", ["--type", "f32", "--split", "1m"]))
    kills = went_on = 0
    for name, options in cases:
        want, got = os.path.join(d, "want"), os.path.join(d, "got")
        os.mkdir(want)
        start = time.monotonic()
        check(aha("convert", TINY, os.path.join(want, name), *options)[0] == 0)
        took = time.monotonic() - start
        for _ in range(3):
            os.mkdir(got)
            for _ in range(6):
                with subprocess.Popen([BIN, "convert", TINY, os.path.join(got, name), *options], stderr=subprocess.PIPE, text=True) as p:
                    time.sleep(random.random() * took * 0.6)
                    p.kill()
                    p.wait()
                    kills += p.returncode == -signal.SIGKILL
                    went_on += "going on" in p.stderr.read()
                if os.path.exists(os.path.join(got, name)) or p.returncode == 0:  # whole, whatever came then
                    break
            else:
                rc, _, err = aha("convert", TINY, os.path.join(got, name), *options)
                check(rc == 0, err)
            places = [(want, got)] if name.endswith(".gguf") else [(os.path.join(want, name), os.path.join(got, name))]
            for x, y in places:
                check(set(os.listdir(y)) - {"journal"} == set(os.listdir(x)), os.listdir(y))
                check(all(read(os.path.join(x, f)) == read(os.path.join(y, f)) for f in os.listdir(x)), "other bytes")
            shutil.rmtree(got)
        shutil.rmtree(want)
    check(kills > 5 and went_on > 2, kills, went_on)
    print(f"# {kills} kills, {went_on} runs went on")


@test
def interrupted(d):
    """Ctrl-C: what is whole stays; another option begins anew and says so"""
    to = os.path.join(d, "x.gguf")
    with subprocess.Popen([BIN, "convert", TINY, to, "--type", "iq4_xs", "--threads", "1"], stderr=subprocess.PIPE, text=True) as p:
        part = os.path.join(d, "x.gguf.partial", "x.gguf")
        while p.poll() is None and not (os.path.exists(part) and os.path.getsize(part) > 200000):
            time.sleep(0.001)
        p.send_signal(signal.SIGINT)
        err = p.stderr.read()
    if p.returncode == 0:
        raise Skip("it was done before")
    check("the same command goes on" in err and os.listdir(d) == ["x.gguf.partial"], err)
    rc, out, err = aha("convert", TINY, to, "--type", "q8_0")
    check(rc == 0 and "beginning anew" in err and "options" in err and os.listdir(d) == ["x.gguf"], rc, out, err)


if __name__ == "__main__":
    sys.exit(main())
