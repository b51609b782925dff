#!/usr/bin/env python3
"""Makes the tokenizer.json of a published family from a file of ranks ("base64 rank" lines, tiktoken's format).

usage: tools/tokenizer_json.py FAMILY RANKS OUT [--config qwen3-tokenizer_config.json]
  r1-distill-qwen   Qwen's ranks with the control tokens of R1's Qwen distills
  r1-0528-qwen3     Qwen's ranks, Qwen3's added tokens (--config) and R1-0528's two for user and assistant
  r1-distill-llama  Llama 3's ranks with the control tokens of R1's Llama distills

Ranks say which token a pair of tokens becomes, not which pair: merges are recovered.  Qwen's file has one merge for each
token: the last two parts when the token's own bytes are merged by lower ranks (151,387 merges).  Llama's file, which a
converter wrote, has every way to cut a token into two tokens, those of lower rank first (280,147 merges)."""
import argparse
import base64
import json

WORDS = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"
USER, ASSISTANT = "<｜User｜>", "<｜Assistant｜>"
QWEN_PLAIN = ["<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
              "<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"]


def letters():
    """GPT-2's map from bytes to printable characters."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    out, extra = {b: chr(b) for b in plain}, 256
    for b in range(256):
        if b not in out:
            out[b] = chr(extra)
            extra += 1
    return out


LETTER = letters()


def spell(token):
    return "".join(LETTER[b] for b in token)


def read_ranks(path):
    ranks = {}
    with open(path, "rb") as f:
        for line in f:
            if line.strip():
                token, rank = line.split()
                ranks[base64.b64decode(token)] = int(rank)
    return ranks


def last_parts(ranks, token):
    """The two parts that the token's bytes are in before the merge that makes it."""
    parts = [bytes([b]) for b in token]
    while len(parts) > 2:
        best = min(range(len(parts) - 1), key=lambda i: ranks.get(parts[i] + parts[i + 1], len(ranks)))
        if parts[best] + parts[best + 1] not in ranks:
            return None
        parts[best:best + 2] = [parts[best] + parts[best + 1]]
    return parts


def merges_one_each(ranks):
    for token in sorted(ranks, key=ranks.get):
        if len(token) > 1:
            parts = last_parts(ranks, token)
            if parts:
                yield parts


def merges_every_way(ranks):
    for token in sorted(ranks, key=ranks.get):
        ways = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ranks and token[i:] in ranks]
        yield from sorted(ways, key=lambda w: (ranks[w[0]], ranks[w[1]]))


def added_tokens(family, config):
    """id, text, special"""
    if family == "r1-distill-qwen":
        first = [(EOS, True), (USER, False), (ASSISTANT, False), (BOS, True), ("<|EOT|>", False), ("<think>", False), ("</think>", False)]
        rest = [(t, t.startswith("<|") and i < 7) for i, t in enumerate(QWEN_PLAIN)]
        return [(151643 + i, t, s) for i, (t, s) in enumerate(first + rest)]
    if family == "r1-0528-qwen3":
        with open(config, encoding="utf-8") as f:
            own = json.load(f)["added_tokens_decoder"]
        rows = [(int(i), t["content"], t["special"]) for i, t in own.items()]
        names = {151643: BOS, 151645: EOS}
        return [(i, names.get(i, t), s) for i, t, s in sorted(rows)] + [(151669, USER, False), (151670, ASSISTANT, False)]
    names = {128000: (BOS, True), 128001: (EOS, True), 128011: (USER, False), 128012: (ASSISTANT, False), 128013: ("<think>", False),
             128014: ("</think>", False), 128015: (PAD, True)}
    return [(i, *names.get(i, (f"<|reserved_special_token_{i - 128000}|>", True))) for i in range(128000, 128256)]


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("family", choices=["r1-distill-qwen", "r1-0528-qwen3", "r1-distill-llama"])
    a.add_argument("ranks")
    a.add_argument("out")
    a.add_argument("--config")
    a = a.parse_args()
    ranks, llama = read_ranks(a.ranks), a.family == "r1-distill-llama"
    merges = [[spell(x), spell(y)] for x, y in (merges_every_way if llama else merges_one_each)(ranks)]
    pattern = WORDS % (r"\p{N}{1,3}" if llama else r"\p{N}")
    data = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": s}
                         for i, t, s in added_tokens(a.family, a.config)],
        "normalizer": None if llama else {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": llama, "use_regex": False}]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": llama,
                  "vocab": {spell(t): r for t, r in ranks.items()}, "merges": merges},
    }
    with open(a.out, "w", encoding="utf-8") as f:
        json.dump(data, f, ensure_ascii=False, separators=(",", ":"))
    print(f"{a.out}: {len(ranks)} tokens, {len(merges)} merges, {len(data['added_tokens'])} added tokens")


main()
