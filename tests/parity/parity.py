#!/usr/bin/env python3
"""Random small DeepSeek-V4 checkpoints through transformers and through `vitrine`; see README.md.

parity.py run [--cases N] [--seed S] [--only forward,train,chat]   random cases
parity.py one CASE.json                                            one case again (what `run` printed for a failure)
parity.py list                                                     the hand-written cases, by name; parity.py named [NAME ...] runs them
"""

import argparse, copy, json, os, random, shutil, subprocess, sys, time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
import numpy as np
import torch
import transformers
from safetensors.numpy import load_file
from safetensors.torch import save_file
from transformers import DeepseekV4Config, DeepseekV4ForCausalLM
from transformers.models.deepseek_v4 import modeling_deepseek_v4 as modeling

from cases import CSA, HCA, SLIDE, named_cases, random_case

LOGIT_BOUND, GAP, GRAD_BOUND, LOSS_BOUND = 1e-3, 1e-5, 1e-3, 1e-4
PROGRAM = os.environ.get("VITRINE", "build/release/bin/vitrine")
TOKENIZER = os.environ.get("PARITY_TOKENIZER", "assets/models/seedling")
WORK = os.environ.get("PARITY_WORK", "/tmp/vitrine-parity")

transformers.logging.disable_progress_bar()
torch.set_num_threads(1)
plain_topk = torch.Tensor.topk


def stable_topk(x, k, dim=-1, largest=True, sorted=True, **_):
    """exact ties go to the lower index, as the specification has it; torch leaves them open"""
    values, indices = torch.sort(x, dim=dim, descending=True, stable=True)
    return torch.return_types.topk((values.narrow(dim, 0, k), indices.narrow(dim, 0, k)))


torch.topk = stable_topk
torch.Tensor.topk = stable_topk


plain_float = torch.Tensor.float


class Double:
    """transformers casts to FP32 in its norms, softmaxes and mixing; inside this, to FP64"""

    class Torch:
        float32 = float = torch.float64

        def __getattr__(self, name):
            return getattr(torch, name)

    def __enter__(self):
        modeling.torch, torch.Tensor.float = self.Torch(), torch.Tensor.double

    def __exit__(self, *_):
        modeling.torch, torch.Tensor.float = torch, plain_float


# ---- transformers -----------------------------------------------------------------------------------------------------------


def make_model(case):
    config = DeepseekV4Config(**{k: copy.deepcopy(v) for k, v in case["config"].items() if v is not None})
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"  # the grouped ones take no FP64
    g = torch.Generator().manual_seed(case["seed"])
    model = DeepseekV4ForCausalLM(config).float().eval()

    def noise(p, scale, centre=0.0):
        p.copy_(centre + scale * torch.randn(p.shape, generator=g))

    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("norm.weight"):
                noise(p, 0.2, 1.0)
            elif name.endswith("scale"):
                noise(p, 0.3, 0.8)
            elif name.endswith(("base", "sinks")):
                noise(p, 1.0)
            elif name.endswith("position_bias"):
                noise(p, 0.5)
            elif name.endswith("embed_tokens.weight"):
                noise(p, 1.0)
            else:
                noise(p, case["spread"] * p.shape[-1] ** -0.5)
        for name, b in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                noise(b, case["bias"])
            if name.endswith("tid2eid"):
                e = case["config"]["n_routed_experts"]
                if case["tables"] == "random":
                    b.copy_(torch.randint(0, e, b.shape, generator=g))
                elif case["tables"] == "distinct":
                    b.copy_(torch.stack([torch.randperm(e, generator=g)[: b.shape[1]] for _ in range(b.shape[0])]))
        dtype = getattr(torch, case["dtype"])
        for t in list(model.parameters()) + list(model.buffers()):
            if t.is_floating_point() and not any(t is b for n, b in model.named_buffers() if "inv_freq" in n):
                t.copy_(t.to(dtype).float())
    return model


def token_ids(case):
    return random.Random(case["seed"] * 7 + 1).choices(range(case["config"]["vocab_size"]), k=case["T"])


