// Trainable weights: one allocation for masters, then one for gradients, in the order of the list of roles.
#include "engine/model/masters.h"

#include <algorithm>

#include "engine/model/roles.h"

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

Masters::Masters(ModelWeights& weights, const ModelConfig& config, DType dtype, const Place& place) : place_(place), dtype_(dtype) {
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
    std::vector<std::byte> widened;
    for (Leaf& l : leaves_) {
        Param& p = *l.param;
        const Tensor master{at, dtype, p.shape};
        std::vector<float> row(static_cast<size_t>(p.view.in));
        widened.resize(tensor_bytes(master));
        for (int64_t r = 0; r < p.view.out; ++r) {
            p.widen_row(r, row.data());
            with_real(dtype, [&](auto real) {
                std::copy(row.begin(), row.end(), reinterpret_cast<decltype(real)*>(widened.data()) + r * p.view.in);
            });
        }
        place_.write(master.data, widened.data(), widened.size());
        p.master = master;
        p.view = {master.data, nullptr, dtype, DType::f8_e8m0, p.view.out, p.view.in, 0, 0};
        p.owner = memory_;
        const uint64_t bytes = aligned(static_cast<uint64_t>(p.shape.count()) * item);
        at += bytes;
        if (l.role == ParamRole::router_bias) continue;
        l.gradient = {next_gradient, dtype, p.shape};
        next_gradient += bytes;
    }
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

}  // namespace vitrine
