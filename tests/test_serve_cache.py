#!/usr/bin/env python3
"""aha serve --cache-file: a conversation goes on after a restart without being computed again; files that are damaged, foreign or cannot
be written; what /metrics says of its pages.  Prints TAP."""
import os
import shutil
import signal
import sys
import tempfile
import threading
import time

from servelib import Server, check, main, soon, test

TMP = tempfile.mkdtemp(prefix="aha-serve-cache-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
TALK = [m for i in range(6) for m in ({"role": "user", "content": f"Using {i + 8}, 13 and 2, make {i + 29}."},
                                      {"role": "assistant", "content": f"({i + 8}*2)+13"})][:-1]


def ask(s, messages=None):
    """the answer, and how many tokens of the prompt were found and computed"""
    r = s.chat(messages=messages or TALK, seed=5, max_tokens=40)
    return r["choices"][0]["message"], r["usage"]["prompt_cache_hit_tokens"], r["usage"]["prompt_cache_miss_tokens"]


def serve(path, *args):
    return Server("--cache-file", path, "--log", *args)


def pages(s):
    """of one answer of /metrics: held, findable, empty"""
    lines = dict(line.rsplit(" ", 1) for line in s.get("/metrics")[2].splitlines() if line.startswith("aha_cache_pages{"))
    return tuple(int(lines[f'aha_cache_pages{{state="{x}"}}']) for x in ("held", "findable", "empty"))


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


@test
def restarted():
    """what was computed before SIGTERM is read after it, and the answer is the same; the file is its owner's alone and within its bound"""
    path = os.path.join(TMP, "restarted")
    with serve(path) as s:
        first, hit, miss = ask(s)
        check(hit == 0 and miss > 100, hit, miss)
        check(s.stop() == 0 and "were saved" in s.said, s.said)
    check(os.stat(path).st_mode & 0o777 == 0o600, oct(os.stat(path).st_mode))
    with serve(path) as s:
        again, hit2, miss2 = ask(s)
        check(again == first and hit2 + miss2 == miss and hit2 > 0.7 * miss, hit2, miss2)
        check("were read" in s.said, s.said)
        check(s.stop() == 0, s.said)
    with Server() as s:  # without the file nothing is found
        again, hit, _ = ask(s)
        check(again == first and hit == 0, hit)
    bound = os.stat(path).st_size // 2
    with serve(path, "--cache-file-max", str(bound)) as s:
        ask(s, [{"role": "user", "content": "Using 3, 4 and 5, make 17."}])
        check(s.stop() == 0, s.said)
    check(4096 < os.stat(path).st_size <= bound, os.stat(path).st_size, bound)


@test
def damaged():
    """a damaged file is refused with words, the server runs, and a whole one takes its place"""
    path = os.path.join(TMP, "damaged")
    with serve(path) as s:
        first, _, miss = ask(s)
        check(s.stop() == 0, s.said)
    whole = read(path)
    middle = len(whole) // 2
    for bad in (whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1:], whole[:middle], b""):
        write(path, bad)
        with serve(path) as s:
            check("the saved key cache is not used and will be replaced: " in s.said and path in s.said, s.said)
            again, hit, miss2 = ask(s)
            check(again == first and hit == 0 and miss2 == miss, hit, miss2)
            check(s.stop() == 0, s.said)
        with serve(path) as s:
            again, hit, _ = ask(s)
            check(again == first and hit > 0 and "were read" in s.said, hit, s.said)


@test
def foreign():
    """a file that is no saved key cache stays as it is; one of other options is replaced"""
    path = os.path.join(TMP, "foreign")
    data = b"somebody's only copy\n" * 100
    write(path, data)
    with serve(path) as s:
        check("is left alone" in s.said, s.said)
        ask(s)
        check(s.stop() == 0, s.said)
    check(read(path) == data)
    os.remove(path)
    with serve(path, "--kv", "f16") as s:
        ask(s)
        check(s.stop() == 0, s.said)
    with serve(path, "--kv", "f32") as s:
        check("will be replaced" in s.said and "kv_type" in s.said, s.said)
        check(ask(s)[1] == 0 and s.stop() == 0, s.said)
    with serve(path, "--kv", "f32") as s:
        check(ask(s)[1] > 0)


@test
def idle():
    """it is saved while nothing is asked, once for what is new: a server that is killed loses nothing"""
    path = os.path.join(TMP, "idle")
    with serve(path, "--cache-file-idle", "1") as s:
        first, _, _ = ask(s)
        soon(lambda: s.metric("aha_cache_file_saves_total") == 1)
        time.sleep(2.5)
        check(s.metric("aha_cache_file_saves_total") == 1)
        ask(s, [{"role": "user", "content": "Using 3, 4 and 5, make 17, and say why it is so."}])
        soon(lambda: s.metric("aha_cache_file_saves_total") == 2)
        s.stop(signal.SIGKILL)
    with serve(path, "--cache-file-idle", "0") as s:
        again, hit, _ = ask(s)
        check(again == first and hit > 0, hit)


@test
def unwritable():
    """what cannot be saved is said once and counted; answers go on, and the end is a good one"""
    write(os.path.join(TMP, "plain"), b"no folder")
    path = os.path.join(TMP, "plain", "cache")
    with serve(path, "--cache-file-idle", "1") as s:
        for n in (1, 2):
            ask(s, TALK[:-2 * n])
            soon(lambda n=n: s.metric("aha_cache_file_failures_total") == n)
        check(s.metric("aha_cache_file_saves_total") == 0)
        check(ask(s)[0] and s.stop() == 0, s.said)
        check(s.said.count("was not saved") == 1 and "plain" in s.said, s.said)


@test
def measured():
    """/metrics: pages held, free with keys, empty; sequences that had to wait again in a cache too small for all"""
    def request(i):
        return {"messages": [{"role": "user", "content": f"Using {i + 3}, 4 and 5, make 17."}], "seed": i, "max_tokens": 300, "logit_bias": {"1": -100, "20": 100}, "repetition_stop": 0}

    with Server("--cache", "1M", "--parallel", "4") as s:
        held, findable, empty = pages(s)
        check(held == findable == 0 and empty > 8 and s.metric("aha_cache_page_tokens") == 32, held, findable, empty)
        check(s.metric("aha_preemptions_total") == 0)
        seen, got = set(), {}
        threads = [threading.Thread(target=lambda i=i: got.update({i: s.chat(**request(i))["choices"]})) for i in range(4)]
        for t in threads:
            t.start()
        while any(t.is_alive() for t in threads):
            seen.add(pages(s))
            time.sleep(0.01)
        for t in threads:
            t.join()
        check(all(sum(p) == empty for p in seen) and max(p[0] for p in seen) > empty // 2, empty, seen)
        check(s.metric("aha_preemptions_total") > 0)
        soon(lambda: pages(s)[0] == 0)
        check(pages(s)[1] > 0 and sum(pages(s)) == empty, pages(s))
        n = s.metric("aha_preemptions_total")
        check(len(got) == 4 and all(s.chat(**request(i))["choices"] == got[i] for i in range(4)))
        check(s.metric("aha_preemptions_total") == n)  # one at a time fits


if __name__ == "__main__":
    status = main()
    shutil.rmtree(TMP, ignore_errors=True)
    sys.exit(status)
