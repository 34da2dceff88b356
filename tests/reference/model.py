"""The forward pass of the specification (sections 2 to 6) in FP64, whole sequence, with every internal as a hook.

Two numerics. `exact`: no rounding at all. `reference`: the official late rounding steps. What `reference` does where the
specification leaves a choice:
- per-head query norm (3.2.3): FP64 arithmetic and one BF16 rounding, not the official chain of BF16 tensor operations;
- attention (3.6): p = bf16(exp(score - max over all real keys of the query)), not a running maximum per block of 64 keys;
- index weights (4.6.6): BF16 after weights_proj and again after the two scale factors;
- rotary angles are FP32, fl(t * fl(f)), as the official code, transformers and llama.cpp have them (`exact` takes FP64 unless told:
  past a thousand tokens the difference, 1e-4 rad, decides near-ties);
- Hadamard (4.6.3): one BF16 rounding at its end; -0 keeps its sign in FP8 and FP4;
- embedding rows are rounded to BF16 (a no-op for the official files); other weights are used as stored;
- every sum the specification keeps in FP32 (GEMM accumulators, Z, mixing, pooling, router, logits) is FP64 here.
All selections: highest first, ties to the lowest index.
"""

import numpy as np

import formats as fmt
from checkpoint import read_config, read_tensors


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1 + e)


def top(values, k):
    """indices of the k highest along the last axis, best first, ties to the lowest index"""
    return np.argsort(-values, axis=-1, kind="stable")[..., :k]


def rotate(x, position, frequencies, sign=1.0):
    """RoPE on the last 2*len(frequencies) dims, interleaved pairs (3.4); position broadcasts to x.shape[:-1]; the product that is the
    angle has the dtype of `frequencies`"""
    angle = np.asarray(position, frequencies.dtype)[..., None] * frequencies
    cos, sin = np.cos(angle.astype(np.float64)), sign * np.sin(angle.astype(np.float64))
    y, at = x.copy(), x.shape[-1] - 2 * len(frequencies)
    a, b = x[..., at::2], x[..., at + 1 :: 2]
    y[..., at::2], y[..., at + 1 :: 2] = a * cos - b * sin, a * sin + b * cos
    return y


def sinkhorn(z, iterations, eps):
    """2.2.4 on [..., n, n], rows j = from, columns k = to"""
    c = np.exp(z - z.max(-1, keepdims=True))
    c = c / c.sum(-1, keepdims=True) + eps
    c = c / (c.sum(-2, keepdims=True) + eps)
    for _ in range(iterations - 1):
        c = c / (c.sum(-1, keepdims=True) + eps)
        c = c / (c.sum(-2, keepdims=True) + eps)
    return c


