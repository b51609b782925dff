#!/usr/bin/env python3
"""aha pull without a network: what is whole in the cache is found, what is not is named, and nothing is asked or written.  Prints TAP."""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile

from hublib import BIN, COMMIT, Hub, MIB, SMALL, TMP, WANTED, cache_of, check, environment, everything, hub_test, main, noise, pull, same, test


def safetensors(n, seed):
    """n numbers of F32"""
    header = json.dumps({"w": {"dtype": "F32", "shape": [n], "data_offsets": [0, 4 * n]}}).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + noise(4 * n, seed)


SHARDS = {f"model-{i:05d}-of-00003.safetensors": noise(1000 + i, i) for i in (1, 2, 3)}
SHARDED = {**{k: v for k, v in SMALL.items() if k != "model.safetensors"}, **SHARDS,
           "model.safetensors.index.json": json.dumps({"weight_map": {f"t{i}": n for i, n in enumerate(SHARDS)}}).encode()}
GGUF = {"README.md": b"#", "m-Q8_0.gguf": noise(5000, 3), **{f"Q4_K_M/m-Q4_K_M-0000{i}-of-00003.gguf": noise(1000 + i, 5 + i) for i in (1, 2, 3)}}
LARGE = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": safetensors(5 * MIB, 2)}


def offline(home, hub, *args, **env):
    """The hub is there and must not be asked; nothing may change in the cache."""
    hub.seen.clear()
    before = [(p, os.lstat(os.path.join(home, p)).st_mtime_ns) for p in everything(home)]
    r = pull(home, hub, *args, **(env or {"HF_HUB_OFFLINE": "1"}))
    check(not hub.seen, "the hub was asked", hub.seen)
    check(before == [(p, os.lstat(os.path.join(home, p)).st_mtime_ns) for p in everything(home)], "the cache was written to")
    return r


def lacks(home, hub, *words, repo="org/model", args=()):
    rc, out, err = offline(home, hub, repo, *args)
    check(rc == 1 and out == "" and err.count("\n") == 1 and "offline" in err and all(w in err for w in words), rc, out, err)


def blob(home, hub, name):
    return os.path.join(cache_of(home), "blobs", hub.oid[name])


@hub_test(SMALL)
def whole(hub, home):
    """what was pulled is found: by HF_HUB_OFFLINE as huggingface_hub takes it, by --offline, by branch and by commit, as JSON"""
    snap = os.path.join(cache_of(home), "snapshots", COMMIT)
    check(pull(home, hub, "org/model") == (0, snap + "\n", ""))
    for yes in ("1", "ON", "yes", "True"):
        check(offline(home, hub, "org/model", HF_HUB_OFFLINE=yes) == (0, snap + "\n", ""), yes)
    check(offline(home, hub, "org/model", "--offline", HF_HUB_OFFLINE="0") == (0, snap + "\n", ""))
    check(offline(home, hub, "org/model", "--revision", COMMIT)[:2] == (0, snap + "\n"))
    rc, out, err = offline(home, hub, "org/model", "--json")
    r = json.loads(out)
    check(rc == 0 and r["path"] == r["folder"] == snap and r["commit"] == COMMIT and r["bytes"] == sum(len(SMALL[n]) for n in WANTED), r, err)
    check([os.path.basename(f) for f in r["files"]] == WANTED, r)
    check(pull(home, hub, "org/model", HF_HUB_OFFLINE="0") == (0, snap + "\n", "") and hub.seen, "0 is no yes")
    rc, out, err = offline(home, hub, "org/model", "--to", os.path.join(home, "x"))
    check(rc == 2 and "--to" in err and not os.path.exists(os.path.join(home, "x")), rc, err)


@hub_test(SMALL)
def nothing(hub, home):
    """no such repository, no such branch, no such commit, no cache at all: named; no folder is made"""
    lacks(home, hub, "org/model", "'main'")
    check(os.listdir(home) == [], os.listdir(home))
    check(pull(home, hub, "org/model")[0] == 0)
    lacks(home, hub, "org/model", "'v2'", args=("--revision", "v2"))
    lacks(home, hub, "f" * 40, args=("--revision", "f" * 40))
    lacks(home, hub, "org/other", repo="org/other")
    lacks(home, hub, "'no.md'", args=("--file", "no.md"))


@hub_test(SHARDED)
def missing(hub, home):
    """a blob that is gone, a link that was never made, an index without its shards, shards without their index: each is named"""
    check(pull(home, hub, "org/model")[0] == 0)
    snap, kept = os.path.join(cache_of(home), "snapshots", COMMIT), os.path.join(home, "kept")
    shutil.copytree(cache_of(home), kept, symlinks=True)

    def again():
        shutil.rmtree(cache_of(home))
        shutil.copytree(kept, cache_of(home), symlinks=True)
        check(offline(home, hub, "org/model")[0] == 0)
    os.remove(blob(home, hub, "config.json"))
    lacks(home, hub, "'config.json' is missing")
    os.remove(blob(home, hub, "model-00002-of-00003.safetensors"))
    lacks(home, hub, "'config.json' is missing", "'model-00002-of-00003.safetensors' is missing")
    again()
    for name in ("model-00001-of-00003.safetensors", "model-00003-of-00003.safetensors", "tokenizer.json"):
        os.remove(os.path.join(snap, name))
    lacks(home, hub, "'model-00001-of-00003.safetensors' is missing", "'model-00003-of-00003.safetensors' is missing", "'tokenizer.json' is missing")
    again()
    os.remove(os.path.join(snap, "model.safetensors.index.json"))
    lacks(home, hub, "'model.safetensors.index.json' is missing")
    again()
    for name in SHARDS:
        os.remove(os.path.join(snap, name))
    os.remove(os.path.join(snap, "model.safetensors.index.json"))
    lacks(home, hub, "neither safetensors nor GGUF")
    again()
    check(pull(home, hub, "org/model")[0] == 0 and same(os.path.join(snap, "config.json"), SMALL["config.json"]), "online it is mended")


