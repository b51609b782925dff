#!/usr/bin/env python3
"""aha serve with keys: what is counted is what answers say, what is shared out, keys and limits that change while it serves, a database
that is locked or gone, where it may listen.  Prints TAP."""
import http.client
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time

import servelib
from servelib import BIN, PATIENCE_S, PUZZLE, SLOWER, Load, Server, at_once, check, load, main, once, soon, test

TMP = tempfile.mkdtemp(prefix="aha-serve-keys-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
CHAT = "/v1/chat/completions"
COUNT = [0]


def database():
    COUNT[0] += 1
    return os.path.join(TMP, f"{COUNT[0]}.db")


def aha(*args, env=None):
    r = subprocess.run([BIN, *args], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=PATIENCE_S, env={**os.environ, **(env or {})})
    return r.returncode, r.stdout, r.stderr


def add(db, name, *limits):
    rc, out, err = aha("keys", "add", name, "--db", db, *limits)
    check(rc == 0, err)
    return {"Authorization": "Bearer " + out.strip()}


def used(db, name=None):
    rc, out, err = aha("usage", "--json", "--db", db, *(["--key", name] if name else []))
    check(rc == 0, err)
    return json.loads(out)["total"]


def chat(s, key, **fields):
    return s.ask("POST", CHAT, {"model": "aha-tiny", "messages": PUZZLE, "max_tokens": 30, "seed": 1, **fields}, key)


@test
def counted():
    """usage is the sum of what the answers said: plain, from the cache, streamed; a request that is refused counts nothing"""
    db = database()
    alice, bob = add(db, "alice"), add(db, "bob")
    want = {"requests": 0, "prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0, "reasoning_tokens": 0}

    def count(u):
        want["requests"] += 1
        for name in ("prompt_tokens", "completion_tokens"):
            want[name] += u[name]
        want["cached_tokens"] += u.get("prompt_tokens_details", {}).get("cached_tokens", 0)
        want["reasoning_tokens"] += u.get("completion_tokens_details", {}).get("reasoning_tokens", 0)
    with Server("--db", db) as s:
        for fields in ({}, {"seed": 2}, {"max_tokens": 300}):
            status, _, text = chat(s, alice, **fields)
            check(status == 200, text)
            count(json.loads(text)["usage"])
        check(want["reasoning_tokens"] > 0 and want["completion_tokens"] > 60, want)
        status, _, text = chat(s, alice, stream=True, stream_options={"include_usage": True})
        chunks = [json.loads(e[6:]) for e in text.split("\n\n") if e.startswith("data: {")]
        count([c["usage"] for c in chunks if c.get("usage")][-1])
        check(chat(s, alice, max_tokens=-1)[0] == 400)
        check(chat(s, None)[0] == 401)
        for _ in range(2):
            check(chat(s, bob)[0] == 200)
        check(s.stop() == 0, s.said)
    got = used(db, "alice")
    check(got == want or {**got, "requests": got["requests"] - 1} == want, got, want)  # the one that was wrong may count as one of no tokens
    check(used(db, "bob")["requests"] == 2 and used(db)["requests"] == got["requests"] + 2)


@test
def changed():
    """keys made and revoked while it serves are taken up; without the first key nobody needs one, after the last everybody"""
    db = database()
    with Server("--db", db) as s:
        check(chat(s, None)[0] == 200 and chat(s, {"Authorization": "Bearer sk-anything"})[0] == 200)
        key = add(db, "alice")
        soon(lambda: chat(s, None)[0] == 401)
        check(chat(s, key)[0] == 200 and s.get("/health")[0] == 200)
        check(chat(s, {"Authorization": key["Authorization"][:-1]})[0] == 401)
        check(aha("keys", "revoke", "alice", "--db", db)[0] == 0)
        soon(lambda: chat(s, key)[0] == 401)
        check("revoked" in chat(s, key)[2] and chat(s, None)[0] == 401)
        check(s.stop() == 0, s.said)
        check(key["Authorization"][12:] not in s.said)
    check(used(db)["requests"] >= 3)


@test
def limited():
    """429 with the seconds to wait: requests a minute, at the same time, tokens a day; a client that goes frees its place"""
    db = database()
    rate, one, few = add(db, "rate", "--rate", "3/min"), add(db, "one", "--concurrent", "1"), add(db, "few", "--tokens-per-day", "40")
    with Server("--db", db) as s:
        got = [chat(s, rate, max_tokens=1) for _ in range(4)]
        check([g[0] for g in got] == [200, 200, 200, 429], [g[0] for g in got])
        check(1 <= int(got[3][1]["Retry-After"]) <= 20 and "3 requests a minute" in got[3][2], got[3])
        c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=PATIENCE_S)
        c.request("POST", CHAT, json.dumps({"model": "aha-tiny", "messages": PUZZLE, "stream": True, "logit_bias": {"1": -100, "20": 100}, "repetition_stop": 0, "max_tokens": 1800,
                                             "n": 128}), {"Content-Type": "application/json", **one})
        r = c.getresponse()
        r.read(200)
        status, headers, text = chat(s, one)
        check(status == 429 and headers["Retry-After"] == "1" and "1 requests at a time" in text, status, text)
        c.sock.shutdown(socket.SHUT_RDWR)  # killed: the answer would take thousands of steps still
        at = s.steps(one)
        soon(lambda: chat(s, one)[0] == 200)
        check(s.steps(one) - at < 100, s.steps(one) - at)
        r.close()
        c.close()
        check(chat(s, few)[0] == 200)
        status, headers, text = chat(s, few)
        check(status == 429 and 1 <= int(headers["Retry-After"]) <= 86400 and "40 tokens a day" in text, status, text)
        check(s.get("/v1/models", headers=few)[0] == 200)  # what generates nothing is not limited
        check(s.stop() == 0, s.said)


@test
def shared_out():
    """one key asks for much at once, another for little: the other one does not wait until the first has its own"""
    db = database()
    much, little = add(db, "much"), add(db, "little")
    ask = {"path": "/v1/completions", "body": {"model": "aha-tiny", "prompt": [9, 10, 11], "max_tokens": 200, "logit_bias": {"1": -100, "20": 100}, "repetition_stop": 0}}
    with Server("--db", db, "--parallel", "4") as s:
        with Load(s, g={**ask, "key": much["Authorization"].split()[1], "count": 60, "at_once": 60}) as clients:
            soon(lambda: s.health()[1]["requests"] >= 40)
            g = load(s, g={**ask, "key": little["Authorization"].split()[1], "count": 3}).g  # one after another
            left = s.health()[1]["requests"]
            check(g.status == {200: 3} and g.tokens == 600 and left > 20, vars(g), left)
            g = clients.results().g
            check(g.status == {200: 60} and g.tokens == 60 * 200, g.status, g.tokens)


@test
def flooded():
    """a key that is over its quota and asks on, 50 at once: 429 each time, and /health answers at once all the while"""
    db = database()
    few = add(db, "few", "--tokens-per-day", "20")
    with Server("--db", db) as s:
        check(chat(s, few)[0] == 200 and chat(s, few)[0] == 429)

        def flood():
            got = load(s, g={"path": CHAT, "key": few["Authorization"].split()[1], "body": {"model": "aha-tiny", "messages": PUZZLE}, "count": 4000, "at_once": 50,
                             "want": '"insufficient_quota"'}, health={"pause": 5, "count": 0})
            g, h = got.g, got.health
            check(g.status == {429: 4000} and g.whole == g.wanted == g.retry_after == 4000 and h.status == {200: h.asked} and h.whole == h.asked, vars(g), vars(h))
            return max(h.unhurried) < 100 * SLOWER, h.unhurried

        once(flood)


@test
def quota_at_once():
    """many at once over a small quota: as many run as may use it up, the others have 429; what was not used is given back"""
    db = database()
    quota, long = 500, {"logit_bias": {"1": -100, "20": 100}, "repetition_stop": 0}  # never ends by itself
    few, one, rate, long_of = (add(db, "few", "--tokens-per-day", str(quota)), add(db, "one", "--tokens-per-day", str(quota)),
                               add(db, "rate", "--tokens-per-day", str(quota), "--rate", "5/min"), {})
    with Server("--db", db) as s:
        for name, key, tokens in (("few", few, 181), ("one", one, 1)):
            got = at_once([lambda k=key, n=tokens: chat(s, k, max_tokens=n, **long)] * 40)
            good = [json.loads(g[2])["usage"] for g in got if g[0] == 200]
            check(len(got) == 40 and all(g[0] in (200, 429) for g in got), [g[:1] for g in got])
            check(all("tokens a day" in g[2] and json.loads(g[2])["error"]["code"] == "insufficient_quota" and g[1]["Retry-After"] for g in got if g[0] == 429))
            prompt, total = good[0]["prompt_tokens"], sum(u["total_tokens"] for u in good)
            check(prompt == 19 and all(u["completion_tokens"] == tokens for u in good), good)
            check(quota <= total < quota + prompt + tokens, name, total)  # 3 of 200; 25 of 20
            long_of[name] = total
        # alone it may ask for more than there is; while it runs nobody else may, and then the rest is free again, 100 times over
        c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=PATIENCE_S)
        c.request("POST", CHAT, json.dumps({"model": "aha-tiny", "messages": PUZZLE, "stream": True, "max_tokens": 1800, **long}), {"Content-Type": "application/json", **rate})
        r = c.getresponse()
        r.read(200)
        for _ in range(7):  # refused for the quota, they take nothing from the rate
            status, headers, text = chat(s, rate, max_tokens=1)
            check(status == 429 and headers["Retry-After"] == "1" and "that run now" in text, status, text)
        c.sock.shutdown(socket.SHUT_RDWR)
        soon(lambda: "that run now" not in chat(s, rate, max_tokens=1)[2])
        r.close()
        c.close()
        many = add(db, "many", "--tokens-per-day", "10000")
        soon(lambda: chat(s, many, max_tokens=1)[0] == 200)
        for i in range(100):
            status, _, text = chat(s, many, max_tokens=1800, stop=["="], thinking_budget=0, n=6, stream=i % 2 == 1)  # may use 10819, uses few
            check(status == 200, i, text)
        check(s.stop() == 0, s.said)
    for name, total in long_of.items():
        u = used(db, name)
        check(u["prompt_tokens"] + u["completion_tokens"] == total, name, u, total)


