// Dense products of activations and master weights, FP32 by the packed kernels and FP64 by plain loops.
#pragma once
#include "engine/ops/ctx.h"

namespace vitrine {

// A row-major matrix; `ld`: elements between rows.
template <class T>
struct Matrix {
    const T* data;
    int64_t rows, cols, ld;
};
template <class T>
Matrix<T> matrix(const T* data, int64_t rows, int64_t cols) { return {data, rows, cols, cols}; }

// C [M, N] = A [M, K] B [N, K]^T, or C += with `accumulate`. Split over the pool by shape alone, each element summed in a
// fixed order.
template <class T>
void matmul_nt(Ctx& ctx, const Matrix<T>& a, const Matrix<T>& b, T* c, int64_t ldc, bool accumulate);
// C = A [M, K] B [K, N]
template <class T>
void matmul_nn(Ctx& ctx, const Matrix<T>& a, const Matrix<T>& b, T* c, int64_t ldc, bool accumulate);
// C = A [K, M]^T B [K, N]
template <class T>
void matmul_tn(Ctx& ctx, const Matrix<T>& a, const Matrix<T>& b, T* c, int64_t ldc, bool accumulate);

// The same on the calling thread, without scratch from the arena: for pieces of a larger parallel loop.
template <class T>
void matmul_nt_serial(const Matrix<T>& a, const Matrix<T>& b, T* c, int64_t ldc, bool accumulate);
template <class T>
void matmul_nn_serial(const Matrix<T>& a, const Matrix<T>& b, T* c, int64_t ldc, bool accumulate);
template <class T>
void matmul_tn_serial(const Matrix<T>& a, const Matrix<T>& b, T* c, int64_t ldc, bool accumulate);

}  // namespace vitrine
