// Dense products: A B^T by the packed kernels, which want contiguous B; the others by the kernel that reads A by strides.
#include "engine/ops/linear/matmul.h"

#include <algorithm>
#include <vector>

#include "engine/device/cpu/kernels.h"
#include "engine/device/cpu/outer.h"

namespace vitrine {
namespace {

// Scratch of one thread; kept, so that a step allocates nothing once it has run.
template <class T>
std::vector<T>& thread_rows(int slot) {
    static thread_local std::vector<T> rows[2];
    return rows[slot];
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
    auto& sum = thread_rows<float>(1);
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

// A [M, K] whose element (i, l) lies at data[i * row + l * column].
template <class T>
struct Strided {
    const T* data;
    int64_t rows, cols, row, column;
};
template <class T>
Strided<T> as_is(const Matrix<T>& a) { return {a.data, a.rows, a.cols, a.ld, 1}; }
template <class T>
Strided<T> turned(const Matrix<T>& a) { return {a.data, a.cols, a.rows, 1, a.ld}; }

// C [M, N] (+)= A B on this thread.
void product_by_rows(const Strided<float>& a, const Matrix<float>& b, float* c, int64_t ldc, bool accumulate) {
    cpu::outer_kernel()({a.data, a.row, a.column, b.data, b.ld, a.rows, b.cols, a.cols, c, ldc, accumulate});
}
void product_by_rows(const Strided<double>& a, const Matrix<double>& b, double* c, int64_t ldc, bool accumulate) {
    for (int64_t i = 0; i < a.rows; ++i) {
        if (!accumulate) std::fill_n(c + i * ldc, b.cols, 0.0);
        for (int64_t l = 0; l < a.cols; ++l) {
            const double x = a.data[i * a.row + l * a.column], *w = b.data + l * b.ld;
            for (int64_t j = 0; j < b.cols; ++j) c[i * ldc + j] += x * w[j];
        }
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

// f(first row, rows, first column, columns) of every piece of C [m, n], whose sums run over k.
template <class F>
void over_pieces(Ctx& ctx, int64_t m, int64_t n, int64_t k, F&& f) {
    const Cut piece = cut(m, n, k);
    const int64_t by_rows = (m + piece.rows - 1) / piece.rows, by_cols = (n + piece.cols - 1) / piece.cols;
    ctx.pool.parallel_for(by_rows * by_cols, 1, [&](int64_t p0, int64_t p1) {
        for (int64_t p = p0; p < p1; ++p) {
            const int64_t i = p / by_cols * piece.rows, j = p % by_cols * piece.cols;
            f(i, std::min(piece.rows, m - i), j, std::min(piece.cols, n - j));
        }
    });
}

template <class T>
void by_rows(Ctx& ctx, const Strided<T>& a, const Matrix<T>& b, T* c, int64_t ldc, bool accumulate) {
    over_pieces(ctx, a.rows, b.cols, a.cols, [&](int64_t i, int64_t m, int64_t j, int64_t n) {
        product_by_rows(Strided<T>{a.data + i * a.row, m, a.cols, a.row, a.column}, Matrix<T>{b.data + j, b.rows, n, b.ld},
                        c + i * ldc + j, ldc, accumulate);
    });
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
    product_by_rows(as_is(a), b, c, ldc, accumulate);
}

template <class T>
void matmul_tn_serial(const Matrix<T>& a, const Matrix<T>& b, T* c, int64_t ldc, bool accumulate) {
    VITRINE_ASSERT(a.rows == b.rows);
    product_by_rows(turned(a), b, c, ldc, accumulate);
}

template <class T>
void matmul_nt(Ctx& ctx, const Matrix<T>& a, const Matrix<T>& b, T* c, int64_t ldc, bool accumulate) {
    VITRINE_ASSERT(a.cols == b.cols);
    std::vector<T> gathered;
    const Matrix<T> w = contiguous(b, gathered);
    over_pieces(ctx, a.rows, w.rows, a.cols, [&](int64_t i, int64_t m, int64_t j, int64_t n) {
        product(Matrix<T>{a.data + i * a.ld, m, a.cols, a.ld}, Matrix<T>{w.data + j * w.ld, n, w.cols, w.ld}, c + i * ldc + j,
                ldc, accumulate);
    });
}

template <class T>
void matmul_nn(Ctx& ctx, const Matrix<T>& a, const Matrix<T>& b, T* c, int64_t ldc, bool accumulate) {
    VITRINE_ASSERT(a.cols == b.rows);
    by_rows(ctx, as_is(a), b, c, ldc, accumulate);
}

template <class T>
void matmul_tn(Ctx& ctx, const Matrix<T>& a, const Matrix<T>& b, T* c, int64_t ldc, bool accumulate) {
    VITRINE_ASSERT(a.rows == b.rows);
    by_rows(ctx, turned(a), b, c, ldc, accumulate);
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
