#!/usr/bin/env python3
"""Writes DeepSeek-R1 (671B) at its whole size without its weights: true names, shapes, types and headers, the data as holes.

usage: tools/sparse_model.py hf DIR                                   91,991 tensors in 163 shards, FP8 with scales
       tools/sparse_model.py gguf DIR [--type q4_k] [--layout split|whole] [--split N]
       tools/sparse_model.py check DIR                                does this file system have holes?  exit 0: yes

What is there to be read without a weight (headers, index, config, vocabulary) is what published files have; every number is a
hole and so reads as zero, the factors of the FP8 blocks too, which the reader accepts.  The 641 GiB take some 20 MB on disk.
layout split: attn_k_b and attn_v_b, 1,086 tensors; whole: attn_kv_b, 1,025.  The standard library is all that is needed."""
import argparse
import json
import os
import struct
import sys

D, FF, FE, LAYERS, DENSE, HEADS, EXPERTS, V = 7168, 18432, 2048, 61, 3, 128, 256, 129280
QL, C, R, NOPE, VD = 1536, 512, 64, 128, 128
SHARDS = 163
CONFIG = {
    "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "attention_bias": False, "attention_dropout": 0.0,
    "bos_token_id": 0, "eos_token_id": 1, "ep_size": 1, "first_k_dense_replace": DENSE, "hidden_act": "silu", "hidden_size": D,
    "intermediate_size": FF, "kv_lora_rank": C, "max_position_embeddings": 163840, "moe_intermediate_size": FE, "moe_layer_freq": 1,
    "n_group": 8, "n_routed_experts": EXPERTS, "n_shared_experts": 1, "norm_topk_prob": True, "num_attention_heads": HEADS,
    "num_experts_per_tok": 8, "num_hidden_layers": LAYERS, "num_key_value_heads": HEADS, "num_nextn_predict_layers": 1,
    "q_lora_rank": QL, "qk_nope_head_dim": NOPE, "qk_rope_head_dim": R, "v_head_dim": VD, "rms_norm_eps": 1e-6,
    "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]},
    "rope_scaling": {"beta_fast": 32, "beta_slow": 1, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0,
                     "original_max_position_embeddings": 4096, "type": "yarn"},
    "rope_theta": 10000, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "tie_word_embeddings": False, "topk_group": 4,
    "topk_method": "noaux_tc", "torch_dtype": "bfloat16", "use_cache": True, "vocab_size": V,
}


