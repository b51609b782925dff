#!/usr/bin/env python3
"""Texts of many kinds, the same for the same seed: what tokenizers are compared on.

lines(n, seed) -> n texts as bytes: sentences in many languages, code, numbers, emoji, spaces, control tokens spelled out,
random characters of every block of Unicode, marks in every order, bytes that are not UTF-8, and, in the full set (20,000
lines and more), runs of 128 KiB.  usage: tools/text_lines.py N SEED OUT    OUT: each text as u32 length and bytes"""
import glob
import os
import random
import struct
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
RUN_BYTES = 128 << 10
RUNS = ["Z", " ", "\n", "\u0301", "\u0301\u0323", "a", "1", "一", " a", "😀", "!", "\t \n", "\r\n", "<", "'s", "é", "\u3000", "あア", "=-", "\u1100\u1161\u11a8"]
SENTENCES = """The quick brown fox doesn't jump over 13 lazy dogs; they've WE'LL I'M it's o'clock.|Größe, Straße, Ärger über den Fluß.
Où est le café ? À l'œuvre, garçon !|El niño comió piñata. ¿Qué pasó? ¡Sí!|Zażółć gęślą jaźń, żółw.|Příliš žluťoučký kůň úpěl ďábelské ódy.
Быстрая лиса прыгает через ленивую собаку, ёж и Київ.|Η γρήγορη αλεπού πηδάει πάνω από το σκυλί.|שלום עולם, מה נשמע היום?|السلام عليكم ورحمة الله ١٢٣٤
हिन्दी में लिखा हुआ वाक्य १२३|বাংলা ভাষায় একটি বাক্য।|தமிழ் மொழியில் ஒரு வாக்கியம்.|ภาษาไทยไม่มีช่องว่าง ๑๒๓|ພາສາລາວ|မြန်မာဘာသာ|ខ្មែរ ៣ ភាសា
日本語のテキスト、カタカナとひらがなの混じり文です。|中文句子：九加七等于十六。用八、十三和二得到二十九。|繁體中文的句子，與標點「引號」。|한국어 문장입니다. 조선말 123개|tiếng Việt có dấu: ữ ệ ỗ ặ
ქართული ენა|Հայերեն լեզու|አማርኛ ቋንቋ|ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ|ᠮᠣᠩᠭᠣᠯ ᠬᠡᠯᠡ|བོད་སྐད་|සිංහල භාෂාව|Türkçe İstanbul ığdır|Íslenska þýðing ðæö|Yorùbá Ẹ̀kọ́|ʻŌlelo Hawaiʻi
∑_{i=0}^{n} x_i² ≤ ½·∞ ≠ ∅ → ∀ε>0 ∃δ: |x| < δ|①②③ ⅷ Ⅻ ½ ¾ ⁵ ₂ ㊿ 〇 𝟘𝟙𝟚 𝔘𝔫𝔦|$\\frac{a}{b} = \\boxed{42}$ and \\(x^2\\)|3.14159 1,234,567.89 0x1F 1e-9 -7 +7 12:30 2025-01-20 192.168.0.1 007
SELECT * FROM t WHERE a<>'b' AND c IS NOT NULL;|<a href="http://x.org/?q=1&r=%20">k</a>|{"name": "f", "arguments": {"x": [1, 2.5, null]}}|/usr/bin/env --flag=yes ~/file_name.tar.gz && ls -la|a_b__c ___ -- --- ... …… ,,, !!! ?!""".replace("\n", "|")
EMOJI = "😀 😃 👍🏽 👩‍👩‍👧‍👦 🇩🇪🇫🇷 ❤️ ☺ ♥︎ 🫎 🪿 🫨 🏴󠁧󠁢󠁳󠁣󠁴󠁿 1️⃣ 🤔 🎉 🚀 🧑🏿‍🚀 ⚠️ ✅ 🫩 🪾".split(" ")
CONTROLS = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "<｜tool▁calls▁begin｜>",
            "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<|EOT|>", "<|im_end|>", "<tool_call>"]
SPACES = [" ", "  ", "\n", "\n\n", "\t", "\r\n", "\r", "\u00a0", "\u2003", "\u3000", "\u0085", "\u2028", "\u200b", "\ufeff", "\x0b", "\x0c", "\x1f", "    "]
MARKS = [chr(c) for c in [*range(0x300, 0x370), *range(0x483, 0x488), *range(0x591, 0x5be), *range(0x64b, 0x656), 0x93c, 0x94d, 0x3099, 0x309a, *range(0x20d0, 0x20f1)]]


