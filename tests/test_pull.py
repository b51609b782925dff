#!/usr/bin/env python3
"""aha pull where all is well or merely slow: what is fetched, where it ends, in pieces, interrupted, twice at once.  Prints TAP."""
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from hublib import (BIN, BIG, COMMIT, Hub, MIB, SMALL, TOKEN, Skip, TMP, WANTED, cache_of, check, environment, everything,
                    hub_test, main, noise, pull, same, start, test, wait_for)


# ---- the ordinary case ----
@hub_test(SMALL)
def plain(hub, home):
    """safetensors and what belongs to them, in the cache's layout; the token goes to the hub and to nobody else"""
    rc, out, err = pull(home, hub, "org/model")
    root = cache_of(home)
    check(rc == 0 and err == "", rc, err)
    snap = os.path.join(root, "snapshots", COMMIT)
    check(out == snap + "\n", out)
    check(sorted(os.listdir(snap)) == WANTED, os.listdir(snap))
    for name in WANTED:
        check(os.readlink(os.path.join(snap, name)) == "../../blobs/" + hub.oid[name])
        check(same(os.path.join(snap, name), SMALL[name]), name)
    check(sorted(os.listdir(os.path.join(root, "blobs"))) == sorted(hub.oid[n] for n in WANTED))
    check(same(os.path.join(root, "refs", "main"), COMMIT.encode()))
    check(all(h.get("Authorization") == "Bearer " + TOKEN for h in hub.requests("hub")))
    check(hub.requests("store") and not any("Authorization" in h for h in hub.requests("store")), "the token left the hub")
    check(TOKEN not in out + err)


@hub_test(SMALL)
def complete(hub, home):
    """what is there is not fetched again; a revision with a slash; --json"""
    check(pull(home, hub, "org/model")[0] == 0)
    before = len(hub.requests("store")) + len(hub.requests("hub", "/resolve/"))
    rc, out, err = pull(home, hub, "org/model", "--json", "--revision", "refs/pr/1")
    check(rc == 0, err)
    check(len(hub.requests("store")) + len(hub.requests("hub", "/resolve/")) == before, "fetched again")
    r = json.loads(out)
    check(r["commit"] == COMMIT and r["bytes"] == sum(len(SMALL[n]) for n in WANTED) and len(r["files"]) == len(WANTED) and r["path"] == r["folder"], r)
    check(all(os.path.exists(f) for f in r["files"]))
    check(same(os.path.join(cache_of(home), "refs", "refs", "pr", "1"), COMMIT.encode()))
    os.truncate(os.path.join(cache_of(home), "blobs", hub.oid["config.json"]), 3)  # damaged by others: the size tells
    check(pull(home, hub, "org/model")[0] == 0 and same(os.path.join(out and r["path"], "config.json"), SMALL["config.json"]))


@hub_test(SMALL)
def folder(hub, home):
    """--to: a plain folder, checked when it is there already; what is somebody else's is left alone"""
    to = os.path.join(home, "a", "b")
    rc, out, err = pull(home, hub, "org/model", "--to", to)
    check(rc == 0 and out == to + "\n" and everything(to) == WANTED, out, err, everything(to))
    hub.seen.clear()
    check(pull(home, hub, "org/model", "--to", to)[0] == 0 and not hub.requests("store"), "fetched again")
    with open(os.path.join(to, "config.json"), "w", encoding="ascii") as f:
        f.write("my own!!")  # as long as the hub's
    rc, out, err = pull(home, hub, "org/model", "--to", to)
    check(rc == 1 and out == "" and "config.json" in err and "not the hub's" in err, rc, err)
    check(same(os.path.join(to, "config.json"), b"my own!!"))
    check(not os.path.exists(os.path.join(home, "hub")))


@hub_test(SMALL)
def patterns(hub, home):
    """--file: by pattern, folders too; nothing fits: the nearest"""
    rc, out, err = pull(home, hub, "org/model", "--file", "*.md,original/*", "--json")
    check(rc == 0 and [f.split(COMMIT + "/")[1] for f in json.loads(out)["files"]] == ["README.md", "original/consolidated.safetensors"], out, err)
    check(os.readlink(json.loads(out)["files"][1]).startswith("../../../blobs/"))
    rc, out, err = pull(home, hub, "org/model", "--file", "REDME.md")
    check(rc == 2 and "did you mean README.md?" in err, rc, err)


GGUF = {"config.json": b"{}", "README.md": b"#", "m-Q8_0.gguf": noise(5000, 3), "m-UD-Q2_K_XL.gguf": noise(4000, 4), "mmproj-F16.gguf": noise(10),
        **{f"Q4_K_M/m-Q4_K_M-0000{i}-of-00003.gguf": noise(1000 + i, 5 + i) for i in (1, 2, 3)}, "BF16/m-00001-of-00002.gguf": noise(77, 9)}


