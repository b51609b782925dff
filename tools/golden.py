#!/usr/bin/env python3
"""Small random checkpoints and their expected values, made with `transformers`.

An independent implementation computes what aha must compute: logits, greedy
continuations, losses and gradients of tiny models of every family.

    python3 -m venv ~/.cache/aha-venv                    # outside the repository
    ~/.cache/aha-venv/bin/pip install -r tools/requirements-golden.txt
    ~/.cache/aha-venv/bin/python tools/golden.py make tests/golden [NAME...]
    ~/.cache/aha-venv/bin/python tools/golden.py check tests/golden [NAME...]
    ~/.cache/aha-venv/bin/python tools/golden.py verify DIR --tokens 1,2,3 [--out F] [--compare F]

tests/golden/NAME/ holds
  config.json            the published Hugging Face form of the family
  model*.safetensors     the published tensor names (one golden is sharded)
  expect.safetensors     see below
and tests/golden/manifest.json says what each one covers, its seed, the length
of the greedy prompt and how far the smallest decision is from a tie.

expect.safetensors (T = 48 tokens, V vocabulary, S = grad tokens):
  tokens        I32 [T]     teacher-forced input, positions 0..T-1
  logits        F32 [T, V]  row i predicts token i+1
  greedy        I32 [64]    argmax continuation of tokens[:prompt_len]; EOS has no effect
  grad.tokens   I32 [S]     two sequences, one after the other
  grad.seq_len  I32 [2]     their lengths; each starts at position 0 and sees only itself
  grad.loss     F32 [1]     mean next-token cross entropy over all predicted positions of both
  grad.NAME     F32         d loss / d NAME for every weight tensor of the checkpoint
                            (not the router's e_score_correction_bias, which has none)
and with a multi-token-prediction layer (L = number of main layers):
  mtp.logits          F32 [T-1, V]  row i, from h_i and token i+1, predicts token i+2
  mtp.logits_prenorm  F32 [T-1, V]  the same with h_i taken before the final norm (not used;
                                    kept to show which of the two a program computes)
  grad.loss           main loss + 0.3 * mean cross entropy of the MTP rows that have a target;
                      model.layers.L.embed_tokens and shared_head.head are copies of the main
                      tensors but separate variables here: add the gradients if they are tied.

All values are computed in float64 (the modules below have their float32 casts
widened for the time of the run) from the weights as stored, and rounded once to
float32. The same model in plain float32 transformers is run beside it, and the
differences are recorded in the manifest.
"""

import argparse
import contextlib
import hashlib
import json
import math
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers import modeling_rope_utils
from transformers.modeling_layers import MtpModel
from transformers.models.deepseek_v2 import modeling_deepseek_v2
from transformers.models.deepseek_v3 import modeling_deepseek_v3
from transformers.models.llama import modeling_llama
from transformers.models.qwen2 import modeling_qwen2
from transformers.models.qwen3 import modeling_qwen3

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(1)

T = 48                # teacher-forced tokens
GREEDY = 64           # greedy continuation
SEQ_LEN = (19, 13)    # the packed training batch
MTP_WEIGHT = 0.3
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


# ---------------------------------------------------------------- the goldens

def dense(family, D, L, H, G, F, V, dtype, theta=10000.0, **more):
    """config.json of llama, qwen2, qwen3, keys as in the published files."""
    arch = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
    c = {
        "architectures": [arch[family]], "attention_dropout": 0.0, "bos_token_id": 0, "eos_token_id": 1,
        "hidden_act": "silu", "hidden_size": D, "initializer_range": 0.02, "intermediate_size": F,
        "max_position_embeddings": 128, "model_type": family, "num_attention_heads": H,
        "num_hidden_layers": L, "num_key_value_heads": G,
        "rms_norm_eps": 1e-05 if family == "llama" else 1e-06, "rope_theta": theta,
        "tie_word_embeddings": False, "torch_dtype": TORCH_NAMES[dtype], "use_cache": True, "vocab_size": V,
    }
    if family == "llama":
        c |= {"attention_bias": False, "mlp_bias": False, "pretraining_tp": 1, "rope_scaling": None}
    else:
        c |= {"max_window_layers": L, "sliding_window": None, "use_sliding_window": False}
    if family == "qwen3":
        c |= {"attention_bias": False, "rope_scaling": None}
    return sorted_config(c | more)


def deepseek(D, L, H, N, R, W, C, Q, F, V, E, K, M, dtype, family="deepseek_v3", theta=10000.0, **more):
    """config.json of deepseek_v3/v2. N nope, R rope, W value head size; C kv and Q query latent;
    E experts of width M, K of them used."""
    c = {
        "architectures": ["DeepseekV3ForCausalLM" if family == "deepseek_v3" else "DeepseekV2ForCausalLM"],
        "attention_bias": False, "attention_dropout": 0.0, "aux_loss_alpha": 0.001, "bos_token_id": 0,
        "eos_token_id": 1, "ep_size": 1, "first_k_dense_replace": 1, "hidden_act": "silu", "hidden_size": D,
        "initializer_range": 0.02, "intermediate_size": F, "kv_lora_rank": C, "max_position_embeddings": 128,
        "model_type": family, "moe_intermediate_size": M, "moe_layer_freq": 1, "n_group": 1,
        "n_routed_experts": E, "n_shared_experts": 1, "norm_topk_prob": family == "deepseek_v3",
        "num_attention_heads": H, "num_experts_per_tok": K, "num_hidden_layers": L, "num_key_value_heads": H,
        "pretraining_tp": 1, "q_lora_rank": Q, "qk_nope_head_dim": N, "qk_rope_head_dim": R,
        "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": theta,
        "routed_scaling_factor": 2.5 if family == "deepseek_v3" else 1.0,
        "scoring_func": "sigmoid" if family == "deepseek_v3" else "softmax", "seq_aux": True,
        "tie_word_embeddings": False, "topk_group": 1,
        "topk_method": "noaux_tc" if family == "deepseek_v3" else "greedy",
        "torch_dtype": TORCH_NAMES[dtype], "use_cache": True, "v_head_dim": W, "vocab_size": V,
    }
    if family == "deepseek_v3":
        c["num_nextn_predict_layers"] = 0
    return sorted_config(c | more)


