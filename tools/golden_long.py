#!/usr/bin/env python3
"""Goldens of long positions: logits at 0, 1, 4,097 and 20,000 of a text of 20,001 tokens, made with `transformers`.

    ~/.cache/aha-venv/bin/python tools/golden_long.py tests/golden [NAME...]         (tools/golden.py says how to install it)

Under YaRN, mscale in the softmax and the slow frequencies show only far from the start.  One layer, so that a row's router decides
for that row alone.  Token i is (7 i i + 3 i + i / 32) mod V.  expect.safetensors: rows I32 [4], logits F32 [4, V], in float64 and
rounded once.  Before writing, each golden is run with what others got wrong, and must differ by a hundredth at the far rows."""
import math
import sys
from pathlib import Path

import golden
import torch
from safetensors.torch import save_file
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

ROWS = [0, 1, 4097, 20000]
YARN = {"beta_fast": 32, "beta_slow": 1, "factor": 40, "original_max_position_embeddings": 512, "type": "yarn"}
GOLDENS = {
    "deepseek_v3-long": golden.Golden(
        "positions up to 20,000: R1's YaRN (factor 40, mscale = mscale_all_dim = 1)", "F32",
        golden.deepseek(D=24, L=1, H=2, N=6, R=8, W=6, C=10, Q=None, F=20, V=48, E=4, K=2, M=6, dtype="F32", n_group=2, topk_group=1,
                        first_k_dense_replace=0, max_position_embeddings=20480, rope_scaling=YARN | {"mscale": 1.0, "mscale_all_dim": 1.0})),
}
# what is changed, so that the far rows must change
WRONG = {
    "deepseek_v3-long": {"mscale on cosine and sine, not in the softmax": {"mscale": 1.0, "mscale_all_dim": 0.0}, "no YaRN": None, "factor 39": {"factor": 39}},
}


def blocked(module, query, key, value, attention_mask, scaling, dropout=0.0, **_):
    """Causal attention, 256 rows at a time: a matrix of 20,001 x 20,001 would take gigabytes."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    T, out = query.shape[2], []
    for at in range(0, T, 256):
        end = min(T, at + 256)
        score = query[:, :, at:end] @ key[:, :, :end].transpose(2, 3) * scaling
        later = torch.arange(end)[None] > torch.arange(at, end)[:, None]
        out.append(score.masked_fill(later, -math.inf).softmax(-1) @ value[:, :, :end])
    return torch.cat(out, 2).transpose(1, 2).contiguous(), None


def tokens(V):
    i = torch.arange(ROWS[-1] + 1)
    return (7 * i * i + 3 * i + i // 32) % V


def logits(g, weights):
    model = golden.Model(g, weights, torch.float64)
    model.hf.config._attn_implementation = "blocked"
    with torch.no_grad():
        out = model.forward(tokens(g.config["vocab_size"])[None])[0][0, ROWS]
        margin = min(float(m) for m in far_margin(model)) if model.seen else None
    return out, margin


def far_margin(model):
    """How far the routers of the four rows are from a tie, for experts."""
    for m, x in model.seen:
        s = x[ROWS].sigmoid() + m.e_score_correction_bias.double()
        top = s.topk(s.shape[1]).values
        yield (top[:, :-1] - top[:, 1:]).min()


def changed(g, change):
    c = dict(g.config)
    c["rope_scaling"] = None if change is None else c["rope_scaling"] | change
    return golden.Golden(g.covers, g.dtype, c)


def sharpen(weights):
    """Queries times four: attention that looks at a few of the thousands of keys."""
    return {n: x * 4 if n.endswith("self_attn.q_proj.weight") else x for n, x in weights.items()}


def make(name, root):
    g = GOLDENS[name]
    with golden.float64():
        for seed in range(100, 140):
            stored = sharpen(golden.random_weights(g, seed))
            want, margin = logits(g, golden.dequantised(stored))
            if margin is None or margin > 1e-3:
                break
        far = want[2:]
        for what, change in WRONG[name].items():
            got = logits(changed(g, change), golden.dequantised(stored))[0][2:]
            d = ((got - far).abs().amax(1) / far.abs().amax(1)).tolist()
            print(f"{name}, {what}: differs by {d[0]:.3f} and {d[1]:.3f} of the largest logit", flush=True)
            assert max(d) > 0.01, what
    folder = root / name
    golden.write_checkpoint(g, stored, folder)
    save_file({"rows": torch.tensor(ROWS, dtype=torch.int32), "logits": want.float()}, folder / "expect.safetensors")
    print(f"{name}: seed {seed}, router's margin {margin}, {sum(f.stat().st_size for f in folder.iterdir()) / 1000:.0f} kB", flush=True)


def main():
    ALL_ATTENTION_FUNCTIONS.register("blocked", blocked)
    for name in sys.argv[2:] or GOLDENS:
        make(name, Path(sys.argv[1]))


if __name__ == "__main__":
    main()
