#!/usr/bin/env python3
"""aha serve under load, from clients in C (bench/load_serve.c): many, slow, deaf, vanishing, too many, at its end.  Prints TAP.

Which demand is tested where; what is one request of odd bytes, whose speed is nobody's concern, is sent by Python:

| demand | test |
|---|---|
| numbers that are none, too large, negative, of another type: 400 that names the field; null | test_serve.py wrong_fields |
| too many answers, prompts, stop texts, a bias for no token: 400 within 50 ms of the last byte; large bodies keep nobody waiting | refusals here |
| a body over the limit, a head of a megabyte; contradicting lengths, bad chunks; foreign Host, Origin, type | sizes, framing, names in test_serve_hostile.py |
| 500 connections with a byte now and then | slow_senders here |
| a client that does not read | slow_readers here |
| clients killed in the prompt, in the answer, before it | vanishing here |
| ten times overload, a key over its quota, /health all the while | overload here; flooded, limited, quota_at_once in test_serve_keys.py |
| keys: wrong, cut, long, other paths; nothing of them in logs | keys in test_serve_hostile.py |
| 128 KiB of one thing; control tokens as text; characters cut in two | texts in test_serve_hostile.py |
| the end under load; memory and descriptors | ends_well, soak here; 10,000 requests in tools/soak_serve.py |
| the model's file is cut short under load | model_is_cut here |
| the page's hostile answers | tools/test-page |
| 64 streams: none fails, the slowest has half the fastest's speed, together 0.7 of `aha bench` | streams here |

What holds whenever the machine does nothing else (a time, a ratio of times) is asked for until it is seen; a server that never does it fails."""
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

from servelib import BIN, PUZZLE, SLOWER, Load, Server, Skip, check, load, main, once, quantile, serve_test, soon, test

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ENDLESS = {"model": "aha-tiny", "max_tokens": 1800, "logit_bias": {"1": -100, "20": 100}, "repetition_stop": 0, "seed": 1}
LONG = {"path": COMPLETIONS, "body": {**ENDLESS, "prompt": list(range(10, 200))}}
SHORT = {"path": CHAT, "body": {"model": "aha-tiny", "messages": PUZZLE, "max_tokens": 3, "temperature": 0}}
HEALTH = {"path": "/health", "pause": 5, "count": 0}


def good(g, n=None):
    """all of them were answered, whole"""
    check(g.asked == g.whole and g.status == {200: g.asked} and g.asked >= (n or 1), g.asked, g.whole, g.status, g.closed, g.cut, g.refused)
    return g


def say(*what):
    print("#", *what, flush=True)


def ms(values):
    return f"{quantile(0.5, values):.1f} ms (p99 {quantile(0.99, values):.1f})"


@serve_test("--patience", "2")
def slow_senders(s):
    """500 connections that send a byte now and then are closed by a deadline; others are served as quickly as without them"""
    def both():
        alone = load(s, chat={**SHORT, "count": 400, "at_once": 2}, health=HEALTH)
        beside = load(s, heads={**SHORT, "count": 250, "at_once": 250, "sent": 1, "every": 400}, bodies={**SHORT, "count": 250, "at_once": 250, "sent": -40, "every": 400},
                      chat={**SHORT, "count": 0, "at_once": 2}, health=HEALTH)
        for g in (beside.heads, beside.bodies):
            check(g.closed == 250 and not g.status, g.closed, g.status)
        a, b = (quantile(0.99, good(k.chat, 20).unhurried) for k in (alone, beside))
        h = quantile(0.99, good(beside.health, 20).unhurried)
        say(f"others, p99: {a:.1f} ms alone, {b:.1f} beside 500 that are slow; /health {h:.1f}")
        return b < 2 * a + 2 and h < 100 * SLOWER, a, b, h

    once(both)
    soon(lambda: s.metric("aha_requests_under_way") == 0)


@serve_test("--patience", "2", "--parallel", "4")
def slow_readers(s):
    """clients that do not read their streams are dropped in time and leave their slots; others are answered meanwhile"""
    deaf = {**LONG, "body": {**ENDLESS, "prompt": list(range(10, 30)), "stream": True, "logprobs": 20}, "count": 4, "at_once": 4, "read": "no"}
    files = s.descriptors()
    with Load(s, deaf=deaf) as stuck:
        soon(lambda: s.metric("aha_requests_under_way") + s.metric("aha_requests_cancelled_total") >= 4)
        good(load(s, chat={**SHORT, "count": 50, "at_once": 4}).chat)
        s.idle()
        soon(lambda: s.descriptors() == files)  # those whose answers were done, too
        got = stuck.results().deaf
    check(got.cut + got.closed == 4 and not got.whole, got.cut, got.closed, got.whole)