def sorted_config(c):
    return dict(sorted(c.items()))


def yarn(factor, original=16, fast=32, slow=1, key="type", **more):
    return {"beta_fast": fast, "beta_slow": slow, "factor": factor,
            "original_max_position_embeddings": original, key: "yarn"} | more


TORCH_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
QWEN3_YARN = dict(family="qwen3", D=32, L=2, H=2, G=1, F=36, V=64, dtype="BF16", theta=1000000, head_dim=24)
ATTN_FACTOR_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}


class Golden:
    """One golden: `config` is what config.json says. `run` changes what transformers is given, where
    it would read the file differently; `why` then says so. Seeds are tried from `first` on."""

    def __init__(self, covers, dtype, config, shards=1, run=None, why=None, same_weights=None, prompt_len=11,
                 softmax_v3=False, fp8=False):
        self.__dict__.update({k: v for k, v in locals().items() if k != "self"})


GOLDENS = {
    "llama": Golden(
        "llama, heads of 6, no grouping, head_dim absent", "F32",
        dense("llama", D=36, L=2, H=6, G=6, F=44, V=64, dtype="F32")),
    "llama-llama3-tied": Golden(
        "llama3 rope scaling (one frequency kept, one blended, three divided), tied embeddings, "
        "4 query on 2 key heads of 10", "F16",
        dense("llama", D=40, L=2, H=4, G=2, F=52, V=97, dtype="F16", theta=20.0, head_dim=10,
              tie_word_embeddings=True,
              rope_scaling={"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 2.0,
                            "original_max_position_embeddings": 16, "rope_type": "llama3"})),
    "qwen2-sharded": Golden(
        "qwen2, biases on q, k, v, 5 query heads on 1 key head, three shards", "BF16",
        dense("qwen2", D=40, L=2, H=5, G=1, F=36, V=80, dtype="BF16"), shards=3),
    "qwen2-tied": Golden(
        "qwen2 with tied embeddings, heads of 6; config in the newer form: rope_parameters, dtype", "BF16",
        dense("qwen2", D=36, L=2, H=6, G=3, F=52, V=97, dtype="BF16", tie_word_embeddings=True)),
    "qwen3": Golden(
        "qwen3, per-head q_norm and k_norm, H * head_dim = 40 with D = 32", "F32",
        dense("qwen3", D=32, L=2, H=4, G=2, F=40, V=80, dtype="F32", theta=1000000, head_dim=10)),
    "qwen3-attn-factor": Golden(
        "qwen3 with YaRN and the key attn_factor = 1 / (0.1 ln 4 + 1): cos and sin end up unscaled (net 1.0)", "BF16",
        dense(**QWEN3_YARN, rope_scaling=ATTN_FACTOR_YARN | {"attn_factor": 0.8782488562869419}),
        run={"rope_scaling": ATTN_FACTOR_YARN | {"attention_factor": 1.0}},
        why="transformers ignores the key attn_factor and would scale cos and sin by 1.1386; "
            "it is run with attention_factor 1.0"),
    "qwen3-yarn": Golden(
        "the weights of qwen3-attn-factor, config without attn_factor: cos and sin times 0.1 ln 4 + 1 = 1.1386", "BF16",
        dense(**QWEN3_YARN, rope_scaling=ATTN_FACTOR_YARN), same_weights="qwen3-attn-factor"),
    "qwen2-yarn": Golden(
        "YaRN with a real ramp (beta_fast 0.5, beta_slow 0.05: low 2, high 7 of 12 frequencies), heads of 24; "
        "config in the newer form: rope_parameters", "BF16",
        dense("qwen2", D=48, L=2, H=2, G=1, F=28, V=64, dtype="BF16", theta=1000.0,
              rope_scaling=yarn(8.0, fast=0.5, slow=0.05, key="rope_type"))),
    "deepseek_v3": Golden(
        "all of it: query latent, YaRN with mscale = mscale_all_dim = 1, first layer dense, sigmoid scores, "
        "2 of 4 groups, router bias, shared expert, normalised weights times 2.5", "F32",
        deepseek(D=32, L=3, H=3, N=10, R=6, W=12, C=14, Q=20, F=36, V=64, E=8, K=3, M=6, dtype="F32", theta=100.0,
                 n_group=4, topk_group=2, rope_scaling=yarn(8, mscale=1.0, mscale_all_dim=1.0))),
    "deepseek_v3-no-q-latent": Golden(
        "q_lora_rank null, no rope scaling, 1 of 2 groups", "BF16",
        deepseek(D=40, L=2, H=4, N=6, R=10, W=6, C=18, Q=None, F=52, V=97, E=8, K=2, M=10, dtype="BF16",
                 n_group=2, topk_group=1)),
    "deepseek_v3-unnormalised": Golden(
        "n_group 1, norm_topk_prob false, two dense layers, two shared experts", "F16",
        deepseek(D=32, L=3, H=2, N=24, R=6, W=10, C=22, Q=14, F=36, V=80, E=7, K=3, M=10, dtype="F16",
                 first_k_dense_replace=2, norm_topk_prob=False, n_shared_experts=2)),
    "deepseek_v3-mscale": Golden(
        "YaRN with mscale 1.0 and mscale_all_dim 0.5: cos and sin scaled, a ramp of its own (beta 1.5, 0.1)", "BF16",
        deepseek(D=36, L=2, H=3, N=6, R=24, W=10, C=20, Q=16, F=40, V=64, E=6, K=2, M=10, dtype="BF16", theta=100.0,
                 n_group=3, topk_group=2, rope_scaling=yarn(8, fast=1.5, slow=0.1, mscale=1.0, mscale_all_dim=0.5))),
    "deepseek_v3-halves-tied": Golden(
        "no dense layer, rope_interleave false (rotated halves), tied embeddings", "F32",
        deepseek(D=32, L=2, H=2, N=10, R=10, W=6, C=14, Q=18, F=36, V=97, E=6, K=2, M=10, dtype="F32",
                 first_k_dense_replace=0, n_group=2, topk_group=1, rope_interleave=False, tie_word_embeddings=True)),
    "deepseek_v3-softmax": Golden(
        "deepseek_v3 router with softmax scores, bias, 2 of 3 groups, weights not normalised", "BF16",
        deepseek(D=32, L=2, H=2, N=10, R=6, W=10, C=14, Q=12, F=36, V=80, E=9, K=3, M=10, dtype="BF16",
                 n_group=3, topk_group=2, scoring_func="softmax", norm_topk_prob=False), softmax_v3=True,
        why="transformers knows only sigmoid for deepseek_v3; the router is replaced by a copy with softmax"),
    "deepseek_v3-mtp": Golden(
        "one multi-token-prediction layer: eh_proj of [enorm(embedding of token i+1), hnorm(h_i)], h_i after the "
        "final norm, positions i", "F32",
        deepseek(D=32, L=2, H=2, N=10, R=6, W=10, C=14, Q=12, F=36, V=64, E=6, K=2, M=6, dtype="F32", theta=100.0,
                 n_group=3, topk_group=2, rope_scaling=yarn(8, mscale=1.0, mscale_all_dim=1.0),
                 num_nextn_predict_layers=1),
        why="transformers leaves layer L out of the model; its decoder layer is used inside the module of the paper, "
            "and the result is compared with the module that transformers has for drafting"),
    "deepseek_v3-wide": Golden(
        "rows of 256, which hold whole blocks of every GGUF type, beside rows of 32 and of 20", "BF16",
        deepseek(D=256, L=2, H=2, N=10, R=6, W=10, C=32, Q=32, F=32, V=64, E=6, K=2, M=16, dtype="BF16",
                 n_group=3, topk_group=2)),
    "deepseek_v2": Golden(
        "deepseek_v2: softmax scores, plain top-k, no bias, no query latent, two shared experts", "BF16",
        deepseek(D=36, L=2, H=3, N=10, R=6, W=12, C=18, Q=None, F=44, V=97, E=6, K=2, M=10, dtype="BF16",
                 family="deepseek_v2", n_shared_experts=2)),
    "deepseek_v2-groups": Golden(
        "deepseek_v2: softmax scores, group_limited_greedy (2 of 3 groups, best of each), query latent, "
        "YaRN with mscale = mscale_all_dim = 0.707, weights times 4", "F32",
        deepseek(D=32, L=2, H=2, N=10, R=10, W=6, C=14, Q=18, F=36, V=64, E=9, K=3, M=6, dtype="F32", theta=100.0,
                 family="deepseek_v2", topk_method="group_limited_greedy", n_group=3, topk_group=2,
                 routed_scaling_factor=4.0, rope_scaling=yarn(8, mscale=0.707, mscale_all_dim=0.707))),
    "deepseek_v3-fp8": Golden(
        "FP8 E4M3 weights with one scale per block of 128 x 128 (partial blocks, two row blocks in q_b_proj and "
        "kv_b_proj, two column blocks in o_proj); values and gradients are those of the dequantised weights, "
        "activations are not quantised", "BF16",
        deepseek(D=40, L=2, H=9, N=10, R=6, W=16, C=14, Q=12, F=36, V=64, E=4, K=2, M=6, dtype="BF16",
                 n_group=2, topk_group=1,
                 quantization_config={"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
                                      "weight_block_size": [128, 128]}), fp8=True,
        why="transformers is given the dequantised weights: its own dequantisation divides rows and columns evenly "
            "over the scales (144 rows, 2 scales: 72 each) where the format has blocks of 128 and a shorter last one"),
}
for name in ("qwen2-tied", "qwen2-yarn"):      # the form that transformers 5 writes
    c = GOLDENS[name].config
    c["rope_parameters"] = {"rope_theta": c.pop("rope_theta")} | (c.pop("rope_scaling", None) or {"rope_type": "default"})
    c["dtype"] = c.pop("torch_dtype")