# ---- the Hugging Face folder ----
def hf_layer(l, dense=DENSE):
    """(name, type, shape) of one layer"""
    p = "model.layers.%d." % l

    def coded(name, rows, cols):
        yield p + name + ".weight", "F8_E4M3", (rows, cols)
        yield p + name + ".weight_scale_inv", "F32", (-(-rows // 128), -(-cols // 128))

    for norm in ("input_layernorm", "post_attention_layernorm"):
        yield p + norm + ".weight", "BF16", (D,)
    yield from coded("self_attn.q_a_proj", QL, D)
    yield p + "self_attn.q_a_layernorm.weight", "BF16", (QL,)
    yield from coded("self_attn.q_b_proj", HEADS * (NOPE + R), QL)
    yield from coded("self_attn.kv_a_proj_with_mqa", C + R, D)
    yield p + "self_attn.kv_a_layernorm.weight", "BF16", (C,)
    yield from coded("self_attn.kv_b_proj", HEADS * (NOPE + VD), C)
    yield from coded("self_attn.o_proj", D, HEADS * VD)
    if l < dense:
        blocks = [("mlp.", FF)]
    else:
        yield p + "mlp.gate.weight", "BF16", (EXPERTS, D)
        yield p + "mlp.gate.e_score_correction_bias", "F32", (EXPERTS,)
        blocks = [("mlp.shared_experts.", FE)] + [("mlp.experts.%d." % x, FE) for x in range(EXPERTS)]
    for block, width in blocks:
        yield from coded(block + "gate_proj", width, D)
        yield from coded(block + "up_proj", width, D)
        yield from coded(block + "down_proj", D, width)


def hf_tensors():
    yield "model.embed_tokens.weight", "BF16", (V, D)
    for l in range(LAYERS + 1):
        yield from hf_layer(l)
        if l < LAYERS:
            continue
        p = "model.layers.%d." % l  # the draft layer
        yield p + "eh_proj.weight", "BF16", (D, 2 * D)
        yield p + "embed_tokens.weight", "BF16", (V, D)
        for norm in ("enorm", "hnorm", "shared_head.norm"):
            yield p + norm + ".weight", "BF16", (D,)
        yield p + "shared_head.head.weight", "BF16", (V, D)
    yield "model.norm.weight", "BF16", (D,)
    yield "lm_head.weight", "BF16", (V, D)


HF_BYTES = {"F32": 4, "BF16": 2, "F8_E4M3": 1}


def product(shape):
    n = 1
    for d in shape:
        n *= d
    return n


def hf_size(t):
    return product(t[2]) * HF_BYTES[t[1]]


def write_sparse(path, head, size):
    with open(path, "wb") as f:
        f.write(head)
        f.truncate(len(head) + size)


def safetensors_header(tensors):
    """As safetensors' own writer lays it out: wide types first, then by name, so the scales of a shard lie together.
    Returns (the file's head, the tensors in their order, bytes of data)."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    order = sorted(tensors, key=lambda t: (-HF_BYTES[t[1]], t[0]))
    for t in order:
        header[t[0]] = {"dtype": t[1], "shape": t[2], "data_offsets": [at, at + hf_size(t)]}
        at += hf_size(t)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, order, at


def write_hf(folder):
    tensors = list(hf_tensors())
    total, at, shards, where = sum(map(hf_size, tensors)), 0, [[] for _ in range(SHARDS)], {}
    for t in tensors:
        shards[min(at * SHARDS // total, SHARDS - 1)].append(t)
        at += hf_size(t)
    for i, part in enumerate(shards):
        name = "model-%05d-of-%06d.safetensors" % (i + 1, SHARDS)
        head, _, size = safetensors_header(part)
        write_sparse(os.path.join(folder, name), head, size)
        where.update((t[0], name) for t in part)
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {"total_size": total}, "weight_map": where}, f, indent=2)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(CONFIG, f, indent=2)
    print("%s: %d tensors, %d numbers, %d bytes" % (folder, len(tensors), sum(product(t[2]) for t in tensors), total))


# ---- GGUF ----
TYPES = {  # number, weights a block, bytes a block
    "f32": (0, 1, 4), "f16": (1, 1, 2), "bf16": (30, 1, 2), "q4_0": (2, 32, 18), "q4_1": (3, 32, 20), "q5_0": (6, 32, 22),
    "q5_1": (7, 32, 24), "q8_0": (8, 32, 34), "q2_k": (10, 256, 84), "q3_k": (11, 256, 110), "q4_k": (12, 256, 144),
    "q5_k": (13, 256, 176), "q6_k": (14, 256, 210), "iq2_xxs": (16, 256, 66), "iq2_xs": (17, 256, 74), "iq3_xxs": (18, 256, 98),
    "iq1_s": (19, 256, 50), "iq4_nl": (20, 32, 18), "iq3_s": (21, 256, 110), "iq2_s": (22, 256, 82), "iq4_xs": (23, 256, 136),
    "iq1_m": (29, 256, 56), "tq1_0": (34, 256, 54), "mxfp4": (39, 32, 17),
}


def gguf_layer(i, layout, dense=DENSE):
    """(name, shape innermost first, is it a matrix of the type)"""
    b = "blk.%d." % i
    yield b + "attn_norm.weight", (D,), False
    yield b + "attn_q_a.weight", (D, QL), True
    yield b + "attn_q_a_norm.weight", (QL,), False
    yield b + "attn_q_b.weight", (QL, HEADS * (NOPE + R)), True
    yield b + "attn_kv_a_mqa.weight", (D, C + R), True
    yield b + "attn_kv_a_norm.weight", (C,), False
    if layout == "split":
        yield b + "attn_k_b.weight", (NOPE, C, HEADS), True
        yield b + "attn_v_b.weight", (C, VD, HEADS), True
    else:
        yield b + "attn_kv_b.weight", (C, HEADS * (NOPE + VD)), True
    yield b + "attn_output.weight", (HEADS * VD, D), True
    yield b + "ffn_norm.weight", (D,), False
    if i < dense:
        yield b + "ffn_gate.weight", (D, FF), True
        yield b + "ffn_up.weight", (D, FF), True
        yield b + "ffn_down.weight", (FF, D), True
        return
    yield b + "ffn_gate_inp.weight", (D, EXPERTS), False
    yield b + "exp_probs_b.bias", (EXPERTS,), False
    for name, shape in (("gate", (D, FE)), ("up", (D, FE)), ("down", (FE, D))):
        yield b + "ffn_%s_exps.weight" % name, shape + (EXPERTS,), True
        yield b + "ffn_%s_shexp.weight" % name, shape, True


def typed(kind, name, shape, matrix):
    t = kind if matrix else "f32"
    if shape[0] % TYPES[t][1]:
        t = "q8_0"  # attn_k_b's rows of 128 hold no block of 256
    return name, shape, t


def gguf_tensors(kind, layout, layers=LAYERS, dense=DENSE):
    yield typed(kind, "token_embd.weight", (D, V), True)
    for i in range(layers):
        for t in gguf_layer(i, layout, dense):
            yield typed(kind, *t)
    yield typed(kind, "output_norm.weight", (D,), False)
    yield typed(kind, "output.weight", (D, V), True)


def gguf_size(t):
    _, block, size = TYPES[t[2]]
    return (product(t[1]) // block * size + 31) // 32 * 32


def text(s):
    s = s.encode()
    return struct.pack("<Q", len(s)) + s


def put(key, value, code=None):
    head = text(key)
    if isinstance(value, bool):
        return head + struct.pack("<IB", 7, value)
    if isinstance(value, str):
        return head + struct.pack("<I", 8) + text(value)
    if isinstance(value, float):
        return head + struct.pack("<If", 6, value)
    if isinstance(value, int):
        return head + (struct.pack("<IH", 2, value) if code == "u16" else struct.pack("<II", 4, value))
    if isinstance(value[0], str):
        return head + struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
    return head + struct.pack("<IIQ", 9, 5, len(value)) + struct.pack("<%di" % len(value), *value)


def vocabulary():
    """Made-up words in R1's numbers: 3 + 127,997 tokens, 127,741 merges, 815 added ones, 465 rows of padding."""
    letters = [chr(b) for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b]
    letters += [chr(256 + k) for k in range(256 - len(letters))]
    words, merges, seen = list(letters), [], set(letters)
    for left in words:  # grows while it is walked
        for right in "etaoinshrdlu":
            if len(merges) < 127741 and left + right not in seen:
                merges.append(left + " " + right)
                words.append(left + right)
                seen.add(left + right)
        if len(merges) == 127741:
            break
    tokens = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"] + words
    kinds = [3] * 3 + [1] * len(words)
    named = {128798: "<think>", 128799: "</think>", 128803: "<｜User｜>", 128804: "<｜Assistant｜>"}
    for i in range(len(tokens), V):
        tokens.append(named.get(i, "<｜place▁holder▁no▁%d｜>" % i if i < 128815 else "[PAD%d]" % i))
        kinds.append(4 if i < 128815 else 5)
    return tokens, kinds, merges


def metadata(layout, layers=LAYERS, dense=DENSE, name="DeepSeek R1, whole size, no weights"):
    split = layout == "split"
    p = "deepseek2."
    keys = [("block_count", layers), ("context_length", 163840), ("embedding_length", D), ("feed_forward_length", FF),
            ("attention.head_count", HEADS), ("attention.head_count_kv", 1 if split else HEADS), ("expert_used_count", 8),
            ("leading_dense_block_count", dense), ("vocab_size", V), ("attention.q_lora_rank", QL), ("attention.kv_lora_rank", C),
            ("attention.key_length", C + R if split else NOPE + R), ("attention.value_length", C if split else VD),
            ("expert_feed_forward_length", FE), ("expert_count", EXPERTS), ("expert_shared_count", 1), ("expert_gating_func", 2),
            ("rope.dimension_count", R), ("rope.scaling.original_context_length", 4096), ("rope.freq_base", 10000.0),
            ("attention.layer_norm_rms_epsilon", 1e-6), ("expert_weights_scale", 2.5), ("expert_weights_norm", True),
            ("rope.scaling.type", "yarn"), ("rope.scaling.factor", 40.0), ("rope.scaling.yarn_log_multiplier", 0.1)]
    if split:
        keys += [("attention.key_length_mla", NOPE + R), ("attention.value_length_mla", VD)]
    out = [put("general.architecture", "deepseek2"), put("general.name", name)]
    out += [put(p + k, v) for k, v in keys]
    tokens, kinds, merges = vocabulary()
    for k, v in (("model", "gpt2"), ("pre", "deepseek-v3"), ("tokens", tokens), ("token_type", kinds), ("merges", merges),
                 ("bos_token_id", 0), ("eos_token_id", 1), ("padding_token_id", 2), ("add_bos_token", True), ("add_eos_token", False)):
        out.append(put("tokenizer.ggml." + k, v))
    return out


def gguf_header(kvs, tensors):
    """Returns (the file's head, bytes of data)."""
    infos, at = [], 0
    for t in tensors:
        infos.append(text(t[0]) + struct.pack("<I", len(t[1])) + struct.pack("<%dQ" % len(t[1]), *t[1]) + struct.pack("<IQ", TYPES[t[2]][0], at))
        at += gguf_size(t)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(kvs)) + b"".join(kvs) + b"".join(infos)
    return head + b"\0" * (-len(head) % 32), at


def write_gguf(folder, kind, layout, count):
    tensors = list(gguf_tensors(kind, layout))
    total, at, parts = sum(map(gguf_size, tensors)), 0, [[] for _ in range(count)]
    for t in tensors:
        parts[min(at * count // total, count - 1)].append(t)
        at += gguf_size(t)
    kvs = metadata(layout)
    for i, part in enumerate(parts):
        said = [put("split.no", i, "u16"), put("split.count", count, "u16"), put("split.tensors.count", len(tensors))]
        name = "DeepSeek-R1-%s-%s-%05d-of-%05d.gguf" % (kind.upper(), layout, i + 1, count)
        write_sparse(os.path.join(folder, name), *gguf_header((kvs if i == 0 else []) + said, part))
        if i == 0:
            first = name
    print("%s: %d tensors, %d bytes" % (os.path.join(folder, first), len(tensors), total))


def has_holes(folder):
    path = os.path.join(folder, ".holes")
    try:
        with open(path, "wb") as f:
            f.truncate(1 << 35)
        return os.stat(path).st_blocks * 512 < 1 << 20
    except OSError:
        return False
    finally:
        if os.path.exists(path):
            os.unlink(path)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("what", choices=["hf", "gguf", "check"])
    ap.add_argument("folder")
    ap.add_argument("--type", choices=sorted(TYPES), default="q4_k")
    ap.add_argument("--layout", choices=["split", "whole"], default="split")
    ap.add_argument("--split", type=int, default=9, metavar="N", help="how many files")
    a = ap.parse_args()
    os.makedirs(a.folder, exist_ok=True)
    if not has_holes(a.folder):
        sys.exit("%s: this file system has no holes, or no files of 32 GiB" % a.folder)
    if a.what == "hf":
        write_hf(a.folder)
    elif a.what == "gguf":
        write_gguf(a.folder, a.type, a.layout, a.split)


if __name__ == "__main__":
    main()
