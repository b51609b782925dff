#!/usr/bin/env python3
"""aha bench as a command: its rows and their JSON, the peer that is run in turn, repetitions that a host disturbed.  Prints TAP."""
import json
import os
import shutil
import subprocess
import sys
import threading
import time

from taplib import BIN, TINY, Skip, aha, check, main, test

ROW = {"what", "tokens", "batch", "depth", "speed", "samples", "memory_share", "arithmetic_share", "attention_per_s", "attention_share",
       "peer", "ratio"}
TOP = {"version", "model", "cpu", "parameters", "parameters_active", "weights_bytes", "type", "isa", "threads", "kv", "repetitions", "unit",
       "token_reads_bytes", "position_reads_bytes", "arithmetic", "memory_bytes_per_s", "dot8_op_per_s", "fma_flop_per_s", "rows", "peer",
       "stolen", "discarded", "noisy", "load"}
SHORT = ("-p", "32", "-n", "4", "-r", "2")


def bench(*args):
    rc, out, err = aha("bench", "--json", *args)
    check(rc == 0, rc, out, err)
    return json.loads(out)


def refused(words, *args):
    rc, out, err = aha("bench", *args)
    check(rc == 2 and out == "" and words in err, args, rc, out, err)


@test
def rows(_):
    """lists give a row for each length, batch and depth; every number has its place"""
    r = bench("-m", TINY, "-p", "32,64", "-n", "4", "--batch", "1,2", "--depth", "0,64", "-r", "2")
    check(TOP <= set(r), TOP - set(r))
    check([(x["what"], x["tokens"], x["batch"], x["depth"]) for x in r["rows"]] ==
          [(what, n, b, d) for d in (0, 64) for b in (1, 2) for what, n in (("prompt", 32), ("prompt", 64), ("generate", 4))])
    for x in r["rows"]:
        s = x["speed"]
        check(ROW == set(x) and 0 < s["min"] <= s["median"] <= s["max"] and s["n"] == 2 == len(x["samples"]), x)
        check((x["memory_share"] is None) == (x["what"] == "prompt") and x["arithmetic_share"]["median"] > 0, x)
        check(x["depth"] or x["attention_per_s"] is None, x)
    check(all(r[k]["min"] > 0 for k in ("dot8_op_per_s", "fma_flop_per_s", "memory_bytes_per_s")))
    check(r["type"] == "BF16" and r["arithmetic"] == "f32" and r["repetitions"] == 2 and r["token_reads_bytes"] > 0, r)


@test
def text(_):
    """for people: the same rows, shares and limits"""
    rc, out, err = aha("bench", "-m", TINY, "--batch", "2", "--depth", "0,32", *SHORT)
    check(rc == 0, err)
    for words in ("prompt 32 x 2 ", "generate 4 x 2 at 32 ", "arithmetic", "reads memory", "GB/s", "stolen", "discarded"):
        check(words in out, words, out)


@test
def wrong(d):
    """what cannot be measured is refused"""
    refused("multiples of 32", "-m", TINY, "--depth", "33")
    refused("nothing is left", "-m", TINY, "-p", "0", "-n", "0")
    refused("whole numbers with commas", "-m", TINY, "--batch", "1,x")
    refused("whole numbers with commas", "-m", TINY, "--batch", "1,")
    refused("expected 1 to 1024", "-m", TINY, "--batch", "1,0")
    refused("more than 16 numbers", "-m", TINY, "-p", ",".join("1" * 17))
    refused("this model has", "-m", TINY, "--depth", str(1 << 20))
    refused("GGUF files only", "-m", TINY, "--peer", "/bin/true")


# ---- the peer ----
FAKE = """#!/bin/sh
echo "$@" >> %(log)s
%(do)s
"""
RESULT = '{"build_commit": "abc", "model_type": "fake", "n_prompt": %d, "n_gen": %d, "n_depth": %d, "avg_ts": %g}'


def peer(d, do):
    path, log = os.path.join(d, "llama-bench"), os.path.join(d, "log")
    with open(path, "w") as f:
        f.write(FAKE % {"log": log, "do": do})
    os.chmod(path, 0o755)
    return path, log


def gguf(d):
    path = os.path.join(d, "tiny.gguf")
    if not os.path.exists(path):
        check(aha("convert", TINY, path)[0] == 0)
    return path


def results(*rows_):
    return "cat <<'END'\n[" + ", ".join(RESULT % r for r in rows_) + "]\nEND"


