// Per-step scratch: a bump allocator.
#include "engine/tensor/arena.h"

#include <algorithm>

namespace vitrine {

Arena::~Arena() {
    for (const Block& b : blocks_) memory_.give(b.base);
}

Tensor Arena::make(DType t, Shape s) {
    return {bytes((static_cast<size_t>(s.count()) * dtype_bits(t) + 7) / 8), t, s};
}

// The host gives pages when they are touched, so blocks may grow with what is held: tensors whose sizes differ from step to step
// leave few gaps then, and steps touch the same pages.
void* Arena::bytes(size_t n) {
    constexpr size_t kBlock = size_t{4} << 20;
    n = (n + align_ - 1) / align_ * align_;
    while (block_ < blocks_.size() && used_ + n > blocks_[block_].size) ++block_, used_ = 0;
    if (block_ == blocks_.size()) {
        const size_t least = std::max(n, kBlock);
        size_t size = &memory_ == &host_memory() ? std::max(least, allocated_bytes()) : least;
        void* base = nullptr;
        blocks_.reserve(blocks_.size() + 1);
        try {
            base = memory_.take(size);
        } catch (const Error&) {
            if (size == least) throw;
            base = memory_.take(size = least);
        }
        blocks_.push_back({static_cast<std::byte*>(base), size});
        used_ = 0;
    }
    void* p = blocks_[block_].base + used_;
    used_ += n;
    return p;
}

void Arena::merge() {
    clear();
    if (blocks_.size() < 2) return;
    const size_t total = allocated_bytes();
    for (const Block& b : blocks_) memory_.give(b.base);
    blocks_.clear();
    try {
        bytes(total + total / 16);  // a little more than was needed: the next step may be larger
    } catch (const Error&) {
        // not in one piece: in blocks again, as they are asked for
    }
    clear();
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
