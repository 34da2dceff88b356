"""The configurations that parity.py compares: drawn from a seed, or written by hand. A case is plain JSON."""

import random

CSA, HCA, SLIDE = "compressed_sparse_attention", "heavily_compressed_attention", "sliding_attention"


def base_case():
    """The configuration of transformers' own tests."""
    return dict(
        seed=1,
        T=40,
        dtype="float32",
        layout="saved",
        tables="random",
        bias=0.3,
        spread=1.0,
        config=dict(
            vocab_size=101,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=1,
            head_dim=32,
            qk_rope_head_dim=8,
            q_lora_rank=32,
            o_groups=2,
            o_lora_rank=16,
            n_routed_experts=4,
            num_experts_per_tok=2,
            n_shared_experts=1,
            moe_intermediate_size=64,
            sliding_window=8,
            hc_mult=2,
            hc_sinkhorn_iters=3,
            hc_eps=1e-6,
            rms_norm_eps=1e-6,
            index_n_heads=16,
            index_head_dim=16,
            index_topk=2,
            routed_scaling_factor=1.5,
            swiglu_limit=10.0,
            rope_theta=10000.0,
            compress_rope_theta=160000.0,
            max_position_embeddings=4096,
            num_nextn_predict_layers=0,
            layer_types=[HCA, CSA],
            compress_rates={CSA: 4, HCA: 128},
            mlp_layer_types=["moe", "moe"],
            bos_token_id=0,
            eos_token_id=1,
            rope_parameters=None,
        ),
    )


def yarn(factor=16.0, original=64, fast=32.0, slow=1.0):
    return {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": original,
        "beta_fast": fast,
        "beta_slow": slow,
        "attention_factor": 1.0,
    }


def nested(c, y, main=None, compress=None, partial=True):
    """rope_parameters as transformers saves them, with bases that may differ from the top level's"""
    p = {"partial_rotary_factor": c["qk_rope_head_dim"] / c["head_dim"]} if partial else {}
    return {
        "main": {"rope_type": "default", "rope_theta": main or c["rope_theta"], **p},
        "compress": {**(y or {"rope_type": "default"}), "rope_theta": compress or c["compress_rope_theta"], **p},
    }


def random_case(seed):
    r = random.Random(seed)
    pick = r.choice
    case = base_case()
    c = case["config"]
    case["seed"] = seed
    case["T"] = pick([1, 3, 4, 5, 8, 9, 31, 40, 64, 65, 66, 67, 127, 128, 129] * 2 + [200, 257, 300, 511, 512, 513, 1025])
    case["dtype"] = pick(["float32"] * 4 + ["bfloat16", "float16"])
    n = r.randint(1, 5)
    c["num_hidden_layers"] = n
    mix = pick(["any"] * 5 + ["slide", "csa", "hca", "no slide"])
    kinds = {"any": [CSA, HCA, SLIDE], "slide": [SLIDE], "csa": [CSA], "hca": [HCA], "no slide": [CSA, HCA]}[mix]
    c["layer_types"] = [pick(kinds) for _ in range(n)]
    c["compress_rates"] = {CSA: 4, HCA: pick([1, 2, 3, 5, 7, 8, 16, 16, 32, 33, 128])}
    hashing = pick(["none", "prefix", "all", "last", "any"])
    c["mlp_layer_types"] = {
        "none": ["moe"] * n,
        "all": ["hash_moe"] * n,
        "last": ["moe"] * (n - 1) + ["hash_moe"],
        "any": [pick(["moe", "hash_moe"]) for _ in range(n)],
        "prefix": (["hash_moe"] * r.randint(0, n) + ["moe"] * n)[:n],
    }[hashing]
    case["tables"] = pick(["random"] * 4 + ["zeros", "distinct"])
    case["bias"] = pick([0.3, 0.3, 3.0, 0.0])
    case["spread"] = pick([1.0, 1.0, 0.5, 1.5])
    c["vocab_size"] = pick([17, 101, 128, 257])
    c["hidden_size"] = pick([32, 33, 48, 64, 70, 96, 128])
    c["num_attention_heads"] = h = pick([1, 2, 3, 4, 6, 8, 10])
    c["o_groups"] = pick([g for g in range(1, h + 1) if h % g == 0])
    c["o_lora_rank"] = pick([1, 5, 8, 16, 32])
    c["q_lora_rank"] = pick([7, 16, 32, 33])
    c["head_dim"] = hd = pick([8, 16, 18, 24, 32, 40, 64, 72, 136])
    c["qk_rope_head_dim"] = rope = pick([x for x in (2, 4, 6, 8, 16, 32, hd) if x <= hd and int(hd * (x / hd)) == x])
    c["index_n_heads"] = pick([1, 2, 3, 5, 16, 16, 16, 24])
    c["index_head_dim"] = pick([x for x in (rope, 16, 24, 32, 48, 96, 136) if x >= rope])
    s = case["T"] // 4
    c["index_topk"] = max(1, pick([1, 2, 3, s - 1, s, s + 1, 8, 16, 512]))
    c["sliding_window"] = pick([1, 2, 3, 7, 8, 16, 33, 128, 2048])
    c["hc_mult"] = pick([1, 2, 3, 4, 4, 4, 5, 8])
    c["hc_sinkhorn_iters"] = pick([1, 2, 3, 20, 20, 50])
    c["hc_eps"] = pick([1e-6, 1e-6, 1e-3, 1e-2])
    c["rms_norm_eps"] = pick([1e-6, 1e-6, 1e-5, 1e-3])
    c["n_routed_experts"] = e = pick([1, 2, 3, 4, 5, 8, 33])
    c["num_experts_per_tok"] = pick([k for k in (1, 2, 3, 4, 6, e) if k <= e])
    c["moe_intermediate_size"] = pick([16, 24, 33, 64])
    c["norm_topk_prob"] = pick([True, True, True, False])
    c["routed_scaling_factor"] = pick([1.5, 1.0, 2.5, 0.3])
    c["swiglu_limit"] = pick([10.0, 10.0, 0.05, 0.5, 1e6])
    c["rope_theta"] = float(pick([10000, 10000, 500, 1000000]))
    c["compress_rope_theta"] = float(pick([160000, 160000, 500, 1000000]))
    y = pick([None, yarn(), yarn(pick([1.0, 4.0, 40.0]), pick([8, 64, 128, 4096, 65536]), *pick([(32.0, 1.0), (4.0, 1.0)]))])
    form = pick(["flat", "flat", "nested", "other bases"])
    if form == "flat":
        c["rope_parameters"] = y
    elif form == "nested":
        c["rope_parameters"] = nested(c, y)
    else:
        c["rope_parameters"] = nested(c, y, float(pick([500, 20000])), float(pick([700, 40000])))
    case["layout"] = pick(
        ["saved"] * 6 + ["modules"] * 3 + ["official"] * 3 + ["fp8", "fp8 f32-scales", "fp8 bf16-experts", "fp4", "fp4 only"]
    )
    if case["layout"] not in ("saved", "modules") and not can_be_official(case):
        case["layout"] = "modules"
    if r.random() < 0.15:
        c["max_position_embeddings"] = 64
    return case


