// Hyper-connections, written once for every instruction set and for plain float and double.
//
// Unnamed namespace, as isa_avx512.h explains. M is an instruction set with `T`, its scalar, `exp_negative` and `sum4`.
// Coefficients: a block of M::kLanes tokens is turned into planes (one value of all its tokens side by side), so that Sinkhorn
// runs for all of them in the same registers. Streams: a token at a time, vectors along d.
#pragma once
#include <cstddef>

#include "engine/device/cpu/hyper_kernels.h"
#include "engine/device/cpu/support.h"

namespace vitrine::cpu {
namespace {

constexpr int kMaxStreams = 16;

template <class M>
[[gnu::always_inline]] inline typename M::V load_part(const typename M::T* p, int64_t n) {
    return n >= M::kLanes ? M::load(p) : M::load_n(p, n);
}
template <class M>
[[gnu::always_inline]] inline void store_part(typename M::T* p, typename M::V v, int64_t n) {
    n >= M::kLanes ? M::store(p, v) : M::store_n(p, v, n);
}

// sigma(z) = e^min(z,0) / (1 + e^-|z|): neither power overflows.
template <class M>
typename M::V sigmoid(typename M::V z) {
    const auto minus = [](typename M::V v) { return M::sub(M::zero(), v); };
    const auto upper = M::exp_negative(minus(M::max(minus(z), M::zero())));
    const auto below = M::add(M::set1(1), M::exp_negative(minus(M::max(z, minus(z)))));
    return M::div(upper, below);
}
template <class M>
typename M::V tanh_of(typename M::V x) {
    return M::sub(M::mul(M::set1(2), sigmoid<M>(M::add(x, x))), M::set1(1));
}

// ---- Sinkhorn on a block; N: streams known to the compiler, or 0
template <class M, int N>
struct Sinkhorn {
    using V = typename M::V;
    using T = typename M::T;
    static constexpr int kLanes = M::kLanes;
    const HyperForm& form;