def stored(case, tensors):
    dtype = getattr(torch, case["dtype"])
    return {
        k: (v.to(dtype) if v.is_floating_point() and v.element_size() > 1 and not k.endswith(".scale") else v)
        .contiguous()
        .clone()
        for k, v in tensors.items()
    }


def official_names(tensors):
    """from transformers' module names to the published ones"""
    table = [
        ("model.", ""),
        ("embed_tokens.", "embed."),
        ("lm_head.", "head."),
        ("hc_head.hc_", "hc_head_"),
        (".self_attn.compressor.indexer.scorer.", ".attn.indexer."),
        (".self_attn.compressor.indexer.q_b_proj", ".attn.indexer.wq_b"),
        (".self_attn.compressor.indexer.", ".attn.indexer.compressor."),
        (".self_attn.", ".attn."),
        (".mlp.", ".ffn."),
        ("compressor.kv_norm", "compressor.norm"),
        ("compressor.kv_proj", "compressor.wkv"),
        ("gate_proj", "GATE"),
        ("compressor.GATE", "compressor.wgate"),
        ("position_bias", "ape"),
        ("shared_experts.GATE", "shared_experts.w1"),
        ("shared_experts.up_proj", "shared_experts.w3"),
        ("shared_experts.down_proj", "shared_experts.w2"),
        ("q_a_proj", "wq_a"),
        ("q_a_norm", "q_norm"),
        ("q_b_proj", "wq_b"),
        ("attn.kv_proj", "attn.wkv"),
        ("o_a_proj", "wo_a"),
        ("o_b_proj", "wo_b"),
        ("sinks", "attn_sink"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("attn_hc.", "hc_attn_"),
        ("ffn_hc.", "hc_ffn_"),
        ("e_score_correction_bias", "bias"),
    ]
    out = {}
    for name, t in tensors.items():
        for a, b in table:
            name = name.replace(a, b)
        if name.endswith("experts.gate_up_proj"):
            half = t.shape[1] // 2
            for e in range(t.shape[0]):
                out[name.replace("gate_up_proj", f"{e}.w1.weight")] = t[e, :half]
                out[name.replace("gate_up_proj", f"{e}.w3.weight")] = t[e, half:]
        elif name.endswith("experts.down_proj"):
            for e in range(t.shape[0]):
                out[name.replace("down_proj", f"{e}.w2.weight")] = t[e]
        else:
            out[name] = t
    return out


def official_config(case):
    c = case["config"]
    rates = {CSA: 4, HCA: c["compress_rates"][HCA], SLIDE: 0}
    out = {
        k: c[k]
        for k in c
        if k not in ("layer_types", "mlp_layer_types", "compress_rates", "rope_parameters") and c[k] is not None
    }
    p = c["rope_parameters"] or {}
    if "main" in p:
        out["rope_theta"], out["compress_rope_theta"] = p["main"]["rope_theta"], p["compress"]["rope_theta"]
        p = p["compress"]
    hashed = sum(t == "hash_moe" for t in c["mlp_layer_types"])
    out["rope_scaling"] = None
    if p.get("rope_type") == "yarn":
        out["rope_scaling"] = {
            "type": "yarn",
            **{k: p[k] for k in ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow")},
        }
    out.update(
        architectures=["DeepseekV4ForCausalLM"],
        model_type="deepseek_v4",
        compress_ratios=[rates[t] for t in c["layer_types"]],
        num_hash_layers=hashed + (case["seed"] % 2 if hashed == c["num_hidden_layers"] else 0),  # a cut model keeps its number
        scoring_func="sqrtsoftplus",
        topk_method="noaux_tc",
        hidden_act="silu",
        attention_bias=False,
        tie_word_embeddings=False,
        norm_topk_prob=c.get("norm_topk_prob", True),
        torch_dtype=case["dtype"],
        expert_dtype=None,
    )
    out.pop("expert_dtype")
    return out


E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6])
QUANTISED = (
    ".wq_a.weight",
    ".wq_b.weight",
    ".attn.wkv.weight",
    ".wo_a.weight",
    ".wo_b.weight",
    ".w1.weight",
    ".w2.weight",
    ".w3.weight",
)


def powers_of_two(x):
    return torch.exp2(torch.ceil(torch.log2(x.clamp(min=2.0**-40))))


