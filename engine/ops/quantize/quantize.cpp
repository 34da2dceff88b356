// The rounding steps of the `reference` numerics.
#include "engine/ops/quantize/quantize.h"

#include <cmath>

#include "engine/device/cpu/formats.h"

namespace vitrine {

void round_output(const Ctx& ctx, const Tensor& x) {
    if (!ctx.is_reference()) return;
    float* p = x.f32();
    ctx.pool.parallel_for(x.count(), 1 << 14, [p](int64_t i0, int64_t i1) {
        cpu::kernels().round_row(p + i0, i1 - i0);
    });
}

void simulate_fp8_rows(const Ctx& ctx, const Tensor& x, int block) {
    const int64_t n_rows = x.dim(0), width = x.count() / n_rows;
    float* p = x.f32();
    ctx.pool.parallel_for(n_rows, 8, [=](int64_t r0, int64_t r1) {
        for (int64_t r = r0; r < r1; ++r) cpu::fp8_simulate(p + r * width, width, block);
    });
}

namespace {

template <class T>
void walsh_of(T* x, int n) {
    for (int h = 1; h < n; h *= 2)
        for (int i = 0; i < n; i += 2 * h)
            for (int j = i; j < i + h; ++j) {
                const T a = x[j], b = x[j + h];
                x[j] = a + b;
                x[j + h] = a - b;
            }
    const auto f = static_cast<T>(1.0 / std::sqrt(static_cast<double>(n)));
    for (int i = 0; i < n; ++i) x[i] *= f;
}

}  // namespace

void walsh(float* x, int n) { walsh_of(x, n); }
void walsh(double* x, int n) { walsh_of(x, n); }

void hadamard(float* x, int n) {
    walsh(x, n);
    for (int i = 0; i < n; ++i) x[i] = cpu::round_bf16(x[i]);
}

void simulate_fp4(float* x, int n) { cpu::fp4_simulate(x, n, cpu::kIndexKeyBlock); }

}  // namespace vitrine