class Model:
    def __init__(self, folder, numerics="exact", jitter=0.0, seed=0, fp32_angles=None):
        """jitter: relative noise before each BF16 rounding, to see what another summation order may change.
        fp32_angles: None = in `reference` only"""
        if numerics not in ("exact", "reference"):
            raise ValueError(f"numerics: {numerics}, expected exact or reference")
        self.config = read_config(folder)
        self.weights, self.packed = read_tensors(folder)
        self.reference = numerics == "reference"
        if self.reference if fp32_angles is None else fp32_angles:
            self.config.plain_rope = self.config.plain_rope.astype(np.float32)
            self.config.compress_rope = self.config.compress_rope.astype(np.float32)
        self.jitter, self.rng = jitter, np.random.default_rng(seed)
        size = self.config.index_head
        if self.reference and size & (size - 1):
            raise ValueError(f"index_head_dim: {size}, expected a power of two in `reference` numerics")

    # ---- numerics ----
    def bf16(self, x):
        if not self.reference:
            return x
        if self.jitter:
            x = x * (1 + self.jitter * self.rng.standard_normal(x.shape))
        return fmt.bf16(x)

    def linear(self, x, name):
        """BF16 out; input quantised 1x128 when the weight is FP8 or FP4 (3.8), except wo_a, which is not called through here"""
        if self.reference and name in self.packed:
            x = fmt.fake_fp8(x, 128)
        return self.bf16(x @ self.weights[name].T)

    def rms(self, x):
        return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + self.config.eps)

    def norm(self, x, name):
        return self.bf16(self.weights[name] * self.rms(x))

    def rope(self, x, position, frequencies, sign=1.0):
        y, r = rotate(x, position, frequencies, sign), 2 * len(frequencies)
        y[..., -r:] = self.bf16(y[..., -r:])
        return y

    def store_entry(self, x):
        """what a window or compressed entry reads back as (3.3.3, 4.4.3)"""
        u = x.shape[-1] - self.config.rope
        return np.concatenate([fmt.fake_fp8(x[..., :u], 64), x[..., u:]], -1) if self.reference else x

    # ---- residual streams ----
    def mix_factors(self, X, p):
        c, flat = self.config, X.reshape(len(X), -1)
        m = (flat @ self.weights[p + "_fn"].T) / np.sqrt(np.mean(flat * flat, -1, keepdims=True) + c.eps)
        return m, self.weights[p + "_base"], self.weights[p + "_scale"]

    def site(self, X, p, hook, H, sublayer):
        """2.2: one mHC site around `sublayer`"""
        c, n = self.config, self.config.streams
        m, base, scale = self.mix_factors(X, p)
        pre = sigmoid(m[:, :n] * scale[0] + base[:n]) + c.hc_eps
        post = 2 * sigmoid(m[:, n : 2 * n] * scale[1] + base[n : 2 * n])
        comb = sinkhorn((m[:, 2 * n :] * scale[2] + base[2 * n :]).reshape(-1, n, n), c.sinkhorn, c.hc_eps)
        u = self.bf16(np.einsum("tj,tjd->td", pre, X))
        F = sublayer(u)
        H.update(
            {f"{hook}.hook_pre": pre, f"{hook}.hook_post": post, f"{hook}.hook_comb": comb, f"{hook}.hook_out": u}
        )
        return F, self.bf16(post[:, :, None] * F[:, None, :] + np.einsum("tjk,tjd->tkd", comb, X))

    # ---- attention ----
    def pool(self, x, p, ratio, size):
        """4.1 to 4.3: pooled entries [S,D] before finishing, and the softmax weights [S,slots,D] (CSA: previous block first)"""
        n = len(x) // ratio
        content, score = x @ self.weights[p + ".wkv.weight"].T, x @ self.weights[p + ".wgate.weight"].T
        score = score + self.weights[p + ".ape"][np.arange(len(x)) % ratio]
        K = content[: n * ratio].reshape(n, ratio, -1)
        S = score[: n * ratio].reshape(n, ratio, -1)
        if ratio == 4:
            before_k = np.concatenate([np.zeros((min(n, 1), ratio, size)), K[:-1, :, :size]])
            before_s = np.concatenate([np.full((min(n, 1), ratio, size), -np.inf), S[:-1, :, :size]])
            K, S = np.concatenate([before_k, K[:, :, size:]], 1), np.concatenate([before_s, S[:, :, size:]], 1)
        a = np.exp(S - S.max(1, keepdims=True, initial=-np.inf))
        a = a / a.sum(1, keepdims=True)
        return (a * K).sum(1), a

    def compress(self, x, p, ratio, size):
        """4.4.1 and 4.4.2: finished entries before FP8 or Hadamard, and the pooling weights"""
        e, a = self.pool(x, p, ratio, size)
        e = self.norm(self.bf16(e), p + ".norm.weight")
        return self.rope(e, np.arange(len(e)) * ratio, self.config.compress_rope), a

    def index(self, x, qr, p, count, H):
        """4.6: scores [T,S] (-inf where not visible) and picks [T,k] (-1 = none)"""
        c, T = self.config, len(x)
        keys, _ = self.compress(x, p + ".compressor", 4, c.index_head)
        q = self.linear(qr, p + ".wq_b.weight").reshape(T, c.index_heads, c.index_head)
        q = self.rope(q, np.arange(T)[:, None], c.compress_rope)
        if self.reference:
            keys, q = self.bf16(fmt.hadamard(keys)), self.bf16(fmt.hadamard(q))
            H["attn.indexer.hook_key_raw"], H["attn.indexer.hook_key_bytes"] = keys, fmt.pack_index_key(keys)
            keys, q = fmt.fake_fp4(keys), fmt.fake_fp4(q)
        H["attn.indexer.hook_keys"] = keys
        w = self.bf16(x @ self.weights[p + ".weights_proj.weight"].T)
        w = self.bf16(w * (c.index_head**-0.5 * c.index_heads**-0.5))
        dots = np.maximum(self.bf16(np.einsum("thd,sd->ths", q, keys)), 0)
        scores = self.bf16(self.bf16(w[:, :, None] * dots).sum(1)) + 0.0  # -0 becomes 0
        scores = np.where(np.arange(len(keys)) < count[:, None], scores, -np.inf)
        picks = top(scores, min(c.index_topk, len(keys)))
        return scores, np.where(np.take_along_axis(scores, picks, 1) > -np.inf, picks, -1)

    def attention(self, x, p, ratio, H, forced):
        c, T, w = self.config, len(x), self.weights
        t, f = np.arange(T), self.config.compress_rope if ratio else self.config.plain_rope
        qr = self.norm(self.linear(x, p + ".wq_a.weight"), p + ".q_norm.weight")
        q = self.linear(qr, p + ".wq_b.weight").reshape(T, c.heads, c.head)
        q = self.rope(self.bf16(self.rms(q)), t[:, None], f)
        window = self.rope(self.norm(self.linear(x, p + ".wkv.weight"), p + ".kv_norm.weight"), t, f)
        H["attn.hook_window_raw"], keys = window, self.store_entry(window)
        visible = (t <= t[:, None]) & (t > t[:, None] - c.window)
        if ratio:
            entries, weights = self.compress(x, p + ".compressor", ratio, c.head)
            H["attn.compressor.hook_raw"], H["attn.compressor.hook_weights"] = entries, weights.mean(-1)
            entries = H["attn.compressor.hook_out"] = self.store_entry(entries)
            s, count = np.arange(len(entries)), (t + 1) // ratio
            seen = s < count[:, None]
            if ratio == 4:
                scores, picks = self.index(x, qr, p + ".indexer", count, H)
                picks = forced.get("attn.indexer.hook_topk", picks)
                H["attn.indexer.hook_scores"], H["attn.indexer.hook_topk"] = scores, picks
                seen = (picks[:, :, None] == s).any(1)
            keys, visible = np.concatenate([keys, entries]), np.concatenate([visible, seen], 1)
        if self.reference:
            H["attn.hook_window_bytes"] = fmt.pack_entry(window, c.rope)
            if ratio:
                H["attn.compressor.hook_bytes"] = fmt.pack_entry(H["attn.compressor.hook_raw"], c.rope)
        score = np.where(visible[:, None, :], np.einsum("thd,kd->thk", q, keys) * c.head**-0.5, -np.inf)
        top_score = score.max(-1, keepdims=True)
        P = np.exp(score - top_score)
        sink = np.exp(w[p + ".attn_sink"][:, None] - top_score)
        Z = P.sum(-1, keepdims=True) + sink
        H["attn.hook_shares_head"] = (
            np.concatenate([P[..., :T].sum(-1, keepdims=True), P[..., T:].sum(-1, keepdims=True), sink], -1) / Z
        )
        H["attn.hook_shares"] = H["attn.hook_shares_head"].mean(1)
        o = self.rope(self.bf16(np.einsum("thk,kd->thd", self.bf16(P), keys) / Z), t[:, None], f, -1.0)
        group = w[p + ".wo_a.weight"].reshape(c.groups, -1, c.heads // c.groups * c.head)
        y = self.bf16(np.einsum("tgi,goi->tgo", o.reshape(T, c.groups, -1), group))
        return self.linear(y.reshape(T, -1), p + ".wo_b.weight")

    # ---- mixture of experts ----
    def expert(self, x, p, weight):
        limit = self.config.limit
        g = np.minimum(self.linear(x, p + ".w1.weight"), limit)
        u = np.clip(self.linear(x, p + ".w3.weight"), -limit, limit)
        return self.linear(self.bf16(weight * (g * sigmoid(g) * u)), p + ".w2.weight")

    def moe(self, x, p, hashed, ids, H, forced):
        c, w = self.config, self.weights
        z = x @ w[p + ".gate.weight"].T
        s = np.sqrt(np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))))
        if hashed:
            chosen = w[p + ".gate.tid2eid"][ids]
        else:
            chosen = forced.get("mlp.hook_router_indices", top(s + w[p + ".gate.bias"], c.chosen))
        share = np.take_along_axis(s, chosen, 1)
        share = share / share.sum(1, keepdims=True) * c.route_scale
        H.update({"mlp.hook_router_logits": z, "mlp.hook_router_indices": chosen, "mlp.hook_router_weights": share})
        y = self.expert(x, p + ".shared_experts", 1.0)
        for e in range(c.experts):
            token, slot = np.nonzero(chosen == e)
            if len(token):
                np.add.at(y, token, self.expert(x[token], f"{p}.experts.{e}", share[token, slot][:, None]))
        return self.bf16(y)

    # ---- whole model ----
    def block(self, X, p, ratio, hashed, ids, forced):
        H = {}
        F, X = self.site(
            X,
            p + "hc_attn",
            "attn_hc",
            H,
            lambda u: self.attention(self.norm(u, p + "attn_norm.weight"), p + "attn", ratio, H, forced),
        )
        H["hook_attn_out"] = F
        F, X = self.site(
            X,
            p + "hc_ffn",
            "mlp_hc",
            H,
            lambda u: self.moe(self.norm(u, p + "ffn_norm.weight"), p + "ffn", hashed, ids, H, forced),
        )
        H["hook_mlp_out"], H["hook_out"] = F, X
        return X, H

    def head(self, X, p, norm):
        m, base, scale = self.mix_factors(X, p)
        pre = sigmoid(m * scale[0] + base) + self.config.hc_eps
        y = self.bf16(np.einsum("tj,tjd->td", pre, X))
        return self.norm(y, norm) @ self.weights["head.weight"].T

    def forward(self, ids, forced=None):
        """ids [T] -> (logits [T,V], {hook name: array}). forced: hook_topk or hook_router_indices to use instead of choosing."""
        ids, forced, c = np.asarray(ids), forced or {}, self.config
        X = np.repeat(self.bf16(self.weights["embed.weight"][ids])[:, None, :], c.streams, 1)
        hooks = {}
        for i in range(c.layers):
            b = f"blocks.{i}."
            here = {k.removeprefix(b): v for k, v in forced.items() if k.startswith(b)}
            X, H = self.block(X, f"layers.{i}.", c.ratios[i], c.hashed[i], ids, here)
            hooks.update({b + k: v for k, v in H.items()})
        return self.head(X, "hc_head", "norm.weight"), hooks

    def mtp(self, X, next_ids):
        """6: X [T,n,d] = streams after the last block at positions 0..T-1, next_ids = tokens 1..T -> logits for tokens 2..T+1"""
        p = "mtp.0."
        e = self.norm(self.bf16(self.weights["embed.weight"][np.asarray(next_ids)]), p + "enorm.weight")
        Z = self.linear(self.norm(X, p + "hnorm.weight"), p + "h_proj.weight")
        Z = self.bf16(self.linear(e, p + "e_proj.weight")[:, None, :] + Z)
        Z, H = self.block(Z, p, 0, False, np.asarray(next_ids), {})
        return self.head(Z, p + "hc_head", p + "norm.weight"), {f"mtp.0.{k}": v for k, v in H.items()}
