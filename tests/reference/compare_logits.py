#!/usr/bin/env python3
"""compare_logits.py EXPECTED.safetensors GOT.safetensors [--model FOLDER]: max |difference| of `logits`, position by position.

With --model the FP64 model (FP32 angles) is run with GOT's choices of experts and entries forced. Wherever it would have chosen
otherwise, the relative gap that decided is printed: up to 1e-5 is a near-tie and excused. Exit 1 if a gap is larger, or if GOT's logits
are off by more than 1e-3 anywhere (from the forced model's; without --model, from EXPECTED's).
"""

import argparse
import sys

import numpy as np

from checkpoint import read_safetensors, widen
from model import Model, top

BAR, NEAR_TIE = 1e-3, 1e-5


def ranked_by(model, hooks, name):
    """what the choice `name` is made by, [T, candidates]"""
    layer = name.split(".")[1]
    if name.endswith("hook_topk"):
        return hooks[f"blocks.{layer}.attn.indexer.hook_scores"]
    z = hooks[f"blocks.{layer}.mlp.hook_router_logits"]
    return np.sqrt(np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))) + model.weights[f"layers.{layer}.ffn.gate.bias"]


def other_choices(model, hooks, forced):
    """[(position, hook, relative gap)]: the gap between the best one left out and the worst one taken in its place"""
    found = []
    for name, theirs in forced.items():
        value = ranked_by(model, hooks, name)
        for t in range(len(value)):
            mine = set(top(value[t], theirs.shape[1])[value[t, top(value[t], theirs.shape[1])] > -np.inf])
            taken = {int(s) for s in theirs[t] if s >= 0}
            if mine != taken:
                left_out = max((value[t, s] for s in mine - taken), default=np.inf)
                instead = min((value[t, s] for s in taken - mine), default=-np.inf)
                found.append((t, name, float(left_out - instead) / abs(left_out)))
    return sorted(found)


def report(what, expected, got):
    off = np.abs(expected - got).max(1)
    print(
        f"{what}: max |difference| {off.max():.2e} at {off.argmax()}, median {np.median(off):.1e}, over {BAR:g} at {(off > BAR).sum()} of "
        f"{len(off)} positions, argmax equal at {(expected.argmax(1) == got.argmax(1)).mean():.2%}"
    )
    return off.max() > BAR


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("expected")
    parser.add_argument("got")
    parser.add_argument("--model")
    a = parser.parse_args()
    expected, got = ({k: widen(*v) for k, v in read_safetensors(p).items()} for p in (a.expected, a.got))
    if not (expected["input_ids"] == got["input_ids"]).all():
        sys.exit(f"{a.got}: other input_ids than {a.expected}")
    failed = report(f"{a.got} against {a.expected}", expected["logits"], got["logits"])
    if a.model:
        model = Model(a.model, fp32_angles=True)
        free, _ = model.forward(expected["input_ids"])
        failed = report(f"{a.expected} against the FP64 model", free, expected["logits"])
        forced = {
            k: v.astype(int)
            for k, v in got.items()
            if k.endswith(("hook_topk", "router_indices"))
            and not (k.endswith("indices") and model.config.hashed[int(k.split(".")[1])])
        }
        logits, hooks = model.forward(expected["input_ids"], forced)
        failed |= report(
            f"{a.got} against the FP64 model with its {len(forced)} layers of choices forced", logits, got["logits"]
        )
        for t, name, gap in other_choices(model, hooks, forced):
            failed |= gap > NEAR_TIE
            print(
                f"  position {t} {name}: another choice, relative gap {gap:.1e}: "
                + ("near-tie" if gap <= NEAR_TIE else "ERROR")
            )
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