@hub_test(GGUF)
def gguf(hub, home):
    """GGUF: the types are shown with their sizes; a type takes all its parts; a mistyped one, a missing part"""
    rc, out, err = pull(home, hub, "org/model")
    check(rc == 2 and out == "" and "Q8_0" in err and "5.00 kB" in err and "UD-Q2_K_XL" in err and "3 files" in err and "aha pull org/model:" in err, rc, err)
    check("mmproj" not in err and "F16" not in err.replace("BF16", ""), err)
    rc, out, err = pull(home, hub, "org/model", "--json")
    check(rc == 2 and {"type": "Q4_K_M", "bytes": 3006, "files": 3} in json.loads(out)["types"], out)
    rc, out, err = pull(home, hub, "org/model:q4_k_m")
    check(rc == 0 and out == os.path.join(cache_of(home), "snapshots", COMMIT, "Q4_K_M/m-Q4_K_M-00001-of-00003.gguf") + "\n", out, err)
    snap = os.path.join(cache_of(home), "snapshots", COMMIT)
    check(len(os.listdir(os.path.join(snap, "Q4_K_M"))) == 3 and os.path.exists(os.path.join(snap, "config.json")))
    check(same(out.strip(), GGUF["Q4_K_M/m-Q4_K_M-00001-of-00003.gguf"]))
    rc, out, err = pull(home, hub, "org/model:Q2_K_XL")
    check(rc == 2 and "did you mean UD-Q2_K_XL?" in err, rc, err)
    check(pull(home, hub, "org/model:UD-Q2_K_XL")[0] == 0)
    rc, out, err = pull(home, hub, "org/model:BF16")
    check(rc == 1 and "number 2 is not there" in err, rc, err)


@test
def runs():
    """aha run -m $(aha pull REPO)"""
    folder_ = "models/aha-tiny"
    names = ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    if not os.path.exists(os.path.join(folder_, "model.safetensors")):
        raise Skip("no built-in model here")
    files = {}
    for n in names:
        if os.path.exists(os.path.join(folder_, n)):
            with open(os.path.join(folder_, n), "rb") as f:
                files[n] = f.read()
    hub, home = Hub(files), tempfile.mkdtemp(dir=TMP)
    r = subprocess.run(f'"{BIN}" inspect -m "$("{BIN}" pull org/model)"', shell=True, env=environment(home, hub), capture_output=True, timeout=30, check=False)
    hub.close()
    check(r.returncode == 0 and b"deepseek" in r.stdout.lower(), r)


# ---- pieces ----
@hub_test(BIG)
def parallel(hub, home):
    """a large file comes in pieces over several connections, the hub being asked for it once or a few times"""
    rc, out, err = pull(home, hub, "org/model", "--connections", "3")
    check(rc == 0 and same(os.path.join(out.strip(), "model.safetensors"), BIG["model.safetensors"]), err)
    ranges = [h["Range"] for h in hub.requests("store")]
    check(len(ranges) == 6 and len(set(ranges)) == 6, ranges)
    check(len(hub.requests("hub", "/resolve/")) <= 4, "asked anew for each piece")
    check(hub.sent == 24 * MIB, hub.sent)


@hub_test(BIG)
def cuts(hub, home):
    """connections that end in mid-file: each goes on where it ended"""
    left = [9]

    def twist(h, kind, name):
        if kind != "store" or left[0] <= 0:
            return False
        left[0] -= 1
        m = re.match(r"bytes=(\d+)-(\d+)", h.headers["Range"])
        a, b = int(m.group(1)), int(m.group(2))
        h.body(hub.files[name][a:b + 1], 206, stop=700000, Content_Range=f"bytes {a}-{b}/{len(hub.files[name])}")
        return True
    hub.twist = twist
    rc, out, err = pull(home, hub, "org/model")
    check(rc == 0 and same(os.path.join(out.strip(), "model.safetensors"), BIG["model.safetensors"]), err)
    check(hub.sent < 24 * MIB + 9 * 100000, hub.sent, "of", 24 * MIB)


@hub_test(BIG)
def no_ranges(hub, home):
    """a server that knows no ranges (200 for 206), cut once: one connection, from the start"""
    left = [1]

    def twist(h, kind, name):
        if kind == "store":
            stop = None
            if left[0] and "Range" not in h.headers:
                left[0], stop = 0, 5 * MIB
            h.body(hub.files[name], 200, stop=stop)
        return kind == "store"
    hub.twist = twist
    rc, out, err = pull(home, hub, "org/model")
    check(rc == 0 and same(os.path.join(out.strip(), "model.safetensors"), BIG["model.safetensors"]), err)