    [[gnu::always_inline]] int streams() const { return N > 0 ? N : form.n; }
    // Kept for backward: the softmax (n² planes), then for every step its result (n²) and the inverse sums (n).
    static int64_t kept_planes(const HyperForm& f) {
        return int64_t{f.n} * f.n + int64_t{2 * f.iters - 1} * (f.n * f.n + f.n);
    }
    // One step along rows (group stride n, member stride 1) or columns (1, n).
    [[gnu::always_inline]] void step(V* c, bool is_rows, T* kept) const {
        const int n = streams(), group = is_rows ? n : 1, member = is_rows ? 1 : n;
        const V eps = M::set1(static_cast<T>(form.eps)), one = M::set1(1);
#pragma GCC unroll 4
        for (int a = 0; a < n; ++a) {
            V sum = c[a * group];
#pragma GCC unroll 4
            for (int b = 1; b < n; ++b) sum = M::add(sum, c[a * group + b * member]);
            const V inverse = M::div(one, M::add(sum, eps));
#pragma GCC unroll 4
            for (int b = 0; b < n; ++b) {
                V& v = c[a * group + b * member];
                v = M::mul(v, inverse);
                if (kept) M::store(kept + (a * group + b * member) * kLanes, v);
            }
            if (kept) M::store(kept + (n * n + a) * kLanes, inverse);
        }
    }
    // y = c / (sum + eps) gives dc = (dy - sum dy y) / (sum + eps) within a group.
    [[gnu::always_inline]] void step_back(V* g, bool is_rows, const T* kept) const {
        const int n = streams(), group = is_rows ? n : 1, member = is_rows ? 1 : n;
#pragma GCC unroll 4
        for (int a = 0; a < n; ++a) {
            V dot = M::zero();
#pragma GCC unroll 4
            for (int b = 0; b < n; ++b) {
                const int i = a * group + b * member;
                dot = M::fma(g[i], M::load(kept + i * kLanes), dot);
            }
            const V inverse = M::load(kept + (n * n + a) * kLanes);
#pragma GCC unroll 4
            for (int b = 0; b < n; ++b) {
                V& v = g[a * group + b * member];
                v = M::mul(M::sub(v, dot), inverse);
            }
        }
    }
    // z planes to comb planes, in place. kept: may be null.
    void forward(T* planes, T* kept) const {
        const int n = streams(), nn = n * n;
        V c[N > 0 ? N * N : kMaxStreams * kMaxStreams];
        const V eps = M::set1(static_cast<T>(form.eps));
#pragma GCC unroll 4
        for (int j = 0; j < n; ++j) {
            V top = M::load(planes + j * n * kLanes), sum = M::zero();
#pragma GCC unroll 4
            for (int k = 1; k < n; ++k) top = M::max(top, M::load(planes + (j * n + k) * kLanes));
#pragma GCC unroll 4
            for (int k = 0; k < n; ++k) {
                V& v = c[j * n + k];
                v = M::exp_negative(M::sub(M::load(planes + (j * n + k) * kLanes), top));
                sum = M::add(sum, v);
            }
#pragma GCC unroll 4
            for (int k = 0; k < n; ++k) {
                const V p = M::div(c[j * n + k], sum);
                if (kept) M::store(kept + (j * n + k) * kLanes, p);
                c[j * n + k] = M::add(p, eps);
            }
        }
        T* at = kept ? kept + nn * kLanes : nullptr;
        const int64_t stride = kept ? int64_t{nn + n} * kLanes : 0;
        step(c, false, at);
        for (int i = 1; i < form.iters; ++i) {
            at += stride;
            step(c, true, at);
            at += stride;
            step(c, false, at);
        }
#pragma GCC unroll 16
        for (int i = 0; i < nn; ++i) M::store(planes + i * kLanes, c[i]);
    }
    // Gradient of comb (planes) to gradient of z, in place.
    void backward(T* planes, const T* kept) const {
        V g[N > 0 ? N * N : kMaxStreams * kMaxStreams];
        const int n = streams(), nn = n * n;
        const int64_t stride = int64_t{nn + n} * kLanes;
#pragma GCC unroll 16
        for (int i = 0; i < nn; ++i) g[i] = M::load(planes + i * kLanes);
        const T* at = kept + nn * kLanes + (2 * form.iters - 2) * stride;
        for (int i = form.iters - 1; i > 0; --i) {
            step_back(g, false, at);
            at -= stride;
            step_back(g, true, at);
            at -= stride;
        }
        step_back(g, false, at);
        for (int j = 0; j < n; ++j) {
            V dot = M::zero();
            for (int k = 0; k < n; ++k) dot = M::fma(g[j * n + k], M::load(kept + (j * n + k) * kLanes), dot);
            for (int k = 0; k < n; ++k) {
                const int i = j * n + k;
                M::store(planes + i * kLanes, M::mul(M::load(kept + i * kLanes), M::sub(g[i], dot)));
            }
        }
    }
};

// ---- the mixture of permutations on a block
template <class M>
struct Permutations {
    using V = typename M::V;
    using T = typename M::T;
    static constexpr int kLanes = M::kLanes;
    const HyperForm& form;
    const PermutationTable& to = permutation_table(form.n);

    // z planes [n!] to weights, in place.
    void softmax(T* z) const {
        V top = M::load(z), sum = M::zero();
        const int count = form.n_mixing();
        for (int p = 1; p < count; ++p) top = M::max(top, M::load(z + p * kLanes));
        for (int p = 0; p < count; ++p) {
            const V e = M::exp_negative(M::sub(M::load(z + p * kLanes), top));
            sum = M::add(sum, e);
            M::store(z + p * kLanes, e);
        }
        for (int p = 0; p < count; ++p) M::store(z + p * kLanes, M::div(M::load(z + p * kLanes), sum));
    }
    void forward(T* z, T* comb) const {
        softmax(z);
        const int n = form.n;
        for (int i = 0; i < n * n; ++i) M::store(comb + i * kLanes, M::zero());
        for (int p = 0; p < form.n_mixing(); ++p)
            for (int j = 0; j < n; ++j) {
                T* at = comb + (j * n + to[p][j]) * kLanes;
                M::store(at, M::add(M::load(at), M::load(z + p * kLanes)));
            }
    }
    // z holds logits; dz planes [n!] from dcomb planes [n²].
    void backward(T* z, const T* dcomb, T* dz) const {
        softmax(z);
        V dot = M::zero();
        for (int p = 0; p < form.n_mixing(); ++p) {
            V g = M::zero();
            for (int j = 0; j < form.n; ++j) g = M::add(g, M::load(dcomb + (j * form.n + to[p][j]) * kLanes));
            dot = M::fma(g, M::load(z + p * kLanes), dot);
            M::store(dz + p * kLanes, g);
        }
        for (int p = 0; p < form.n_mixing(); ++p)
            M::store(dz + p * kLanes, M::mul(M::load(z + p * kLanes), M::sub(M::load(dz + p * kLanes), dot)));
    }
};

// ---- one block of tokens
template <class M, int N>
class SiteBlock {
    using V = typename M::V;
    using T = typename M::T;
    static constexpr int kLanes = M::kLanes;