def can_be_official(case):
    c = case["config"]
    hashes = [t == "hash_moe" for t in c["mlp_layer_types"]]
    is_prefix = hashes == sorted(hashes, reverse=True)
    return is_prefix and c["compress_rates"][HCA] != 4


def named_cases():
    out = {}

    def add(name, **changes):
        case = base_case()
        case["seed"] = 1000 + len(out)
        for k, v in changes.items():
            (
                case["config"]
                if k in case["config"] or k in ("norm_topk_prob", "pad_token_id", "partial_rotary_factor")
                else case
            )[k] = v
        if case["config"].get("qk_rope_head_dim") == "none":
            del case["config"]["qk_rope_head_dim"]
        n = case["config"]["num_hidden_layers"] = len(case["config"]["layer_types"])
        if len(case["config"]["mlp_layer_types"]) != n:
            case["config"]["mlp_layer_types"] = ["moe"] * n
        out[name] = case

    for t in (1, 3, 4, 5, 8, 9, 40, 64, 127, 128, 129, 300, 511, 512, 513, 1025):
        add(f"ci-{t}", T=t, max_position_embeddings=64)
    add("ci-few-heads", T=64, index_n_heads=2)
    add("ci-hash-zeros", mlp_layer_types=["hash_moe", "hash_moe"], tables="zeros")
    add("ci-hash-repeats", mlp_layer_types=["hash_moe", "moe"], tables="random")
    add("ci-hash-last", mlp_layer_types=["moe", "hash_moe"], tables="distinct")
    add(
        "nested-bases",
        layer_types=[SLIDE, CSA, HCA],
        compress_rates={CSA: 4, HCA: 8},
        rope_parameters=nested(base_case()["config"], yarn(), 50000.0, 1000000.0),
    )
    add(
        "nested-no-partial",
        layer_types=[SLIDE, CSA, HCA],
        compress_rates={CSA: 4, HCA: 8},
        rope_parameters=nested(base_case()["config"], yarn(), partial=False),
    )
    add("partial-only", layer_types=[SLIDE, CSA], qk_rope_head_dim="none", partial_rotary_factor=0.25)
    add("no-norm-topk", norm_topk_prob=False)
    for k in (1, 3, 15, 16, 17, 512):
        add(f"topk-{k}", T=64, layer_types=[CSA, CSA], index_topk=k)
    for hc in (1, 2, 3, 5, 8):
        for it in (1, 2, 50):
            add(
                f"hc-{hc}-{it}",
                hc_mult=hc,
                hc_sinkhorn_iters=it,
                hc_eps=1e-3,
                rms_norm_eps=1e-3,
                layer_types=[SLIDE, CSA, HCA],
                compress_rates={CSA: 4, HCA: 5},
            )
    for lim in (0.05, 1.0, 1e6):
        add(f"clamp-{lim:g}", swiglu_limit=lim, spread=1.5, layer_types=[SLIDE, HCA], compress_rates={CSA: 4, HCA: 8})
    for f, o, a, b in ((1, 64, 32, 1), (4, 8, 32, 1), (40, 64, 4, 1), (16, 128, 32, 1), (16, 65536, 32, 1), (16, 1, 32, 1)):
        add(
            f"yarn-{f}-{o}-{a}-{b}",
            layer_types=[SLIDE, CSA, HCA],
            compress_rates={CSA: 4, HCA: 8},
            rope_parameters=yarn(float(f), o, float(a), float(b)),
            T=129,
        )
    for form in ("fp8", "fp8 f32-scales", "fp8 bf16-experts", "fp4", "fp4 only"):
        for hidden, inner in ((64, 64), (130, 48), (257, 129)):
            add(
                f"{form} {hidden}".replace(" ", "-"),
                layout=form,
                hidden_size=hidden,
                moe_intermediate_size=inner,
                dtype="bfloat16",
                q_lora_rank=hidden + 3,
                layer_types=[SLIDE, CSA, HCA],
                compress_rates={CSA: 4, HCA: 8},
            )
    return out