def gone(s, *what):
    """the clients went: by the time that the server answers another one it knows, and the engine makes no more than a few steps"""
    at = s.steps()
    s.idle()
    check(s.steps() - at < 10, *what, s.steps() - at)


@serve_test("--parallel", "2", "--queue", "64")
def vanishing(s):
    """clients that go, or are killed, while they wait, in the prompt, in a stream, before an answer: their slots are free at once"""
    prompt = {**ENDLESS, "prompt": ["@+300@"] + [5 + i % 1000 for i in range(1900)], "max_tokens": 1}
    for what, body in {"answer": LONG["body"], "stream": {**LONG["body"], "stream": True}, "many": {**LONG["body"], "n": 8}, "prompt": prompt}.items():
        for how in ({"leave": 0}, {"leave": 20, "reset": "yes"}, {"leave": 100}, {"leave_at": 300}):
            if "leave_at" in how and what != "stream":
                continue
            got = load(s, g={"path": COMPLETIONS, "body": body, "count": 6, "at_once": 3, **how}).g
            check(got.left + got.whole == 6 and (what == "prompt" or not got.whole), what, how, got.left, got.whole)
            gone(s, what, how)
    for what, body in {"answer": LONG["body"], "stream": {**LONG["body"], "stream": True}, "prompt": prompt}.items():
        before = s.steps()
        with Load(s, g={"path": COMPLETIONS, "body": body, "count": 60, "at_once": 60}) as killed:
            soon(lambda b=before: s.health()[1]["requests"] >= 50 and s.steps() > b)
            killed.p.send_signal(signal.SIGKILL)
            killed.p.wait()
            gone(s, what, "killed")  # their prompts alone would take hundreds of steps
    good(load(s, chat=SHORT).chat)
    check(s.stop() == 0, s.said)


@serve_test("--parallel", "2", "--queue", "3")
def overload(s):
    """ten times what fits: 503 with Retry-After before a body is looked at, /health at once; whoever is taken is answered"""
    with Load(s, held={**LONG, "body": {**LONG["body"], "n": 16}, "count": 5, "at_once": 5}) as held:
        soon(lambda: s.health()[1]["requests"] == 5)
        def flood():
            at = s.metric("aha_requests_refused_total")
            got = load(s, more={**SHORT, "count": 4000, "at_once": 50, "want": '"overloaded"'}, unread={"path": CHAT, "body": "no JSON", "count": 400, "at_once": 5, "want": '"overloaded"'},
                       health=HEALTH)
            for g in (got.more, got.unread):
                check(g.status == {503: g.asked} and g.whole == g.wanted == g.retry_after == g.asked, vars(g))
            check(s.metric("aha_requests_refused_total") - at == 4400)
            h = good(got.health).unhurried
            say(f"/health while 50 at once are refused and 80 answers computed: {ms(got.health.ms)}")
            return max(h) < 100 * SLOWER, h

        once(flood)
        check(s.health()[1]["requests"] == 5)
        held.p.kill()
    s.idle()

    def rush():
        got = load(s, all={**SHORT, "body": {**SHORT["body"], "max_tokens": 30}, "count": 1000, "at_once": 50, "pause": 20}, health=HEALTH)
        g, h = got.all, good(got.health).unhurried
        check(set(g.status) == {200, 503} and g.whole == 1000 and g.status[503] == g.retry_after and g.tokens == 30 * g.status[200], vars(g))
        say(f"50 at once where 5 fit: {g.status[200]} of 1000 answered; /health {ms(got.health.ms)}")
        return max(h) < 100 * SLOWER, h

    once(rush)
    good(load(s, chat=SHORT).chat)


