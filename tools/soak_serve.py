#!/usr/bin/env python3
"""aha serve under ten thousand requests, a fifth of them given up: memory and descriptors stay as they are, answers as quick.

usage: tools/soak_serve.py [REQUESTS]     10000; build/bench/load_serve must be there.  Exit 1 when something grew.
Memory is RssAnon + VmSwap, looked at after every tenth while nothing is asked; its slope is that of a line through all but the first.
How quick: what a machine does besides changes from minute to minute, by more than 10%.  So the last tenth is not compared with what
was measured at the beginning, but with the first tenth of a server that has just been started: the two are asked the same hundred
requests in turn, and of each the median over these slices of their p99 is taken, so that a disturbance spoils a slice.  Five such
comparisons, each with another new server, follow the last tenth; the median of their ratios counts."""
import os
import statistics
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests"))
from servelib import Server, check, load  # pylint: disable=wrong-import-position

ARGS = ["--cache", "4m"]
SLICE, ROUNDS = 100, 5


def asked(s, first, count):
    """milliseconds of those that were answered"""
    body = {"model": "aha-tiny", "prompt": "Using @%90+2@, @%7+3@ and 2, make @@.", "seed": "@@", "max_tokens": 24}
    part, path = count // 5, "/v1/completions"
    got = load(s, plain={"path": path, "body": body, "first": first, "count": 2 * part, "at_once": 3},
               streams={"path": path, "body": {**body, "stream": True}, "first": first + 2 * part, "count": 2 * part, "at_once": 3},
               leaving={"path": path, "body": {**body, "max_tokens": 1000}, "first": first + 4 * part, "count": part, "at_once": 2, "leave": 10})
    for g in (got.plain, got.streams):
        check(g.status == {200: 2 * part} and g.whole == 2 * part, vars(g))
    return got.plain.ms + got.streams.ms


def p99(ms):
    return sorted(ms)[int(0.99 * (len(ms) - 1))]


def slope(y):
    """of a line through y over 0, 1, ..."""
    n = len(y)
    mx, my = (n - 1) / 2, sum(y) / n
    return sum((i - mx) * (v - my) for i, v in enumerate(y)) / sum((i - mx) ** 2 for i in range(n))


def compare(old, first, tenth):
    """p99 of slices of the old server's tenth, and of a new one's first"""
    with Server(*ARGS) as new:
        took = {old: [], new: []}
        asked(new, first - SLICE, SLICE)  # its weights are in memory
        for i in range(0, tenth, SLICE):
            for s in (old, new) if i // SLICE % 2 else (new, old):
                took[s].append(p99(asked(s, first + i, SLICE)))
    return statistics.median(took[old]), statistics.median(took[new])


def main():
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 10000
    tenth, seen, files = n // 10, [], []
    with Server(*ARGS) as s:
        first = p99(asked(s, 1, tenth))
        s.idle()
        seen.append(s.memory())
        for i in range(1, 10):
            last = p99(asked(s, 1 + i * tenth, tenth))
            s.idle()
            seen.append(s.memory())
            files.append(s.descriptors())
        pairs = [compare(s, 1 + n + i * tenth, tenth) for i in range(ROUNDS)]
    grows = slope(seen[1:]) / tenth
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"{n} requests, a fifth given up: {seen[0]} KiB after the first tenth, {seen[-1]} after the last; slope {1024 * grows:.0f} bytes a request")
    print(f"descriptors {min(files)} to {max(files)}")
    print(f"p99 {first:.1f} ms in the first tenth, {last:.1f} in the last; in turn with a new server: " + ", ".join(f"{a:.1f}/{b:.1f}" for a, b in pairs) + f", median ratio {ratio:.3f}")
    good = grows < 1 and max(files) - min(files) <= 1 and ratio < 1.1
    print("good" if good else "WRONG: expected below 1024 bytes, the same descriptors, a ratio below 1.1")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
