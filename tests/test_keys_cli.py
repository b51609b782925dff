#!/usr/bin/env python3
"""aha keys and aha usage: what they print, where they keep it, what they refuse, and that no key is left anywhere.  Prints TAP."""
import hashlib
import json
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time

from taplib import BIN, check, main, test

TMP = tempfile.mkdtemp(prefix="aha-keys-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
DB = os.path.join(TMP, "aha.db")


def aha(*args, **env):
    e = {k: v for k, v in os.environ.items() if k not in ("AHA_DB", "XDG_STATE_HOME")}
    e.update({"HOME": TMP, **env})
    r = subprocess.run([BIN, *args], capture_output=True, text=True, env=e, cwd=TMP, stdin=subprocess.DEVNULL, check=False)
    return r.returncode, r.stdout, r.stderr


def keys(*args):
    return aha("keys", *args, "--db", DB)


def fresh():
    for end in ("", "-wal", "-shm"):
        if os.path.exists(DB + end):
            os.remove(DB + end)


@test
def made():
    """add prints the key alone, --json an object; the database has its hash and not the key, and belongs to its owner"""
    fresh()
    rc, out, err = keys("add", "alice")
    check(rc == 0 and err == "" and re.fullmatch(r"aha-[0-9A-Za-z]{43}\n", out), rc, out, err)
    key = out.strip()
    check(stat.S_IMODE(os.stat(DB).st_mode) == 0o600, oct(os.stat(DB).st_mode))
    rc, out, err = keys("add", "bob", "--json")
    bob = json.loads(out)
    check(rc == 0 and bob["name"] == "bob" and bob["key"].startswith(bob["prefix"]) and len(bob["prefix"]) == 10, out)
    con = sqlite3.connect(DB)
    rows = con.execute("SELECT name, prefix, hash FROM keys ORDER BY id").fetchall()
    con.close()
    check(rows[0] == ("alice", key[:10], hashlib.sha256(key.encode()).digest()), rows)
    check(rows[1] == ("bob", bob["prefix"], hashlib.sha256(bob["key"].encode()).digest()), rows)
    for name in os.listdir(TMP):
        with open(os.path.join(TMP, name), "rb") as f:
            data = f.read()
        check(key[10:].encode() not in data and bob["key"][10:].encode() not in data, name)


@test
def listed():
    """list: as text and as JSON, with limits and state; never a key"""
    fresh()
    rc, out, err = keys("list")
    check(rc == 0 and out == "" and "no keys" in err and not os.path.exists(DB), rc, out, err)
    rc, out, err = keys("list", "--json")
    check(rc == 0 and json.loads(out) == [])
    key = keys("add", "bob", "--rate", "60/min", "--concurrent", "4", "--tokens-per-day", "1000000", "--expires", "2099-12-31")[1].strip()
    keys("add", "carol", "--expires", "2099-06-30T12:00:00Z", "--rate", "5")
    keys("add", "dave")
    check(keys("revoke", "dave")[0] == 0)
    rc, out, err = keys("list", "--json")
    rows = json.loads(out)
    check([r["name"] for r in rows] == ["bob", "carol", "dave"] and [r["state"] for r in rows] == ["works", "works", "revoked"], rows)
    check((rows[0]["requests_per_minute"], rows[0]["concurrent"], rows[0]["tokens_per_day"]) == (60, 4, 1000000), rows[0])
    check(rows[0]["expires"] == "2100-01-01T00:00:00Z" and rows[1]["expires"] == "2099-06-30T12:00:00Z" and rows[1]["requests_per_minute"] == 5, rows)
    check(rows[2]["expires"] is None and rows[2]["revoked"][:4] >= "2025" and rows[2]["concurrent"] is None, rows[2])
    rc, text, err = keys("list")
    check("2099-12-31" in text and "1000000" in text and "revoked" in text and len(text.splitlines()) == 4, text)
    check(key[10:] not in out + text)


@test
def revoked():
    """revoke: by name, by prefix, by the key itself; not twice, not what is not there"""
    fresh()
    a = keys("add", "alice")[1].strip()
    b = keys("add", "bob")[1].strip()
    keys("add", "carol")
    rc, out, err = keys("revoke", a[:10])
    check(rc == 0 and out == f"alice ({a[:10]}) is revoked\n", out, err)
    rc, out, err = keys("revoke", "alice")
    check(rc == 2 and "already" in err, rc, err)
    rc, out, err = keys("revoke", b, "--json")
    check(rc == 0 and json.loads(out) == {"name": "bob", "prefix": b[:10]}, out, err)
    rc, out, err = keys("revoke", "zoe")
    check(rc == 2 and "aha keys list" in err, rc, err)
    rc, out, err = keys("revoke", a[:5])
    check(rc == 2, err)
    check(keys("add", "alice")[0] == 0)  # the name is free again
    rc, out, err = keys("add", "alice")
    check(rc == 2 and "revoke it first" in err, rc, err)


@test
def wrong():
    """what is wrong is said, with what would be right; nothing is made"""
    fresh()
    for args, words in [
            ([], "one of add, list, revoke"), (["lst"], "did you mean list?"), (["add"], "a name for the key"), (["revoke"], "prefix, is expected"),
            (["add", "a", "b"], "unexpected argument 'b'"), (["list", "x"], "unexpected argument 'x'"), (["add", "a b"], "a key's name is 'a b'"),
            (["add", ""], "a key's name is ''"), (["add", "aha-x"], "not beginning with aha-"), (["add", "a", "--rate", "5/h"], "as 60/min"),
            (["add", "a", "--rate", "0"], "as 60/min"), (["add", "a", "--rate", "-3"], "as 60/min"), (["add", "a", "--rate", "1e3"], "as 60/min"),
            (["add", "a", "--concurrent", "0"], "expected 1 to"), (["add", "a", "--tokens-per-day", "9" * 30], "whole number"),
            (["add", "a", "--expires", "2026-02-30"], "is no date"), (["add", "a", "--expires", "tomorrow"], "is no date"),
            (["add", "a", "--expires", "2001-01-01"], "is over"), (["add", "a", "--expires", "1969-12-31"], "is no date"),
            (["list", "--rate", "5"], "when a key is made"), (["add", "a", "--rat", "5"], "did you mean --rate?")]:
        rc, out, err = keys(*args)
        check(rc == 2 and out == "" and words in err, args, rc, out, err)
        check(not os.path.exists(DB), args)
    for args, words in [(["--since", "soon"], "is no date"), (["x"], "unexpected argument"), (["--keys", "a"], "did you mean --key?")]:
        rc, out, err = aha("usage", *args, "--db", DB)
        check(rc == 2 and words in err, args, rc, err)


@test
def places():
    """the database: --db, AHA_DB, XDG_STATE_HOME, the home folder; none of them is said"""
    state = os.path.join(TMP, "state")
    home = os.path.join(TMP, ".local/state/aha/aha.db")
    check(aha("keys", "add", "a", AHA_DB=os.path.join(TMP, "other.db"))[0] == 0 and os.path.exists(os.path.join(TMP, "other.db")))
    check(aha("keys", "add", "a", XDG_STATE_HOME=state)[0] == 0 and os.path.exists(os.path.join(state, "aha", "aha.db")))
    check(not os.path.exists(home))
    check(aha("keys", "add", "a")[0] == 0 and stat.S_IMODE(os.stat(home).st_mode) == 0o600)
    check(aha("keys", "add", "a", "--db", "file:x?mode=memory")[0] == 0 and os.path.exists(os.path.join(TMP, "file:x?mode=memory")))
    check(aha("keys", "add", "a", "--db", ":memory:")[0] == 0 and os.path.exists(os.path.join(TMP, ":memory:")))
    rc, out, err = aha("keys", "list", HOME="")
    check(rc == 2 and "--db FILE or AHA_DB" in err, rc, err)
    rc, out, err = aha("keys", "list", "--db", TMP)
    check(rc == 1 and "is a folder" in err, rc, err)
    with open(os.path.join(TMP, "text"), "w", encoding="ascii") as f:
        f.write("no database " * 50)
    for command in (["keys", "list"], ["keys", "add", "a"], ["keys", "revoke", "a"], ["usage"]):
        rc, out, err = aha(*command, "--db", os.path.join(TMP, "text"))
        check(rc == 1 and "is no SQLite database" in err, command, rc, err)


@test
def used():
    """usage: sums by day and key, a key's, from a day on; as text and as JSON"""
    fresh()
    rc, out, err = aha("usage", "--db", DB)
    check(rc == 0 and out == "" and "nothing is written" in err and not os.path.exists(DB), rc, out, err)
    keys("add", "alice")
    keys("add", "bob")
    con = sqlite3.connect(DB)
    day = lambda d: (time.mktime(time.strptime(d + " UTC", "%Y-%m-%d %Z")) - time.timezone) // 86400
    con.executemany("INSERT INTO usage(day, key, requests, prompt, cached, completion, reasoning) VALUES(?, ?, ?, ?, ?, ?, ?)",
                    [(day("2026-01-31"), 1, 2, 100, 40, 30, 20), (day("2026-02-01"), 1, 1, 10, 0, 5, 0), (day("2026-02-01"), 2, 7, 70, 7, 14, 13),
                     (day("2026-02-01"), 0, 1, 3, 0, 2, 1)])
    con.commit()
    con.close()
    rc, out, err = aha("usage", "--json", "--db", DB)
    r = json.loads(out)
    check([(d["day"], d["key"], d["requests"]) for d in r["days"]] ==
          [("2026-01-31", "alice", 2), ("2026-02-01", None, 1), ("2026-02-01", "alice", 1), ("2026-02-01", "bob", 7)], r)
    check(r["total"] == {"requests": 11, "prompt_tokens": 183, "cached_tokens": 47, "completion_tokens": 51, "reasoning_tokens": 34}, r["total"])
    r = json.loads(aha("usage", "--json", "--key", "alice", "--since", "2026-02-01", "--db", DB)[1])
    check(len(r["days"]) == 1 and r["total"]["prompt_tokens"] == 10, r)
    r = json.loads(aha("usage", "--json", "--key", "zoe", "--db", DB)[1])
    check(r["days"] == [] and r["total"]["requests"] == 0, r)
    text = aha("usage", "--db", DB)[1]
    check(len(text.splitlines()) == 6 and text.splitlines()[-1].split() == ["total", "11", "183", "47", "51", "34"], text)
    check(keys("revoke", "alice")[0] == 0 and len(aha("usage", "--db", DB)[1].splitlines()) == 6)  # what was used stays


@test
def beside():
    """many at once on a database that is not there yet: each key is made once"""
    fresh()
    e = {**os.environ, "HOME": TMP}
    procs = [subprocess.Popen([BIN, "keys", "add", f"n{i}", "--db", DB], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=e) for i in range(8)]
    out = [p.communicate() + (p.returncode,) for p in procs]
    check(all(rc == 0 for _, _, rc in out), out)
    rows = json.loads(keys("list", "--json")[1])
    check(sorted(r["name"] for r in rows) == sorted(f"n{i}" for i in range(8)), rows)
    check(sorted(r["prefix"] for r in rows) == sorted(o[0][:10] for o in out))


if __name__ == "__main__":
    status = main(folders=False)
    shutil.rmtree(TMP, ignore_errors=True)
    sys.exit(status)
