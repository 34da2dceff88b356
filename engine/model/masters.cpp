// Trainable weights: one allocation for masters, then one for gradients, in the order of the list of roles.
#include "engine/model/masters.h"

#include <algorithm>
#include <utility>

#include "engine/model/roles.h"
#include "engine/ops/linear/copies.h"

namespace vitrine {
namespace {

bool ends_with(const std::string& s, const char* tail) { return s.ends_with(tail); }

ParamRole role_of(const std::string& name) {
    if (name == "embed.weight") return ParamRole::embedding;
    if (name == "head.weight") return ParamRole::head;
    if (ends_with(name, "gate.bias")) return ParamRole::router_bias;
    if (ends_with(name, "norm.weight")) return ParamRole::norm;  // attn_norm, q_norm, enorm, compressor.norm, ...
    if (ends_with(name, "_base") || ends_with(name, "_scale") || name.find("hc_head") != std::string::npos)
        return ParamRole::hyper_bias;
    if (ends_with(name, "attn_sink") || ends_with(name, ".ape")) return ParamRole::vector;
    return ParamRole::matrix;
}

}  // namespace

const char* param_role_name(ParamRole r) {
    static constexpr const char* kNames[] = {"embedding", "head", "matrix", "norm", "hyper_bias", "vector", "router_bias"};
    return kNames[static_cast<int>(r)];
}

Masters::Masters(ModelWeights& weights, const ModelConfig& config, DType dtype, const Place& place, bool keeps_bf16)
    : place_(place), dtype_(dtype) {
    VITRINE_ASSERT(dtype == DType::f32 || (dtype == DType::f64 && !place.gpu()));
    const uint64_t item = dtype_bits(dtype) / 8;
    const auto aligned = [&](uint64_t n) { return (n + place_.alignment() - 1) / place_.alignment() * place_.alignment(); };
    auto visit = [&](const std::string& name, Param& p, const Shape& shape, Storage storage) {
        if (p.empty()) return;
        if (storage == Storage::table) return move_table(p);
        const int groups = ends_with(name, "attn.wo_a.weight") ? config.o_groups : 1;
        leaves_.push_back({name, &p, role_of(name), groups, {}});
        master_bytes_ += aligned(static_cast<uint64_t>(shape.count()) * item);
    };
    const size_t n_mtp = weights.mtp.size();
    trunk_roles(weights, config, visit);
    if (n_mtp > 0) mtp_roles(weights, config, visit);
    for (const Leaf& l : leaves_)
        if (l.role != ParamRole::router_bias) gradient_bytes_ += aligned(static_cast<uint64_t>(l.param->shape.count()) * item);
    memory_ = place_.zeros(master_bytes_ + gradient_bytes_, "master weights and gradients");
    std::byte* at = memory_.get();
    gradients_ = at + master_bytes_;
    std::byte* next_gradient = gradients_;
    for (Leaf& l : leaves_) {
        Param& p = *l.param;
        const Tensor master{at, dtype, p.shape};
        if (p.view.dtype == dtype) place_.write(master.data, p.view.data, tensor_bytes(master));
        else write_widened(p, master);
        p.master = master;
        p.view = {master.data, nullptr, dtype, DType::f8_e8m0, p.view.out, p.view.in, 0, 0};
        p.owner = memory_;
        const uint64_t bytes = aligned(static_cast<uint64_t>(p.shape.count()) * item);
        at += bytes;
        if (l.role == ParamRole::router_bias) continue;
        l.gradient = {next_gradient, dtype, p.shape};
        next_gradient += bytes;
    }
    if (keeps_bf16 && place_.gpu()) place_copies();
}

// At half the distances of the masters.
void Masters::place_copies() {
    copies_ = place_.zeros(master_bytes_ / 2, "BF16 copies of the weights");
    for (Leaf& l : leaves_) {
        Param& p = *l.param;
        if ((l.role != ParamRole::matrix && l.role != ParamRole::head) || p.shape.rank != 2) continue;
        p.bf16 = {copies_.get() + (static_cast<std::byte*>(p.master.data) - memory_.get()) / 2, DType::bf16, p.shape};
    }
    is_stale_ = true;
}

void Masters::refresh(Ctx& ctx) {
    if (!copies_ || !std::exchange(is_stale_, false)) return;
    std::vector<const Param*> params;
    for (const Leaf& l : leaves_)
        if (!l.param->bf16.empty()) params.push_back(l.param);
    if constexpr (kHasCuda) cuda::write_kept_copies(ctx, params);
}

void Masters::write_widened(const Param& p, const Tensor& master) const {
    std::vector<std::byte> widened(tensor_bytes(master));
    std::vector<float> row(static_cast<size_t>(p.view.in));
    for (int64_t r = 0; r < p.view.out; ++r) {
        p.widen_row(r, row.data());
        with_real(dtype_, [&](auto real) {
            std::copy(row.begin(), row.end(), reinterpret_cast<decltype(real)*>(widened.data()) + r * p.view.in);
        });
    }
    place_.write(master.data, widened.data(), widened.size());
}

void Masters::move_table(Param& p) {
    if (!place_.gpu()) return;
    tables_.push_back(place_.zeros(p.bytes(), "a routing table"));
    place_.write(tables_.back().get(), p.view.data, p.bytes());
    p.view.data = tables_.back().get();
    p.owner = tables_.back();
}

void Masters::bind(Tape& tape) const {
    for (const Leaf& l : leaves_)
        if (!l.gradient.empty()) tape.bind(l.param->master, l.gradient);
}

Tensor Masters::gradients() const {
    return {gradients_, dtype_, {static_cast<int64_t>(gradient_bytes_ * 8 / dtype_bits(dtype_))}};
}

void Masters::clear_gradients() { place_.clear(gradients_, gradient_bytes_); }

void Masters::clear_gradients(const std::function<bool(size_t)>& which) const {
    std::byte *begin = nullptr, *end = nullptr;  // of a run, with what aligns its tensors
    const auto clear = [&] { if (begin) place_.clear(begin, static_cast<size_t>(end - begin)); };
    for (size_t i = 0; i < leaves_.size(); ++i) {
        const Tensor& g = leaves_[i].gradient;
        if (g.empty()) continue;
        if (which(i)) {
            if (!begin) begin = static_cast<std::byte*>(g.data);
            end = static_cast<std::byte*>(g.data) + tensor_bytes(g);
        } else {
            clear();
            begin = nullptr;
        }
    }
    clear();
}

}  // namespace vitrine