@hub_test(SHARDED)
def damaged(hub, home):
    """other sizes, other bits, a hole, a folder, a FIFO, a device, links in circles, a ref that is none: named, never waited for"""
    check(pull(home, hub, "org/model")[0] == 0)
    snap = os.path.join(cache_of(home), "snapshots", COMMIT)
    name = "model-00002-of-00003.safetensors"
    for size in (999, 1003, 0):
        os.truncate(blob(home, hub, name), size)
        lacks(home, hub, f"'{name}' is damaged")
    with open(blob(home, hub, name), "wb") as f:
        f.write(SHARDS[name][:-1] + bytes([SHARDS[name][-1] ^ 1]))
    lacks(home, hub, f"'{name}' is damaged")
    with open(blob(home, hub, name), "wb") as f:
        f.write(SHARDS[name])
    check(offline(home, hub, "org/model")[0] == 0)
    link = os.path.join(snap, "config.json")
    for make in (os.mkdir, os.mkfifo, lambda p: os.symlink("/dev/zero", p), lambda p: os.symlink("config.json", p), lambda p: os.symlink("..", p)):
        os.remove(link)
        make(link)
        lacks(home, hub, "'config.json'")
        (os.rmdir if os.path.isdir(link) and not os.path.islink(link) else os.remove)(link)
        os.symlink("../../blobs/" + hub.oid["config.json"], link)
    check(offline(home, hub, "org/model")[0] == 0)
    with open(os.path.join(cache_of(home), "refs", "main"), "w", encoding="ascii") as f:
        f.write("../../..")
    lacks(home, hub, "refs/main")


@hub_test(LARGE)
def large(hub, home):
    """weights too large to hash at every start: their headers tell the size"""
    check(pull(home, hub, "org/model")[0] == 0 and offline(home, hub, "org/model")[0] == 0)
    path = blob(home, hub, "model.safetensors")
    size = os.path.getsize(path)
    for other in (size - 1, size + 1, 40, 0):
        os.truncate(path, other)
        lacks(home, hub, "model.safetensors")
        with open(path, "wb") as f:
            f.write(LARGE["model.safetensors"])
    check(offline(home, hub, "org/model")[0] == 0)


@hub_test(GGUF)
def gguf(hub, home):
    """GGUF: a type with all its parts; types are those of the cache; a part that is gone"""
    check(pull(home, hub, "org/model:Q4_K_M")[0] == 0)
    first = os.path.join(cache_of(home), "snapshots", COMMIT, "Q4_K_M/m-Q4_K_M-00001-of-00003.gguf")
    check(offline(home, hub, "org/model:q4_k_m") == (0, first + "\n", ""))
    lacks(home, hub, "the cached org/model has no type Q8_0", "it has Q4_K_M", repo="org/model:Q8_0")
    rc, out, err = offline(home, hub, "org/model")
    check(rc == 2 and out == "" and "the cached org/model holds GGUF files" in err and "Q4_K_M" in err and "Q8_0" not in err, rc, err)
    os.remove(blob(home, hub, "Q4_K_M/m-Q4_K_M-00003-of-00003.gguf"))
    lacks(home, hub, "m-Q4_K_M-00003-of-00003.gguf' is missing", repo="org/model:Q4_K_M")
    os.remove(os.path.join(os.path.dirname(first), "m-Q4_K_M-00003-of-00003.gguf"))
    lacks(home, hub, "number 3 is not there", repo="org/model:Q4_K_M")


@hub_test(SMALL)
def of_others(hub, home):
    """a snapshot with files instead of links, and with folders in circles, as other tools or a copy leave them"""
    snap = os.path.join(cache_of(home), "snapshots", COMMIT)
    os.makedirs(snap)
    for n in WANTED:
        with open(os.path.join(snap, n), "wb") as f:
            f.write(safetensors(10, 1) if n == "model.safetensors" else SMALL[n])
    os.symlink(".", os.path.join(snap, "round"))
    os.makedirs(os.path.join(cache_of(home), "refs"))
    with open(os.path.join(cache_of(home), "refs", "main"), "w", encoding="ascii") as f:
        f.write(COMMIT + "\n")
    check(offline(home, hub, "org/model") == (0, snap + "\n", ""))
    os.truncate(os.path.join(snap, "model.safetensors"), 100)
    lacks(home, hub, "model.safetensors")


@test
def runs():
    """aha run -m $(aha pull --offline REPO), the hub gone"""
    files = {}
    for n in os.listdir("models/aha-tiny"):
        with open(os.path.join("models/aha-tiny", n), "rb") as f:
            files[n] = f.read()
    hub, home = Hub(files), tempfile.mkdtemp(dir=TMP)
    check(pull(home, hub, "org/model")[0] == 0)
    hub.close()
    r = subprocess.run(f'"{BIN}" run -m "$("{BIN}" pull --offline org/model)" "Using 8, 13 and 2, make 29."', shell=True, env=environment(home, hub), capture_output=True, timeout=60, check=False)
    check(r.returncode == 0 and r.stdout, r)
    for name in ("org/model", "org/model:Q4_K_M"):
        r = subprocess.run([BIN, "run", "-m", name, "hello"], env=environment(home, hub), capture_output=True, timeout=60, check=False)
        check(r.returncode == 1 and f"aha pull {name} fetches".encode() in r.stderr, r)
    shutil.rmtree(home)


if __name__ == "__main__":
    sys.exit(main())