@serve_test()
def refusals(s):
    """what is asked too much of is refused within 50 ms of its last byte; larger bodies keep nobody waiting"""
    vocab = json.loads(s.get("/v1/models/aha-tiny")[2])["aha"]["vocabulary"]
    base = SHORT["body"]
    one = json.dumps(base)[:-1].encode()
    bodies = {"n": {**base, "n": 10**6}, "stop": {**base, "stop": ["x"] * 30000}, "logit_bias": {**base, "logit_bias": {str(vocab): 1}},
              "logit_bias ": {**base, "logit_bias": {str(i): 1 for i in range(15000)}}, "logit_bias  ": {**base, "logit_bias": {"-1": 1}}, "top_logprobs": {**base, "logprobs": True, "top_logprobs": 21},
              "messages": {**base, "messages": [1] * 60000}, "prompt": {"model": "aha-tiny", "prompt": ["x"] * 40000}, "prompt ": {"model": "aha-tiny", "prompt": [[1]] * 129},
              "arrays": b"[" * 200000, "objects": b'{"a":' * 40000, "no end": b'{"model": "' + b"9" * 200000, "temperature": b'{"temperature": ' + b"9" * 200000 + b"}",
              "no UTF-8": b'{"model": "\xff\xfe"}', "half a pair": b'{"model": "\\ud800"}', "a NUL": b'{"n": 1}\0', "two values": one + b', "user": "' + b"Z" * 200000 + b'"}1'}
    large = {"stop": {**base, "stop": ["x"] * 10**5}, "prompt": {"model": "aha-tiny", "prompt": ["x"] * 10**5}, "x": b'{"x":[' + b"{}," * 10**6 + b"{}]}"}

    def ask(what, body, count, **others):
        with tempfile.NamedTemporaryFile() as f:
            f.write(body if isinstance(body, bytes) else json.dumps(body).encode())
            f.flush()
            size, name = os.path.getsize(f.name), what.strip()
            check((size < 256 << 10) != bool(others), what, size)
            want = f'"param":"{name}"' if name in base or name in ("n", "stop", "logit_bias", "top_logprobs", "prompt") else '"error"'
            got = load(s, g={"path": COMPLETIONS if name == "prompt" else CHAT, "file": f.name, "count": count, "sent": -1, "every": 20, "want": want}, threads=s.threads(), **others)
            check(got.g.status == {400: count} and got.g.wanted == got.g.whole == count, what, vars(got.g))
            say(f"{name}, {size} bytes: refused after {ms(got.g.ms)}")
            return got

    for what, body in bodies.items():
        once(lambda w=what, b=body: (quantile(0.9, ask(w, b, 20).g.unhurried) < 50 * SLOWER,))
    for what, body in large.items():
        once(lambda w=what, b=body: (max(good(ask(w, b, 5, health=HEALTH).health).unhurried) < 100 * SLOWER,))


@test
def ends_well():
    """SIGTERM under load: who is under way is answered, nobody new is taken, exit 0; when the time is up it ends all the same"""
    for stream in (False, True):
        with Server("--parallel", "4", "--drain", "300") as s:
            held = {**LONG, "body": {**LONG["body"], "max_tokens": 1500, "stream": stream, "stream_options": {"include_usage": True}} if stream else {**LONG["body"], "max_tokens": 1500}}
            with Load(s, held={**held, "count": 6, "at_once": 6}, more={**SHORT, "count": 0, "at_once": 4}) as clients:
                soon(lambda: s.health()[1]["requests"] >= 6 and s.metric("aha_generated_tokens_total") > 100)
                check(s.stop() == 0, s.said)
                got = clients.results()
            good(got.held, 6)
            check(got.held.tokens == 6 * 1500, got.held.tokens)
            check(set(got.more.status) <= {200, 503} and got.more.cut == 0 and got.more.status.get(200), vars(got.more))
            check(got.more.asked == got.more.whole + got.more.refused + got.more.closed and got.more.closed <= 4, got.more.asked, got.more.closed)
    with Server("--drain", "1") as s, Load(s, held={**LONG, "body": {**LONG["body"], "n": 128}}) as clients:
        soon(lambda: s.health()[1]["sequences"] > 100)
        check(s.stop() == 0, s.said)
        got = clients.results().held
        check(got.closed == 1, vars(got))  # its time was up before there was an answer