# ---------------------------------------------------- published names, random weights

def tensor_list(c):
    """[(name, shape)] of the checkpoint, in the order of the published files."""
    D, V, L, H = c["hidden_size"], c["vocab_size"], c["num_hidden_layers"], c["num_attention_heads"]
    out = [("model.embed_tokens.weight", (V, D))]
    mla = c["model_type"].startswith("deepseek")

    def attention(p):
        if mla:
            N, R, W, C, Q = (c[k] for k in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank",
                                            "q_lora_rank"))
            if Q is None:
                yield p + "q_proj.weight", (H * (N + R), D)
            else:
                yield p + "q_a_proj.weight", (Q, D)
                yield p + "q_a_layernorm.weight", (Q,)
                yield p + "q_b_proj.weight", (H * (N + R), Q)
            yield p + "kv_a_proj_with_mqa.weight", (C + R, D)
            yield p + "kv_a_layernorm.weight", (C,)
            yield p + "kv_b_proj.weight", (H * (N + W), C)
            yield p + "o_proj.weight", (D, H * W)
            return
        G = c["num_key_value_heads"]
        N = c.get("head_dim") or D // H
        for x, heads in (("q", H), ("k", G), ("v", G)):
            yield p + f"{x}_proj.weight", (heads * N, D)
            if c["model_type"] == "qwen2":
                yield p + f"{x}_proj.bias", (heads * N,)
        if c["model_type"] == "qwen3":
            yield p + "q_norm.weight", (N,)
            yield p + "k_norm.weight", (N,)
        yield p + "o_proj.weight", (D, H * N)

    def mlp(p, F):
        yield p + "gate_proj.weight", (F, D)
        yield p + "up_proj.weight", (F, D)
        yield p + "down_proj.weight", (D, F)

    def layer(l):
        p = f"model.layers.{l}."
        yield p + "input_layernorm.weight", (D,)
        yield p + "post_attention_layernorm.weight", (D,)
        yield from attention(p + "self_attn.")
        if not mla or l < c["first_k_dense_replace"]:
            yield from mlp(p + "mlp.", c["intermediate_size"])
            return
        M = c["moe_intermediate_size"]
        yield p + "mlp.gate.weight", (c["n_routed_experts"], D)
        if c["model_type"] == "deepseek_v3":
            yield p + "mlp.gate.e_score_correction_bias", (c["n_routed_experts"],)
        yield from mlp(p + "mlp.shared_experts.", M * c["n_shared_experts"])
        for e in range(c["n_routed_experts"]):
            yield from mlp(p + f"mlp.experts.{e}.", M)

    for l in range(L):
        out += layer(l)
    out.append(("model.norm.weight", (D,)))
    if not c["tie_word_embeddings"]:
        out.append(("lm_head.weight", (V, D)))
    if c.get("num_nextn_predict_layers"):
        p = f"model.layers.{L}."
        out += layer(L)
        out += [(p + "eh_proj.weight", (D, 2 * D)), (p + "enorm.weight", (D,)), (p + "hnorm.weight", (D,)),
                (p + "embed_tokens.weight", (V, D)), (p + "shared_head.norm.weight", (D,)),
                (p + "shared_head.head.weight", (V, D))]
    return out


