// The tape: gradients by address, nodes in reverse.
#include "engine/autograd/tape.h"

#include <chrono>
#include <cstring>

#include "engine/ops/ctx.h"

namespace vitrine {

void Tape::bind(const Tensor& leaf, const Tensor& gradient) {
    VITRINE_ASSERT(leaf.dtype == gradient.dtype && leaf.count() == gradient.count());
    bound_[leaf.data] = gradient;
}

Tensor Tape::grad(const Tensor& x) {
    VITRINE_ASSERT(!x.empty());
    if (const auto at = bound_.find(x.data); at != bound_.end()) return at->second.reshaped(x.shape);
    auto [at, is_new] = grads_.try_emplace(x.data);
    if (is_new) {
        at->second = arena_.make(x.dtype, x.shape);
        const size_t bytes = static_cast<size_t>(x.count()) * dtype_bits(x.dtype) / 8;
        std::memset(at->second.data, 0, bytes);
        used_bytes_ += bytes;
    }
    VITRINE_ASSERT(at->second.dtype == x.dtype);
    return at->second.reshaped(x.shape);  // asserts that the counts agree: a view that is shorter is another value
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
}

void Tape::clear() {
    nodes_.clear();
    grads_.clear();
    arena_.clear();
    used_bytes_ = 0;
}

}  // namespace vitrine