  public:
    SiteBlock(const HyperForm& form, const HyperRows<T>& rows, bool is_backward)
        : form_(form), rows_(rows), n_(N > 0 ? N : form.n), n_rows_(form.n_rows()), has_mixing_(!form.is_head) {
        const int64_t nn = int64_t{n_} * n_, kept = is_backward && is_sinkhorn() ? Sinkhorn<M, N>::kept_planes(form) : 0;
        const int64_t planes = 4 * n_rows_ + 2 * nn + 3 + kept;
        m_ = static_cast<T*>(thread_scratch(kSlotOther, static_cast<size_t>(planes * kLanes) * sizeof(T)));
        h_ = m_ + n_rows_ * kLanes, z_ = h_ + n_rows_ * kLanes, dz_ = z_ + n_rows_ * kLanes;
        comb_ = dz_ + n_rows_ * kLanes, dcomb_ = comb_ + nn * kLanes;
        scale_sums_ = dcomb_ + nn * kLanes, kept_ = scale_sums_ + 3 * kLanes;
    }
    void forward(int64_t t, int64_t lanes) {
        affine(t, lanes);
        const bool is_free = form_.map == MixingMap::free;
        for (int q = 0; q < (has_mixing_ ? 2 * n_ : n_) && !is_free; ++q) {
            const V s = sigmoid<M>(M::load(z_ + q * kLanes));
            M::store(z_ + q * kLanes, q < n_ ? M::add(s, M::set1(static_cast<T>(form_.eps))) : M::add(s, s));
        }
        scatter(z_, n_, lanes, rows_.pre + t * n_);
        if (!has_mixing_) return;
        scatter(z_ + n_ * kLanes, n_, lanes, rows_.post + t * n_);
        T* comb = z_ + 2 * n_ * kLanes;
        if (is_sinkhorn()) Sinkhorn<M, N>{form_}.forward(comb, nullptr);
        if (form_.map == MixingMap::permutations) Permutations<M>{form_}.forward(comb, comb_), comb = comb_;
        scatter(comb, n_ * n_, lanes, rows_.comb + t * n_ * n_);
    }
    // base_sums: [n_rows] planes that run over the blocks.
    void backward(int64_t t, int64_t lanes, const HyperRowGradients<T>& g, T* base_sums) {
        affine(t, lanes);
        gather(g.pre + t * n_, n_, lanes, dz_);
        if (has_mixing_) gather(g.post + t * n_, n_, lanes, dz_ + n_ * kLanes);
        if (has_mixing_) gather(g.comb + t * n_ * n_, n_ * n_, lanes, dcomb_);
        to_logits();
        const V r = factor_of(t, lanes);
        V dr = M::zero();
        for (int q = 0; q < n_rows_; ++q) {
            const V dz = M::load(dz_ + q * kLanes), h = M::load(h_ + q * kLanes), m = M::load(m_ + q * kLanes);
            M::store(base_sums + q * kLanes, M::add(M::load(base_sums + q * kLanes), dz));
            T* scale = scale_sums_ + part(q) * kLanes;
            M::store(scale, M::fma(dz, h, M::load(scale)));
            V dh = M::mul(dz, M::set1(rows_.scale[part(q)]));
            if (form_.map == MixingMap::free) dh = M::mul(dh, M::sub(M::set1(1), M::mul(h, h)));
            dr = M::fma(dh, m, dr);
            M::store(dz_ + q * kLanes, M::mul(dh, r));
        }
        store_part<M>(g.factor + t, dr, lanes);
        for (int64_t l = 0; l < lanes; ++l)
            for (int q = 0; q < n_rows_; ++q) g.m[(t + l) * n_rows_ + q] += dz_[q * kLanes + l];
    }
    void clear_scale_sums() {
        for (int i = 0; i < 3 * kLanes; ++i) scale_sums_[i] = 0;
    }
    void add_scale_sums(T* scale) const {
        for (int p = 0; p < (has_mixing_ ? 3 : 1); ++p)
            for (int l = 0; l < kLanes; ++l) scale[p] += scale_sums_[p * kLanes + l];
    }