def random_weights(g, seed):
    """Stored tensors, name -> tensor in the golden's dtype. Gains are chosen so that attention is
    far from uniform, experts and tokens differ clearly and no part of a layer is negligible."""
    c, rng = g.config, np.random.Generator(np.random.Philox(seed))
    gain = {"q_proj": 1.6, "k_proj": 1.6, "q_b_proj": 1.6, "kv_b_proj": 1.4, "gate": 1.5, "lm_head": 2.5,
            "head": 2.5, "down_proj": 1.6}
    out = {}
    for name, shape in tensor_list(c):
        x = rng.standard_normal(shape)
        leaf = name.split(".")[-2]
        if "norm" in leaf:
            x = 1 + 0.3 * x
        elif name.endswith(".bias"):
            x = 0.4 * x
        elif name.endswith("e_score_correction_bias"):
            x = x * (0.25 if c["scoring_func"] == "sigmoid" else 0.08)
        elif leaf == "embed_tokens":
            x = x * (0.4 if c["tie_word_embeddings"] else 1.0)
        else:
            x = x * gain.get(leaf, 1.0) / math.sqrt(shape[-1])
        dtype = torch.float32 if name.endswith("e_score_correction_bias") else DTYPES[g.dtype]
        out[name] = torch.from_numpy(x).float().to(dtype).contiguous()
    if c.get("num_nextn_predict_layers"):
        p = f"model.layers.{c['num_hidden_layers']}."
        out[p + "embed_tokens.weight"] = out["model.embed_tokens.weight"].clone()
        out[p + "shared_head.head.weight"] = out["lm_head.weight"].clone()
    return fp8_quantise(out) if g.fp8 else out


