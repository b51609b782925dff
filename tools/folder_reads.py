#!/usr/bin/env python3
"""Opens a folder that `aha convert` wrote of a GGUF file with transformers: the same ids and the same chat as aha has them.

    ~/.cache/aha-venv/bin/python tools/folder_reads.py FOLDER GGUF
"""
import json
import os
import subprocess
import sys

from transformers import AutoConfig, AutoTokenizer

os.environ["TOKENIZERS_PARALLELISM"] = "false"
TEXTS = ["Using 8, 13 and 2, make 29.", "12 apples, été 漢字\n\n  x1234567\ttab", "<think> is a token here </think>", "".join(map(chr, range(32, 700)))]
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "12 + 3?"}]


def aha(*args, text):
    return json.loads(subprocess.run(["./aha", "tokenize", *args], input=text, capture_output=True, text=True, check=True).stdout)


def main():
    folder, gguf = sys.argv[1:]
    config, tok = AutoConfig.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    for t in TEXTS:
        want, got = aha("-m", gguf, "--special", text=t), tok.encode(t, add_special_tokens=False)
        assert want == got, f"{t!r}: {want} and {got}"
    assert tok.encode("a")[0] == tok.bos_token_id == config.bos_token_id and config.eos_token_id == tok.eos_token_id
    got = tok.apply_chat_template(CHAT, add_generation_prompt=True, return_dict=False)
    want = aha("--chat", "-m", gguf, text=json.dumps(CHAT))
    assert want == got, f"the chat: {want} and {got}"
    print(f"{len(TEXTS)} texts and a chat, {len(tok)} tokens")


if __name__ == "__main__":
    main()