  private:
    bool is_sinkhorn() const { return has_mixing_ && form_.map == MixingMap::sinkhorn; }
    int part(int q) const { return q < n_ ? 0 : q < 2 * n_ ? 1 : 2; }
    V factor_of(int64_t t, int64_t lanes) const { return load_part<M>(rows_.factor + t, lanes); }

    // Lanes beyond the last token compute with zeros and are never stored.
    static void gather(const T* rows, int64_t count, int64_t lanes, T* planes) {
        for (int64_t l = 0; l < lanes; ++l)
            for (int64_t q = 0; q < count; ++q) planes[q * kLanes + l] = rows[l * count + q];
        for (int64_t l = lanes; l < kLanes; ++l)
            for (int64_t q = 0; q < count; ++q) planes[q * kLanes + l] = 0;
    }
    static void scatter(const T* planes, int64_t count, int64_t lanes, T* rows) {
        for (int64_t l = 0; l < lanes; ++l)
            for (int64_t q = 0; q < count; ++q) rows[l * count + q] = planes[q * kLanes + l];
    }
    // m, h and z of the block.
    void affine(int64_t t, int64_t lanes) {
        gather(rows_.m + t * n_rows_, n_rows_, lanes, m_);
        const V r = factor_of(t, lanes);
        for (int q = 0; q < n_rows_; ++q) {
            V h = M::mul(M::load(m_ + q * kLanes), r);
            if (form_.map == MixingMap::free) h = tanh_of<M>(h);
            M::store(h_ + q * kLanes, h);
            M::store(z_ + q * kLanes, M::fma(h, M::set1(rows_.scale[part(q)]), M::set1(rows_.base[q])));
        }
    }
    // Gradients of pre, post (in dz_) and comb (in dcomb_) to gradients of z, in dz_.
    void to_logits() {
        for (int q = 0; q < (has_mixing_ ? 2 * n_ : n_) && form_.map != MixingMap::free; ++q) {
            const V s = sigmoid<M>(M::load(z_ + q * kLanes)), slope = M::mul(s, M::sub(M::set1(1), s));
            const V g = M::mul(M::load(dz_ + q * kLanes), slope);
            M::store(dz_ + q * kLanes, q < n_ ? g : M::add(g, g));
        }
        if (!has_mixing_) return;
        T *z = z_ + 2 * n_ * kLanes, *dz = dz_ + 2 * n_ * kLanes;
        if (form_.map == MixingMap::permutations) return Permutations<M>{form_}.backward(z, dcomb_, dz);
        for (int i = 0; i < n_ * n_; ++i) M::store(dz + i * kLanes, M::load(dcomb_ + i * kLanes));
        if (!is_sinkhorn()) return;
        Sinkhorn<M, N>{form_}.forward(z, kept_);
        Sinkhorn<M, N>{form_}.backward(dz, kept_);
    }

