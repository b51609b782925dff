#!/usr/bin/env python3
"""Writes the checkpoints of tests/golden as GGUF files with the PyPI package `gguf`, an independent writer.

    ~/.cache/aha-venv/bin/pip install -r tools/requirements-golden.txt
    ~/.cache/aha-venv/bin/python tools/gguf_golden.py tests/golden tests/gguf [NAME...]

The values are those of the checkpoint, so its expect.safetensors holds for the GGUF file too: norms, biases and routers
are F32, matrices keep their type.  Layouts follow what converters write: Llama's q and k permuted for interleaved rope and
its scaling as rope_freqs, experts stacked, kv_b whole (as files before April 2025) or as k_b transposed and v_b (since).
Left out: FP8 (GGUF has no such type) and mscale other than mscale_all_dim (GGUF has one key for both).
"""
import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, quants
from safetensors.torch import load_file

# name of the GGUF file -> golden, kv_b whole?, number of files
FILES = {
    "llama": ("llama", False, 1), "llama-llama3-tied": ("llama-llama3-tied", False, 1), "qwen2": ("qwen2-sharded", False, 3),
    "qwen2-tied": ("qwen2-tied", False, 1), "qwen2-yarn": ("qwen2-yarn", False, 1), "qwen3": ("qwen3", False, 1),
    "qwen3-attn-factor": ("qwen3-attn-factor", False, 1), "deepseek_v2": ("deepseek_v2", True, 1),
    "deepseek_v2-groups": ("deepseek_v2-groups", False, 1), "deepseek_v3": ("deepseek_v3", False, 1),
    "deepseek_v3-kv_b": ("deepseek_v3", True, 1), "deepseek_v3-halves-tied": ("deepseek_v3-halves-tied", False, 1),
    "deepseek_v3-mtp": ("deepseek_v3-mtp", False, 1), "deepseek_v3-no-q-latent": ("deepseek_v3-no-q-latent", False, 1),
    "deepseek_v3-softmax": ("deepseek_v3-softmax", True, 1), "deepseek_v3-unnormalised": ("deepseek_v3-unnormalised", False, 1),
}
ARCH = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "deepseek_v2": "deepseek2", "deepseek_v3": "deepseek2"}
NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_a_proj": "attn_q_a", "self_attn.q_a_layernorm": "attn_q_a_norm", "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa", "self_attn.kv_a_layernorm": "attn_kv_a_norm", "self_attn.kv_b_proj": "attn_kv_b",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate": "ffn_gate_inp",
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp", "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp", "enorm": "nextn.enorm", "hnorm": "nextn.hnorm", "eh_proj": "nextn.eh_proj",
    "embed_tokens": "nextn.embed_tokens", "shared_head.norm": "nextn.shared_head_norm", "shared_head.head": "nextn.shared_head_head",
}
TOP = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}


