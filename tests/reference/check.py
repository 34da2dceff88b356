#!/usr/bin/env python3
"""Checks the FP64 model against section 15 and the FP32 vectors, then prints how far rounding noise carries.

python3 check.py [GOLDEN_FOLDER]; needs numpy; ml_dtypes, where installed, is a second opinion on the rounding.
The noise tables are what a test of `reference` numerics may ask of another summation order: noise of a few 1e-7 before
each BF16 rounding, (a) one block at a time from the vector's own streams, (b) the whole model; in both with the vector's
choices forced or free.
"""

import os
import sys

import numpy as np

import formats as fmt
import tiny15
from checkpoint import read_safetensors, rope_frequencies, widen
from model import Model, sigmoid, sinkhorn

CHOICES = ("attn.indexer.hook_topk", "mlp.hook_router_indices")


def near(what, got, expected, tolerance=1.5e-6):
    error = np.abs(np.asarray(got) - np.asarray(expected)).max()
    if not error <= tolerance:
        raise SystemExit(f"{what}: off by {error:.3g}, expected within {tolerance:.3g}")


def formats():
    v = fmt.bf16(3.1 * np.sin(0.37 * np.arange(64)))
    near("15.3 input", v[:8], [0, 1.1171875, 2.09375, 2.78125, 3.09375, 2.984375, 2.46875, 1.625], 0)
    near("15.3 FP8", fmt.fake_fp8(v, 64)[:8], [0, 1.125, 2, 2.75, 3, 3, 2.5, 1.625], 0)
    near("15.3 FP4", fmt.fake_fp4(v[:32])[:8], [0, 1, 2, 3, 3, 3, 2, 1.5], 0)
    near("15.3 scales", [fmt.fp8_blocks(v, 64)[1][0], fmt.fp4_blocks(v[:32])[1][0]], [-7, 0], 0)
    near("15.3 FP4 ties", fmt.fp4(np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5])), [0, 1, 1, 2, 2, 4, 4], 0)
    near(
        "15.3 Hadamard",
        fmt.hadamard(np.array([1, 2, 3, 4, 0, -1, 0.5, 2])),
        [4.065864, -0.883883, -2.651650, 0.883883, 3.005204, -0.530330, -0.176777, -0.883883],
    )
    near("4.8 bytes", [fmt.entry_bytes(512, 64), fmt.index_key_bytes(128)], [584, 68], 0)
    yarn = rope_frequencies(
        64, 160000, dict(type="yarn", factor=16, original_max_position_embeddings=65536, beta_fast=32, beta_slow=1)
    )
    near(
        "15.2",
        yarn[[1, 15, 16, 20, 24, 31]]
        / [6.876560219e-1, 3.635538584e-3, 2.265625e-3, 2.969777783e-4, 1.953125e-5, 5.680529037e-7],
        1,
        1e-9,
    )
    m, base = 0.1 * np.arange(24) - 1, 0.05 * ((7 * np.arange(24)) % 11) - 0.2
    near("15.4 pre", sigmoid(m[:4] + base[:4]) + 1e-6, [0.2314762, 0.3208223, 0.2994339, 0.4013133], 1e-7)
    near(
        "15.4 C",
        sinkhorn((2 * m[8:] + base[8:]).reshape(4, 4), 20, 1e-6)[[0, 1, 3], [1, 0, 2]],
        [0.2932059, 0.2568364, 0.1931202],
        1e-7,
    )
    try:
        import ml_dtypes
    except ImportError:
        return
    r = np.random.default_rng(0)
    x = (r.standard_normal(200000) * 2.0 ** r.integers(-140, 12, 200000)).astype(np.float32)
    for ours, theirs, limit in (
        (fmt.bf16, ml_dtypes.bfloat16, np.inf),
        (fmt.fp8, ml_dtypes.float8_e4m3fn, 448),
        (fmt.fp4, ml_dtypes.float4_e2m1fn, 6),
    ):
        y = np.clip(x, -limit, limit)
        near(f"rounding to {theirs.__name__}", ours(y), y.astype(theirs).astype(float), 0)


def section_15_5(folder):
    model, tokens = Model(folder), tiny15.tokens()
    logits, hooks = model.forward(tokens)
    for t, row in {
        0: [0.225347, -1.206609, 0.492269, 0.010323, 0.022776, -1.671999],
        3: [-0.553329, 0.054041, -0.289724, 0.087950, -2.258367, -1.261453],
        7: [-0.623292, 0.742219, -2.820868, -0.902404, 1.433474, -0.549947],
        15: [-0.051467, -0.945222, 1.313604, 0.649585, 1.957247, 0.141535],
        25: [-0.017553, -1.790423, 2.012880, 1.002349, -1.168426, 2.126859],
    }.items():
        near(f"15.5 logits at {t}", logits[t, :6], row)
    near("15.5 argmax", logits[[0, 3, 7, 15, 25]].argmax(1), [12, 51, 23, 60, 5], 0)
    streams = [
        [-1.280591, 1.033741, 0.123949, 1.448800],
        [-1.514125, 0.090973, -2.195185, 4.136803],
        [-1.558482, 0.361989, -1.357193, 3.099120],
        [-1.542845, -1.332794, -2.830315, 3.233098],
    ]
    for i, row in enumerate(streams):
        near(f"15.5 stream 0 after layer {i}", hooks[f"blocks.{i}.hook_out"][25, 0, :4], row)
    near("15.5 stream 3", hooks["blocks.3.hook_out"][25, 3, :4], [-1.496166, -1.367048, -2.964247, 3.031345])
    near(
        "15.5 experts",
        [hooks[f"blocks.{i}.mlp.hook_router_indices"][25] for i in range(4)],
        [[4, 7], [6, 2], [5, 4], [4, 2]],
        0,
    )
    near("15.5 picks", [hooks[f"blocks.{i}.attn.indexer.hook_topk"][25] for i in (1, 3)], [[3, 0], [4, 3]], 0)
    near("15.5 post", hooks["blocks.0.attn_hc.hook_post"][0], [1.597678, 0.771382, 0.534480, 1.401306])
    near("15.5 C", hooks["blocks.0.attn_hc.hook_comb"][0, 0], [0.109236, 0.183015, 0.437481, 0.270267])
    near("15.5 u", hooks["blocks.0.attn_hc.hook_out"][0, :4], [0.835630, 0.664280, 0.640078, -0.449564])
    mtp, _ = model.mtp(hooks["blocks.3.hook_out"][:-1], tokens[1:])
    near("15.5 MTP", mtp[24, :6], [0.171679, -0.581074, 1.644617, -0.966586, -2.090559, -0.408288])
    near("15.5 MTP argmax", mtp[24].argmax(), 52, 0)


