#!/usr/bin/env python3
"""Writes src/text/unicode_new.h: letters, marks, numbers, punctuation and symbols that Unicode gained after version 14.

PCRE2 10.42 knows Unicode 14; the engine behind Hugging Face's `tokenizers` knows a newer one, and a text with a newer
emoji would be cut differently.  The oracle is `tokenizers` itself (pip install tokenizers); Python's own tables must be
those of Unicode 14 (Python 3.11).  Usage: tools/unicode_new.py > src/text/unicode_new.h
"""
import sys
import unicodedata

from tokenizers import Regex, pre_tokenizers

if unicodedata.unidata_version != "14.0.0":
    sys.exit(f"Python's tables are Unicode {unicodedata.unidata_version}, expected 14.0.0")
POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXT = "".join(map(chr, POINTS))


def engine(category):
    """The characters that the engine puts in a general category."""
    split = pre_tokenizers.Split(Regex(r"\p{%s}" % category), "removed", invert=True)
    return {ord(c) for piece, _ in split.pre_tokenize_str(TEXT) for c in piece}


def ranges(points):
    out = []
    for c in sorted(points):
        if out and c == out[-1][1] + 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


print("/* What Unicode gained after version 14, which PCRE2 10.42 knows, as far as the engine behind Hugging Face's tokenizers")
print(" * knows it: fragments of character classes.  Made by tools/unicode_new.py. */")
print("#ifndef AHA_TEXT_UNICODE_NEW_H\n#define AHA_TEXT_UNICODE_NEW_H\n")
for category in "LMNPS":
    old = {c for c in POINTS if unicodedata.category(chr(c))[0] == category}
    found = engine(category)
    if old - found:
        sys.exit(f"{category}: {len(old - found)} characters left the category")
    spelled = [r"\\x{%x}" % a + (r"-\\x{%x}" % b if b > a else "") for a, b in ranges(found - old)]
    print(f"#define NEW_{category} \\")
    rows = [spelled[i:i + 6] for i in range(0, len(spelled), 6)]
    print(" \\\n".join('    "' + "".join(row) + '"' for row in rows) + "\n")
print("#endif")