def interleave(x, heads, R):
    """The last R rows of each head from halves (i, i + R/2) to pairs."""
    x = x.reshape(heads, -1, *x.shape[1:])
    rot = x[:, -R:].reshape(heads, 2, R // 2, *x.shape[2:]).swapaxes(1, 2).reshape(heads, R, *x.shape[2:])
    return torch.cat([x[:, :-R], rot], 1).reshape(-1, *x.shape[2:])


def tensors(c, stored, whole):
    """[(name, torch tensor)] in GGUF's names and layouts"""
    out, experts = [], {}
    mla, H = c["model_type"].startswith("deepseek"), c["num_attention_heads"]
    halves = mla and c.get("rope_interleave") is False
    for name, x in stored.items():
        if name in TOP:
            out.append((TOP[name], x))
            continue
        layer, rest = name.removeprefix("model.layers.").split(".", 1)
        p = f"blk.{layer}."
        if rest == "mlp.gate.e_score_correction_bias":
            out.append((p + "exp_probs_b.bias", x))
            continue
        rest, kind = rest.rsplit(".", 1)
        if ".experts." in rest:
            e, which = rest.split(".")[-2:]
            experts.setdefault(p + f"ffn_{which.removesuffix('_proj')}_exps.weight", {})[int(e)] = x
            continue
        leaf = rest.split(".")[-1]
        if c["model_type"] == "llama" and leaf in ("q_proj", "k_proj"):
            x = interleave(x, H if leaf == "q_proj" else c["num_key_value_heads"], len(x) // (H if leaf == "q_proj" else c["num_key_value_heads"]))
        if halves and leaf in ("q_b_proj", "q_proj", "kv_a_proj_with_mqa"):
            x = interleave(x, 1 if leaf.startswith("kv") else H, c["qk_rope_head_dim"])
        if leaf == "kv_b_proj" and not whole:
            N, V, C = c["qk_nope_head_dim"], c["v_head_dim"], c["kv_lora_rank"]
            kv = x.view(H, N + V, C)
            out.append((p + "attn_k_b.weight", kv[:, :N].transpose(1, 2).contiguous()))
            out.append((p + "attn_v_b.weight", kv[:, N:].contiguous()))
            continue
        out.append((p + NAMES[rest] + "." + kind, x))
    return out + [(n, torch.stack([x[i] for i in range(len(x))])) for n, x in experts.items()]


def rope_factors(c):
    """What converters write for Llama 3's scaling: f / f'."""
    r, R = c["rope_scaling"], c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    low, high = r["original_max_position_embeddings"] / r["low_freq_factor"], r["original_max_position_embeddings"] / r["high_freq_factor"]
    out = []
    for i in range(R // 2):
        length = 2 * math.pi * c["rope_theta"] ** (2 * i / R)
        smooth = (r["original_max_position_embeddings"] / length - r["low_freq_factor"]) / (r["high_freq_factor"] - r["low_freq_factor"])
        out.append(1 if length < high else r["factor"] if length > low else 1 / ((1 - smooth) / r["factor"] + smooth))
    return np.array(out, dtype=np.float32)


def put_metadata(w, c, whole):
    mla = c["model_type"].startswith("deepseek")
    w.add_block_count(c["num_hidden_layers"] + c.get("num_nextn_predict_layers", 0))
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(c["num_attention_heads"])
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    w.add_vocab_size(c["vocab_size"])
    w.add_bos_token_id(c["bos_token_id"])
    w.add_eos_token_id(c["eos_token_id"])
    rope = c.get("rope_parameters") or c.get("rope_scaling") or {}
    w.add_rope_freq_base(rope.get("rope_theta") or c["rope_theta"])
    if rope.get("rope_type", rope.get("type")) == "yarn":
        w.add_string(f"{w.arch}.rope.scaling.type", "yarn")
        w.add_rope_scaling_factor(rope["factor"])
        w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        w.add_float32(f"{w.arch}.rope.scaling.yarn_beta_fast", rope.get("beta_fast", 32))
        w.add_float32(f"{w.arch}.rope.scaling.yarn_beta_slow", rope.get("beta_slow", 1))
        if "attn_factor" in rope:
            w.add_rope_scaling_attn_factors(rope["attn_factor"])
        if mla:
            w.add_rope_scaling_yarn_log_mul(0.1 * rope["mscale_all_dim"])
    if not mla:
        w.add_head_count_kv(c["num_key_value_heads"])
        if "head_dim" in c:
            w.add_key_length(c["head_dim"])
            w.add_value_length(c["head_dim"])
        return
    key, value = c["qk_nope_head_dim"] + c["qk_rope_head_dim"], c["v_head_dim"]
    w.add_head_count_kv(c["num_attention_heads"] if whole else 1)
    w.add_key_length(key if whole else c["kv_lora_rank"] + c["qk_rope_head_dim"])
    w.add_value_length(value if whole else c["kv_lora_rank"])
    if not whole:
        w.add_key_length_mla(key)
        w.add_value_length_mla(value)
    if c["q_lora_rank"]:
        w.add_q_lora_rank(c["q_lora_rank"])
    w.add_kv_lora_rank(c["kv_lora_rank"])
    w.add_rope_dimension_count(c["qk_rope_head_dim"])
    w.add_leading_dense_block_count(c["first_k_dense_replace"])
    w.add_expert_count(c["n_routed_experts"])
    w.add_expert_used_count(c["num_experts_per_tok"])
    w.add_expert_shared_count(c["n_shared_experts"])
    w.add_expert_feed_forward_length(c["moe_intermediate_size"])
    w.add_expert_weights_scale(c["routed_scaling_factor"])
    w.add_expert_weights_norm(c["norm_topk_prob"])
    w.add_uint32("deepseek2.expert_gating_func", 2 if c["scoring_func"] == "sigmoid" else 1)
    w.add_uint32("deepseek2.expert_group_count", c["n_group"])
    w.add_uint32("deepseek2.expert_group_used_count", c["topk_group"])
    if c.get("num_nextn_predict_layers"):
        w.add_uint32("deepseek2.nextn_predict_layers", c["num_nextn_predict_layers"])


def put_tensor(w, name, x):
    if x.dim() == 1 or "ffn_gate_inp" in name:
        w.add_tensor(name, x.float().numpy())
    elif x.dtype == torch.bfloat16:
        w.add_tensor(name, quants.quantize(x.float().numpy(), GGMLQuantizationType.BF16), raw_dtype=GGMLQuantizationType.BF16)
    else:
        w.add_tensor(name, x.numpy())


def convert(name, root, out):
    golden, whole, files = FILES[name]
    c = json.loads((root / golden / "config.json").read_text())
    stored = {}
    for f in sorted((root / golden).glob("model*.safetensors")):
        stored |= load_file(f)
    all_tensors = tensors(c, stored, whole)
    if (c.get("rope_scaling") or {}).get("rope_type") == "llama3":
        all_tensors.append(("rope_freqs.weight", torch.from_numpy(rope_factors(c))))
    for i in range(files):
        part = all_tensors[i * len(all_tensors) // files:(i + 1) * len(all_tensors) // files]
        path = out / (f"{name}.gguf" if files == 1 else f"{name}-{i + 1:05d}-of-{files:05d}.gguf")
        w = GGUFWriter(path, ARCH[c["model_type"]])
        if i == 0:
            put_metadata(w, c, whole)
        if files > 1:
            w.add_uint16("split.no", i)
            w.add_uint16("split.count", files)
            w.add_int32("split.tensors.count", len(all_tensors))
        for n, x in part:
            put_tensor(w, n, x)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.write_tensors_to_file()
        w.close()
        print(f"{path}: {len(part)} tensors, {path.stat().st_size} bytes")


def main():
    root, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[3:] or FILES:
        convert(name, root, out)


if __name__ == "__main__":
    main()
