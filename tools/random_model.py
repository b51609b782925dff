#!/usr/bin/env python3
"""Writes models of true shapes with random weights, for measuring speed: nobody needs the real ones for that.

usage: tools/random_model.py SHAPE TYPE PATH [--layers N] [--dense N] [--head TYPE] [--embed TYPE]
  SHAPE  qwen2-1.5b (R1-Distill-Qwen-1.5B), qwen3-8b (R1-0528-Qwen3-8B), r1 (DeepSeek-R1: a slice, 1 dense layer and 1 of experts)
  TYPE   what the matrices are in: f16, bf16, q8_0, q4_k, iq1_s, ... write a GGUF file; f8 writes a folder in FP8 with factors of
         128 x 128, as DeepSeek publishes (embedding and head in BF16)
  --layers, --dense  how many, and how many of R1's have no experts;  --head, --embed  another type for these two

Blocks are random bytes from a pool of 32 MiB that is used again and again, with factors that give weights a standard deviation of
about 0.02, so that every number on the way stays finite; norms are 1, biases 0.  The vocabulary is made up, in the right size.
llama.cpp reads the files too.  The last line of output says how many bytes one token reads.  Same arguments, same bytes.
The standard library is all that is needed; a file takes as long as the disk needs for it."""
import argparse
import json
import os
import random
import struct
import sys

import sparse_model as r1
from sparse_model import TYPES, gguf_header, gguf_size, product, put, typed

POOL = 32 << 20
STD = 0.02

# Where a block has factors in f16, each with what it is times d, and the standard deviation that random codes have when d is 1.
# Minima are such that the mean is near 0.
FACTORS = {
    "q4_0": ([(0, 1)], 4.61), "q4_1": ([(0, 1), (2, -7.5)], 4.62), "q5_0": ([(0, 1)], 9.25), "q5_1": ([(0, 1), (2, -15.5)], 9.22),
    "q8_0": ([(0, 1)], 73.9), "q2_k": ([(80, 1), (82, 1.5)], 13.8), "q3_k": ([(108, 1)], 43.3), "q4_k": ([(0, 1), (2, 7.5)], 258),
    "q5_k": ([(0, 1), (2, 15.5)], 526), "q6_k": ([(208, 1)], 1360), "iq1_s": ([(0, 1)], 7.22), "iq2_xxs": ([(0, 1)], 53.4),
    "iq2_xs": ([(0, 1)], 56.1), "iq2_s": ([(0, 1)], 56.5), "iq3_xxs": ([(0, 1)], 143), "iq3_s": ([(0, 1)], 140), "iq4_nl": ([(0, 1)], 67.2),
    "iq4_xs": ([(0, 1)], 1243), "tq1_0": ([(52, 1)], 0.817),
}


def half(x):
    return struct.pack("<e", x)


def nibbles(data, size, at, value):
    """The high nibble of every block's byte `at`."""
    data[at::size] = data[at::size].translate(bytes(value << 4 | b & 15 for b in range(256)))


def pool_coded(rng, kind):
    _, _, size = TYPES[kind]
    n = POOL // size
    data = bytearray(rng.randbytes(n * size))
    if kind == "iq1_m":  # the factor lies in the high nibbles of four numbers
        bits = struct.unpack("<H", half(STD / 7.19))[0]
        for i in range(4):
            nibbles(data, size, 49 + 2 * i, bits >> 4 * i & 15)
    elif kind == "mxfp4":  # a power of two
        data[0::size] = bytes([127 - 7]) * n
    else:
        factors, std = FACTORS[kind]
        for at, times in factors:
            for i, byte in enumerate(half(STD / std * times)):
                data[at + i::size] = bytes([byte]) * n
    return bytes(data)


