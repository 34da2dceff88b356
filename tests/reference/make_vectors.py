#!/usr/bin/env python3
"""Writes the vectors of tests/golden/{reference,exact_extra,tiny15,smooth15}; run by hand: python3 make_vectors.py [GOLDEN_FOLDER]

Needs the checkpoints tests/golden/{flashlike,prolike,official}. Two runs give the same files on one machine; on another the last
bits of exp, cos and sums may differ.
"""

import json
import os
import sys

import numpy as np

import formats as fmt
import tiny15
from checkpoint import read_safetensors, widen, write_safetensors
from model import Model

REFERENCE_HOOKS = (
    "hook_out",
    "mlp.hook_router_indices",
    "mlp.hook_router_logits",
    "attn.indexer.hook_topk",
    "attn.indexer.hook_scores",
    "attn.hook_window_raw",
    "attn.hook_window_bytes",
    "attn.compressor.hook_raw",
    "attn.compressor.hook_bytes",
    "attn.indexer.hook_key_raw",
    "attn.indexer.hook_key_bytes",
)
EXACT_HOOKS = (
    "hook_out",
    "attn_hc.hook_out",
    "attn_hc.hook_pre",
    "attn_hc.hook_post",
    "attn_hc.hook_comb",
    "mlp_hc.hook_out",
    "mlp_hc.hook_pre",
    "mlp_hc.hook_post",
    "mlp_hc.hook_comb",
    "hook_attn_out",
    "attn.compressor.hook_out",
    "attn.indexer.hook_topk",
    "mlp.hook_router_logits",
    "mlp.hook_router_indices",
    "mlp.hook_router_weights",
)
VIEW_HOOKS = (
    "attn_hc.hook_comb",
    "attn_hc.hook_post",
    "mlp_hc.hook_comb",
    "mlp_hc.hook_post",
    "attn.indexer.hook_topk",
    "mlp.hook_router_logits",
    "mlp.hook_router_indices",
    "mlp.hook_router_weights",
)
EXTRA_HOOKS = (
    "attn.indexer.hook_scores",
    "attn.hook_shares",
    "attn.hook_shares_head",
    "attn.compressor.hook_weights",
    "attn_hc.hook_sigma",
    "mlp_hc.hook_sigma",
    "hook_gain_fwd",
    "hook_gain_bwd",
    "hook_gain_fwd_mean",
    "hook_gain_fwd_max",
    "hook_gain_bwd_mean",
    "hook_gain_bwd_max",
)


def compact(a):
    a = np.asarray(a)
    return a if a.dtype == np.uint8 else a.astype(np.int32 if a.dtype.kind == "i" else np.float32)


def pick(hooks, names):
    """the hooks named, block by block, small dtypes"""
    return {k: compact(v) for k, v in hooks.items() if k.split(".", 2)[2] in names}


def add_stream_measures(hooks, layers):
    """sigma_1, sigma_2 of each C, and composite gain (section 11) of the product of C^T from the first site to each block's mlp site"""
    P = None
    for i in range(layers):
        for site in ("attn_hc", "mlp_hc"):
            C = hooks[f"blocks.{i}.{site}.hook_comb"]
            hooks[f"blocks.{i}.{site}.hook_sigma"] = np.linalg.svd(C, compute_uv=False)[:, :2]
            B = np.swapaxes(C, 1, 2)
            P = B if P is None else B @ P
        for name, axis in (("hook_gain_fwd", 2), ("hook_gain_bwd", 1)):
            gain = np.abs(P).sum(axis).max(1)
            hooks.update(
                {
                    f"blocks.{i}.{name}": gain,
                    f"blocks.{i}.{name}_mean": gain.mean()[None],
                    f"blocks.{i}.{name}_max": gain.max()[None],
                }
            )


def save(path, arrays):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write_safetensors(path, arrays)
    print(f"{path}: {len(arrays)} arrays, {os.path.getsize(path):,} bytes")


