#!/usr/bin/env python3
"""A training step of a recipe's model in PyTorch eager beside ours, in turn, in one run.

usage: tools/bench_torch.py [--recipe recipes/laptop] [--tokens 3000] [--rounds 7] [--threads 2]
Needs torch and transformers (tools/requirements-golden.txt) and build/bench/bench_train (make bench).

The same model: transformers' DeepseekV3ForCausalLM, one batch of TOKENS/120 sequences of 120 random tokens, forward,
backward, AdamW (fused there, which is the faster choice), no draft layer (transformers has none).
Prints the median of each and the ratio of medians.
"""
import argparse
import json
import statistics
import subprocess
import time

import torch
import transformers

SEQ = 120


def recipe_model(path):
    """the [model] section of a recipe as a dict of numbers"""
    out, section = {}, ""
    for line in open(path + ".ini"):
        line = line.split("#")[0].strip()
        if line.startswith("["):
            section = line.strip("[]")
        elif "=" in line and section == "model":
            key, value = (s.strip() for s in line.split("="))
            out[key] = int(value)
    return out


def build(m, vocab):
    config = transformers.DeepseekV3Config(
        vocab_size=vocab, hidden_size=m["d_model"], intermediate_size=m["d_ff"], moe_intermediate_size=m["d_expert"],
        num_hidden_layers=m["n_layer"], num_attention_heads=m["n_head"], num_key_value_heads=m["n_head"],
        n_shared_experts=m["n_shared"], n_routed_experts=m["n_expert"], num_experts_per_tok=m["n_expert_used"],
        q_lora_rank=m["q_lora"] or None, kv_lora_rank=m["kv_lora"], qk_nope_head_dim=m["nope"],
        qk_rope_head_dim=m["rope_dim"], v_head_dim=m["v_dim"], first_k_dense_replace=m["n_dense_first"],
        n_group=1, topk_group=1, max_position_embeddings=m["max_pos"], use_cache=False)
    model = transformers.AutoModelForCausalLM.from_config(config, experts_implementation="eager")
    return model.float().train()


def torch_step(model, opt, ids):
    t0 = time.perf_counter()
    opt.zero_grad(set_to_none=True)
    model(input_ids=ids, labels=ids).loss.backward()
    opt.step()
    return time.perf_counter() - t0


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--recipe", default="recipes/laptop")
    ap.add_argument("--tokens", type=int, default=3000)
    ap.add_argument("--rounds", type=int, default=7)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--vocab", type=int, default=1500)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    model = build(recipe_model(a.recipe), a.vocab)
    opt = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    ids = torch.randint(0, a.vocab, (a.tokens // SEQ, SEQ))
    torch_step(model, opt, ids)
    theirs, ours = [], []
    for _ in range(a.rounds):
        theirs.append(torch_step(model, opt, ids))
        run = subprocess.run(["build/bench/bench_train", a.recipe, str(a.tokens), "5", "plain"], capture_output=True, check=True, text=True,
                             env={"AHA_THREADS": str(a.threads), "PATH": "/usr/bin:/bin"})
        ours.append(json.loads(run.stdout)["step_s"])
    t, o = statistics.median(theirs), statistics.median(ours)
    print(json.dumps({"tokens": a.tokens // SEQ * SEQ, "threads": a.threads, "torch": torch.__version__, "torch_step_s": round(t, 4),
                      "aha_step_s": round(o, 4), "ratio": round(t / o, 2), "torch_all": [round(x, 3) for x in theirs],
                      "aha_all": [round(x, 3) for x in ours]}))


if __name__ == "__main__":
    main()
