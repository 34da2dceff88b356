// Dense products: every form is brought to A B^T with contiguous B, which the packed kernels compute.
#include "engine/ops/linear/matmul.h"

#include <algorithm>
#include <vector>

#include "engine/device/cpu/kernels.h"

namespace vitrine {
namespace {

// Scratch of one thread; kept, so that a step allocates nothing once it has run.
template <class T>
std::vector<T>& thread_rows(int slot) {
    static thread_local std::vector<T> rows[3];
    return rows[slot];
}

template <class T>
void transpose(const Matrix<T>& a, T* out) {  // out [cols, rows]
    constexpr int64_t kTile = 16;
    for (int64_t i0 = 0; i0 < a.rows; i0 += kTile)
        for (int64_t j0 = 0; j0 < a.cols; j0 += kTile)
            for (int64_t j = j0; j < std::min(j0 + kTile, a.cols); ++j)
                for (int64_t i = i0; i < std::min(i0 + kTile, a.rows); ++i) out[j * a.rows + i] = a.data[i * a.ld + j];
}

// B as the kernels take it: rows without gaps.
template <class T>
Matrix<T> contiguous(const Matrix<T>& b, std::vector<T>& buffer) {
    if (b.ld == b.cols) return b;
    buffer.resize(static_cast<size_t>(b.rows * b.cols));
    for (int64_t i = 0; i < b.rows; ++i) std::copy_n(b.data + i * b.ld, b.cols, buffer.data() + i * b.cols);
    return matrix(static_cast<const T*>(buffer.data()), b.rows, b.cols);
}

// C [M, N] (+)= A B^T on this thread, B contiguous.
void product(const Matrix<float>& a, const Matrix<float>& b, float* c, int64_t ldc, bool accumulate) {
    cpu::PackedMatrix w;
    w.data = b.data, w.dtype = DType::f32, w.out = b.rows, w.in = b.cols;
    if (!accumulate) return cpu::kernels().gemm(w, a.data, a.ld, a.rows, c, ldc, 0, b.rows);
    auto& sum = thread_rows<float>(2);
    sum.resize(static_cast<size_t>(a.rows * b.rows));
    cpu::kernels().gemm(w, a.data, a.ld, a.rows, sum.data(), b.rows, 0, b.rows);
    for (int64_t i = 0; i < a.rows; ++i)
        for (int64_t j = 0; j < b.rows; ++j) c[i * ldc + j] += sum[i * b.rows + j];
}

void product(const Matrix<double>& a, const Matrix<double>& b, double* c, int64_t ldc, bool accumulate) {
    for (int64_t i = 0; i < a.rows; ++i)
        for (int64_t j = 0; j < b.rows; ++j) {
            const double *x = a.data + i * a.ld, *w = b.data + j * b.ld;
            double s[4] = {};
            int64_t k = 0;
            for (; k + 4 <= a.cols; k += 4)
                for (int l = 0; l < 4; ++l) s[l] += x[k + l] * w[k + l];
            for (; k < a.cols; ++k) s[0] += x[k] * w[k];
            const double sum = s[0] + s[1] + (s[2] + s[3]);
            c[i * ldc + j] = accumulate ? c[i * ldc + j] + sum : sum;
        }
}

// How C is cut: about 2 M multiply-adds a piece, rows first (each piece packs its rows of A), columns when rows are few.
struct Cut {
    int64_t rows, cols;
};
Cut cut(int64_t m, int64_t n, int64_t k) {
    constexpr int64_t kWork = int64_t{2} << 20;
    const int64_t rows = std::clamp<int64_t>(kWork / std::max<int64_t>(1, n * k) / 16 * 16, 64, std::max<int64_t>(64, m));
    if (m > rows || n * k * m <= kWork) return {rows, n};
    return {m, std::clamp<int64_t>(kWork / std::max<int64_t>(1, m * k) / 16 * 16, 64, std::max<int64_t>(64, n))};
}

}  // namespace

template <class T>
void matmul_nt_serial(const Matrix<T>& a, const Matrix<T>& b, T* c, int64_t ldc, bool accumulate) {
    VITRINE_ASSERT(a.cols == b.cols);
    product(a, contiguous(b, thread_rows<T>(0)), c, ldc, accumulate);
}

template <class T>
void matmul_nn_serial(const Matrix<T>& a, const Matrix<T>& b, T* c, int64_t ldc, bool accumulate) {
    VITRINE_ASSERT(a.cols == b.rows);
    auto& turned = thread_rows<T>(0);
    turned.resize(static_cast<size_t>(b.rows * b.cols));
    transpose(b, turned.data());
    product(a, matrix(static_cast<const T*>(turned.data()), b.cols, b.rows), c, ldc, accumulate);
}

template <class T>
void matmul_tn_serial(const Matrix<T>& a, const Matrix<T>& b, T* c, int64_t ldc, bool accumulate) {
    VITRINE_ASSERT(a.rows == b.rows);
    auto &turned_a = thread_rows<T>(1), &turned_b = thread_rows<T>(0);
    turned_a.resize(static_cast<size_t>(a.rows * a.cols)), turned_b.resize(static_cast<size_t>(b.rows * b.cols));
    transpose(a, turned_a.data()), transpose(b, turned_b.data());
    product(matrix(static_cast<const T*>(turned_a.data()), a.cols, a.rows),
            matrix(static_cast<const T*>(turned_b.data()), b.cols, b.rows), c, ldc, accumulate);
}

template <class T>
void matmul_nt(Ctx& ctx, const Matrix<T>& a, const Matrix<T>& b, T* c, int64_t ldc, bool accumulate) {
    VITRINE_ASSERT(a.cols == b.cols);
    std::vector<T> gathered;
    const Matrix<T> w = contiguous(b, gathered);
    const Cut piece = cut(a.rows, w.rows, a.cols);
    const int64_t by_rows = (a.rows + piece.rows - 1) / piece.rows, by_cols = (w.rows + piece.cols - 1) / piece.cols;
    ctx.pool.parallel_for(by_rows * by_cols, 1, [&](int64_t p0, int64_t p1) {
        for (int64_t p = p0; p < p1; ++p) {
            const int64_t i = p / by_cols * piece.rows, j = p % by_cols * piece.cols;
            const int64_t m = std::min(piece.rows, a.rows - i), n = std::min(piece.cols, w.rows - j);
            product(Matrix<T>{a.data + i * a.ld, m, a.cols, a.ld}, Matrix<T>{w.data + j * w.ld, n, w.cols, w.ld},
                    c + i * ldc + j, ldc, accumulate);
        }
    });
}

template <class T>
void matmul_nn(Ctx& ctx, const Matrix<T>& a, const Matrix<T>& b, T* c, int64_t ldc, bool accumulate) {
    VITRINE_ASSERT(a.cols == b.rows);
    const Arena::Scope scratch(ctx.arena);
    T* turned = ctx.arena.make<T>({b.cols, b.rows}).template as<T>();
    transpose(b, turned);
    matmul_nt(ctx, a, matrix(static_cast<const T*>(turned), b.cols, b.rows), c, ldc, accumulate);
}

template <class T>
void matmul_tn(Ctx& ctx, const Matrix<T>& a, const Matrix<T>& b, T* c, int64_t ldc, bool accumulate) {
    VITRINE_ASSERT(a.rows == b.rows);
    const Arena::Scope scratch(ctx.arena);
    T *turned_a = ctx.arena.make<T>({a.cols, a.rows}).template as<T>(),
      *turned_b = ctx.arena.make<T>({b.cols, b.rows}).template as<T>();
    ctx.pool.parallel_for(2, 1, [&](int64_t i0, int64_t i1) {
        for (int64_t i = i0; i < i1; ++i) i == 0 ? transpose(a, turned_a) : transpose(b, turned_b);
    });
    matmul_nt(ctx, matrix(static_cast<const T*>(turned_a), a.cols, a.rows),
              matrix(static_cast<const T*>(turned_b), b.cols, b.rows), c, ldc, accumulate);
}

#define VITRINE_MATMUL(T)                                                                                  \
    template void matmul_nt<T>(Ctx&, const Matrix<T>&, const Matrix<T>&, T*, int64_t, bool);               \
    template void matmul_nn<T>(Ctx&, const Matrix<T>&, const Matrix<T>&, T*, int64_t, bool);               \
    template void matmul_tn<T>(Ctx&, const Matrix<T>&, const Matrix<T>&, T*, int64_t, bool);               \
    template void matmul_nt_serial<T>(const Matrix<T>&, const Matrix<T>&, T*, int64_t, bool);              \
    template void matmul_nn_serial<T>(const Matrix<T>&, const Matrix<T>&, T*, int64_t, bool);              \
    template void matmul_tn_serial<T>(const Matrix<T>&, const Matrix<T>&, T*, int64_t, bool);
VITRINE_MATMUL(float)
VITRINE_MATMUL(double)
#undef VITRINE_MATMUL

}  // namespace vitrine
