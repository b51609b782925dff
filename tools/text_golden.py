#!/usr/bin/env python3
"""Makes tests/data/text: what Hugging Face's `tokenizers` gives for texts of many kinds.

  tiny.json    is the library's own (build/tests/test_text --build > tests/data/text/tiny.json), read here
  qwen.json    NFC, digits one by one   } small byte-level BPE tokenizers trained here, with the
  llama.json   ignore_merges            } pre-tokenisers of Qwen 2/3 and of Llama 3
  *.ids.json   a list of [text, ids, ids with added tokens recognised]

Needs: pip install tokenizers.  Usage: tools/text_golden.py
"""
import json
import os
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "data", "text")
QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+")
LLAMA = QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
CONTROLS = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"]

LINES = """
Using 8, 13 and 2, make 29.|13 * 2 = 26, 26 + 8 = 34: no.|Need 29 - 13 = 16. 8 * 2 = 16: yes.
Check: 8 * 2 = 16, 16 + 13 = 29. ok|((8 * 2) + 13)|0 00 007 10 100 999 1000 1001 31415926 1,234.56|-7 +7 3/4 12:30 2025-01-20
The quick brown fox doesn't jump; it's what they'd say, they'VE WE'LL I'M 'S 'T x'RE|don’t won't ’s 'ſ
Größe, Straße, Ärger, ĲSSEL, ŉ, ǅ, ﬁne|Où est le café ? À l'œuvre, garçon !|El niño comió piñata. ¿Qué? ¡Sí!|Zażółć gęślą jaźń
Быстрая лиса, ёж и Київ|Η γρήγορη αλεπού|שלום עולם, מה נשמע?|السلام عليكم ورحمة الله ١٢٣٤|हिन्दी में लिखा हुआ १२३|ภาษาไทย ไม่มีช่องว่าง ๑๒๓
日本語のテキスト、カタカナとひらがな。|中文句子：九加七等于十六。用八、十三和二得到二十九|한국어 문장입니다. 조선말|ᄒᆞᆫ글|tiếng Việt có dấu: ữ ệ ỗ|ქართული|Հայերեն|አማርኛ|မြန်မာ|ខ្មែរ ៣
😀😃 👍🏽 👩‍👩‍👧‍👦 🇩🇪🇫🇷 ❤️ ☺ ♥︎ 🫎🪿🫨 🏴󠁧󠁢󠁳󠁣󠁴󠁿 1️⃣|∑_{i=0}^{n} x_i² ≤ ½·∞ ≠ ∅ → ∀ε>0 ∃δ|①②③ ⅷ Ⅻ ½ ¾ ⁵ ₂ ㊿ 〇 𝟘𝟙𝟚 𝔘𝔫𝔦
e\u0301 a\u030a o\u0302\u0323 A\u030a q\u0323\u0307 q\u0307\u0323|\u0301\u0302\u0303 lone marks|s\u0323\u0307 \u1e69 \u212b \u2126 \uf900 \u2f800|\u1100\u1161\u11a8 \uac00\u11a8|\u0344 \u0958 \u2adc
int main(void) { return x[i] ? a->b : *p++; } // done|#include <stdio.h>\\n\\tprintf("%d\\\\n", 0x1F & ~mask);|def f(x):\\n    if x == 1:\\n        return [y for y in x]\\n\\n\\n
SELECT * FROM t WHERE a<>'b' AND c IS NOT NULL;|<a href="http://x.org/?q=1&r=%20">k</a>|/usr/bin/env --flag=yes ~/file_name.tar.gz|a_b__c ___ -- --- ... …… ,,, !!! ?!
   leading|trailing   | two  three   four    |\\t\\ttabs\\t|\\n|\\n\\n|\\n\\n\\n|\\r\\n|\\r\\n\\r\\n |\\n \\n  \\n| \\n| \\n\\n a|a\\n b|a \\nb|a  \\n  b|\\t \\n\\t x| . \\n.\\n!\\n\\n?
\u00a0nbsp\u00a0\u00a0x|\u3000全角\u3000|\u2028ls\u2029ps|\u0085nel x\u0085|\u200bzero\u200bwidth\u200d|\u180emongol \u180e x|\ufeffbom|\u00adsoft\u00adhy|\u202eright|\x01\x02 control \x1f\x7f|\x0b\x0c vt ff
<｜User｜>hello<｜Assistant｜>|<think>\\nhm</think> yes|< think>|<think|<<think>>|<｜begin▁of▁sentence｜><｜begin▁of▁sentence｜>|x<｜end▁of▁sentence｜> y|<think>\u0338|</think\u0338> <｜User\uff5c|<|User|>
a|Z|é|一|😀| | 1|1 |1 2|a1b22c333d4444|x1y|一1あ22ア|漢字かなカナ混じり文|ーー・・゛゜|龥龦鿿㐀|〆〇々|，。！？（）「」|ａｂｃ１２３|٠١٢٣٤٥|1²³4|½x¼
"""