    const HyperForm& form_;
    const HyperRows<T>& rows_;
    int n_, n_rows_;
    bool has_mixing_;
    T *m_, *h_, *z_, *dz_, *comb_, *dcomb_, *scale_sums_, *kept_;
};

template <class M, int N>
void split_n(const HyperForm& form, const HyperRows<typename M::T>& rows, int64_t n_tokens) {
    SiteBlock<M, N> block(form, rows, false);
    for (int64_t t = 0; t < n_tokens; t += M::kLanes)
        block.forward(t, n_tokens - t < M::kLanes ? n_tokens - t : int64_t{M::kLanes});
}
template <class M>
void hyper_split(const HyperForm& form, const HyperRows<typename M::T>& rows, int64_t n_tokens) {
    form.n == 4 ? split_n<M, 4>(form, rows, n_tokens) : split_n<M, 0>(form, rows, n_tokens);
}

template <class M, int N>
void split_backward_n(const HyperForm& form, const HyperRows<typename M::T>& rows,
                      const HyperRowGradients<typename M::T>& g, int64_t n_tokens) {
    alignas(64) typename M::T base_sums[(2 * kMaxStreams + kMaxStreams * kMaxStreams) * M::kLanes];
    const int n_rows = form.n_rows();
    for (int i = 0; i < n_rows * M::kLanes; ++i) base_sums[i] = 0;
    SiteBlock<M, N> block(form, rows, true);
    block.clear_scale_sums();
    for (int64_t t = 0; t < n_tokens; t += M::kLanes)
        block.backward(t, n_tokens - t < M::kLanes ? n_tokens - t : int64_t{M::kLanes}, g, base_sums);
    for (int q = 0; q < n_rows; ++q)
        for (int l = 0; l < M::kLanes; ++l) g.base[q] += base_sums[q * M::kLanes + l];
    block.add_scale_sums(g.scale);
}
template <class M>
void hyper_split_backward(const HyperForm& form, const HyperRows<typename M::T>& rows,
                          const HyperRowGradients<typename M::T>& g, int64_t n_tokens) {
    form.n == 4 ? split_backward_n<M, 4>(form, rows, g, n_tokens) : split_backward_n<M, 0>(form, rows, g, n_tokens);
}

// ---- streams
template <class M>
void hyper_factors(const typename M::T* x, int64_t n_tokens, int64_t width, double eps, typename M::T* factor) {
    using T = typename M::T;
    for (int64_t t = 0; t < n_tokens; ++t) {
        auto sum = M::zero();
        for (int64_t i = 0; i < width; i += M::kLanes) {
            const auto v = load_part<M>(x + t * width + i, width - i);
            sum = M::fma(v, v, sum);
        }
        T four[4];
        M::sum4(sum, M::zero(), M::zero(), M::zero(), four);
        factor[t] = 1 / M::root(four[0] / static_cast<T>(width) + static_cast<T>(eps));
    }
}

template <class M>
void hyper_collapse(const typename M::T* x, const typename M::T* pre, int64_t n_tokens, int64_t n, int64_t d,
                    typename M::T* u) {
    for (int64_t t = 0; t < n_tokens; ++t, x += n * d, pre += n, u += d)
        for (int64_t i = 0; i < d; i += M::kLanes) {
            auto sum = M::mul(M::set1(pre[0]), load_part<M>(x + i, d - i));
            for (int64_t j = 1; j < n; ++j) sum = M::fma(M::set1(pre[j]), load_part<M>(x + j * d + i, d - i), sum);
            store_part<M>(u + i, sum, d - i);
        }
}

// out[j] (+)= g . x[j] for four rows (or fewer) at a time.
template <class M, bool kAdds>
[[gnu::always_inline]] inline void row_products(const typename M::T* g, const typename M::T* x, int64_t ldx, int64_t n,
                                                int64_t d, int64_t stride, typename M::T* out) {
    for (int64_t j = 0; j < n; j += 4) {
        const int64_t rows = n - j < 4 ? n - j : 4;
        typename M::V sum[4] = {M::zero(), M::zero(), M::zero(), M::zero()};
        for (int64_t i = 0; i < d; i += M::kLanes) {
            const auto v = load_part<M>(g + i, d - i);
#pragma GCC unroll 4
            for (int64_t a = 0; a < 4; ++a)
                if (a < rows) sum[a] = M::fma(v, load_part<M>(x + (j + a) * ldx + i, d - i), sum[a]);
        }
        typename M::T four[4];
        M::sum4(sum[0], sum[1], sum[2], sum[3], four);
        for (int64_t a = 0; a < rows; ++a) {
            typename M::T& to = out[(j + a) * stride];
            to = kAdds ? to + four[a] : four[a];
        }
    }
}

template <class M>
void hyper_collapse_to_pre(const typename M::T* x, const typename M::T* du, int64_t n_tokens, int64_t n, int64_t d,
                           typename M::T* dpre) {
    for (int64_t t = 0; t < n_tokens; ++t) row_products<M, true>(du + t * d, x + t * n * d, d, n, d, 1, dpre + t * n);
}

template <class M>
void hyper_collapse_to_x(const typename M::T* x, const typename M::T* du, const typename M::T* pre,
                         const typename M::T* shared, int64_t n_tokens, int64_t n, int64_t d, typename M::T* dx) {
    for (int64_t t = 0; t < n_tokens; ++t, x += n * d, dx += n * d, pre += n, du += d)
        for (int64_t i = 0; i < d; i += M::kLanes) {
            const auto g = load_part<M>(du + i, d - i);
            for (int64_t j = 0; j < n; ++j) {
                auto sum = M::fma(M::set1(pre[j]), g, load_part<M>(dx + j * d + i, d - i));
                sum = M::fma(M::set1(shared[t]), load_part<M>(x + j * d + i, d - i), sum);
                store_part<M>(dx + j * d + i, sum, d - i);
            }
        }
}

// C [kRows, 4 vectors] += sum over k of a[k][r] b[k], where row r of C lies ldc apart and a's element (k, r) at a[k * ak + r * ar].
template <class M, int kRows>
[[gnu::always_inline]] inline void outer_tile(const typename M::T* a, int64_t ak, int64_t ar, const typename M::T* b, int64_t ldb,
                                              int64_t n_k, int64_t n_columns, typename M::T* c, int64_t ldc) {
    using V = typename M::V;
    constexpr int kVectors = 4;
    V sum[kRows][kVectors];
    const auto left = [&](int v) { return n_columns - v * M::kLanes; };
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v)
            sum[r][v] = left(v) > 0 ? load_part<M>(c + r * ldc + v * M::kLanes, left(v)) : M::zero();
    for (int64_t k = 0; k < n_k; ++k) {
        V row[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v)
            row[v] = left(v) > 0 ? load_part<M>(b + k * ldb + v * M::kLanes, left(v)) : M::zero();
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
            const V factor = M::set1(a[k * ak + r * ar]);
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) sum[r][v] = M::fma(factor, row[v], sum[r][v]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v)
            if (left(v) > 0) store_part<M>(c + r * ldc + v * M::kLanes, sum[r][v], left(v));
}

template <class M>
void outer_sum(const typename M::T* a, int64_t ak, int64_t ar, const typename M::T* b, int64_t n_k, int64_t n_rows, int64_t width,
               typename M::T* c) {
    constexpr int64_t kColumns = 4 * M::kLanes;
    for (int64_t i = 0; i < width; i += kColumns) {
        const int64_t columns = width - i < kColumns ? width - i : kColumns;
        int64_t r = 0;
        for (; r + 4 <= n_rows; r += 4)
            outer_tile<M, 4>(a + r * ar, ak, ar, b + i, width, n_k, columns, c + r * width + i, width);
        for (; r < n_rows; ++r)
            outer_tile<M, 1>(a + r * ar, ak, ar, b + i, width, n_k, columns, c + r * width + i, width);
    }
}
template <class M>
void hyper_project_to_x(const typename M::T* dm, const typename M::T* fn, int64_t n_tokens, int64_t n_rows, int64_t width,
                        typename M::T* dx) {
    outer_sum<M>(dm, 1, n_rows, fn, n_rows, n_tokens, width, dx);
}
template <class M>
void hyper_project_to_fn(const typename M::T* dm, const typename M::T* x, int64_t n_tokens, int64_t n_rows, int64_t width,
                         typename M::T* dfn) {
    outer_sum<M>(dm, n_rows, 1, x, n_tokens, n_rows, width, dfn);
}

template <class M>
void hyper_mix(const HyperStreams<typename M::T>& s, typename M::T* y) {
    const int64_t n = s.n, d = s.d;
    for (int64_t t = 0; t < s.n_tokens; ++t) {
        const auto *x = s.x + t * n * d, *f = s.f + t * d, *post = s.post + t * n, *comb = s.comb + t * n * n;
        for (int64_t i = 0; i < d; i += M::kLanes) {
            const auto fi = load_part<M>(f + i, d - i);
            for (int64_t k = 0; k < n; ++k) {
                auto sum = M::mul(M::set1(post[k]), fi);
                for (int64_t j = 0; j < n; ++j)
                    sum = M::fma(M::set1(comb[j * n + k]), load_part<M>(x + j * d + i, d - i), sum);
                store_part<M>(y + (t * n + k) * d + i, sum, d - i);
            }
        }
    }
}

// Four streams: every dY, X and F is loaded once, the twenty products stay in registers.
template <class M>
[[gnu::always_inline]] inline void mix_back_four(const typename M::T* x, const typename M::T* f, const typename M::T* post,
                                                 const typename M::T* comb, const typename M::T* dy, int64_t d,
                                                 typename M::T* df, typename M::T* dx, typename M::T* dpost,
                                                 typename M::T* dcomb) {
    using V = typename M::V;
    V sum[20];
#pragma GCC unroll 20
    for (int i = 0; i < 20; ++i) sum[i] = M::zero();
    for (int64_t i = 0; i < d; i += M::kLanes) {
        V g[4];
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) g[k] = load_part<M>(dy + k * d + i, d - i);
        const V fi = load_part<M>(f + i, d - i);
        V dfi = load_part<M>(df + i, d - i);
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) sum[k] = M::fma(fi, g[k], sum[k]), dfi = M::fma(M::set1(post[k]), g[k], dfi);
        store_part<M>(df + i, dfi, d - i);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
            const V xj = load_part<M>(x + j * d + i, d - i);
            V dxj = load_part<M>(dx + j * d + i, d - i);
#pragma GCC unroll 4
            for (int k = 0; k < 4; ++k) {
                sum[4 + 4 * j + k] = M::fma(xj, g[k], sum[4 + 4 * j + k]);
                dxj = M::fma(M::set1(comb[4 * j + k]), g[k], dxj);
            }
            store_part<M>(dx + j * d + i, dxj, d - i);
        }
    }
    M::sum4(sum[0], sum[1], sum[2], sum[3], dpost);
