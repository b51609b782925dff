#!/usr/bin/env python3
"""Makes tests/data/text/sample.json: a few hundred texts of tools/text_lines.py with the ids that Hugging Face's `tokenizers`
gives, for the small tokenizers beside it and for the published ones of R1 and of its Qwen distills (whose vocabularies are
not part of the project: tests/test_text_real.c compares them where the data is at hand).

usage: tools/text_sample.py DATA WORK     as tools/text_compare.py; needs: pip install tokenizers
A row is [bytes in hex, {name: ids}]."""
import json
import os
import sys

from tokenizers import Tokenizer

import text_compare
import text_lines

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "data", "text")
TEXTS, BYTES_MAX = 260, 90


def main():
    files = {name: os.path.join(OUT, name + ".json") for name in ("tiny", "qwen", "llama")}
    real = text_compare.tokenizer_files(sys.argv[1], sys.argv[2])
    files.update((name, real[name]) for name in ("r1", "r1-distill-qwen"))
    texts = [t for t in text_lines.lines(3000, 1) if 0 < len(t) <= BYTES_MAX][:TEXTS]
    rows = [[t.hex(), {}] for t in texts]
    for name, path in files.items():
        with open(path, encoding="utf-8") as f:
            data = json.load(f)
        plain = Tokenizer.from_str(json.dumps({**data, "added_tokens": [], "post_processor": None}))
        for row, ids in zip(rows, text_compare.expected(plain, text_compare.byte_ids(data), texts)):
            row[1][name] = ids
    with open(os.path.join(OUT, "sample.json"), "w", encoding="utf-8") as f:
        f.write("[\n" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in rows) + "\n]\n")
    print(len(rows), "texts")


main()