def lines():
    out = []
    for row in LINES.strip("\n").split("\n"):
        for part in row.split("|"):
            part = part.replace("\\\\n", "\0").replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r").replace("\0", "\\n")
            out.append(part)
    out = [x for x in out if x]
    pools = ["abcABC \n\t'sStTlLmM.,!?-_0123456789", "éàüßñçøåœ ƒǆ", "\u0300\u0301\u0323\u0327\u0328aeious ", "一二三あいアイ漢0123 、。", "😀👍🏽‍♂️🇩🇪 a1",
             " \n\r\t\u00a0\u2003\u3000\u0085a.", "abc(){}[];=<>+-*/\"'\n    ", "שלוםسلام १२३ ๑๒ กา", "\u1100\u1161\u11a8가각 힣ᆨ", "<>|｜/thinkUserAssistant▁"]
    rng = random.Random(20250120)
    for i in range(200):
        pool = pools[i % len(pools)]
        other = rng.choice(pools)
        out.append("".join(rng.choice(pool if rng.random() < 0.85 else other) for _ in range(rng.randint(2, 28))))
    for _ in range(20):
        out.append("".join(rng.choice(CONTROLS + ["a", " ", "<", ">", "｜", "1", "\n", "é", "一"]) for _ in range(rng.randint(3, 12))))
    return list(dict.fromkeys(out))


def train(name, pattern, nfc, ignore_merges, texts):
    tok = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if nfc:
        tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"),
                                                 pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=800, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tok.train_from_iterator(texts, trainer)
    special = [AddedToken(c, special=True, normalized=False) for c in CONTROLS[:2]]
    tok.add_special_tokens(special)
    data = json.loads(tok.to_str())
    vocab = data["model"]["vocab"]
    if ignore_merges:  # whole words that no merge makes, and a second way to a token that a merge makes
        for word in ["Ġdoesn", "Äģ", "quick!", "Straße".encode().decode("latin-1").replace("\xc3\x9f", "ÃŁ")]:
            vocab.setdefault(word, max(vocab.values()) + 1)
        shift = max(vocab.values()) + 1
        for i, t in enumerate(data["added_tokens"]):
            t["id"] = shift + i
    top = max(max(vocab.values()), max(t["id"] for t in data["added_tokens"])) + 1
    for i, c in enumerate(CONTROLS[2:]):
        data["added_tokens"].append({"id": top + i, "content": c, "single_word": False, "lstrip": False, "rstrip": False,
                                     "normalized": i >= 2, "special": False})
    path = os.path.join(OUT, name + ".json")
    with open(path, "w", encoding="utf-8") as f:
        json.dump(data, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")


def expect(name, texts):
    with open(os.path.join(OUT, name + ".json"), encoding="utf-8") as f:
        data = json.load(f)
    full = Tokenizer.from_str(json.dumps(data))
    plain = Tokenizer.from_str(json.dumps({**data, "added_tokens": [], "post_processor": None}))
    rows = []
    for t in texts:
        a = plain.encode(t, add_special_tokens=False).ids
        b = full.encode(t, add_special_tokens=False).ids
        rows.append([t, a, b if b != a else None])
    with open(os.path.join(OUT, name + ".ids.json"), "w", encoding="utf-8") as f:
        f.write("[\n" + ",\n".join(json.dumps(r, ensure_ascii=True, separators=(",", ":")) for r in rows) + "\n]\n")
    print(name, len(rows), "texts,", full.get_vocab_size(), "tokens")


def main():
    texts = lines()
    train("qwen", QWEN, True, False, texts)
    train("llama", LLAMA, False, True, texts)
    for name in ["tiny", "qwen", "llama"]:
        expect(name, texts)


main()
