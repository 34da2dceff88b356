// Per-step scratch: a bump allocator.
#include "engine/tensor/arena.h"

#include <algorithm>

namespace vitrine {

Tensor Arena::make(DType t, Shape s) {
    return {bytes((static_cast<size_t>(s.count()) * dtype_bits(t) + 7) / 8), t, s};
}

void* Arena::bytes(size_t n) {
    constexpr size_t kAlign = 64, kBlock = size_t{4} << 20;
    n = (n + kAlign - 1) / kAlign * kAlign;
    while (block_ < blocks_.size() && used_ + n > blocks_[block_].size) ++block_, used_ = 0;
    if (block_ == blocks_.size()) {
        const size_t size = std::max(n, kBlock);
        Block b{std::unique_ptr<std::byte[]>(new std::byte[size + kAlign]), nullptr, size};
        b.base = reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(b.memory.get()) + kAlign - 1) / kAlign * kAlign);
        blocks_.push_back(std::move(b));
        used_ = 0;
    }
    void* p = blocks_[block_].base + used_;
    used_ += n;
    return p;
}

size_t Arena::used_bytes() const {
    size_t n = used_;
    for (size_t i = 0; i < block_; ++i) n += blocks_[i].size;
    return n;
}

size_t Arena::allocated_bytes() const {
    size_t n = 0;
    for (const auto& b : blocks_) n += b.size;
    return n;
}

}  // namespace vitrine