def pool_floats(rng, kind):
    """Numbers whose exponents are drawn from a few: both signs, magnitudes from 2^-9 to 2^-5, standard deviation 0.02."""
    high = {"bf16": [0x3C] * 3 + [0x3B], "f16": [0x18, 0x1C, 0x1D, 0x20, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27]}[kind]
    high += [h | 0x80 for h in high]
    data = bytearray(rng.randbytes(POOL))
    data[1::2] = data[1::2].translate(bytes(high[b % len(high)] for b in range(256)))
    return bytes(data)


def pool_f8(rng):
    """Codes with exponents 5 to 10: magnitudes from 1/4 to 15; the factors of the blocks bring them down."""
    return rng.randbytes(POOL).translate(bytes(b & 0x80 | (5 + (b >> 4 & 7) * 6 // 8) << 3 | b & 7 for b in range(256)))


F8_STD = 5.4


class Weights:
    """Data of tensors, in pieces of the pools."""

    def __init__(self):
        self.rng, self.pools = random.Random(1), {}

    def pool(self, kind):
        if kind not in self.pools:
            if len(self.pools) > 3:
                self.pools.clear()
            self.pools[kind] = pool_f8(self.rng) if kind == "f8" else (pool_coded if kind not in ("f16", "bf16") else pool_floats)(self.rng, kind)
        return self.pools[kind]

    def write(self, f, kind, size, n):
        """n bytes of blocks of `size`, beginning somewhere in the pool"""
        p = self.pool(kind)
        at = self.rng.randrange(len(p) // size) * size
        while n > 0:
            n -= f.write(memoryview(p)[at:at + n])
            at = 0


# ---- the dense ones ----
class Dense:
    def __init__(self, arch, layers, d, heads, kv_heads, ff, vocab, context, theta, special, named, pre, hf):
        self.arch, self.layers, self.d, self.heads, self.kv_heads, self.ff = arch, layers, d, heads, kv_heads, ff
        self.vocab, self.context, self.theta, self.special, self.named, self.pre, self.hf = vocab, context, theta, special, named, pre, hf


DENSE = {
    "qwen2-1.5b": Dense("qwen2", 28, 1536, 12, 2, 8960, 151936, 131072, 10000.0, (151646, 151643),
                        {151643: "<｜end▁of▁sentence｜>", 151644: "<｜User｜>", 151645: "<｜Assistant｜>",
                         151646: "<｜begin▁of▁sentence｜>", 151648: "<think>", 151649: "</think>"}, "deepseek-r1-qwen", "Qwen2ForCausalLM"),
    "qwen3-8b": Dense("qwen3", 36, 4096, 32, 8, 12288, 151936, 131072, 1e6, (151643, 151645),
                      {151643: "<｜begin▁of▁sentence｜>", 151645: "<｜end▁of▁sentence｜>", 151667: "<think>", 151668: "</think>",
                       151669: "<｜User｜>", 151670: "<｜Assistant｜>"}, "deepseek-r1-qwen", "Qwen3ForCausalLM"),
}
HEAD_DIM = 128


def dense_layer(m, i):
    """(GGUF's name, Hugging Face's, shape innermost first, is it a matrix)"""
    g, h = "blk.%d." % i, "model.layers.%d." % i
    q, kv = m.heads * HEAD_DIM, m.kv_heads * HEAD_DIM
    yield g + "attn_norm.weight", h + "input_layernorm.weight", (m.d,), False
    for x, rows in (("q", q), ("k", kv), ("v", kv)):
        yield g + "attn_%s.weight" % x, h + "self_attn.%s_proj.weight" % x, (m.d, rows), True
        if m.arch == "qwen2":
            yield g + "attn_%s.bias" % x, h + "self_attn.%s_proj.bias" % x, (rows,), False
        elif x != "v":
            yield g + "attn_%s_norm.weight" % x, h + "self_attn.%s_norm.weight" % x, (HEAD_DIM,), False
    yield g + "attn_output.weight", h + "self_attn.o_proj.weight", (q, m.d), True
    yield g + "ffn_norm.weight", h + "post_attention_layernorm.weight", (m.d,), False
    for x, shape in (("gate", (m.d, m.ff)), ("up", (m.d, m.ff)), ("down", (m.ff, m.d))):
        yield g + "ffn_%s.weight" % x, h + "mlp.%s_proj.weight" % x, shape, True


def dense_tensors(m, layers):
    yield "token_embd.weight", "model.embed_tokens.weight", (m.d, m.vocab), True
    for i in range(layers):
        yield from dense_layer(m, i)
    yield "output_norm.weight", "model.norm.weight", (m.d,), False
    yield "output.weight", "lm_head.weight", (m.d, m.vocab), True


def dense_vocabulary(m):
    letters = [chr(b) for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b]
    letters += [chr(256 + k) for k in range(256 - len(letters))]
    first = min(m.named)
    tokens = letters + ["t%d" % i for i in range(first - len(letters))]
    tokens += [m.named.get(i, "<|extra_%d|>" % i) for i in range(first, m.vocab)]
    return tokens, [1] * first + [3 if i in m.special else 4 for i in range(first, m.vocab)], ["t %d" % i for i in range(10)]


def dense_metadata(m, shape, layers):
    keys = [("block_count", layers), ("context_length", m.context), ("embedding_length", m.d), ("feed_forward_length", m.ff),
            ("attention.head_count", m.heads), ("attention.head_count_kv", m.kv_heads), ("attention.key_length", HEAD_DIM),
            ("attention.value_length", HEAD_DIM), ("rope.freq_base", m.theta), ("attention.layer_norm_rms_epsilon", 1e-6)]
    if m.arch == "qwen3":
        keys += [("rope.scaling.type", "yarn"), ("rope.scaling.factor", 4.0), ("rope.scaling.original_context_length", 32768),
                 ("rope.scaling.attn_factor", 0.8782488562869419)]
    out = [put("general.architecture", m.arch), put("general.name", shape + ", random weights")]
    out += [put(m.arch + "." + k, v) for k, v in keys]
    tokens, kinds, merges = dense_vocabulary(m)
    for k, v in (("model", "gpt2"), ("pre", m.pre), ("tokens", tokens), ("token_type", kinds), ("merges", merges),
                 ("bos_token_id", m.special[0]), ("eos_token_id", m.special[1]), ("add_bos_token", True), ("add_eos_token", False)):
        out.append(put("tokenizer.ggml." + k, v))
    return out


def dense_config(m, layers):
    return {"architectures": [m.hf], "model_type": m.arch, "hidden_act": "silu", "hidden_size": m.d, "intermediate_size": m.ff,
            "num_hidden_layers": layers, "num_attention_heads": m.heads, "num_key_value_heads": m.kv_heads, "head_dim": HEAD_DIM,
            "max_position_embeddings": m.context, "rms_norm_eps": 1e-6, "rope_theta": m.theta, "tie_word_embeddings": False,
            "vocab_size": m.vocab, "bos_token_id": m.special[0], "eos_token_id": m.special[1], "torch_dtype": "bfloat16",
            "use_sliding_window": False, "quantization_config": r1.CONFIG["quantization_config"]}


# ---- GGUF ----
def gguf_write(a):
    if a.shape == "r1":
        tensors = list(r1.gguf_tensors(a.type, "split", a.layers, a.dense))
        kvs = r1.metadata("split", a.layers, a.dense, "DeepSeek R1, a slice, random weights")
    else:
        m = DENSE[a.shape]
        tensors = [typed(a.type, g, shape, matrix) for g, _, shape, matrix in dense_tensors(m, a.layers)]
        kvs = dense_metadata(m, a.shape, a.layers)
    other = {"token_embd.weight": a.embed, "output.weight": a.head}
    tensors = [(n, s, other.get(n) or t) for n, s, t in tensors]
    head, _ = gguf_header(kvs, tensors)
    w, read = Weights(), 0
    with open(a.path, "wb", buffering=0) as f:
        f.write(head)
        for n, shape, kind in tensors:
            if kind == "f32":
                data = vector(n, shape)
                f.write(data)
            else:
                w.write(f, kind, TYPES[kind][2], product(shape) // TYPES[kind][1] * TYPES[kind][2])
            f.write(b"\0" * (-f.tell() % 32))
            size = gguf_size((n, shape, kind))
            read += 0 if n.startswith("token_embd") else size * 8 // r1.EXPERTS if "_exps." in n else size
        os.fsync(f.fileno())  # or the system would write while something is measured
    return read


def vector(name, shape):
    if len(shape) == 1:
        return struct.pack("<f", 0.0 if name.endswith("bias") else 1.0) * shape[0]
    rng = random.Random(2)  # the router's: drawn, or all experts would score alike
    return struct.pack("<%df" % product(shape), *(rng.gauss(0, STD) for _ in range(product(shape))))


# ---- a folder in FP8 ----
def hf_tensors(a):
    if a.shape == "r1":
        yield "model.embed_tokens.weight", "BF16", (r1.V, r1.D)
        for i in range(a.layers):
            yield from r1.hf_layer(i, a.dense)
        yield "model.norm.weight", "BF16", (r1.D,)
        yield "lm_head.weight", "BF16", (r1.V, r1.D)
        return
    for _, name, shape, matrix in dense_tensors(DENSE[a.shape], a.layers):
        if matrix and name.startswith("model.layers."):
            yield name, "F8_E4M3", shape[::-1]
            yield name + "_scale_inv", "F32", (-(-shape[1] // 128), -(-shape[0] // 128))
        else:
            yield name, "BF16", shape[::-1]


def hf_data(w, f, name, kind, shape):
    n = product(shape)
    if kind == "F8_E4M3":
        w.write(f, "f8", 1, n)
    elif kind == "F32" and len(shape) == 1:
        f.write(bytes(4 * n))  # the experts' bias
    elif kind == "F32":
        f.write(struct.pack("<f", STD / F8_STD) * n)
    elif len(shape) == 2:
        w.write(f, "bf16", 2, 2 * n)
    else:
        f.write((b"\0\0" if name.endswith("bias") else b"\x80\x3f") * n)


def hf_write(a):
    os.makedirs(a.path, exist_ok=True)
    head, order, _ = r1.safetensors_header(list(hf_tensors(a)))
    w, read = Weights(), 0
    with open(os.path.join(a.path, "model.safetensors"), "wb", buffering=0) as f:
        f.write(head)
        for t in order:
            hf_data(w, f, *t)
            size = r1.hf_size(t)
            read += 0 if "embed_tokens" in t[0] else size * 8 // r1.EXPERTS if ".mlp.experts." in t[0] else size
        os.fsync(f.fileno())
    config = dict(r1.CONFIG, num_hidden_layers=a.layers, first_k_dense_replace=a.dense, num_nextn_predict_layers=0)
    with open(os.path.join(a.path, "config.json"), "w") as f:
        json.dump(config if a.shape == "r1" else dense_config(DENSE[a.shape], a.layers), f, indent=2)
    return read


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = sorted(k for k in TYPES if k != "f32")
    ap.add_argument("shape", choices=sorted(DENSE) + ["r1"])
    ap.add_argument("type", choices=["f8"] + kinds, type=str.lower)
    ap.add_argument("path")
    ap.add_argument("--layers", type=int)
    ap.add_argument("--dense", type=int, default=1)
    ap.add_argument("--head", choices=kinds, type=str.lower)
    ap.add_argument("--embed", choices=kinds, type=str.lower)
    a = ap.parse_args()
    a.layers = a.layers or (a.dense + 1 if a.shape == "r1" else DENSE[a.shape].layers)
    if a.type == "f8" and (a.head or a.embed):
        sys.exit("--head and --embed are for GGUF files")
    read = hf_write(a) if a.type == "f8" else gguf_write(a)
    print("%s: one token reads %d bytes of weights" % (a.path, read))


if __name__ == "__main__":
    main()
