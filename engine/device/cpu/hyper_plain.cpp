// Hyper-connections in plain loops, for float and double; and which table runs on this processor.
#include <algorithm>
#include <cmath>

#include "engine/base/error.h"
#include "engine/device/cpu/hyper_impl.h"
#include "engine/device/cpu/kernels.h"

namespace vitrine::cpu {
namespace {

// One token, one value at a time.
template <class Real>
struct Plain {
    using T = Real;
    using V = Real;
    static constexpr int kLanes = 1;
    static V zero() { return 0; }
    static V set1(T x) { return x; }
    static V load(const T* p) { return *p; }
    static V load_n(const T* p, int64_t) { return *p; }
    static void store(T* p, V v) { *p = v; }
    static void store_n(T* p, V v, int64_t) { *p = v; }
    static V add(V a, V b) { return a + b; }
    static V sub(V a, V b) { return a - b; }
    static V mul(V a, V b) { return a * b; }
    static V div(V a, V b) { return a / b; }
    static V max(V a, V b) { return a > b ? a : b; }
    static V fma(V a, V b, V c) { return a * b + c; }
    static V exp_negative(V x) { return std::exp(x); }
    static T root(T x) { return std::sqrt(x); }
    static void sum4(V a, V b, V c, V d, T* out) { out[0] = a, out[1] = b, out[2] = c, out[3] = d; }
};

int factorial(int n) { return n < 2 ? 1 : n * factorial(n - 1); }

}  // namespace

int HyperForm::n_mixing() const { return map == MixingMap::permutations ? factorial(n) : n * n; }

const PermutationTable& permutation_table(int n) {
    struct All {
        PermutationTable to[kMaxPermutedStreams + 1] = {};
        All() {
            for (int m = 1; m <= kMaxPermutedStreams; ++m) {
                uint8_t order[kMaxPermutedStreams] = {0, 1, 2, 3};
                int p = 0;
                do {
                    std::copy_n(order, m, to[m][p++]);
                } while (std::next_permutation(order, order + m));
            }
        }
    };
    static const All all;
    VITRINE_ASSERT(n >= 1 && n <= kMaxPermutedStreams);
    return all.to[n];
}

template <class T>
const HyperKernels<T>& plain_hyper_kernels() {
    static constexpr HyperKernels<T> table = hyper_table<Plain<T>>();
    return table;
}
template const HyperKernels<float>& plain_hyper_kernels();
template const HyperKernels<double>& plain_hyper_kernels();

template <>
const HyperKernels<float>& hyper_kernels<float>() { return *kernels().hyper; }
template <>
const HyperKernels<double>& hyper_kernels<double>() { return plain_hyper_kernels<double>(); }

}  // namespace vitrine::cpu