@test
def in_turn(d):
    """a peer is run once a repetition, on the same file, threads and lengths, and its speeds are compared"""
    path, log = peer(d, results((32, 0, 0, 8.0), (0, 4, 0, 4.0), (32, 0, 64, 2.0), (0, 4, 64, 1.0), (7, 0, 0, 9.0)))
    args = ("-m", gguf(d), "--threads", "1", "--batch", "1,2", "--depth", "0,64", "--peer", path, "--peer-args", "  -fa 1  -ctk q8_0 ")
    r = bench(*args, *SHORT)
    with open(log) as f:
        calls = f.read().splitlines()
    check(calls == ["-m %s -t 1 -p 32 -n 4 -d 0,64 -r 1 -o json -fa 1 -ctk q8_0" % gguf(d)] * 2, calls)
    want = {("prompt", 0): 8.0, ("generate", 0): 4.0, ("prompt", 64): 2.0, ("generate", 64): 1.0}
    for x in r["rows"]:
        if x["batch"] == 1:
            p = want[x["what"], x["depth"]]
            check(x["peer"]["median"] == p and x["peer"]["n"] == 2 and abs(x["ratio"] - x["speed"]["median"] / p) < 1e-3 * x["ratio"], x)
        else:
            check(x["peer"] is None and x["ratio"] is None, x)
    check(r["peer"] == path and "fake" in r["peer_build"], r["peer_build"])
    rc, out, err = aha("bench", *args, *SHORT)
    check(rc == 0 and "ratio" in out, out, err)


@test
def broken_peers(d):
    """one that is not there, fails, or prints something else ends it with words"""
    for do, words in (("exit 3", "status 3"), ("echo no", "the peer's output"), ("echo '{}'", "no list of results"),
                      (results((32, 0, 0, 8.0)), "no generation of 4"), ("kill -9 $$", "status 137"),
                      ("head -c 5000000 /dev/zero", "more than"), ("echo '[{\"n_prompt\": -1}]'", "n_prompt")):
        path, _ = peer(d, do)
        rc, out, err = aha("bench", "-m", gguf(d), "--peer", path, *SHORT)
        check(rc != 0 and out == "" and words in err, do, rc, err)
    rc, _, err = aha("bench", "-m", gguf(d), "--peer", os.path.join(d, "nothing"), *SHORT)
    check(rc == 1 and "cannot run" in err, rc, err)


# ---- stolen time ---- a /proc/stat of our own, in a mount namespace of our own
def with_stat(d, grows):
    if not shutil.which("unshare"):
        raise Skip("no unshare")
    stat = os.path.join(d, "stat")
    with open(stat, "w") as f:
        f.write("cpu 0 0 0 0 0 0 0 0\n")
    inside = 'mount --bind "$1" /proc/stat && shift && exec "$@"'
    start = ["unshare", "-m"] + ([] if os.geteuid() == 0 else ["-r"]) + ["sh", "-c", inside, "sh", stat]
    if subprocess.run(start + ["true"], capture_output=True, check=False).returncode:
        raise Skip("no mount namespace")
    ended = threading.Event()

    def tick():
        n = 0
        while not ended.is_set():
            n += 1
            with open(stat, "r+") as f:
                f.write("cpu %020d 0 0 0 0 0 0 %020d\n" % (90 * n, grows * n))
            time.sleep(0.001)

    t = threading.Thread(target=tick)
    t.start()
    r = subprocess.run(start + [BIN, "bench", "-m", TINY, "-p", "2000", "-n", "0", "-r", "2", "--json"], capture_output=True, text=True,
                       timeout=120, check=False)
    ended.set()
    t.join()
    check(r.returncode == 0, r.stderr)
    return json.loads(r.stdout)


@test
def stolen(d):
    """a repetition that the host disturbed is made again, four times at most, and what had to be taken is counted"""
    r = with_stat(d, 10)
    check(r["discarded"] == 2 * 3 and r["noisy"] == 2 and 0.03 < r["stolen"] <= 0.2, r)
    check(r["rows"][0]["speed"]["n"] == 2, r)


@test
def undisturbed(d):
    """nothing is made again on a machine of one's own"""
    r = with_stat(d, 0)
    check(r["discarded"] == 0 and r["noisy"] == 0 and r["stolen"] == 0, r)


if __name__ == "__main__":
    sys.exit(main())
