// Tensors: a typed, row-major view of memory that somebody else owns (an arena for activations, a file for weights).
//
// A Tensor is a small value: copying it copies the view. Activations live in the step's Arena and die with its scope; weights
// live in their Param. The dtype is a property at run time, so one forward pass serves float and double.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/error.h"

namespace vitrine {

enum class DType : uint8_t { f32, f64, f16, bf16, f8_e4m3, f8_e8m0, fp4_e2m1, i8, i32, i64, u8 };

const char* dtype_name(DType t);        // safetensors' spelling: "F32", "BF16", "F8_E4M3", ...; fp4_e2m1 is "FP4"
uint64_t dtype_bits(DType t);           // 4 for fp4_e2m1

// Row-major extents, rank 0 to 4.
struct Shape {
    std::array<int64_t, 4> n{1, 1, 1, 1};
    int rank = 0;
    Shape() = default;
    Shape(std::initializer_list<int64_t> d) {
        VITRINE_ASSERT(d.size() <= 4);
        for (int64_t x : d) n[rank++] = x;
    }
    int64_t count() const { return n[0] * n[1] * n[2] * n[3]; }
    int64_t operator[](int i) const { return n[i]; }
    friend bool operator==(const Shape& a, const Shape& b) { return a.rank == b.rank && a.n == b.n; }
};

struct Tensor {
    void* data = nullptr;
    DType dtype = DType::f32;
    Shape shape;

    bool empty() const { return data == nullptr; }
    int64_t dim(int i) const { return shape[i]; }
    int64_t count() const { return shape.count(); }
    // Elements as T; the dtype must match.
    template <class T>
    T* as() const;
    template <class T>
    std::span<T> span() const { return {as<T>(), static_cast<size_t>(count())}; }
    // First element of row i (index along dimension 0).
    template <class T>
    T* row(int64_t i) const { return as<T>() + i * (count() / shape[0]); }
    float* f32() const { return as<float>(); }
    Tensor reshaped(Shape s) const {
        VITRINE_ASSERT(s.count() == count());
        return {data, dtype, s};
    }
};

template <class T>
constexpr DType dtype_of();
template <> constexpr DType dtype_of<float>() { return DType::f32; }
template <> constexpr DType dtype_of<double>() { return DType::f64; }
template <> constexpr DType dtype_of<int32_t>() { return DType::i32; }
template <> constexpr DType dtype_of<int64_t>() { return DType::i64; }
template <> constexpr DType dtype_of<uint8_t>() { return DType::u8; }

template <class T>
T* Tensor::as() const {
    VITRINE_ASSERT(dtype == dtype_of<T>());
    return static_cast<T*>(data);
}

}  // namespace vitrine