def character(rng):
    """Any character that is none of the surrogates."""
    c = rng.choice([rng.randrange(0x80), rng.randrange(0x800), rng.randrange(0x3000), rng.randrange(0x3000, 0x10000), rng.randrange(0x10000, 0x1fc00),
                    rng.randrange(0x20000, 0x110000)])
    return "�" if 0xD800 <= c < 0xE000 else chr(c)


def documents():
    """The project's own files, whole: code and English."""
    out = []
    for pattern in ["src/*/*.[ch]", "tools/*.py", "docs/*.md", "Makefile"]:
        for path in sorted(glob.glob(os.path.join(ROOT, pattern))):
            with open(path, "rb") as f:
                out.append(f.read())
    return out


def code_lines():
    return [r for d in documents() for r in d.decode().split("\n") if r]


class Maker:
    def __init__(self, seed, code):
        self.rng = random.Random(seed)
        self.code = code
        self.sentences = SENTENCES.split("|")
        self.kinds = [self.sentence, self.sentence, self.mixed, self.source, self.source, self.numbers, self.emoji, self.spaces, self.controls,
                      self.blocks, self.marks, self.letters, self.broken]

    def sentence(self):
        words = " ".join(self.rng.choice(self.sentences) for _ in range(self.rng.randint(1, 3))).split(" ")
        if self.rng.random() < 0.5:
            self.rng.shuffle(words)
        return " ".join(words)

    def mixed(self):
        parts = [self.rng.choice([self.sentence, self.numbers, self.emoji, self.spaces, self.letters])() for _ in range(self.rng.randint(2, 4))]
        return "".join(p[self.rng.randrange(len(p) + 1):] for p in parts)

    def source(self):
        at = self.rng.randrange(len(self.code))
        return "\n".join(self.code[at:at + self.rng.randint(1, 6)])

    def numbers(self):
        r = self.rng
        return "".join(r.choice(["%d" % r.randrange(10 ** r.randint(1, 18)), "%.*f" % (r.randint(0, 9), r.random() * 1000), " ", ",", "-", " + ", "=", "½", "٣", "१२",
                                 "Ⅷ", "²", "0x%X" % r.randrange(1 << 40), "%d%%" % r.randrange(100), "１２３"]) for _ in range(r.randint(1, 12)))

    def emoji(self):
        return "".join(self.rng.choice(EMOJI + [" ", "a", "!", "\u200d", "\ufe0f", "🏽"]) for _ in range(self.rng.randint(1, 14)))

    def spaces(self):
        return "".join(self.rng.choice(SPACES + ["a", "1", ".", "一"]) for _ in range(self.rng.randint(1, 30)))

    def controls(self):
        return "".join(self.rng.choice(CONTROLS + ["a", " ", "<", ">", "｜", "1", "\n", "é", "一", "<think", "think>", "▁"]) for _ in range(self.rng.randint(1, 10)))

    def blocks(self):
        base = ord(character(self.rng)) & ~0x7F
        near = [chr(c) for c in range(base, base + 128) if not 0xD800 <= c < 0xE000]
        return "".join(self.rng.choice(near) if self.rng.random() < 0.7 else character(self.rng) for _ in range(self.rng.randint(1, 40)))

    def marks(self):
        return "".join(self.rng.choice(MARKS) if self.rng.random() < 0.6 else self.rng.choice("aeiouAEIOUqs nñéữ가\u1100\u1161\u11a8がか1. ") for _ in range(self.rng.randint(1, 30)))

    def letters(self):
        r = self.rng
        return "".join(r.choice("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ '’.,-_!?()\"") for _ in range(r.randint(1, 60)))

    def broken(self):
        r = self.rng
        b = bytearray(self.mixed().encode())
        for _ in range(r.randint(1, 4)):
            at = r.randrange(len(b) + 1)
            b[at:at + r.randrange(2)] = bytes(r.randrange(0x80, 0x100) for _ in range(r.randint(1, 3)))
        return bytes(b)

    def line(self, i):
        text = self.kinds[i % len(self.kinds)]()
        return text if isinstance(text, bytes) else text.encode()


def lines(n, seed, code=None):
    runs = [(u * (RUN_BYTES // len(u.encode()))).encode() for u in RUNS] if n >= 20000 else []
    maker = Maker(seed, code or code_lines())
    return [maker.line(i) for i in range(n - len(runs))] + runs


def write(path, texts):
    with open(path, "wb") as f:
        for t in texts:
            f.write(struct.pack("<I", len(t)) + t)


if __name__ == "__main__":
    write(sys.argv[3], lines(int(sys.argv[1]), int(sys.argv[2])))