@hub_test(BIG)
def killed(hub, home):
    """killed three times (SIGKILL), a bit of what is there turned once: it goes on, and the end is right"""
    def slow(h, kind, name):
        if kind != "store":
            return False
        m = re.match(r"bytes=(\d+)-(\d+)", h.headers["Range"])
        a, b = int(m.group(1)), int(m.group(2))
        h.body(hub.files[name][a:b + 1], 206, slow=0.01, Content_Range=f"bytes {a}-{b}/{len(hub.files[name])}")
        return True
    hub.twist = slow
    part = os.path.join(cache_of(home), "blobs", hub.oid["model.safetensors"] + ".aha.incomplete")
    for _ in range(3):
        goal = hub.sent + 7 * MIB
        p = start(home, hub, "org/model", "--connections", "4")
        wait_for(lambda g=goal: hub.sent > g)
        p.kill()
        p.communicate()
    check(os.path.exists(part) and not os.path.exists(os.path.join(cache_of(home), "snapshots")), "seen before it is whole")
    hub.twist = None
    time.sleep(0.3)  # what the dead still had open
    hub.sent = 0
    rc, out, err = pull(home, hub, "org/model")
    check(rc == 0 and same(os.path.join(out.strip(), "model.safetensors"), BIG["model.safetensors"]), err)
    check(hub.sent < 16 * MIB, "it did not go on:", hub.sent)
    check(not os.path.exists(part))
    shutil.rmtree(cache_of(home))
    hub.twist = slow
    goal = hub.sent + 8 * MIB
    p = start(home, hub, "org/model", "--connections", "2")
    wait_for(lambda: hub.sent > goal)
    p.kill()
    p.communicate()
    hub.twist = None
    with open(part, "r+b") as f:
        f.seek(1000)
        byte = f.read(1)
        f.seek(1000)
        f.write(bytes([byte[0] ^ 1]))
    rc, out, err = pull(home, hub, "org/model")
    check(rc == 0 and same(os.path.join(out.strip(), "model.safetensors"), BIG["model.safetensors"]), rc, err)


@hub_test(BIG)
def interrupted(hub, home):
    """Ctrl-C: dies by the signal, keeps what came; on a terminal there is a bar with the time that is left"""
    def slow(h, kind, name):
        if kind == "store":
            m = re.match(r"bytes=(\d+)-(\d+)", h.headers["Range"])
            a, b = int(m.group(1)), int(m.group(2))
            h.body(hub.files[name][a:b + 1], 206, slow=0.02, Content_Range=f"bytes {a}-{b}/{len(hub.files[name])}")
        return kind == "store"
    hub.twist = slow
    try:
        master, slave = pty.openpty()
    except OSError as e:  # a root without /dev/pts
        raise Skip(f"no pseudo-terminals here: {e}")
    p = subprocess.Popen([BIN, "pull", "org/model", "--connections", "2"], env=environment(home, hub, TERM="dumb"), stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=slave)
    os.close(slave)
    said = b""
    try:
        while True:
            more = os.read(master, 65536)
            if not more:
                break
            if b" left" not in said and b" left" in said + more:
                p.send_signal(signal.SIGINT)
            said += more
    except OSError:  # the terminal's other side is closed
        pass
    out = p.communicate(timeout=5)[0]
    os.close(master)
    check(p.returncode == -signal.SIGINT and out == b"", p.returncode)
    check(b" left" in said and b"of 25.2 MB" in said and b"the same command goes on" in said, said[-500:])


@hub_test(BIG)
def two(hub, home):
    """two pulls at once: one fetches, the other waits, both are right"""
    def slow(h, kind, name):
        if kind == "store":
            m = re.match(r"bytes=(\d+)-(\d+)", h.headers["Range"])
            a, b = int(m.group(1)), int(m.group(2))
            h.body(hub.files[name][a:b + 1], 206, slow=0.002, Content_Range=f"bytes {a}-{b}/{len(hub.files[name])}")
        return kind == "store"
    hub.twist = slow
    ps = [start(home, hub, "org/model") for _ in range(3)]
    for p in ps:
        out, err = p.communicate(timeout=30)
        check(p.returncode == 0 and same(os.path.join(out.decode().strip(), "model.safetensors"), BIG["model.safetensors"]), err)
    check(hub.sent == 24 * MIB, "fetched twice:", hub.sent)
    check(not [f for f in everything(home) if "incomplete" in f or "tmp" in f], everything(home))


if __name__ == "__main__":
    sys.exit(main())
