// Muon: momentum and Newton-Schulz.
#include "engine/ops/muon/muon.h"

#include <algorithm>
#include <cmath>

#include "engine/ops/linear/matmul.h"

namespace vitrine {
namespace {

constexpr int64_t kLarge = 256 * 256;  // elements from which a matrix gets all threads

template <class T>
double norm_of(const T* y, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(y[i]) * static_cast<double>(y[i]);
    return std::sqrt(sum);
}

template <class T>
void turn(const T* y, int64_t rows, int64_t cols, T* out) {  // out [cols, rows]
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < cols; ++j) out[j * rows + i] = y[i * cols + j];
}

// Products on this thread, or with the pool's when a Ctx is given.
template <class T>
struct Products {
    Ctx* ctx;
    void nt(const Matrix<T>& a, const Matrix<T>& b, T* c, int64_t ldc) const {
        ctx ? matmul_nt(*ctx, a, b, c, ldc, false) : matmul_nt_serial(a, b, c, ldc, false);
    }
    void nn(const Matrix<T>& a, const Matrix<T>& b, T* c, int64_t ldc) const {
        ctx ? matmul_nn(*ctx, a, b, c, ldc, false) : matmul_nn_serial(a, b, c, ldc, false);
    }
};

// y [n, m] with n <= m. gram, square [n, n]; product [n, m].
template <class T>
void iterate(const Products<T>& by, T* y, int64_t n, int64_t m, const double* p, std::vector<T>& gram,
             std::vector<T>& square, std::vector<T>& product) {
    const T a = static_cast<T>(p[0]), b = static_cast<T>(p[1]), c = static_cast<T>(p[2]);
    gram.resize(static_cast<size_t>(n * n)), square.resize(gram.size()), product.resize(static_cast<size_t>(n * m));
    const Matrix<T> y_nm{y, n, m, m}, gram_nn{gram.data(), n, n, n};
    by.nt(y_nm, y_nm, gram.data(), n);
    by.nt(gram_nn, gram_nn, square.data(), n);  // it is symmetric
    for (size_t i = 0; i < gram.size(); ++i) gram[i] = b * gram[i] + c * square[i];
    by.nn(gram_nn, y_nm, product.data(), m);
    for (int64_t i = 0; i < n * m; ++i) y[i] = a * y[i] + product[static_cast<size_t>(i)];
}

template <class T>
void orthogonalise(const Products<T>& by, T* y, int64_t n, int64_t m, int n_fast, int n_final) {
    const double norm = norm_of(y, n * m);
    if (norm == 0) return;
    const T scale = static_cast<T>(1 / norm);
    for (int64_t i = 0; i < n * m; ++i) y[i] *= scale;
    std::vector<T> turned, gram, square, product;
    T* x = y;
    if (n > m) {
        turned.resize(static_cast<size_t>(n * m));
        turn(y, n, m, turned.data());
        x = turned.data();
    }
    const int64_t rows = std::min(n, m), cols = std::max(n, m);
    for (int i = 0; i < n_fast + n_final; ++i)
        iterate(by, x, rows, cols, i < n_fast ? kNewtonSchulzFast : kNewtonSchulzFinal, gram, square, product);
    if (n > m) turn(x, rows, cols, y);
}

template <class T>
UpdateSums update(const Products<T>& by, const Muon& a, const MuonMatrix& x) {
    const int64_t n = x.weight.dim(0), m = x.weight.dim(1);
    const T mu = static_cast<T>(a.momentum), scale = static_cast<T>(a.gradient_scale);
    T *w = x.weight.as<T>(), *momentum = x.momentum.as<T>();
    const T* g = x.gradient.as<T>();
    std::vector<T> u(static_cast<size_t>(n * m));
    for (int64_t i = 0; i < n * m; ++i) {
        momentum[i] = mu * momentum[i] + scale * g[i];
        u[static_cast<size_t>(i)] = mu * momentum[i] + scale * g[i];  // Nesterov
    }
    const int n_final = std::min(kNewtonSchulzFinalSteps, a.n_steps);
    orthogonalise(by, u.data(), n, m, a.n_steps - n_final, n_final);
    const T keep = static_cast<T>(1 - a.lr * a.weight_decay);
    const T rate = static_cast<T>(a.lr * a.scale * std::sqrt(static_cast<double>(std::max(n, m))));
    UpdateSums sums;
    sums.count = n * m;
    for (int64_t i = 0; i < n * m; ++i) {
        const T before = w[i], after = before * keep - rate * u[static_cast<size_t>(i)];
        w[i] = after;
        const double moved = static_cast<double>(after) - static_cast<double>(before);
        sums.weight += static_cast<double>(before) * static_cast<double>(before);
        sums.update += moved * moved;
    }
    return sums;
}

UpdateSums update_any(Ctx* ctx, const Muon& a, const MuonMatrix& x) {
    return with_real(x.weight.dtype, [&](auto real) { return update(Products<decltype(real)>{ctx}, a, x); });
}

}  // namespace

template <class T>
void newton_schulz(T* y, int64_t n, int64_t m, int n_fast, int n_final) {
    orthogonalise(Products<T>{nullptr}, y, n, m, n_fast, n_final);
}
template void newton_schulz<float>(float*, int64_t, int64_t, int, int);
template void newton_schulz<double>(double*, int64_t, int64_t, int, int);

std::vector<UpdateSums> muon(Ctx& ctx, const Muon& a, std::span<const MuonMatrix> matrices) {
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::muon(ctx, a, matrices);
    std::vector<UpdateSums> sums(matrices.size());
    std::vector<size_t> small;
    for (size_t i = 0; i < matrices.size(); ++i) {
        const MuonMatrix& x = matrices[i];
        VITRINE_ASSERT(x.weight.shape.rank == 2 && x.gradient.count() == x.weight.count() &&
                       x.momentum.count() == x.weight.count());
        if (x.weight.count() < kLarge)
            small.push_back(i);
        else
            sums[i] = update_any(&ctx, a, x);
    }
    ctx.pool.parallel_for(static_cast<int64_t>(small.size()), 1, [&](int64_t i0, int64_t i1) {
        for (int64_t i = i0; i < i1; ++i) {
            const size_t at = small[static_cast<size_t>(i)];
            sums[at] = update_any(nullptr, a, matrices[at]);
        }
    });
    return sums;
}

}  // namespace vitrine