def fp8_quantise(tensors):
    """Projections to FP8 E4M3 with `weight_scale_inv`; norms, embeddings, head and router stay."""
    out = {}
    for name, x in tensors.items():
        out[name] = x
        if not re.search(r"layers.*_proj\w*\.weight$", name):
            continue
        rows, cols = x.shape
        scale = torch.empty(-(-rows // 128), -(-cols // 128))
        q = torch.empty(rows, cols, dtype=torch.float8_e4m3fn)
        for i in range(scale.shape[0]):
            for j in range(scale.shape[1]):
                block = (slice(128 * i, 128 * i + 128), slice(128 * j, 128 * j + 128))
                w = x[block].float()
                scale[i, j] = w.abs().max() / 448
                q[block] = (w / scale[i, j]).to(torch.float8_e4m3fn)
        out[name], out[name + "_scale_inv"] = q, scale
    return out


def dequantised(tensors):
    """name -> float64, FP8 blocks multiplied out, without the scales."""
    out = {}
    for name, x in tensors.items():
        if name.endswith("_scale_inv"):
            continue
        y = x.double()
        s = tensors.get(name + "_scale_inv")
        if s is not None:
            y = y * s.double().repeat_interleave(128, 0)[:y.shape[0]].repeat_interleave(128, 1)[:, :y.shape[1]]
        out[name] = y
    return out


def write_checkpoint(g, tensors, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*"):
        old.unlink()
    (folder / "config.json").write_text(json.dumps(g.config, indent=2) + "\n")
    if g.shards == 1:
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        return
    names = list(tensors)
    weight_map = {}
    for s in range(g.shards):
        file = f"model-{s + 1:05d}-of-{g.shards:05d}.safetensors"
        part = names[s * len(names) // g.shards:(s + 1) * len(names) // g.shards]
        save_file({n: tensors[n] for n in part}, folder / file, {"format": "pt"})
        weight_map |= {n: file for n in part}
    index = {"metadata": {"total_size": sum(x.nbytes for x in tensors.values())},
             "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


# ------------------------------------------------------------- transformers in float64

class Widened:
    """Stands for the module `torch` inside a modeling file; float32 means float64 there."""
    float32 = float = torch.float64

    def __getattr__(self, name):
        return getattr(torch, name)


@contextlib.contextmanager
def float64():
    """transformers casts norms, softmax, router and rope to float32 by name: widen these casts."""
    modules = [modeling_rope_utils, modeling_llama, modeling_qwen2, modeling_qwen3, modeling_deepseek_v2,
               modeling_deepseek_v3]
    to_float = torch.Tensor.float
    try:
        for m in modules:
            m.torch = Widened()
        torch.Tensor.float = torch.Tensor.double
        yield
    finally:
        torch.Tensor.float = to_float
        for m in modules:
            m.torch = torch


def softmax_router(self, hidden_states):
    """DeepseekV3TopkRouter.forward with softmax for sigmoid, after inference/model.py of DeepSeek-V3."""
    x = hidden_states.view(-1, self.hidden_dim)
    router_logits = x.to(self.weight.dtype) @ self.weight.T
    scores = router_logits.softmax(-1)
    choice = scores + self.e_score_correction_bias
    groups = choice.view(len(x), self.num_group, -1)
    keep = groups.topk(2, dim=-1).values.sum(-1).topk(self.topk_group, dim=-1).indices
    mask = torch.ones_like(groups[..., 0], dtype=torch.bool).scatter(1, keep, False)
    choice = groups.masked_fill(mask.unsqueeze(-1), -math.inf).flatten(1)
    index = choice.topk(self.top_k, dim=-1).indices
    weight = scores.gather(1, index)
    if self.norm_topk_prob:
        weight = weight / weight.sum(-1, keepdim=True)
    return router_logits, weight * self.routed_scaling_factor, index


class Mtp(torch.nn.Module):
    """The multi-token-prediction module of DeepSeek-V3 (report, section 2.2), depth 1."""

    def __init__(self, main):
        super().__init__()
        c = main.config
        norm = modeling_deepseek_v3.DeepseekV3RMSNorm
        self.enorm, self.hnorm = norm(c.hidden_size, c.rms_norm_eps), norm(c.hidden_size, c.rms_norm_eps)
        self.eh_proj = torch.nn.Linear(2 * c.hidden_size, c.hidden_size, bias=False)
        self.embed_tokens = torch.nn.Embedding(c.vocab_size, c.hidden_size)
        self.layer = modeling_deepseek_v3.DeepseekV3DecoderLayer(c, c.num_hidden_layers)
        self.shared_head = torch.nn.ModuleDict({
            "norm": norm(c.hidden_size, c.rms_norm_eps),
            "head": torch.nn.Linear(c.hidden_size, c.vocab_size, bias=False)})
        self.rotary = [main.model.rotary_emb]      # in a list: shared, not a submodule

    def forward(self, tokens, hidden):
        """tokens [B, T], hidden [B, T, D] of the main model -> logits [B, T-1, V]."""
        x = torch.cat([self.enorm(self.embed_tokens(tokens[:, 1:])), self.hnorm(hidden[:, :-1])], -1)
        x = self.eh_proj(x)
        position = torch.arange(x.shape[1])[None]
        mask = torch.full((x.shape[1], x.shape[1]), -math.inf, dtype=x.dtype).triu(1)[None, None]
        x = self.layer(x, attention_mask=mask, position_ids=position,
                       position_embeddings=self.rotary[0](x, position))
        return self.shared_head["head"](self.shared_head["norm"](x))


class Model:
    """A transformers model (and the MTP layer) in one dtype, with its routers watched."""

    def __init__(self, g, weights, dtype):
        run = {k: v for k, v in g.config.items() if k != "quantization_config"} | (g.run or {})
        with tempfile.TemporaryDirectory() as d:
            (Path(d) / "config.json").write_text(json.dumps(run))
            config = AutoConfig.from_pretrained(d)
        self.g, self.config, self.mtp = g, g.config, None
        self.hf = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=dtype,
                                                   experts_implementation="eager").eval()
        if g.config.get("num_nextn_predict_layers"):
            self.mtp = Mtp(self.hf).to(dtype).eval()
        self.load(weights)
        self.seen, self.prenorm = [], None
        for m in self.routers():
            if g.softmax_v3:
                m.forward = softmax_router.__get__(m)
            m.register_forward_hook(lambda m, _, out: self.seen.append((m, out[0].detach().double())))
        self.hf.model.norm.register_forward_hook(lambda m, x, out: setattr(self, "prenorm", x[0]))

    def routers(self):
        both = list(self.hf.modules()) + (list(self.mtp.modules()) if self.mtp else [])
        return [m for m in both if type(m).__name__.endswith("TopkRouter")]

    def published(self):
        """[(published name, view of the parameter, parameter, index)] of every stored weight."""
        L = self.config["num_hidden_layers"]
        named = list(self.hf.named_parameters()) + list(self.hf.named_buffers())
        if self.mtp:
            for n, x in list(self.mtp.named_parameters()) + list(self.mtp.named_buffers()):
                named.append((f"model.layers.{L}." + n.removeprefix("layer."), x))
        for name, x in named:
            if name.endswith("experts.gate_up_proj"):
                F = x.shape[1] // 2
                for e in range(len(x)):
                    yield name.replace("gate_up_proj", f"{e}.gate_proj.weight"), x, (e, slice(0, F))
                    yield name.replace("gate_up_proj", f"{e}.up_proj.weight"), x, (e, slice(F, 2 * F))
            elif name.endswith("experts.down_proj"):
                for e in range(len(x)):
                    yield name.replace("down_proj", f"{e}.down_proj.weight"), x, (e,)
            elif not name.endswith("inv_freq"):
                yield name, x, ()

    def load(self, weights):
        left = set(weights)
        with torch.no_grad():
            for name, x, index in self.published():
                assert x[index].shape == weights[name].shape, name
                x[index].copy_(weights[name]) if index else x.copy_(weights[name])
                left.remove(name)
        assert not left, left

    def forward(self, tokens):
        """logits [B, T, V], MTP logits [B, T-1, V] or None, the latter before the final norm."""
        self.seen.clear()
        h = self.hf.model(input_ids=tokens, use_cache=False).last_hidden_state
        logits = self.hf.lm_head(h)
        if not self.mtp:
            return logits, None, None
        mtp = self.mtp(tokens, h)
        watched = list(self.seen)
        other = self.mtp(tokens, self.prenorm).detach()
        self.seen[:] = watched
        return logits, mtp, other

    def margin(self, batch):
        """Of the last forward: for each row of the batch the smallest margins of its routing decisions
        [batch, 4] = (last chosen - first rejected) / larger of the two, for experts and groups, and the same
        not divided; and the share of decisions that the router's bias changed."""
        worst = torch.full((batch, 4), math.inf, dtype=torch.float64)
        changed = []
        c = self.config
        for m, logits in self.seen:
            score = logits.sigmoid() if c["scoring_func"] == "sigmoid" else logits.softmax(-1)
            bias = getattr(m, "e_score_correction_bias", None)
            choice = self.choose(score if bias is None else score + bias.double(), worst)
            if bias is not None:
                plain = self.choose(score, None)
                changed.append((choice.sort().values != plain.sort().values).any(-1).double().mean().item())
        return worst, (sum(changed) / len(changed) if changed else None)

    def choose(self, score, worst):
        """Experts of each token [n, K] from the biased scores [n, E], written apart from the routers that are
        checked; lowers `worst` to the margins met."""
        c, (n, E) = self.config, score.shape
        K, groups, keep = c["num_experts_per_tok"], c["n_group"], c["topk_group"]

        def gap(column, a, b):
            for k, x in ((column, (a - b) / torch.maximum(a.abs(), b.abs())), (column + 2, a - b)):
                if worst is not None:
                    worst[:, k] = torch.minimum(worst[:, k], x.view(len(worst), -1).min(1).values)

        if c["topk_method"] != "greedy" and groups > 1 and keep < groups:
            s = score.view(n, groups, E // groups)
            s = s.topk(2, -1).values.sum(-1) if c["topk_method"] == "noaux_tc" else s.max(-1).values
            top = s.topk(keep + 1, -1)
            gap(1, top.values[:, -2], top.values[:, -1])
            mask = torch.zeros_like(s).scatter_(1, top.indices[:, :-1], 1).repeat_interleave(E // groups, 1)
            score = score.masked_fill(mask == 0, -math.inf)
        top = score.topk(K + 1, -1)
        if torch.isfinite(top.values[:, -1]).all():
            gap(0, top.values[:, -2], top.values[:, -1])
        return top.indices[:, :-1]


# -------------------------------------------------------------------- expected values

def greedy_f64(model, prompt):
    """argmax continuations [B, GREEDY], whole sequence computed anew at every step."""
    x = prompt
    for _ in range(GREEDY):
        x = torch.cat([x, model.forward(x)[0][:, -1].argmax(-1, keepdim=True)], 1)
    return x[:, prompt.shape[1]:]


def top2_gap(logits):
    """Smallest difference of the two largest logits per row of the batch, and the same in units of the
    logits' standard deviation."""
    two = logits.topk(2, -1).values
    gap = (two[..., 0] - two[..., 1]).min(1).values
    return gap, gap / logits.std(-1).mean()


def loss_of(model, tokens):
    """The training loss of the packed batch tokens [S], each sequence on its own."""
    ce = torch.nn.functional.cross_entropy
    total, n, total_mtp, n_mtp, seen = 0.0, 0, 0.0, 0, []
    for seq in tokens.split(SEQ_LEN):
        logits, mtp, _ = model.forward(seq[None])
        seen += model.seen
        total, n = total + ce(logits[0, :-1], seq[1:], reduction="sum"), n + len(seq) - 1
        if mtp is not None:
            total_mtp = total_mtp + ce(mtp[0, :-1], seq[2:], reduction="sum")
            n_mtp += len(seq) - 2
    model.seen[:] = seen
    return total / n + (MTP_WEIGHT * total_mtp / n_mtp if n_mtp else 0)


def gradients(model, tokens):
    model.hf.zero_grad(), model.mtp and model.mtp.zero_grad()
    loss = loss_of(model, tokens)
    loss.backward()
    grads = {name: x.grad[index].clone() for name, x, index in model.published() if x.requires_grad}
    return loss.detach(), grads


def directional_error(model, grads, tokens):
    """Relative error of <gradient, random direction> against a central difference."""
    gen = torch.Generator().manual_seed(1)
    where = [(x, i, torch.randn(grads[n].shape, generator=gen, dtype=torch.float64))
             for n, x, i in model.published() if n in grads]
    eps, values = 1e-6, []
    with torch.no_grad():
        for step in (eps, -2 * eps, eps):
            for x, i, d in where:
                x[i] += step * d
            values.append(loss_of(model, tokens))
        slope = (values[0] - values[1]) / (2 * eps)
        exact = sum((grads[n] * d).sum() for (n, _, _), (_, _, d) in
                    zip([p for p in model.published() if p[0] in grads], where))
    return abs((slope - exact) / exact).item()


def sharpness(model, tokens):
    """Mean largest attention weight over heads, layers and positions >= 8 (uniform would be < 0.06)."""
    a = model.hf(input_ids=tokens, output_attentions=True, use_cache=False).attentions
    return torch.stack([x[0, :, 8:].max(-1).values.mean() for x in a]).mean().item()


def candidates(g, seed, rows):
    """rows random token rows for the logits and for the gradient; ids 0 and V-1 occur in each."""
    rng = np.random.Generator(np.random.Philox(seed + 1000000))
    V = g.config["vocab_size"]
    x = torch.from_numpy(rng.integers(0, V, (rows, T)))
    y = torch.from_numpy(rng.integers(0, V, (rows, sum(SEQ_LEN))))
    x[:, 3], x[:, 5], y[:, 2], y[:, SEQ_LEN[0] + 1] = 0, V - 1, V - 1, 0
    return x, y


def search(g, seeds, rows=24):
    """The first seed (and token rows) whose decisions are all far from a tie, or the best one seen.
    Wanted: routing margin 2e-3, greedy margin 0.02 standard deviations, 16 different greedy tokens."""
    best = None
    for seed in seeds:
        stored = random_weights(g, seed)
        model = Model(g, dequantised(stored), torch.float64)
        x, y = candidates(g, seed, rows)
        with torch.no_grad():
            model.forward(x)
            route = model.margin(rows)[0][:, :2].min(1).values
            if g.config["model_type"].startswith("deepseek"):      # leave out hopeless rows before the slow part
                x = x[route.argsort(descending=True)[:8]]
                model.forward(x)
                route = model.margin(len(x))[0][:, :2].min(1).values
            prompt = x[:, :g.prompt_len]
            greedy = greedy_f64(model, prompt)
            logits = model.forward(torch.cat([prompt, greedy], 1)[:, :-1])[0]
            route = torch.minimum(route, model.margin(len(x))[0][:, :2].min(1).values)
            gap = top2_gap(logits[:, g.prompt_len - 1:])[1]
            grad_route = torch.full((rows,), math.inf, dtype=torch.float64)
            for part in y.split(SEQ_LEN, 1):
                model.forward(part)
                grad_route = torch.minimum(grad_route, model.margin(rows)[0][:, :2].min(1).values)
        distinct = torch.tensor([len(set(r.tolist())) for r in greedy])
        score = torch.minimum(torch.minimum(route / 2e-3, gap / 0.02), distinct / 16)
        score = torch.minimum(score, grad_route.max() / 2e-3)
        i, j = score.argmax(), grad_route.argmax()
        if best is None or score[i] > best[0]:
            best = (score[i].item(), seed, stored, x[i], greedy[i], y[j])
        if best[0] >= 1:
            break
    return best


def relative(a, b):
    return ((a.double() - b.double()).abs().max() / b.double().abs().max()).item()


def make(name, root, manifest):
    g = GOLDENS[name]
    first = int(hashlib.sha256((g.same_weights or name).encode()).hexdigest()[:6], 16)
    if g.same_weights and g.same_weights not in manifest:
        sys.exit(f"golden.py: make {g.same_weights} before {name}, which takes its weights")
    seeds = [manifest[g.same_weights]["seed"]] if g.same_weights else range(first, first + 40)
    with float64():
        score, seed, stored, tokens, greedy, train = search(g, seeds, 96 if g.same_weights else 24)
        weights = dequantised(stored)
        model = Model(g, weights, torch.float64)
        with torch.no_grad():
            logits, mtp, mtp_other = model.forward(tokens[None])
            route, changed = model.margin(1)
            whole = torch.cat([tokens[:g.prompt_len], greedy])[None]
            greedy_logits = model.forward(whole[:, :-1])[0][:, g.prompt_len - 1:]
            assert torch.equal(greedy_logits[0].argmax(-1), greedy)
            route = torch.minimum(route, model.margin(1)[0])
            gap, gap_std = top2_gap(greedy_logits)
            sharp = sharpness(model, tokens[None])
            loss_of(model, train)
            route = torch.minimum(route, model.margin(1)[0])[0].tolist()
        loss, grads = gradients(model, train)
        slope_error = directional_error(model, grads, train)

    expected = [n for n, _ in tensor_list(g.config) if not n.endswith("e_score_correction_bias")]
    assert sorted(grads) == sorted(expected), set(grads) ^ set(expected)
    out = {"tokens": tokens.int(), "logits": logits[0].float(), "greedy": greedy.int(), "grad.tokens": train.int(),
           "grad.seq_len": torch.tensor(SEQ_LEN, dtype=torch.int32), "grad.loss": loss.float().view(1)}
    if mtp is not None:
        out |= {"mtp.logits": mtp[0].float(), "mtp.logits_prenorm": mtp_other[0].float()}
    out |= {"grad." + n: grads[n].float().contiguous() for n in expected}
    folder = root / name
    write_checkpoint(g, stored, folder)
    save_file(out, folder / "expect.safetensors")

    manifest[name] = {
        "covers": g.covers, "seed": seed, "dtype": "F8_E4M3" if g.fp8 else g.dtype, "prompt_len": g.prompt_len,
        "parameters": sum(math.prod(s) for _, s in tensor_list(g.config)),
        "routing_margin_min": {k: v for k, v in zip(("experts_relative", "groups_relative", "experts", "groups"), route)
                               if math.isfinite(v)} or None,
        "routing_changed_by_bias": changed,
        "experts_without_gradient": [n.removesuffix(".up_proj.weight") for n in grads
                                     if ".experts." in n and n.endswith("up_proj.weight") and not grads[n].any()],
        "greedy_margin_min": gap.item(), "greedy_margin_min_in_logit_std": gap_std.item(),
        "greedy_distinct_tokens": len(set(greedy.tolist())), "attention_mean_largest_weight": sharp,
        "gradient_against_finite_difference": slope_error,
        "float32_transformers": float32_differences(g, weights, folder, logits[0], mtp, greedy, tokens, train, loss,
                                                    grads),
        "transformers": transformers.__version__, "torch": torch.__version__.split("+")[0],
    }
    if g.why:
        manifest[name]["transformers_run_changed"] = g.why
    print(f"{name}: seed {seed}, search score {score:.2f}, routing {min(route[:2]):.2e}, greedy {gap_std.item():.2e} std "
          f"({len(set(greedy.tolist()))} distinct), attention {sharp:.2f}, bias changes {changed}, "
          f"{manifest[name]['float32_transformers']}, finite difference {slope_error:.1e}, "
          f"{sum(f.stat().st_size for f in folder.iterdir()) / 1000:.0f} kB", flush=True)


def float32_differences(g, weights, folder, logits, mtp, greedy, tokens, train, loss, grads):
    """Plain float32 transformers on the written folder (loaded by transformers itself wherever the
    family allows it) against the float64 values: max |difference| / max |value|."""
    model = Model(g, weights, torch.float32)
    loaded = "weights copied in"
    if not (g.run or g.softmax_v3 or g.fp8):
        hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                                  experts_implementation="eager").eval()
        mine = dict(model.hf.state_dict())
        for n, x in hf.state_dict().items():
            assert torch.equal(x, mine[n]), n
        loaded = "from_pretrained of the folder"
    with torch.no_grad():
        a, m, _ = model.forward(tokens[None])
        prompt = tokens[None, :g.prompt_len]       # without a mask generate() hides ids equal to pad_token_id
        continued = model.hf.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=GREEDY,
                                      do_sample=False, eos_token_id=None, pad_token_id=0)[0, g.prompt_len:]
    assert torch.equal(continued, greedy), "float32 generate() chose other tokens"
    l, gr = gradients(model, train)
    out = {"loaded": loaded, "logits": relative(a[0], logits), "loss": relative(l, loss),
           "gradient_worst_tensor": max(relative(gr[n], grads[n]) for n in grads)}
    if mtp is not None:
        out["mtp_logits"] = relative(m[0], mtp[0])
        out["mtp_logits_of_transformers_mtp"] = relative(transformers_mtp(hf, tokens[None]), mtp[0])
    return out


def transformers_mtp(hf, tokens):
    """MTP logits of transformers' own module, which it uses for drafting only. It numbers positions from 1
    where the paper has 0; rotation depends on differences, so the values agree."""
    hf._keys_to_ignore_on_load_unexpected = [rf"model\.layers\.{hf.config.num_hidden_layers}\."]   # it knows 61 only
    mtp = MtpModel.from_pretrained(hf)
    position = torch.arange(1, tokens.shape[1])[None]
    with torch.no_grad():
        h = hf.model(input_ids=tokens).last_hidden_state
        return mtp._project_to_logits(mtp.forward_layer(0, h[:, :-1], position, None, input_ids=tokens[:, 1:]))[0]


# --------------------------------------------------------------------- entry points

def cmd_make(args):
    root = Path(args.dir)
    root.mkdir(parents=True, exist_ok=True)
    path = root / "manifest.json"
    manifest = json.loads(path.read_text()) if path.exists() else {}
    for name in args.name or GOLDENS:
        if name not in GOLDENS:
            sys.exit(f"golden.py: no golden '{name}'; known: {', '.join(GOLDENS)}")
        make(name, root, manifest)
        ordered = {n: manifest[n] for n in GOLDENS if n in manifest}
        path.write_text(json.dumps(ordered, indent=1) + "\n")
    total = sum(f.stat().st_size for f in root.rglob("*") if f.is_file())
    print(f"total {total / 1e6:.2f} MB")


def cmd_check(args):
    """Makes the goldens anew in a temporary folder: weights and integers must be the same bytes, floats equal
    to 1e-6 of the tensor's largest value (another CPU may round a float64 sum differently)."""
    root, bad = Path(args.dir), []
    manifest = json.loads((root / "manifest.json").read_text())
    with tempfile.TemporaryDirectory() as d:
        for name in args.name or manifest:
            make(name, Path(d), manifest)
            for f in sorted((Path(d) / name).iterdir()):
                old = root / name / f.name
                if old.exists() and f.name == "expect.safetensors":
                    x, y = load_file(f), load_file(old)
                    bad += [f"{name}: {n}" for n in x.keys() | y.keys() if n not in x or n not in y or not (
                        torch.equal(x[n], y[n]) or x[n].is_floating_point() and relative(x[n], y[n]) < 1e-6)]
                elif not old.exists() or f.read_bytes() != old.read_bytes():
                    bad.append(f"{name}/{f.name}")
    print("\n".join(["differ:"] + bad) if bad else "all the same")
    sys.exit(1 if bad else 0)


def cmd_verify(args):
    """Logits of an HF folder as transformers computes them, with no part of this file in between."""
    text = Path(args.tokens[1:]).read_text() if args.tokens.startswith("@") else args.tokens
    ids = [int(t) for t in re.findall(r"\d+", text)]
    if "quantization_config" in json.loads((Path(args.dir) / "config.json").read_text()):
        sys.exit("golden.py: verify takes unquantised folders; transformers misreads partial FP8 blocks (see GOLDENS)")
    hf, info = AutoModelForCausalLM.from_pretrained(args.dir, dtype=getattr(torch, args.dtype),
                                                    attn_implementation="eager", experts_implementation="eager",
                                                    output_loading_info=True)
    for what in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        keys = sorted(map(str, info.get(what) or []))
        if keys:
            print(f"{what}: {len(keys)}, first {keys[:3]}", file=sys.stderr)
    with torch.no_grad():
        logits = hf.eval()(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()
    if args.out:
        Path(args.out).write_bytes(logits.numpy().astype("<f4").tobytes())
    logp = logits.log_softmax(-1)
    for i, t in enumerate(ids):
        nxt = f" log p(next {ids[i + 1]}) {logp[i, ids[i + 1]]:.6f}" if i + 1 < len(ids) else ""
        print(f"{i} token {t} argmax {int(logits[i].argmax())} logit {logits[i].max():.6f}{nxt}")
    if info.get("missing_keys") or info.get("mismatched_keys"):
        sys.exit("golden.py: transformers did not find every weight")
    if args.compare:
        other = torch.from_numpy(np.fromfile(args.compare, "<f4").reshape(logits.shape).copy())
        error = relative(other, logits)
        print(f"compare: max |difference| / max |logit| = {error:.3e}, argmax differs in "
              f"{int((other.argmax(-1) != logits.argmax(-1)).sum())} of {len(ids)} rows")
        if not error <= args.tolerance:
            sys.exit(1)


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    sub = p.add_subparsers(required=True)
    for name, f in (("make", cmd_make), ("check", cmd_check)):
        q = sub.add_parser(name)
        q.add_argument("dir")
        q.add_argument("name", nargs="*")
        q.set_defaults(f=f)
    q = sub.add_parser("verify")
    q.add_argument("dir")
    q.add_argument("--tokens", required=True, help="0,5,9 or @FILE")
    q.add_argument("--dtype", default="float32", choices=["float32", "float64", "bfloat16", "float16"])
    q.add_argument("--out", help="raw little-endian float32 [T, V]")
    q.add_argument("--compare", help="the same from another program")
    q.add_argument("--tolerance", type=float, default=1e-4)
    q.set_defaults(f=cmd_verify)
    args = p.parse_args()
    args.f(args)


if __name__ == "__main__":
    main()
