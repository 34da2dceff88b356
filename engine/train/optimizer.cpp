// Which weight is moved by what, and the optimizers' memory.
#include "engine/train/optimizer.h"

#include <algorithm>

#include "engine/ops/linear/copies.h"
#include "engine/ops/muon/muon.h"

namespace vitrine {
namespace {

bool has(const std::string& s, const char* part) { return s.find(part) != std::string::npos; }

Tensor rows(const Tensor& x, int64_t first, int64_t n) {
    auto* at = static_cast<std::byte*>(x.data) + first * x.dim(1) * static_cast<int64_t>(dtype_bits(x.dtype) / 8);
    return {at, x.dtype, {n, x.dim(1)}};
}

}  // namespace

MovedBy moved_by(const Leaf& leaf, OptimizerKind kind) {
    if (leaf.role == ParamRole::router_bias) return MovedBy::sign_rule;
    const bool is_matrix = leaf.role == ParamRole::matrix && leaf.param->shape.rank == 2;
    return kind == OptimizerKind::muon && is_matrix ? MovedBy::muon : MovedBy::adamw;
}

bool decays(const Leaf& leaf, DecayScope scope) {
    if (leaf.role == ParamRole::router_bias) return false;
    return scope == DecayScope::all || leaf.role == ParamRole::matrix || leaf.role == ParamRole::embedding ||
           leaf.role == ParamRole::head;
}

Optimizer::Optimizer(OptimizerKind kind, Masters& masters) : kind_(kind), masters_(masters) {
    const auto& leaves = masters.leaves();
    first_.resize(leaves.size()), second_.resize(leaves.size()), updates_.resize(leaves.size());
    for (const Leaf& l : leaves)
        if (const MovedBy by = moved_by(l, kind); by != MovedBy::sign_rule)
            bytes_ += aligned(tensor_bytes(l.gradient)) * (by == MovedBy::adamw ? 2 : 1);
    memory_ = masters.place().zeros(bytes_, "the optimizer");
    std::byte* at = memory_.get();
    for (size_t i = 0; i < leaves.size(); ++i) {
        const MovedBy by = moved_by(leaves[i], kind);
        if (by == MovedBy::sign_rule) continue;
        first_[i] = add_moment(by == MovedBy::adamw ? "mean/" : "momentum/", leaves[i], at);
        if (by == MovedBy::adamw) second_[i] = add_moment("square/", leaves[i], at);
    }
}

uint64_t Optimizer::aligned(uint64_t n_bytes) const {
    const uint64_t to = masters_.place().alignment();
    return (n_bytes + to - 1) / to * to;
}

Tensor Optimizer::add_moment(const char* kind, const Leaf& leaf, std::byte*& at) {
    const Tensor t{at, leaf.gradient.dtype, leaf.gradient.shape};
    at += aligned(tensor_bytes(t));
    moments_.push_back({kind + leaf.name, t});
    return t;
}

std::vector<UpdateSums> Optimizer::step(Ctx& ctx, const TrainConfig& c, double lr, double gradient_scale,
                                        const std::function<bool(size_t)>& is_active) {
    const auto& leaves = masters_.leaves();
    std::vector<AdamWSlice> slices;
    std::vector<MuonMatrix> matrices;
    std::vector<size_t> slice_leaf, matrix_leaf;
    for (size_t i = 0; i < leaves.size(); ++i) {
        const Leaf& l = leaves[i];
        const MovedBy by = moved_by(l, kind_);
        if (by == MovedBy::sign_rule || !is_active(i)) continue;
        ++updates_[i];
        const Tensor& w = l.param->master;
        if (by == MovedBy::adamw) {
            slices.push_back({w, l.gradient, first_[i], second_[i], decays(l, c.decay), updates_[i], l.param->bf16});
            slice_leaf.push_back(i);
            continue;
        }
        const int64_t n = w.dim(0) / l.n_matrices;
        for (int m = 0; m < l.n_matrices; ++m) {
            matrices.push_back({rows(w, m * n, n), rows(l.gradient, m * n, n), rows(first_[i], m * n, n)});
            matrix_leaf.push_back(i);
        }
    }
    std::vector<UpdateSums> sums(leaves.size());
    auto add = [&](size_t leaf, const UpdateSums& s) {
        sums[leaf].weight += s.weight, sums[leaf].update += s.update, sums[leaf].surprise += s.surprise;
        sums[leaf].count += s.count;
    };
    const auto by_adamw = adamw(ctx, {lr, c.beta1, c.beta2, c.eps, c.weight_decay, gradient_scale}, slices);
    for (size_t i = 0; i < slices.size(); ++i) add(slice_leaf[i], by_adamw[i]);
    const auto n_steps = static_cast<int>(c.muon_steps);
    const auto by_muon =
        muon(ctx, {lr, c.muon_momentum, c.weight_decay, c.muon_scale, n_steps, gradient_scale}, matrices);
    for (size_t i = 0; i < matrices.size(); ++i) add(matrix_leaf[i], by_muon[i]);
    if constexpr (kHasCuda) {
        std::vector<const Param*> copied;
        for (size_t i = 0; i < matrix_leaf.size(); ++i)
            if (const Param* p = leaves[matrix_leaf[i]].param; !p->bf16.empty() && (i == 0 || matrix_leaf[i] != matrix_leaf[i - 1]))
                copied.push_back(p);
        if (ctx.cuda) cuda::write_kept_copies(ctx, copied);
    }
    return sums;
}

void move_router_biases(Masters& masters, const std::vector<LayerLoad>& loads, int n_trunk_layers, double speed) {
    for (Leaf& l : masters.leaves()) {
        if (l.role != ParamRole::router_bias) continue;
        const int layer = layer_of(l.name, n_trunk_layers);
        if (layer < 0 || static_cast<size_t>(layer) >= loads.size()) continue;
        const std::vector<double>& chosen = loads[static_cast<size_t>(layer)].chosen;
        if (chosen.empty()) continue;
        VITRINE_ASSERT(static_cast<int64_t>(chosen.size()) == l.param->shape.count());
        double mean = 0;
        for (double n : chosen) mean += n;
        mean /= static_cast<double>(chosen.size());
        const Tensor& master = l.param->master;
        const HostBytes was = masters.place().read(master);
        with_real(master.dtype, [&](auto real) {
            using T = decltype(real);
            std::vector<T> bias(reinterpret_cast<const T*>(was.data), reinterpret_cast<const T*>(was.data) + chosen.size());
            for (size_t e = 0; e < chosen.size(); ++e) {
                const int sign = (mean > chosen[e]) - (mean < chosen[e]);
                bias[e] += static_cast<T>(speed * sign);
            }
            masters.place().write(master.data, bias.data(), bias.size() * sizeof(T));
        });
    }
}

int clip_query_projections(Masters& masters, const std::vector<HeadLogits>& logits, int n_trunk_layers, double top) {
    int n_clipped = 0;
    for (Leaf& l : masters.leaves()) {
        if (!l.name.ends_with(".attn.wq_b.weight")) continue;
        const int layer = layer_of(l.name, n_trunk_layers);
        const auto found = std::find_if(logits.begin(), logits.end(), [&](const HeadLogits& h) { return h.layer == layer; });
        if (found == logits.end()) continue;
        const auto n_heads = static_cast<int64_t>(found->largest.size()), per_head = l.param->shape.count() / n_heads;
        for (int64_t h = 0; h < n_heads; ++h) {
            const double largest = found->largest[static_cast<size_t>(h)];
            if (!(largest > top)) continue;
            ++n_clipped;
            with_real(l.param->master.dtype, [&](auto real) {
                using T = decltype(real);
                T* w = l.param->master.as<T>() + h * per_head;
                for (int64_t i = 0; i < per_head; ++i) w[i] *= static_cast<T>(top / largest);
            });
        }
    }
    return n_clipped;
}

const char* weight_group(const Leaf& leaf) {
    if (leaf.role == ParamRole::embedding) return "embedding";
    if (leaf.role == ParamRole::head) return "head";
    if (leaf.role == ParamRole::norm) return "norms";
    if (leaf.role == ParamRole::vector) return "vectors";
    const std::string& n = leaf.name;
    if (leaf.role == ParamRole::hyper_bias || has(n, "hc_")) return "hyper";
    if (has(n, "indexer.")) return "indexer";
    if (has(n, "compressor.")) return "compressor";
    if (has(n, "ffn.gate")) return "router";
    if (has(n, "ffn.")) return "experts";
    return has(n, "attn.") ? "attention" : "mtp";
}

int layer_of(const std::string& name, int n_trunk_layers) {
    const bool is_mtp = name.starts_with("mtp.");
    if (!is_mtp && !name.starts_with("layers.")) return -1;
    const int n = std::stoi(name.substr(is_mtp ? 4 : 7));
    return is_mtp ? n_trunk_layers + n : n;
}

}  // namespace vitrine
