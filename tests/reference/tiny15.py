"""The tiny model of the specification's section 15.5: weights by 15.1's generator, written as a checkpoint in the official names.

`SMOOTH` changes it so that nothing is ever chosen (every expert used, every entry kept): small numerical differences stay small.
"""

import json
import os

import numpy as np

from checkpoint import write_safetensors

CONFIG = dict(
    architectures=["DeepseekV4ForCausalLM"],
    model_type="deepseek_v4",
    vocab_size=64,
    hidden_size=32,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=1,
    head_dim=16,
    qk_rope_head_dim=8,
    q_lora_rank=16,
    o_groups=2,
    o_lora_rank=8,
    sliding_window=8,
    index_n_heads=2,
    index_head_dim=16,
    index_topk=2,
    compress_ratios=[0, 4, 8, 4, 0],
    compress_rope_theta=160000,
    rope_theta=10000,
    rope_scaling=dict(type="yarn", factor=16, original_max_position_embeddings=64, beta_fast=32, beta_slow=1),
    max_position_embeddings=1024,
    n_routed_experts=8,
    n_shared_experts=1,
    num_experts_per_tok=2,
    moe_intermediate_size=24,
    num_hash_layers=1,
    scoring_func="sqrtsoftplus",
    topk_method="noaux_tc",
    norm_topk_prob=True,
    routed_scaling_factor=1.5,
    swiglu_limit=10.0,
    hidden_act="silu",
    hc_mult=4,
    hc_sinkhorn_iters=20,
    hc_eps=1e-6,
    rms_norm_eps=1e-6,
    num_nextn_predict_layers=1,
    attention_bias=False,
    attention_dropout=0.0,
    initializer_range=0.02,
    tie_word_embeddings=False,
    bos_token_id=0,
    eos_token_id=1,
    torch_dtype="float32",
    use_cache=True,
)
SMOOTH = dict(n_routed_experts=2, index_topk=32, index_n_heads=16)


def tokens(n=26):
    return [(7 * i * i + 3 * i + 5) % 64 for i in range(n)]


MASK = (1 << 64) - 1


def generate(name, *shape):
    """15.1, stored as F32"""
    h = 0xCBF29CE484222325
    for b in name.encode():
        h = ((h ^ b) * 0x100000001B3) & MASK
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    u = ((z ^ (z >> np.uint64(31))) >> np.uint64(40)).astype(np.float64) / 2**24
    amp, centre = np.sqrt(3 / shape[-1]), 0.0
    for end, a, c in (
        ("norm.weight", 0.2, 1.0),
        ("embed.weight", 1.0, 0.0),
        ("_scale", 0.3, 0.5),
        ("_base", 1.0, 0.0),
        (".ape", 0.5, 0.0),
        ("attn_sink", 1.0, 0.0),
        ("gate.bias", 0.3, 0.0),
    ):
        if name.endswith(end):
            amp, centre = a, c
    return (centre + amp * (2 * u - 1)).reshape(shape).astype(np.float32)


def shapes(c):
    """{name: shape} in the order of 7.1"""
    d, n, h, hd, q = c["hidden_size"], c["hc_mult"], c["num_attention_heads"], c["head_dim"], c["q_lora_rank"]
    g, o, ih, idim, inter = (
        c["o_groups"],
        c["o_lora_rank"],
        c["index_n_heads"],
        c["index_head_dim"],
        c["moe_intermediate_size"],
    )
    s = {
        "embed.weight": (c["vocab_size"], d),
        "head.weight": (c["vocab_size"], d),
        "norm.weight": (d,),
        "hc_head_fn": (n, n * d),
        "hc_head_base": (n,),
        "hc_head_scale": (1,),
    }
    for i, ratio in enumerate(c["compress_ratios"]):
        p = f"layers.{i}." if i < c["num_hidden_layers"] else "mtp.0."
        s.update({p + "attn_norm.weight": (d,), p + "ffn_norm.weight": (d,)})
        for k in ("attn", "ffn"):
            s.update(
                {
                    p + f"hc_{k}_fn": (2 * n + n * n, n * d),
                    p + f"hc_{k}_base": (2 * n + n * n,),
                    p + f"hc_{k}_scale": (3,),
                }
            )
        a = p + "attn."
        s.update(
            {
                a + "attn_sink": (h,),
                a + "wq_a.weight": (q, d),
                a + "q_norm.weight": (q,),
                a + "wq_b.weight": (h * hd, q),
                a + "wkv.weight": (hd, d),
                a + "kv_norm.weight": (hd,),
                a + "wo_a.weight": (g * o, h * hd // g),
                a + "wo_b.weight": (d, g * o),
            }
        )
        kinds = [("compressor.", hd)] * (ratio > 0) + [("indexer.compressor.", idim)] * (ratio == 4)
        for k, size in kinds:
            w = size * (2 if ratio == 4 else 1)
            s.update(
                {
                    a + k + "wkv.weight": (w, d),
                    a + k + "wgate.weight": (w, d),
                    a + k + "ape": (ratio, w),
                    a + k + "norm.weight": (size,),
                }
            )
        if ratio == 4:
            s.update({a + "indexer.wq_b.weight": (ih * idim, q), a + "indexer.weights_proj.weight": (ih, d)})
        f = p + "ffn."
        s[f + "gate.weight"] = (c["n_routed_experts"], d)
        if i >= c["num_hash_layers"]:
            s[f + "gate.bias"] = (c["n_routed_experts"],)
        for e in [f"experts.{k}." for k in range(c["n_routed_experts"])] + ["shared_experts."]:
            s.update(
                {f + e + "w1.weight": (inter, d), f + e + "w2.weight": (d, inter), f + e + "w3.weight": (inter, d)}
            )
        if p == "mtp.0.":
            s.update(
                {
                    p + "e_proj.weight": (d, d),
                    p + "h_proj.weight": (d, d),
                    p + "enorm.weight": (d,),
                    p + "hnorm.weight": (d,),
                    p + "norm.weight": (d,),
                    p + "hc_head_fn": (n, n * d),
                    p + "hc_head_base": (n,),
                    p + "hc_head_scale": (1,),
                }
            )
    return s


def write(folder, **changes):
    os.makedirs(folder, exist_ok=True)
    c = {**CONFIG, **changes}
    tensors = {name: generate(name, *shape) for name, shape in shapes(c).items()}
    token, slot = np.arange(c["vocab_size"])[:, None], np.arange(c["num_experts_per_tok"])
    tensors["layers.0.ffn.gate.tid2eid"] = ((5 * token + 3 * slot + 1) % c["n_routed_experts"]).astype(np.int64)
    write_safetensors(os.path.join(folder, "model.safetensors"), tensors)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(c, f, indent=1)
        f.write("\n")