#pragma GCC unroll 4
    for (int j = 1; j < 5; ++j) M::sum4(sum[4 * j], sum[4 * j + 1], sum[4 * j + 2], sum[4 * j + 3], dcomb + 4 * (j - 1));
}

template <class M>
void hyper_mix_backward(const HyperStreams<typename M::T>& s, const typename M::T* dy, typename M::T* df, typename M::T* dx,
                        typename M::T* dpost, typename M::T* dcomb) {
    const int64_t n = s.n, d = s.d;
    for (int64_t t = 0; t < s.n_tokens; ++t, dy += n * d, df += d, dx += n * d, dpost += n, dcomb += n * n) {
        const auto *x = s.x + t * n * d, *f = s.f + t * d, *post = s.post + t * n, *comb = s.comb + t * n * n;
        if (n == 4) {
            mix_back_four<M>(x, f, post, comb, dy, d, df, dx, dpost, dcomb);
            continue;
        }
        row_products<M, false>(f, dy, d, n, d, 1, dpost);
        for (int64_t j = 0; j < n; ++j) row_products<M, false>(x + j * d, dy, d, n, d, 1, dcomb + j * n);
        for (int64_t i = 0; i < d; i += M::kLanes)
            for (int64_t k = 0; k < n; ++k) {
                const auto g = load_part<M>(dy + k * d + i, d - i);
                store_part<M>(df + i, M::fma(M::set1(post[k]), g, load_part<M>(df + i, d - i)), d - i);
                for (int64_t j = 0; j < n; ++j) {
                    auto* to = dx + j * d + i;
                    store_part<M>(to, M::fma(M::set1(comb[j * n + k]), g, load_part<M>(to, d - i)), d - i);
                }
            }
    }
}

template <class M>
constexpr HyperKernels<typename M::T> hyper_table() {
    return {hyper_split<M>,         hyper_split_backward<M>, hyper_factors<M>,       hyper_collapse<M>, hyper_collapse_to_pre<M>,
            hyper_collapse_to_x<M>, hyper_project_to_x<M>,   hyper_project_to_fn<M>, hyper_mix<M>,      hyper_mix_backward<M>};
}

}  // namespace
}  // namespace vitrine::cpu
