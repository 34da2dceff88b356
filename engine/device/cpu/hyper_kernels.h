// The hot loops of hyper-connections, forward and backward: coefficients for many tokens at once, streams row by row.
//
// Derivations: docs/math/hyper.md. Callers own the parallel split, as in kernels.h; a token's results do not depend on which
// other tokens share its call. Sums over tokens (base, scale) run in an order that depends on the call's tokens alone.
#pragma once
#include <cstdint>

namespace vitrine::cpu {

// How a site's mixing matrix is made from its projections (z = h scale + base, h = m r).
enum class MixingMap : uint8_t {
    sinkhorn,      // Sinkhorn of z; pre = sigma(z) + eps, post = 2 sigma(z)                          (mHC, v4-spec 2.2)
    permutations,  // the n! permutation matrices, weighted by softmax(z); pre and post as above      (mHC-lite)
    free,          // h = tanh(m r); comb, pre and post are z themselves                              (hyper-connections)
};
constexpr int kMaxPermutedStreams = 4;

struct HyperForm {
    MixingMap map = MixingMap::sinkhorn;
    int n = 0;              // streams
    int iters = 1;          // of Sinkhorn: row and column steps each, the softmax being the first row step
    double eps = 0;         // hc_eps
    bool is_head = false;   // the final collapse: pre alone, one scale
    int n_mixing() const;   // rows of fn that make the mixing matrix: n², or n! with permutations
    int n_rows() const { return is_head ? n : 2 * n + n_mixing(); }
};
// Row p: where permutation p of 0..n-1 sends each of them; in lexicographic order, so that row 0 is the identity. n <= 4.
using PermutationTable = uint8_t[24][kMaxPermutedStreams];
const PermutationTable& permutation_table(int n);

// All by tokens in rows: m [T, n_rows], factor [T] (r of the RMS norm), pre and post [T, n], comb [T, n, n] (C[from][to]);
// base [n_rows], scale [3] (head: [1]).
template <class T>
struct HyperRows {
    const T *m, *factor, *base, *scale;
    T *pre, *post, *comb;  // written by split; not read by split_backward
};
template <class T>
struct HyperRowGradients {
    const T *pre, *post, *comb;  // of the loss
    T *m;                        // added to
    T *factor;                   // [T], written
    T *base, *scale;             // added to
};
template <class T>
struct HyperStreams {  // X [T, n, d], F [T, d]; coefficients as above
    int64_t n_tokens, n, d;
    const T *x, *f, *post, *comb;
};

template <class T>
struct HyperKernels {
    void (*split)(const HyperForm& form, const HyperRows<T>& rows, int64_t n_tokens);
    void (*split_backward)(const HyperForm& form, const HyperRows<T>& rows, const HyperRowGradients<T>& g, int64_t n_tokens);
    // factor[t] = 1/sqrt(mean(x_t^2) + eps) over `width` values
    void (*factors)(const T* x, int64_t n_tokens, int64_t width, double eps, T* factor);
    // u[t] = sum_j pre[t][j] x[t][j]; dpre[t][j] += du[t] . x[t][j]; dx[t][j] += pre[t][j] du[t] + shared[t] x[t][j]
    void (*collapse)(const T* x, const T* pre, int64_t n_tokens, int64_t n, int64_t d, T* u);
    void (*collapse_to_pre)(const T* x, const T* du, int64_t n_tokens, int64_t n, int64_t d, T* dpre);
    void (*collapse_to_x)(const T* x, const T* du, const T* pre, const T* shared, int64_t n_tokens, int64_t n, int64_t d, T* dx);
    // The projections' backward: dx[t] += sum_q dm[t][q] fn[q]; dfn[q] += sum_t dm[t][q] x[t]. Rows of `width` values.
    void (*project_to_x)(const T* dm, const T* fn, int64_t n_tokens, int64_t n_rows, int64_t width, T* dx);
    void (*project_to_fn)(const T* dm, const T* x, int64_t n_tokens, int64_t n_rows, int64_t width, T* dfn);
    // y[t][k] = post[t][k] f[t] + sum_j comb[t][j][k] x[t][j]; its backward adds to df, dx and writes dpost, dcomb.
    void (*mix)(const HyperStreams<T>& s, T* y);
    void (*mix_backward)(const HyperStreams<T>& s, const T* dy, T* df, T* dx, T* dpost, T* dcomb);
};

// For this processor; double runs in plain loops.
template <class T>
const HyperKernels<T>& hyper_kernels();
// Plain loops, float or double: what the others are tested against.
template <class T>
const HyperKernels<T>& plain_hyper_kernels();

}  // namespace vitrine::cpu
