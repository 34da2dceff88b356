// The tape: gradients by address, nodes in reverse.
#include "engine/autograd/tape.h"

#include <chrono>
#include <cstring>
#include <utility>

#include "engine/ops/ctx.h"

namespace vitrine {

void Tape::bind(const Tensor& leaf, const Tensor& gradient) {
    VITRINE_ASSERT(leaf.dtype == gradient.dtype && leaf.count() == gradient.count());
    bound_[leaf.data] = {gradient, nullptr};
}

void Tape::bind_empty(const Tensor& leaf, const Tensor& gradient) {
    bind(leaf, gradient);
    bound_[leaf.data].is_empty = std::make_shared<bool>(true);
}

namespace {
Memory& memory_of(const cuda::Device* device) {
    if constexpr (kHasCuda)
        if (device) return device->memory();
    return host_memory();
}
}  // namespace

Tape::Tape(bool is_recording, cuda::Device* device)
    : is_recording_(is_recording), device_(device), arena_(memory_of(device), device ? 256 : 64) {}

Tape::Flow Tape::flow(const Tensor& x) {
    VITRINE_ASSERT(!x.empty());
    if (const auto bound = bound_.find(x.data); bound != bound_.end()) {
        const Bound& b = bound->second;
        const bool holds_nothing = b.is_empty && std::exchange(*b.is_empty, false);
        return {b.gradient.reshaped(x.shape), !holds_nothing};
    }
    auto [at, is_new] = grads_.try_emplace(x.data);
    if (is_new) {
        const size_t bytes = static_cast<size_t>(x.count()) * dtype_bits(x.dtype) / 8;
        const auto spare = spare_.find(bytes);
        if (spare != spare_.end()) {
            at->second = {spare->second, x.dtype, x.shape};
            spare_.erase(spare);
        } else {
            at->second = arena_.make(x.dtype, x.shape);
            used_bytes_ += bytes;
        }
    }
    VITRINE_ASSERT(at->second.dtype == x.dtype);
    // reshaped asserts that the counts agree: a view that is shorter is another value
    return {at->second.reshaped(x.shape), !is_new};
}

void Tape::done(const Tensor& x) {
    const auto at = grads_.find(x.data);
    if (at == grads_.end()) return;
    const Tensor& g = at->second;
    spare_.emplace(static_cast<size_t>(g.count()) * dtype_bits(g.dtype) / 8, g.data);
    grads_.erase(at);
}

Tensor Tape::grad(const Tensor& x) {
    const Flow f = flow(x);
    if (!f.accumulates) clear_memory(f.gradient);
    return f.gradient;
}

void Tape::clear_memory(const Tensor& t) {
    const size_t bytes = static_cast<size_t>(t.count()) * dtype_bits(t.dtype) / 8;
    if (!device_) std::memset(t.data, 0, bytes);
    if constexpr (kHasCuda)
        if (device_) device_->clear(t.data, bytes);
}

void Tape::record(std::function<void(Ctx&)> backward) {
    if (is_recording_) nodes_.push_back({std::move(backward), label});
}

void Tape::backward(Ctx& ctx) {
    OpTimes* const times = ctx.times && ctx.times->is_on ? ctx.times : nullptr;
    ctx.times = nullptr;  // a node's time is taken here, once
    for (size_t i = nodes_.size(); i-- > 0;) {
        ctx.check_stop();
        const Arena::Scope scratch(ctx.arena);
        const auto start = times ? std::chrono::steady_clock::now() : std::chrono::steady_clock::time_point{};
        nodes_[i].backward(ctx);
        if (times) {
            const std::chrono::duration<double, std::milli> ms = std::chrono::steady_clock::now() - start;
            const Label& l = nodes_[i].label;
            times->ms[l.op < 0 ? static_cast<int>(OpKind::other) : l.op][l.op < 0 ? OpTimes::kMaxLayers : l.layer] += ms.count();
        }
        nodes_[i].backward = nullptr;
    }
    ctx.times = times;
    nodes_.clear();
    if (is_inner_) return;  // what is empty now may be reached by the nodes before
    for (auto& [leaf, b] : bound_)
        if (b.is_empty && std::exchange(*b.is_empty, false)) clear_memory(b.gradient);
}

Tape& Tape::inner() {
    if (!inner_) inner_ = std::make_unique<Tape>(true, device_);
    inner_->clear();
    inner_->is_inner_ = true, inner_->bound_ = bound_;
    return *inner_;
}

void Tape::merge() {
    clear();
    arena_.merge();
    if (inner_) inner_->merge();
}

void Tape::clear() {
    nodes_.clear();
    grads_.clear(), spare_.clear();
    arena_.clear();
    used_bytes_ = 0;
}

}  // namespace vitrine