@test
def troubled():
    """a database that is locked, then gone: answers come as before, keys are still needed, and what was used is written when it can be"""
    db = database()
    key = add(db, "alice")
    with Server("--db", db) as s:
        check(chat(s, key)[0] == 200)
        con = sqlite3.connect(db, isolation_level=None, timeout=10)
        con.execute("BEGIN IMMEDIATE")
        t0 = time.monotonic()
        took = []
        while len(took) < 10 or time.monotonic() - t0 < 4:
            t = time.monotonic()
            check(chat(s, key, max_tokens=1)[0] == 200)
            took.append(time.monotonic() - t)
        n = len(took)
        check(sorted(took)[n // 2] < 1, took)  # the lock is waited for longer, and never given
        soon(lambda: n <= s.metric("aha_usage_unwritten_requests", key) <= n + 1 and s.metric("aha_database_failures", key) >= 1)
        check(s.metric("aha_keys", key) == 1 and s.metric("aha_usage_lost_requests_total", key) == 0)
        con.execute("COMMIT")
        con.close()
        soon(lambda: used(db)["requests"] == n + 1)
        for end in ("", "-wal", "-shm"):
            if os.path.exists(db + end):
                os.rename(db + end, db + ".away" + end)
        time.sleep(1.5)
        check(chat(s, key)[0] == 200 and chat(s, None)[0] == 401)
        check(not os.path.exists(db))
        for end in ("", "-wal", "-shm"):
            if os.path.exists(db + ".away" + end):
                os.rename(db + ".away" + end, db + end)
        soon(lambda: used(db)["requests"] == n + 2)
        check(s.stop() == 0, s.said)
        check("locked by another program" in s.said, s.said)


@test
def addresses():
    """without a key it listens on this machine alone, unless --no-keys says so; a database that cannot be read is no database without keys"""
    db = database()
    serve = ["serve", "--port", "0", "--db", db]
    for host in ("0.0.0.0", "::"):
        rc, _, err = aha(*serve, "--host", host)
        check(rc == 2 and "aha keys add" in err and "--no-keys" in err, host, rc, err)
    with servelib.Server("--db", db, "--host", "0.0.0.0", "--no-keys") as s:
        check(chat(s, None)[0] == 200)
    key = add(db, "alice")
    with servelib.Server("--db", db, "--host", "0.0.0.0") as s:
        check(chat(s, None)[0] == 401 and chat(s, key)[0] == 200)
    check(aha("keys", "revoke", "alice", "--db", db)[0] == 0)
    rc, _, err = aha(*serve, "--host", "0.0.0.0")
    check(rc == 2 and "no key that works" in err, rc, err)
    bad = database()
    with open(bad, "w", encoding="ascii") as f:
        f.write("no database\n" * 100)
    state = os.path.join(TMP, "state")
    os.makedirs(os.path.join(state, "aha", "aha.db"))
    for args, env in ((["--db", bad], {}), ([], {"AHA_DB": bad}), (["--db", TMP], {}), ([], {"AHA_DB": TMP}), ([], {"XDG_STATE_HOME": state})):
        rc, _, err = aha("serve", "--port", "0", *args, env={"AHA_DB": "", **env})
        check(rc == 1 and ("no SQLite database" in err or "is a folder" in err), args, env, rc, err)
    with servelib.Server(env={"AHA_DB": "", "XDG_STATE_HOME": "/proc/none"}) as s:  # no place for one: without keys, on this machine
        check(chat(s, None)[0] == 200 and "usage is not written" in s.said, s.said)
    rc, _, err = aha("serve", "--port", "0", "--host", "0.0.0.0", env={"AHA_DB": "", "XDG_STATE_HOME": "/proc/none"})
    check(rc == 2 and "--no-keys" in err, rc, err)


if __name__ == "__main__":
    status = main()
    shutil.rmtree(TMP, ignore_errors=True)
    raise SystemExit(status)