def quantised(case, tensors):
    """The published number formats; what they round to is written back into `tensors`, so into the model they are views of."""
    form, out = case["layout"], {}
    for name, w in tensors.items():
        is_expert = ".experts." in name
        if not name.endswith(QUANTISED) or (is_expert and form == "fp8 bf16-experts") or (not is_expert and form == "fp4 only"):
            out[name] = w
            continue
        if is_expert and form.startswith("fp4") and w.shape[1] % 2 == 0:
            k = w.shape[1]
            pad = torch.nn.functional.pad(w, (0, -k % 32)).view(w.shape[0], -1, 32)
            scale = powers_of_two(pad.abs().amax(2) / 6)
            x = (pad / scale[..., None]).flatten(1)[:, :k]
            code = (x.abs()[..., None] - E2M1).abs().argmin(-1)
            value = E2M1[code] * x.sign() * scale.repeat_interleave(32, 1)[:, :k]
            nibble = (code + 8 * (x < 0)).to(torch.uint8)
            out[name] = (nibble[:, ::2] | (nibble[:, 1::2] << 4)).view(torch.int8)
        else:
            rows, columns = -(-w.shape[0] // 128), -(-w.shape[1] // 128)
            scale = torch.empty(rows, columns)
            for i in range(rows):
                for j in range(columns):
                    scale[i, j] = w[128 * i : 128 * i + 128, 128 * j : 128 * j + 128].abs().max() / 448
            if form != "fp8 f32-scales":
                scale = powers_of_two(scale)
            grid = scale.repeat_interleave(128, 0)[: w.shape[0]].repeat_interleave(128, 1)[:, : w.shape[1]]
            out[name] = (w / grid).to(torch.float8_e4m3fn)
            value = out[name].float() * grid
        out[name.replace(".weight", ".scale")] = scale if form == "fp8 f32-scales" else scale.to(torch.float8_e8m0fnu)
        w.copy_(value)
    return out


def save(case, model, folder):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    state = {k: v for k, v in model.state_dict().items()}
    if case["layout"] == "saved":
        m = copy.deepcopy(model).to(getattr(torch, case["dtype"]))
        m.save_pretrained(folder, max_shard_size=random.Random(case["seed"]).choice(["40KB", "1GB"]))
    elif case["layout"] == "modules":
        model.config.save_pretrained(folder)
        save_file(stored(case, state), folder + "/model.safetensors", {"format": "pt"})
    else:
        config, tensors = official_config(case), official_names(state)
        if case["layout"] != "official":
            config["expert_dtype"] = "fp4" if case["layout"].startswith("fp4") else "fp8"
            config["quantization_config"] = {
                "quant_method": "fp8",
                "fmt": "e4m3",
                "scale_fmt": "ue8m0",
                "weight_block_size": [128, 128],
                "activation_scheme": "dynamic",
            }
            with torch.no_grad():
                tensors = quantised(case, tensors)
        json.dump(config, open(folder + "/config.json", "w"), indent=1)
        save_file(stored(case, tensors), folder + "/model.safetensors", {"format": "pt"})


def reference(model, ids):
    got, handles = {}, []

    def keep(name, f):
        return lambda _m, _i, out: got.__setitem__(name, f(out).detach())

    for i, layer in enumerate(model.model.layers):
        at = f"blocks.{i}."
        hook = lambda m, name, f: handles.append(m.register_forward_hook(keep(at + name, f)))
        hook(layer, "hook_out", lambda o: (o[0] if isinstance(o, tuple) else o)[0])
        for m, name in ((layer.attn_hc, "attn_hc."), (layer.ffn_hc, "mlp_hc.")):
            hook(m, name + "hook_post", lambda o: o[0][0])
            hook(m, name + "hook_comb", lambda o: o[1][0])
            hook(m, name + "hook_out", lambda o: o[2][0])
        hook(layer.self_attn, "hook_attn_out", lambda o: o[0][0])
        hook(layer.mlp, "hook_mlp_out", lambda o: (o[0] if isinstance(o, tuple) else o)[0])
        if layer.self_attn.compressor is not None:
            hook(layer.self_attn.compressor, "attn.compressor.hook_out", lambda o: o[0][0, 0])
            if hasattr(layer.self_attn.compressor, "indexer"):
                hook(layer.self_attn.compressor.indexer, "attn.indexer.hook_topk", lambda o: o[0])
                hook(layer.self_attn.compressor.indexer.scorer, "attn.indexer.hook_scores", lambda o: o[0])
        hook(layer.mlp.gate, "mlp.hook_router_logits", lambda o: o[0])
        hook(layer.mlp.gate, "mlp.hook_router_weights", lambda o: o[1])
        hook(layer.mlp.gate, "mlp.hook_router_indices", lambda o: o[2])
    with torch.no_grad():
        got["logits"] = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    for h in handles:
        h.remove()
    return {k: v.double().numpy() if v.is_floating_point() else v.numpy() for k, v in got.items()}


# ---- comparing --------------------------------------------------------------------------------------------------------------


class Failure(Exception):
    pass


def program(*args, stdin=None):
    p = subprocess.run([PROGRAM, *args], capture_output=True, text=True, input=stdin)
    if p.returncode:
        raise Failure(f"exit {p.returncode}: {' '.join(args)}\n{p.stderr.strip()[:1500]}")
    return p.stdout


def dense(indices, weights, n):
    out = np.zeros((len(indices), n))
    for j in range(indices.shape[1]):
        np.add.at(out, (np.arange(len(indices)), indices[:, j]), weights[:, j])
    return out


def gap_at(scores, k):
    """relative gap between the k-th and the next of one row"""
    s = np.sort(scores)[::-1]
    if k >= len(s) or not np.isfinite(s[k]):
        return np.inf
    return (s[k - 1] - s[k]) / max(abs(s[k - 1]), abs(s[k]), 1e-30)


def compare_forward(case, model, ref, ours, worst):
    """the first token at which a near-tie decided otherwise bounds what is compared afterwards; returns how many such there were"""
    c, n_ties = case["config"], 0
    T = case["T"]
    until = T  # tokens before this one are comparable

    def near(name, a, b, bound=LOGIT_BOUND):
        if a.shape != b.shape:
            raise Failure(f"{name}: shape {list(b.shape)}, expected {list(a.shape)}")
        if a.size == 0:
            return
        if not np.isfinite(b).all() and np.isfinite(a).all():
            raise Failure(f"{name}: not finite")
        scale = max(1.0, float(np.abs(a).max()))
        d = np.abs(a - b).reshape(len(a), -1).max(1) / (1.0 if name == "logits" else scale)
        kind = name.split(".", 2)[-1]
        worst[kind] = max(worst.get(kind, 0), float(d.max()))
        if d.max() > bound:
            raise Failure(
                f"{name}: off by {d.max():.3e} at row {int(d.argmax())} (first row over the bound {int((d > bound).argmax())} of {len(d)})"
            )

    def want(name):
        if name not in ours:
            raise Failure(f"{name}: missing")
        return ours[name]

    n = c["num_hidden_layers"]
    for i in range(n):
        at, kind = f"blocks.{i}.", c["layer_types"][i]
        for h in ("attn_hc.hook_out", "attn_hc.hook_post", "attn_hc.hook_comb"):
            near(at + h, ref[at + h][:until], want(at + h)[:until])
        if kind != SLIDE:
            ratio = 4 if kind == CSA else c["compress_rates"][HCA]
            a, b = ref[at + "attn.compressor.hook_out"], want(at + "attn.compressor.hook_out")
            if a.shape != b.shape:
                raise Failure(f"{at}attn.compressor.hook_out: shape {list(b.shape)}, expected {list(a.shape)}")
            near(at + "attn.compressor.hook_out", a[: until // ratio], b[: until // ratio])
        if kind == CSA:
            a, b = ref[at + "attn.indexer.hook_topk"], want(at + "attn.indexer.hook_topk")
            if b.shape[1] != min(c["index_topk"], T // 4) and b.shape[1] != c["index_topk"]:
                raise Failure(f"{at}hook_topk: shape {list(b.shape)}, expected {list(a.shape)}")
            for t in range(until):
                if set(a[t][a[t] >= 0]) == set(b[t][b[t] >= 0]):
                    continue
                g = gap_at(ref[at + "attn.indexer.hook_scores"][t, : (t + 1) // 4], c["index_topk"])
                if g > GAP:
                    raise Failure(f"{at}hook_topk at {t}: {sorted(b[t])} expected {sorted(a[t])}, gap {g:.2e}")
                n_ties, until = n_ties + 1, t
                break
        for h in ("hook_attn_out", "mlp_hc.hook_out", "mlp_hc.hook_post", "mlp_hc.hook_comb", "mlp.hook_router_logits"):
            near(at + h, ref[at + h][:until], want(at + h)[:until])
        a, b = ref[at + "mlp.hook_router_indices"], want(at + "mlp.hook_router_indices")
        if a.shape != b.shape:
            raise Failure(f"{at}hook_router_indices: shape {list(b.shape)}, expected {list(a.shape)}")
        if c["mlp_layer_types"][i] == "moe":
            bias = model.model.layers[i].mlp.gate.e_score_correction_bias.double().numpy()
        for t in range(until):
            if sorted(a[t]) == sorted(b[t]):
                continue
            if c["mlp_layer_types"][i] == "hash_moe":
                raise Failure(f"{at}hook_router_indices at {t}: {b[t]} expected {a[t]}")
            s = np.sqrt(np.logaddexp(0, ref[at + "mlp.hook_router_logits"][t])) + bias
            g = gap_at(s, c["num_experts_per_tok"])
            if g > GAP:
                raise Failure(f"{at}hook_router_indices at {t}: {b[t]} expected {a[t]}, gap {g:.2e}")
            n_ties, until = n_ties + 1, t
            break
        e = c["n_routed_experts"]
        near(
            at + "mlp.hook_router_weights",
            dense(a[:until], ref[at + "mlp.hook_router_weights"][:until], e),
            dense(b[:until], want(at + "mlp.hook_router_weights")[:until], e),
        )
        for h in ("hook_mlp_out", "hook_out"):
            near(at + h, ref[at + h][:until], want(at + h)[:until])
    near("logits", ref["logits"][:until], want("logits")[:until])
    if until < T and want("logits").shape != ref["logits"].shape:
        raise Failure("logits: shape")
    return n_ties


def dump(case, folder, ids, *more):
    with open(folder + "/ids.json", "w") as f:
        json.dump(ids, f)
    out = folder + "/dump.safetensors"
    program("dump", "-m", folder, "--tokens", folder + "/ids.json", "--numerics", "exact", "--out", out, "-t", "2", *more)
    return load_file(out)


def check_forward(case, model, folder, worst):
    ids = token_ids(case)
    ref = reference(model, ids)
    ours = dump(case, folder, ids)
    try:
        return compare_forward(
            case, model, ref, {k: v.astype(np.float64) if v.dtype.kind == "f" else v for k, v in ours.items()}, worst
        )
    except Failure as e:
        with Double():
            exact = reference(copy.deepcopy(model).double(), ids)  # is it only rounding that this model amplifies?
        wobble = float(np.abs(exact["logits"] - ref["logits"]).max())
        raise Failure(f"{e} (transformers in FP64 and FP32 differ by {wobble:.1e} in logits)")


def gradient_groups(model, layout):
    named = {n: (p.grad if p.grad is not None else torch.zeros_like(p)) for n, p in model.named_parameters()}
    return named if layout == "modules" else official_names(named)


def canonical(name):
    """a file's name, as `official_names` gives it; save_pretrained's own spellings included"""
    name = name.removeprefix("model.").replace("embed_tokens", "embed").replace("hc_head.hc_", "hc_head_")
    name = name.replace(".attn.norm.weight", ".attn.kv_norm.weight")
    return name


def compare_gradients(case, got, want, worst):
    seen, bad = set(), []
    for name, g in got.items():
        if name == "loss":
            continue
        key = name if case["layout"] == "modules" else canonical(name)
        if key not in want:
            raise Failure(f"gradient of {name}: no such parameter in transformers")
        a, b = want[key].detach().double().numpy(), g.astype(np.float64)
        seen.add(key)
        if a.shape != b.shape:
            raise Failure(f"gradient of {name}: shape {list(b.shape)}, expected {list(a.shape)}")
        r = np.linalg.norm(a - b) / max(np.linalg.norm(a), 1e-8 * np.sqrt(a.size))
        if "indexer" in name and not np.any(a):
            if np.any(b):
                raise Failure(f"gradient of {name} is not zero")
            continue
        if r > GRAD_BOUND:
            bad.append(f"{name}: {r:.2e} (norm {np.linalg.norm(a):.2e})")
        else:
            worst["gradient"] = max(worst.get("gradient", 0), r)
    if missing := [k for k in want if k not in seen]:
        raise Failure(f"no gradient of {missing[:5]}")
    return bad


def check_train(case, model, folder, worst):
    ids = token_ids(case)
    m = copy.deepcopy(model)
    x = torch.tensor([ids])
    c = case["config"]

    def loss_of(net):
        logits = net(input_ids=x, use_cache=False).logits[0, :-1]
        return torch.nn.functional.cross_entropy(logits, x[0, 1:])

    loss = loss_of(m)
    loss.backward()
    loss = float(loss.detach())
    got = dump(case, folder, ids, "--gradients")
    d = abs(float(got["loss"].reshape(-1)[0]) - loss)
    worst["first loss"] = max(worst.get("first loss", 0), d)
    if d > LOSS_BOUND:
        raise Failure(f"loss {float(got['loss'].reshape(-1)[0])}, expected {loss}")
    bad = compare_gradients(case, got, gradient_groups(m, case["layout"]), worst)
    if bad:  # FP32 leaves nothing of a gradient that all but cancels: is it the same one in FP64?
        exact = copy.deepcopy(model).double()
        with Double():
            loss_of(exact).backward()
        truth = gradient_groups(exact, case["layout"])
        mine = {}
        still = compare_gradients(case, dump(case, folder, ids, "--gradients", "--dtype", "f64"), truth, mine)
        theirs = compare_gradients(
            case, {k: v.detach().numpy() for k, v in gradient_groups(m, case["layout"]).items()}, truth, {}
        )
        ours = compare_gradients(case, got, truth, {})
        show = lambda x: "; ".join(x[:4]) or "none"
        if still:
            raise Failure(
                f"gradients: {show(bad)} ({len(bad)} of {len(got)}); over the bound against FP64: ours {show(ours)}, "
                f"transformers' {show(theirs)}, ours in FP64 {show(still)}"
            )
        worst["noisy gradients"] = worst.get("noisy gradients", 0) + len(bad)

    def ten_losses(net):
        opt = torch.optim.AdamW(
            [p for p in net.parameters() if p.requires_grad], lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1
        )
        losses = []
        for _ in range(10):
            opt.zero_grad()
            loss = loss_of(net)
            losses.append(float(loss.detach()))
            loss.backward()
            opt.step()
        return losses

    def my_losses(*more):
        sets = (
            "optimizer=adamw lr=1e-3 beta1=0.9 beta2=0.95 eps=1e-8 weight_decay=0.1 decay=all schedule=constant clip=0".split()
        )
        text = program(
            "train",
            "--from",
            folder,
            "--tokens",
            folder + "/ids.json",
            "--steps",
            "10",
            "-t",
            "2",
            *more,
            *sum((["--set", s] for s in sets), []),
        )
        return [json.loads(line)["loss"] for line in text.splitlines() if line.startswith("{")]

    losses, mine = ten_losses(m), my_losses()
    if len(mine) != 10:
        raise Failure(f"{len(mine)} losses")
    d = np.abs(np.array(mine) - losses)
    if d.max() > LOSS_BOUND:
        exact = copy.deepcopy(model).double()
        with Double():
            truth = ten_losses(exact)
        mine64 = my_losses("--dtype", "f64")
        d64 = np.abs(np.array(mine64) - truth)
        if d64.max() > LOSS_BOUND / 10:
            raise Failure(
                f"losses {mine} expected {losses}: off by {d.max():.2e} at step {int(d.argmax())}; in FP64 by {d64.max():.2e} at step "
                f"{int(d64.argmax())}; transformers' FP32 and FP64 by {np.abs(np.array(losses) - truth).max():.2e}"
            )
        worst["noisy losses"] = worst.get("noisy losses", 0) + 1
        worst["noisy losses in FP64"] = float(d64.max())
    else:
        worst["ten losses"] = max(worst.get("ten losses", 0), float(d.max()))


def check_chat(case, folder, worst):
    """greedy tokens, ours decoded one by one after a prompt, against transformers' whole sequence"""
    case = copy.deepcopy(case)
    case["config"].update(vocab_size=272, max_position_embeddings=4096)
    model = make_model(case)
    save(case, model, folder)
    for f in ("tokenizer.json", "chat.json"):
        shutil.copy(f"{TOKENIZER}/{f}", folder)
    r = random.Random(case["seed"])
    prompt = "".join(r.choice("abc xyz0123é中\n") for _ in range(r.choice([1, 5, 30, 200])))
    out = json.loads(
        program(
            "chat",
            "-m",
            folder,
            "-p",
            "x" + prompt,
            "--json",
            "--temp",
            "0",
            "-n",
            "80",
            "-t",
            "2",
            "--numerics",
            "exact",
            "--mode",
            r.choice(["non-think", "high"]),
        )
    )
    ids, mine = out["prompt_ids"], out["output_ids"]
    with torch.no_grad():  # whole: transformers' cache goes wrong with a window of one token
        logits = model(input_ids=torch.tensor([ids + mine[:-1]]), use_cache=False).logits[0, len(ids) - 1 :]
    for k, have in enumerate(mine):
        best = int(logits[k].argmax())
        if best != have:
            g = float(logits[k][best] - logits[k][have])
            if g > LOGIT_BOUND:
                raise Failure(f"chat: token {k} is {have}, expected {best}: {g:.2e} lower; {len(ids)} in the prompt")
            return 1
    worst["chat tokens"] = worst.get("chat tokens", 0) + len(mine)
    return 0


def run_case(case, what, worst):
    folder = f"{WORK}/{os.getpid()}"
    if what == ["chat"]:
        return check_chat(case, folder, worst)
    model = make_model(case)
    save(case, model, folder)
    ties = 0
    if "forward" in what:
        ties = check_forward(case, model, folder, worst)
    if "train" in what and 2 <= case["T"] <= 300:
        check_train(case, model, folder, worst)
    return ties


def main():
    p = argparse.ArgumentParser()
    p.add_argument("command", choices=["run", "one", "list", "named"])
    p.add_argument("names", nargs="*")
    p.add_argument("--cases", type=int, default=100)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--only", default="forward,train")
    p.add_argument("--train-every", type=int, default=4)
    p.add_argument("--until", help="HH:MM, stops then")
    a = p.parse_args()
    what = a.only.split(",")
    if a.command == "list":
        return print("\n".join(named_cases()))
    if a.command == "run":
        todo = [(str(s), random_case(s)) for s in range(a.seed, a.seed + a.cases)]
    elif a.command == "named":
        todo = [(k, v) for k, v in named_cases().items() if not a.names or k in a.names]
    else:
        todo = [(f, json.load(open(f))) for f in a.names]
    worst, failed, ties, done, refused = {}, 0, 0, 0, 0
    for i, (name, case) in enumerate(todo):
        if a.until and time.strftime("%H:%M") >= a.until:
            break
        do = what if a.command != "run" or i % a.train_every == 0 else [w for w in what if w != "train"]
        mine = {}
        try:
            t = run_case(case, do, mine)
            ties += t
        except Failure as e:
            failed += 1
            print(f"FAIL {name}: {e}\n   {json.dumps(case)}", flush=True)
        except Exception as e:  # transformers refused the configuration
            refused += 1
            print(f"SKIP {name}: {type(e).__name__}: {str(e)[:300]}", flush=True)
        else:
            for k, v in mine.items():
                if v > worst.get(k, (0, ""))[0]:
                    worst[k] = (v, name)
        done += 1
        if done % 50 == 0:
            print(f"{done} cases", file=sys.stderr, flush=True)
    print(f"{done} cases, {failed} failed, {refused} skipped, {ties} near-ties")
    for k, (v, name) in sorted(worst.items()):
        print(f"  {k:32} {v:.2e}  {name}")
    shutil.rmtree(f"{WORK}/{os.getpid()}", ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
