// A weight: its name, its shape, and a packed view of the mapped file.
#pragma once
#include <memory>
#include <string>

#include "engine/base/reader.h"
#include "engine/device/cpu/kernels.h"
#include "engine/tensor/tensor.h"

namespace vitrine {

// Mapped storage is never written and nothing is repacked at load. Ops never ask where the bytes come from.
struct Param {
    std::string name;         // in the file
    Shape shape;              // logical: FP4's columns are counted in elements
    cpu::PackedMatrix view;   // matrices: [out, in]; vectors: out = 1
    std::shared_ptr<const void> owner;
    Tensor master;            // when it is trained: f32 or f64 of `shape`, the tape's leaf; an f32 master is what `view` shows
    Tensor bf16;              // the master's values as BF16 where Masters keeps them (products of a GPU), else empty

    bool empty() const { return view.data == nullptr; }
    uint64_t bytes() const { return view.bytes(); }
    // Widened values of a small tensor (norms, biases, sinks) or of one row.
    float value(int64_t i) const;
    void widen_row(int64_t row, float* out) const;
};

}  // namespace vitrine