def against_fp32(folder):
    golden = {k: widen(*v) for k, v in read_safetensors(f"{folder}/golden.safetensors").items()}
    logits, hooks = Model(folder).forward(golden["input_ids"])
    hooks["logits"], worst = logits, 0.0
    for k, v in golden.items():
        if k.endswith(("hook_topk", "router_indices", "router_weights")):  # order is not significant
            hooks[k], v = np.sort(hooks[k], -1), np.sort(v, -1)
        if k not in ("input_ids", "mtp.0.logits"):
            near(f"{folder} {k}", hooks[k], v, 1e-4)
            worst = max(worst, np.abs(hooks[k] - v).max())
    near(
        f"{folder} FP32 angles",
        Model(folder, fp32_angles=True).forward(golden["input_ids"])[0],
        golden["logits"],
        1e-4,
    )
    n = len(golden["input_ids"]) // 2 + 1
    near(f"{folder} prefix", Model(folder).forward(golden["input_ids"][:n])[0], logits[:n], 1e-9)
    print(f"{os.path.basename(folder)}: all hooks and logits within {worst:.1e} of FP32, all choices equal")


def cosine_loss(a, b):
    """1 - cosine along the last axis"""
    return np.maximum(0, 1 - (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1)))


def choices_of(hooks):
    return {k: v for k, v in hooks.items() if k.endswith(CHOICES)}


def noise(folder, name, jitter):
    plain = Model(folder, "reference")
    file = {
        k: widen(*v)
        for k, v in read_safetensors(os.path.join(folder, "..", "reference", name + ".safetensors")).items()
    }
    ids, c, T = file["input_ids"], plain.config, len(file["input_ids"])
    logits, hooks = plain.forward(ids)
    near(f"{name} reference file", logits, file["logits"], 1e-4)
    log_p = logits - np.logaddexp.reduce(logits, -1, keepdims=True)
    for forced in (True, False):
        model = Model(folder, "reference", jitter, seed=1)
        X = np.repeat(model.bf16(model.weights["embed.weight"][ids])[:, None], c.streams, 1)
        local = []
        for i in range(c.layers):
            b = f"blocks.{i}."
            f = {k.removeprefix(b): v for k, v in choices_of(hooks).items() if k.startswith(b)} if forced else {}
            Y, _ = model.block(X, f"layers.{i}.", c.ratios[i], c.hashed[i], ids, f)
            X = hooks[b + "hook_out"]
            token = cosine_loss(X.reshape(T, -1), Y.reshape(T, -1))
            local.append(f"{cosine_loss(X.ravel(), Y.ravel()):.0e}/{np.median(token):.0e}/{token.max():.0e}")
        logits2, hooks2 = model.forward(ids, choices_of(hooks) if forced else None)
        whole = [
            cosine_loss(hooks[f"blocks.{i}.hook_out"].ravel(), hooks2[f"blocks.{i}.hook_out"].ravel())
            for i in range(c.layers)
        ]
        log_q = logits2 - np.logaddexp.reduce(logits2, -1, keepdims=True)
        kl = (np.exp(log_p) * (log_p - log_q)).sum(-1)
        flips = sum(
            int((np.sort(v, -1) != np.sort(hooks2[k], -1)).any(-1).sum()) for k, v in choices_of(hooks).items()
        )
        print(
            f"{name}, noise {jitter:g}, choices {'forced' if forced else 'free'}: 1-cos by block: one at a time (all/median token/worst) "
            + " ".join(local)
            + "; whole model (all) "
            + " ".join(f"{w:.0e}" for w in whole)
            + f"; KL mean {kl.mean():.1e} max {kl.max():.1e}; top-1 {np.mean(logits.argmax(1) == logits2.argmax(1)):.3f}; choices that differ {flips}"
        )


def main():
    golden = (
        sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden")
    )
    formats()
    section_15_5(f"{golden}/tiny15")
    print("section 15: every printed number")
    for name in ("flashlike", "prolike", "official", "tiny15", "smooth15"):
        against_fp32(f"{golden}/{name}")
    for name in ("smooth15", "tiny15", "flashlike", "prolike", "official"):
        for jitter in (1e-7, 1e-6):
            noise(f"{golden}/{name}", name, jitter)


if __name__ == "__main__":
    main()
