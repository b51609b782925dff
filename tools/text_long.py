#!/usr/bin/env python3
"""Makes tests/data/text/long.json: what Hugging Face's `tokenizers` gives for 128 KiB of one thing.

A list of [unit, {tokenizer: [number of ids, FNV-1a of the ids as little-endian numbers of 32 bits]}]; a text is its unit, repeated
up to 131,072 bytes or the first length behind.  tiny, qwen, llama are those of tests/data/text; r1 is the published one, out of
DIR/tokenizer, where that is given.

Needs: pip install tokenizers.  Usage: tools/text_long.py [DIR]
"""
import gzip
import json
import os
import sys

from tokenizers import Tokenizer

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "data", "text")
UNITS = ["Z", " ", "\n", "\u0301", "\u0301\u0323", "a", "1", "一", " a", "😀", "!", "\t \n", "<", "<think", "'s", "é", "e\u0301", "12 ", "\r\n", "\u00a0"]
SIZE = 1 << 17


def summary(ids):
    h = 0xcbf29ce484222325
    for i in ids:
        for b in i.to_bytes(4, "little"):
            h = (h ^ b) * 0x100000001b3 & 0xffffffffffffffff
    return [len(ids), f"{h:016x}"]


def main():
    toks = {}
    for name in ("tiny", "qwen", "llama"):
        toks[name] = Tokenizer.from_file(os.path.join(OUT, name + ".json"))
    if len(sys.argv) > 1:
        with gzip.open(os.path.join(sys.argv[1], "tokenizer", "deepseek-r1-tokenizer.derived.json.gz"), "rt", encoding="utf-8") as f:
            toks["r1"] = Tokenizer.from_str(f.read())
    for t in toks.values():
        t.encode_special_tokens = True  # text that spells a control token stays text
    rows = []
    for unit in UNITS:
        n = len(unit.encode())
        text = unit * ((SIZE + n - 1) // n)
        rows.append([unit, {name: summary(t.encode(text, add_special_tokens=False).ids) for name, t in toks.items()}])
        print(repr(unit), rows[-1][1], file=sys.stderr, flush=True)
    with open(os.path.join(OUT, "long.json"), "w", encoding="utf-8") as f:
        f.write("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n")


if __name__ == "__main__":
    main()
