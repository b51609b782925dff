#!/usr/bin/env python3
"""Compares the tokenizer with Hugging Face's `tokenizers`, id by id, and its time on one thread in the same run.

usage: tools/text_compare.py [--only NAME] [--lines N] [--seed S] [--no-ids] [--no-time] [--at-least RATIO] [--bench build/bench/bench_text] DATA WORK
DATA: the folder with tokenizer/{deepseek-r1-tokenizer.derived.json.gz, qwen.tiktoken, llama3-tokenizer.model,
qwen3-tokenizer_config.json}, of which what is there is used.  WORK: a folder for what is made.  Needs: pip install tokenizers.

Bytes that are not UTF-8 cannot be handed to `tokenizers`: there the runs between them are, and each such byte must be its own
token.  No text may differ: where Unicode's versions do, src/text has lists (docs/templates.md).  bench_text also checks that the
ids become their text again."""
import argparse
import gzip
import json
import os
import statistics
import struct
import subprocess
import sys
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from tokenizers import Tokenizer  # noqa: E402

import text_lines  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
MAKE = {"r1-distill-qwen": "qwen.tiktoken", "r1-0528-qwen3": "qwen.tiktoken", "r1-distill-llama": "llama3-tokenizer.model"}


def tokenizer_files(data, work):
    folder, out = os.path.join(data, "tokenizer"), {}
    packed = os.path.join(folder, "deepseek-r1-tokenizer.derived.json.gz")
    if os.path.exists(packed):
        out["r1"] = os.path.join(work, "r1.json")
        with gzip.open(packed) as f, open(out["r1"], "wb") as g:
            g.write(f.read())
    for family, ranks in MAKE.items():
        source, path = os.path.join(folder, ranks), os.path.join(work, family + ".json")
        if os.path.exists(source):
            if not os.path.exists(path):
                subprocess.run([sys.executable, os.path.join(HERE, "tokenizer_json.py"), family, source, path, "--config",
                                os.path.join(folder, "qwen3-tokenizer_config.json")], check=True)
            out[family] = path
    return out


def runs(data):
    """The text as a list of str (a valid run) and int (a byte that is none's)."""
    out, at = [], 0
    while at < len(data):
        try:
            out.append(data[at:].decode())
            break
        except UnicodeDecodeError as e:
            if e.start:
                out.append(data[at:at + e.start].decode())
            out.append(data[at + e.start])
            at += e.start + 1
    return out


def expected(tok, byte_id, texts):
    pieces = [runs(t) for t in texts]
    flat = [r for p in pieces for r in p if isinstance(r, str)]
    coded = iter(tok.encode_batch_fast(flat, add_special_tokens=False))
    return [[i for r in p for i in (next(coded).ids if isinstance(r, str) else [byte_id[r]])] for p in pieces]


def ours(bench, path, texts, work, special):
    out = os.path.join(work, "ids")
    subprocess.run([bench, path, texts, "--ids", out] + (["--special"] if special else []), check=True)
    rows, at = [], 0
    with open(out, "rb") as f:
        data = f.read()
    while at < len(data):
        n = struct.unpack_from("<I", data, at)[0]
        rows.append(list(struct.unpack_from(f"<{n}i", data, at + 4)))
        at += 4 + 4 * n
    return rows


def byte_ids(data):
    back = {c: b for b, c in byte_letters().items()}
    return {back[t]: i for t, i in data["model"]["vocab"].items() if len(t) == 1 and t in back}


def byte_letters():
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + k) for k, b in enumerate(hidden)}}


def differ(name, texts, want, got):
    bad = [i for i in range(len(texts)) if want[i] != got[i]]
    for i in bad[:10]:
        s = texts[i].decode(errors="replace")
        at = next((k for k, (a, b) in enumerate(zip(want[i], got[i])) if a != b), min(len(want[i]), len(got[i])))
        print(f"{name}: text {i}, id {at}: {got[i][at:at + 6]}, expected {want[i][at:at + 6]}: {ascii(s)[:300]}")
    return len(bad)


def ratio(bench, path, tok, texts, work, rounds=5):
    """How many times as fast by the processor's time (other processes do not count) and by the clock, and MB/s of both."""
    file = os.path.join(work, "texts.timed")
    text_lines.write(file, texts)
    flat = [t.decode(errors="replace") for t in texts]
    theirs, own = [], []
    with subprocess.Popen([bench, path, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        for _ in range(rounds):
            wall, cpu = time.perf_counter(), time.process_time()
            tok.encode_batch_fast(flat, add_special_tokens=False)
            theirs.append((time.process_time() - cpu, time.perf_counter() - wall))
            p.stdin.write("go\n")
            p.stdin.flush()
            own.append(tuple(int(x) / 1e9 for x in p.stdout.readline().split()[:2]))
        p.stdin.close()
    a, b = ([statistics.median(t[k] for t in rows) for k in (0, 1)] for rows in (theirs, own))
    size = sum(len(t) for t in texts) / 1e6
    return a[0] / b[0], a[1] / b[1], size / a[0], size / b[0]


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("data")
    a.add_argument("work")
    a.add_argument("--lines", type=int, default=20000)
    a.add_argument("--seed", type=int, default=20250120)
    a.add_argument("--no-ids", action="store_true")
    a.add_argument("--no-time", action="store_true")
    a.add_argument("--at-least", type=float, default=0)
    a.add_argument("--only")
    a.add_argument("--bench", default=os.path.join(HERE, "..", "build", "bench", "bench_text"))
    a = a.parse_args()
    texts, failed, file = text_lines.lines(a.lines, a.seed), 0, os.path.join(a.work, "texts")
    text_lines.write(file, texts)
    short = [t.decode(errors="replace").encode() for t in texts if len(t) < 4096]  # both get the very same
    for name, path in tokenizer_files(a.data, a.work).items():
        if a.only and a.only != name:
            continue
        with open(path, encoding="utf-8") as f:
            data = json.load(f)
        byte_id = byte_ids(data)
        plain = Tokenizer.from_str(json.dumps({**data, "added_tokens": [], "post_processor": None}))
        full = Tokenizer.from_str(json.dumps({**data, "post_processor": None}))
        for special, tok in () if a.no_ids else ((False, plain), (True, full)):
            n = differ(name, texts, expected(tok, byte_id, texts), ours(a.bench, path, file, a.work, special))
            failed += n
            print(f"{name}{', added tokens found' if special else ''}: {len(texts) - n} of {len(texts)} texts have the same ids", flush=True)
        for kind, some in () if a.no_time else (("lines", short), ("documents", text_lines.documents())):
            r, r_wall, mb_theirs, mb_own = ratio(a.bench, path, plain, some, a.work)
            failed += r < a.at_least
            print(f"{name}, {kind}: {mb_own:.1f} MB/s beside {mb_theirs:.1f} MB/s of tokenizers on one thread: {r:.2f} times as fast"
                  f" by processor time ({r_wall:.2f} by the clock)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