def format_vectors():
    """hostile inputs for the rounding, quantising and packing routines; every input is BF16-representable"""
    rng, out = np.random.default_rng(15), {}
    grid = np.concatenate([fmt.E4M3[~np.isnan(fmt.E4M3)], fmt.E2M1])
    grid = np.unique(np.abs(grid))
    ties = np.concatenate([grid, (grid[1:] + grid[:-1]) / 2, [2.0**-133, 2.0**-126, 3.0e38, 447, 449, 1e4]])
    near = np.concatenate(
        [
            ties,
            np.nextafter(ties, np.inf).astype(np.float32),
            np.float32(rng.standard_normal(500) * 2.0 ** rng.integers(-12, 10, 500)),
            1 + (np.arange(1, 64) * 2.0**-9),
            1 + np.arange(1, 64) * 2.0**-9 + 2.0**-20,
        ]
    )
    x = np.concatenate([near, -near]).astype(np.float32).astype(np.float64)
    out.update({"round.input": x, "round.bf16": fmt.bf16(x), "round.fp8": fmt.fp8(x), "round.fp4": fmt.fp4(x)})

    def rows(size):
        r = rng.standard_normal((10, size)) * 2.0 ** rng.integers(-6, 6, (10, 1))
        r[0], r[1], r[2] = 0.0, -0.0, 2.0**-120
        r[3] = 448 * 2.0 ** rng.integers(-9, 3, size)
        r[4] = np.where(np.arange(size) % 2, 6.0, -3.5)
        r[5] = rng.choice(grid[1:], size) * rng.choice([-1, 1], size)
        r[6] *= 2.0 ** rng.integers(-14, 1, size)
        r[7] = np.where(np.arange(size) == size // 2, 450.0, r[7] * 1e-3)
        r[8] *= 2.0**100
        return fmt.bf16(r)

    for c, rope in ((512, 64), (128, 32), (32, 8), (16, 8), (104, 8), (73, 8)):
        raw = rows(c)
        packed = fmt.pack_entry(raw, rope)
        value = fmt.unpack_entry(packed, c, rope)
        assert (value == np.concatenate([fmt.fake_fp8(raw[:, : c - rope], 64), raw[:, c - rope :]], 1)).all()
        out.update(
            {f"entry.{c}.{rope}.raw": raw, f"entry.{c}.{rope}.bytes": packed, f"entry.{c}.{rope}.values": value}
        )
    for size in (128, 64, 16, 8):
        raw = rows(size)
        packed = fmt.pack_index_key(raw)
        value = fmt.unpack_index_key(packed, size)
        assert (value == fmt.fake_fp4(raw)).all()
        out.update(
            {
                f"index_key.{size}.raw": raw,
                f"index_key.{size}.bytes": packed,
                f"index_key.{size}.values": value,
                f"hadamard.{size}.output": fmt.bf16(fmt.hadamard(raw)),
            }
        )
    raw = rows(300)
    codes, k = fmt.fp8_blocks(raw, 128)
    out.update(
        {
            "activation.raw": raw,
            "activation.codes": fmt.fp8_bytes(codes),
            "activation.scales": (k + 127).astype(np.uint8),
            "activation.values": fmt.fake_fp8(raw, 128),
        }
    )
    return {k: compact(v) for k, v in out.items()}


def tiny_exact(folder, tokens):
    model = Model(folder)
    logits, hooks = model.forward(tokens)
    last = hooks[f"blocks.{model.config.layers - 1}.hook_out"]
    mtp, _ = model.mtp(last[:-1], tokens[1:])
    arrays = {"input_ids": np.array(tokens), "logits": logits, "mtp.0.logits": mtp}
    save(f"{folder}/golden.safetensors", {**{k: compact(v) for k, v in arrays.items()}, **pick(hooks, EXACT_HOOKS)})


def seedling(golden, case=10):
    """what the views show of the shipped model reading one prompt of seedling_greedy.json and its answer, in one file"""
    with open(f"{golden}/seedling_greedy.json", encoding="utf-8") as f:
        chosen = json.load(f)[case]
    tokens = chosen["prompt_ids"] + chosen["greedy_ids"]
    model = Model(f"{golden}/../../assets/models/seedling")
    _, hooks = model.forward(tokens)
    add_stream_measures(hooks, model.config.layers)
    names = [k for k in (*VIEW_HOOKS, *EXTRA_HOOKS) if not k.endswith(("_head", "_mean", "_max"))]
    save(f"{golden}/exact_extra/seedling.safetensors", {"input_ids": compact(tokens), **pick(hooks, names)})


def reference(golden, name, tokens):
    model = Model(f"{golden}/{name}", "reference")
    logits, hooks = model.forward(tokens)
    arrays = {"input_ids": compact(tokens), "logits": compact(logits)}
    if model.config.mtp:
        mtp, _ = model.mtp(hooks[f"blocks.{model.config.layers - 1}.hook_out"][:-1], tokens[1:])
        arrays["mtp.0.logits"] = compact(mtp)
    save(f"{golden}/reference/{name}.safetensors", {**arrays, **pick(hooks, REFERENCE_HOOKS)})


def main():
    golden = (
        sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden")
    )
    tiny15.write(f"{golden}/tiny15")
    tiny15.write(f"{golden}/smooth15", **tiny15.SMOOTH)
    ids = {"tiny15": tiny15.tokens(), "smooth15": tiny15.tokens(100)}
    for name in ids:
        tiny_exact(f"{golden}/{name}", ids[name])
    for name in ("flashlike", "prolike", "official"):
        ids[name] = widen(*read_safetensors(f"{golden}/{name}/golden.safetensors")["input_ids"])
        _, hooks = Model(f"{golden}/{name}").forward(ids[name])
        add_stream_measures(hooks, 1 + max(int(k.split(".")[1]) for k in hooks))
        save(
            f"{golden}/exact_extra/{name}.safetensors", {"input_ids": compact(ids[name]), **pick(hooks, EXTRA_HOOKS)}
        )
    seedling(golden)
    save(f"{golden}/reference/formats.safetensors", format_vectors())
    for name in ids:
        reference(golden, name, ids[name][:160] if name == "official" else ids[name])


if __name__ == "__main__":
    main()
