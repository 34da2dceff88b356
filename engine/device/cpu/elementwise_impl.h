// Row-wise pieces between the matrix products, written once for every instruction set.
//
// For kernels_<isa>.cpp only (unnamed namespace: see isa_avx512.h). Each works on one row; sums run per lane, then across lanes.
// `bf16`: the result is rounded to BF16 (numerics `reference`), in the same pass.
#pragma once
#include "engine/device/cpu/attend_impl.h"

namespace vitrine::cpu {
namespace {

// f(i, n): element offset, and how many of the vector's lanes count.
template <class Isa, class F>
[[gnu::always_inline]] inline void over_row(int64_t n, F&& f) {
    int64_t i = 0;
    for (; i + Isa::kLanes <= n; i += Isa::kLanes) f(i, static_cast<int64_t>(Isa::kLanes));
    if (i < n) f(i, n - i);
}
template <class Isa>
[[gnu::always_inline]] inline typename Isa::V load_lanes(const float* p, int64_t n) {
    return n == Isa::kLanes ? Isa::load(p) : Isa::load_n(p, n);
}
template <class Isa>
[[gnu::always_inline]] inline void store_lanes(float* p, typename Isa::V v, int64_t n, bool bf16) {
    if (bf16) v = Isa::round_bf16(v);
    n == Isa::kLanes ? Isa::store(p, v) : Isa::store_n(p, v, n);
}

template <class Isa>
void round_row(float* x, int64_t n) {
    over_row<Isa>(n, [&](int64_t i, int64_t lanes) { store_lanes<Isa>(x + i, load_lanes<Isa>(x + i, lanes), lanes, true); });
}

template <class Isa>
void weighted_sum(const float* const* rows, const float* a, int64_t n_rows, int64_t n, bool bf16, float* y) {
    over_row<Isa>(n, [&](int64_t i, int64_t lanes) {
        auto sum = Isa::mul(Isa::set1(a[0]), load_lanes<Isa>(rows[0] + i, lanes));
        for (int64_t j = 1; j < n_rows; ++j) sum = Isa::fma(Isa::set1(a[j]), load_lanes<Isa>(rows[j] + i, lanes), sum);
        store_lanes<Isa>(y + i, sum, lanes, bf16);
    });
}

template <class Isa>
void rms_row(const float* x, const float* w, int64_t n, float eps, bool bf16, float* y) {
    auto sum = Isa::zero();
    over_row<Isa>(n, [&](int64_t i, int64_t lanes) {
        const auto v = load_lanes<Isa>(x + i, lanes);
        sum = Isa::fma(v, v, sum);
    });
    const float f = 1.0f / __builtin_sqrtf(Isa::sum(sum) / static_cast<float>(n) + eps);
    const auto factor = Isa::set1(f);
    over_row<Isa>(n, [&](int64_t i, int64_t lanes) {
        const auto v = Isa::mul(load_lanes<Isa>(x + i, lanes), factor);
        store_lanes<Isa>(y + i, w ? Isa::mul(load_lanes<Isa>(w + i, lanes), v) : v, lanes, bf16);
    });
}

// sigma(g) = e^min(g,0) / (1 + e^-|g|): neither power overflows.
template <class Isa>
void swiglu_row(const float* gate, const float* up, int64_t n, float limit, float weight, bool bf16, float* h) {
    const auto minus = [](typename Isa::V v) { return Isa::sub(Isa::zero(), v); };
    const auto lower = [&](typename Isa::V a, typename Isa::V b) { return minus(Isa::max(minus(a), minus(b))); };
    const auto top = Isa::set1(limit), bottom = Isa::set1(-limit), one = Isa::set1(1.0f), scale = Isa::set1(weight);
    over_row<Isa>(n, [&](int64_t i, int64_t lanes) {
        auto g = load_lanes<Isa>(gate + i, lanes), u = load_lanes<Isa>(up + i, lanes);
        if (bf16) g = Isa::round_bf16(g), u = Isa::round_bf16(u);
        g = lower(top, g);
        u = Isa::max(bottom, lower(top, u));
        const auto upper = exp_negative<Isa>(lower(Isa::zero(), g));
        const auto below = Isa::add(one, exp_negative<Isa>(lower(g, minus(g))));
        const auto silu = Isa::mul(g, Isa::div(upper, below));
        store_lanes<Isa>(h + i, Isa::mul(Isa::mul(scale, silu), u), lanes, bf16);
    });
}

using Floats8 = float __attribute__((vector_size(32)));
using Doubles8 = double __attribute__((vector_size(64)));
[[gnu::always_inline]] inline void add_eight(Doubles8& sum, const float* p) {
    Floats8 v;
    __builtin_memcpy(&v, p, sizeof v);
    sum += __builtin_convertvector(v, Doubles8);
}

template <class Isa>
void sum_rows(const float* x, int64_t n_rows, int64_t n, double* y) {
    int64_t j = 0;
    for (; j + 8 <= n; j += 8) {
        Doubles8 sum{};
        for (int64_t r = 0; r < n_rows; ++r) add_eight(sum, x + r * n + j);
        __builtin_memcpy(y + j, &sum, sizeof sum);
    }
    for (; j < n; ++j) {
        y[j] = 0;
        for (int64_t r = 0; r < n_rows; ++r) y[j] += x[r * n + j];
    }
}

template <class Isa>
double sum(const float* x, int64_t n) {
    Doubles8 eight{};
    double total = 0;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) add_eight(eight, x + i);
    for (; i < n; ++i) total += x[i];
    for (int l = 0; l < 8; ++l) total += eight[l];
    return total;
}

template <class Isa>
float exp_row(const float* x, int64_t n, float top, float* y) {
    auto sum = Isa::zero();
    over_row<Isa>(n, [&](int64_t i, int64_t lanes) {
        const auto e = exp_negative<Isa>(Isa::sub(load_lanes<Isa>(x + i, lanes), Isa::set1(top)));
        sum = Isa::add(sum, lanes == Isa::kLanes ? e : Isa::select_n(e, Isa::zero(), lanes));
        if (y) store_lanes<Isa>(y + i, e, lanes, false);
    });
    return Isa::sum(sum);
}

template <class Isa>
void exp_axpy(float a, const float* x, int64_t n, float top, float* y) {
    over_row<Isa>(n, [&](int64_t i, int64_t lanes) {
        const auto e = exp_negative<Isa>(Isa::sub(load_lanes<Isa>(x + i, lanes), Isa::set1(top)));
        store_lanes<Isa>(y + i, Isa::fma(Isa::set1(a), e, load_lanes<Isa>(y + i, lanes)), lanes, false);
    });
}

template <class Isa>
float swiglu_backward_row(const float* gate, const float* up, const float* dh, int64_t n, float limit, float weight, float* h,
                          float* dgate, float* dup) {
    using V = typename Isa::V;
    const auto minus = [](V v) { return Isa::sub(Isa::zero(), v); };
    const auto lower = [&](V a, V b) { return minus(Isa::max(minus(a), minus(b))); };
    const V top = Isa::set1(limit), bottom = Isa::set1(-limit), one = Isa::set1(1.0f), scale = Isa::set1(weight);
    // 1 where nothing was cut off, else 0: the smallest cut times this is far above 1.
    const auto passes = [&](V cut) { return Isa::max(Isa::zero(), Isa::sub(one, Isa::mul(Isa::set1(1e30f), cut))); };
    V dweight = Isa::zero();
    over_row<Isa>(n, [&](int64_t i, int64_t lanes) {
        const V gate_v = load_lanes<Isa>(gate + i, lanes), up_v = load_lanes<Isa>(up + i, lanes);
        const V dh_v = load_lanes<Isa>(dh + i, lanes);
        const V g = lower(top, gate_v), u = Isa::max(bottom, lower(top, up_v)), cut = Isa::sub(up_v, u);
        const V upper = exp_negative<Isa>(lower(Isa::zero(), g));
        const V sigma = Isa::div(upper, Isa::add(one, exp_negative<Isa>(lower(g, minus(g)))));
        const V silu = Isa::mul(g, sigma), d = Isa::mul(scale, dh_v);
        dweight = Isa::fma(dh_v, Isa::mul(silu, u), dweight);  // lanes beyond the row are zeros
        const V slope = Isa::mul(sigma, Isa::fma(g, Isa::sub(one, sigma), one));
        store_lanes<Isa>(h + i, Isa::mul(Isa::mul(scale, silu), u), lanes, false);
        store_lanes<Isa>(dgate + i, Isa::mul(Isa::mul(Isa::mul(d, u), slope), passes(Isa::sub(gate_v, g))), lanes, false);
        store_lanes<Isa>(dup + i, Isa::mul(Isa::mul(d, silu), passes(Isa::max(cut, minus(cut)))), lanes, false);
    });
    return Isa::sum(dweight);
}

}  // namespace
}  // namespace vitrine::cpu
