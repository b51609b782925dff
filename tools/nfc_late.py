#!/usr/bin/env python3
"""Writes src/text/nfc_late.h: the characters that utf8proc orders, takes apart or composes and that the normaliser behind
Hugging Face's `tokenizers` leaves alone, because its tables are of Unicode 9.

The oracles are `tokenizers` itself (pip install tokenizers) and libutf8proc.so.  Usage: tools/nfc_late.py > src/text/nfc_late.h
"""
import ctypes
import ctypes.util
import sys

from tokenizers import normalizers

lib = ctypes.CDLL(ctypes.util.find_library("utf8proc"))
lib.utf8proc_get_property.restype = ctypes.POINTER(ctypes.c_int16)  # category, combining class, ...
lib.utf8proc_decompose_char.restype = ctypes.c_ssize_t
lib.utf8proc_version.restype = ctypes.c_char_p
NFC, NFD = normalizers.NFC(), normalizers.NFD()
POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
DECOMPOSE = (1 << 4) | (1 << 1)  # UTF8PROC_DECOMPOSE | UTF8PROC_STABLE


def moves(c):
    """The character has a combining class there: it changes places with a mark of class 1 before it or of class 240 after it."""
    return NFC.normalize_str("q" + chr(c) + "\u0334")[1] != chr(c) or NFC.normalize_str("q\u0345" + chr(c))[1] != "\u0345"


def parts(c):
    out, boundary = (ctypes.c_int32 * 8)(), ctypes.c_int(0)
    n = lib.utf8proc_decompose_char(ctypes.c_int32(c), out, ctypes.c_ssize_t(8), ctypes.c_int(DECOMPOSE), ctypes.byref(boundary))
    return "".join(chr(out[i]) for i in range(n))


def ranges(points):
    out = []
    for c in sorted(points):
        if out and c == out[-1][1] + 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


classed = {c for c in POINTS if lib.utf8proc_get_property(ctypes.c_int32(c))[1]}
split = {c for c in POINTS if not 0xAC00 <= c < 0xD7A4 and parts(c) != chr(c)}
late = {c for c in classed if not moves(c)}
late_split = {c for c in split if NFD.normalize_str(chr(c)) == chr(c)}
other = {c for c in split - late_split if NFD.normalize_str(chr(c)) != parts(c)}
beyond = {c for c in POINTS if c not in classed and c not in split and NFD.normalize_str(chr(c)) != chr(c) and not 0xAC00 <= c < 0xD7A4}
if other or beyond:
    sys.exit(f"taken apart in two ways: {[hex(c) for c in sorted(other | beyond)]}")
rows = ranges(late | late_split)
print(f"""/* Characters that Unicode gained after version 9 with a combining class or a decomposition: utf8proc {lib.utf8proc_version().decode()} knows them, the
 * normaliser behind Hugging Face's tokenizers does not.  Made by tools/nfc_late.py: {len(late)} with a class, {len(late_split)} with parts. */
#ifndef AHA_TEXT_NFC_LATE_H
#define AHA_TEXT_NFC_LATE_H

#include <stdint.h>

static const struct NfcLate {{
    uint32_t from, to;
}} NFC_LATE[] = {{""")
for i in range(0, len(rows), 5):
    print("    " + " ".join("{0x%x, 0x%x}," % tuple(r) for r in rows[i:i + 5]))
print("};\n\n#endif")
