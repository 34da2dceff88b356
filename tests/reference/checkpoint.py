"""Reads a checkpoint folder (config.json, safetensors with or without index) into FP64, and writes safetensors files.

Knows F64, F32, F16, BF16, I64, I32, U8, FP8 E4M3 with E8M0 or F32 block scales (5.3) and FP4 experts (5.4), the official tensor
names (7.1) and those of a transformers export (0.4 on 7.2). Needs numpy only.
"""

import json
import os
import struct
from types import SimpleNamespace

import numpy as np

from formats import E2M1, E4M3, E8M0

NUMPY = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "F8_E4M3": "u1",
    "F8_E8M0": "u1",
}
DTYPE = {"float64": "F64", "float32": "F32", "int64": "I64", "int32": "I32", "uint8": "U8"}


def read_safetensors(path):
    """{name: (dtype, array of raw codes)}"""
    with open(path, "rb") as f:
        data = f.read()
    size = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + size]), memoryview(data)[8 + size :]
    header.pop("__metadata__", None)
    return {
        name: (t["dtype"], np.frombuffer(body[slice(*t["data_offsets"])], NUMPY[t["dtype"]]).reshape(t["shape"]))
        for name, t in header.items()
    }


def write_safetensors(path, arrays):
    """wide dtypes first, so that every array is aligned to its element size"""
    header, at, blobs = {}, 0, []
    for name, a in sorted(arrays.items(), key=lambda item: -np.asarray(item[1]).itemsize):
        a = np.asarray(a)
        a = np.ascontiguousarray(a).reshape(a.shape)
        header[name] = {"dtype": DTYPE[a.dtype.name], "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
        blobs.append(a.tobytes())
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def widen(dtype, a):
    if dtype == "BF16":
        return (a.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    if dtype == "F8_E8M0":
        return E8M0[a]
    if dtype in ("F64", "F32", "F16"):
        return a.astype(np.float64)
    return a


def official_name(name):
    name = name.removeprefix("model.").replace("embed_tokens.", "embed.").replace("hc_head.hc_", "hc_head_")
    name = name.replace("lm_head.", "head.").replace(".weight_scale_inv", ".scale")
    return (
        name.removesuffix(".attn.norm.weight") + ".attn.kv_norm.weight"
        if name.endswith(".attn.norm.weight")
        else name
    )


def read_tensors(folder):
    """({name: FP64 or integer array}, set of names whose matrix was stored as FP8 or FP4)"""
    index = os.path.join(folder, "model.safetensors.index.json")
    files = ["model.safetensors"]
    if os.path.exists(index):
        with open(index) as f:
            files = sorted(set(json.load(f)["weight_map"].values()))
    stored = {}
    for file in files:
        for name, t in read_safetensors(os.path.join(folder, file)).items():
            if official_name(name) in stored:
                raise ValueError(f"{file}: {name} is there twice")
            stored[official_name(name)] = t
    weights, packed = {}, set()
    for name, (dtype, a) in stored.items():
        scale = stored.get(name.removesuffix(".weight") + ".scale")
        if name.endswith(".scale") and name.removesuffix(".scale") + ".weight" in stored:
            continue
        if dtype == "F8_E4M3":
            s = np.repeat(np.repeat(widen(*scale), 128, 0)[: a.shape[0]], 128, 1)[:, : a.shape[1]]
            weights[name] = E4M3[a] * s
            packed.add(name)
        elif dtype == "I8" and scale:
            codes = a.view(np.uint8)
            values = E2M1[np.stack([codes & 15, codes >> 4], -1).reshape(a.shape[0], -1)]
            weights[name] = values * np.repeat(widen(*scale), 32, 1)
            packed.add(name)
        else:
            weights[name] = widen(dtype, a)
    return weights, packed


def rope_frequencies(rope, theta, scaling):
    """3.4; `scaling` None or a dict of YaRN's keys"""
    i = np.arange(rope // 2)
    f = float(theta) ** (-2 * i / rope)
    if not scaling or scaling.get("rope_type", scaling.get("type", "default")) == "default":
        return f
    length = scaling["original_max_position_embeddings"]

    def correction(beta):
        return rope * np.log(length / (2 * np.pi * beta)) / (2 * np.log(theta))

    lo = max(np.floor(correction(scaling["beta_fast"])), 0)
    hi = min(np.ceil(correction(scaling["beta_slow"])), rope - 1)
    ramp = np.clip((i - lo) / (hi - lo + (0.001 if lo == hi else 0)), 0, 1)
    return f * (ramp / scaling["factor"] + 1 - ramp)


def read_config(folder):
    """The numbers the model needs, from the official or the transformers form (1.1, 0.4)."""
    with open(os.path.join(folder, "config.json")) as f:
        j = json.load(f)
    c = SimpleNamespace(
        layers=j["num_hidden_layers"],
        width=j["hidden_size"],
        vocab=j["vocab_size"],
        heads=j["num_attention_heads"],
        head=j["head_dim"],
        streams=j["hc_mult"],
        sinkhorn=j["hc_sinkhorn_iters"],
        hc_eps=j["hc_eps"],
        eps=j["rms_norm_eps"],
        groups=j["o_groups"],
        window=j["sliding_window"],
        index_heads=j["index_n_heads"],
        index_head=j["index_head_dim"],
        index_topk=j["index_topk"],
        experts=j["n_routed_experts"],
        chosen=j["num_experts_per_tok"],
        route_scale=j["routed_scaling_factor"],
        limit=j["swiglu_limit"],
        mtp=j.get("num_nextn_predict_layers", 0),
    )
    c.rope = j["qk_rope_head_dim"] if "qk_rope_head_dim" in j else round(j["partial_rotary_factor"] * c.head)
    parameters = j.get("rope_parameters") or {}
    if "compress_ratios" in j:
        c.ratios = list(j["compress_ratios"])
    else:
        c.ratios = [{"sliding_attention": 0, **j["compress_rates"]}[t] for t in j["layer_types"]]
    hashed = j.get("num_hash_layers")
    c.hashed = (
        [t == "hash_moe" for t in j["mlp_layer_types"]] if hashed is None else [i < hashed for i in range(c.layers)]
    )
    compress = parameters.get("compress", {})
    c.plain_rope = rope_frequencies(c.rope, j.get("rope_theta") or parameters["main"]["rope_theta"], None)
    c.compress_rope = rope_frequencies(
        c.rope, j.get("compress_rope_theta") or compress["rope_theta"], compress or j.get("rope_scaling")
    )
    return c