@test
def model_is_cut():
    """the model's file is cut short while many are answered from it: an answer, an error or 503 for each, and the process lives"""
    src = "models/aha-tiny"
    if not os.path.exists(src + "/model.safetensors"):
        raise Skip("no models/aha-tiny")
    with tempfile.TemporaryDirectory() as d:
        for f in os.listdir(src):
            if os.path.isfile(os.path.join(src, f)):
                shutil.copy(os.path.join(src, f), d)
        with Server("-m", d, "--name", "aha-tiny", env={"AHA_SETTLE": "0"}) as s:  # it stays in its file
            good(load(s, chat=SHORT).chat)
            with Load(s, streams={**LONG, "body": {**LONG["body"], "stream": True}, "count": 16, "at_once": 16, "want": "model_damaged"},
                      answers={**LONG, "count": 8, "at_once": 8, "want": "model_damaged"}, health=HEALTH) as clients:
                soon(lambda: s.health()[1]["sequences"] == 24 and s.metric("aha_generated_tokens_total") > 100)
                os.truncate(os.path.join(d, "model.safetensors"), 4096)
                got = clients.results()
            check(got.streams.wanted == 16 and got.streams.status == {200: 16}, vars(got.streams))  # an event in the stream
            check(got.answers.status == {503: 8} and got.answers.wanted == 8, vars(got.answers))
            check(set(got.health.status) <= {200, 503} and got.health.whole == got.health.asked and s.health()[0] == 503, vars(got.health))
            again = load(s, chat={**SHORT, "count": 20, "at_once": 4, "want": "cut short"}).chat
            check(again.status == {503: 20} and again.wanted == 20, vars(again))
            check(s.get("/v1/models")[0] == 200)
            check(s.stop() == 0, s.said)


@serve_test("--cache", "4m")
def soak(s):
    """hundreds of requests, a fifth of them given up: less than 1 KiB stays of each, descriptors stay as they are"""
    def some(first):
        body = {"model": "aha-tiny", "prompt": "Using @%90+2@, @%7+3@ and 2, make @@.", "seed": "@@", "max_tokens": 24}
        got = load(s, plain={"path": COMPLETIONS, "body": body, "first": first, "count": 100, "at_once": 3},
                   streams={"path": COMPLETIONS, "body": {**body, "stream": True}, "first": first + 100, "count": 100, "at_once": 3},
                   leaving={"path": COMPLETIONS, "body": {**body, "max_tokens": 1000}, "first": first + 200, "count": 50, "at_once": 2, "leave": 10})
        good(got.plain)
        good(got.streams)
        s.idle()
        return s.memory(), s.descriptors()

    memory, files = some(1)
    grown = []
    while not grown or grown[-1] >= 250:  # KiB for 250 requests: what fills up comes to an end, a leak does not
        check(len(grown) < 8, "grown each time:", grown, "KiB")
        last, files_after = some(1 + 250 * (len(grown) + 1))
        grown.append(last - memory)
        memory = last
        check(abs(files_after - files) <= 2, files, files_after)
    say(f"memory grew by {grown} KiB for each 250 requests")


def in_process(tokens):
    """tokens a second of 64 sequences that are generated together, without a server"""
    r = subprocess.run([BIN, "bench", "--batch", "64", "-p", "16", "-n", str(tokens), "-r", "1", "--json"], capture_output=True, text=True, check=True)
    return next(row for row in json.loads(r.stdout)["rows"] if row["what"] == "generate")["speed"]["median"]


@serve_test()
def streams(s):
    """64 streams at once: none fails, the slowest has half the speed of the fastest, together 0.7 of what they have in process"""
    tokens, ratios, fair = 128, [], []
    body = {"model": "aha-tiny", "prompt": [0, "@%250+10@", *range(20, 34)], "max_tokens": tokens, "temperature": 0, "seed": "@@", "stream": True, "repetition_stop": 0,
            "logit_bias": {"0": -100, "1": -100, "2": -100, "@+20@": 100}, "stream_options": {"include_usage": True}}  # each says its own token, without an end

    def pair():
        alone = in_process(tokens)
        g = good(load(s, g={"path": COMPLETIONS, "body": body, "count": 64, "at_once": 64}).g)
        check(g.tokens == 64 * tokens, g.tokens)
        ratios.append(g.tokens / g.seconds / alone)
        fair.append(min(g.rate) / max(g.rate))
        say(f"64 streams of {tokens} tokens: {g.tokens / g.seconds:.0f} tokens a second, {alone:.0f} in process; the slowest has {fair[-1]:.2f} of the fastest's speed")
        return len(ratios) >= 3 and statistics.median(ratios) >= 0.7 / SLOWER and min(fair[-3:]) >= 0.5, ratios, fair

    load(s, g={"path": COMPLETIONS, "body": body, "count": 64, "at_once": 64})  # its weights are in memory
    once(pair, 15)
    say(f"median of {len(ratios)}: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    sys.exit(main())
