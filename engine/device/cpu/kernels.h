// The CPU's hot loops behind one table of functions, chosen once at start-up from what the processor has.
//
// Callers own the parallel split: a kernel works on the rows it is given, on one thread, in an order that depends on
// shapes alone. Weights stay in their packed format and are widened in registers. All pointers are to row-major data;
// `ld` are distances between rows in elements.
#pragma once
#include <cstdint>

#include "engine/device/cpu/hyper_kernels.h"
#include "engine/tensor/tensor.h"

namespace vitrine::cpu {

// A weight matrix [out, in] as it lies in the file. dtype f32, f64, f16, bf16: `scale` unused. f8_e4m3: one scale per
// block of 128x128 (block_rows x block_cols), F8_E8M0 or F32. fp4_e2m1: two codes a byte, low nibble = even column, one
// F8_E8M0 scale per row and 32 columns (block_rows 1, block_cols 32). Scale grid is row-major [ceil(out/block_rows),
// ceil(in/block_cols)].
struct PackedMatrix {
    const void* data = nullptr;
    const void* scale = nullptr;
    DType dtype = DType::f32;
    DType scale_dtype = DType::f8_e8m0;
    int64_t out = 0, in = 0;
    int block_rows = 0, block_cols = 0;
    uint64_t bytes() const;  // of data and scales
};
// Row `row` as `in` floats (an embedding, a test): w.dtype as above.
void widen_row(const PackedMatrix& w, int64_t row, float* out);

// How a packed cache row is laid out (v4-spec 4.8): c - R FP8 codes, R BF16 values, ceil((c-R)/64) E8M0 scales, zero
// pad to 8.
struct EntryFormat {
    bool is_packed = false;  // false: c floats
    int c = 0, rope = 0;
    int64_t row_bytes() const;
};
// Index keys: ceil(D/2) nibbles (low = even), then ceil(D/32) E8M0 scales; or D floats.
struct IndexKeyFormat {
    bool is_packed = false;
    int d = 0;
    int64_t row_bytes() const;
};

// A result has the same bits wherever the caller cuts outputs, heads or keys, and whatever the other rows of x are (but
// for AMX tiles, which sum in another order than calls with fewer than 16 rows). Every call packs its x, so with many
// rows of x give gemm pieces of at least 128 outputs. Kernels keep scratch memory per thread; it grows to the largest
// call.
struct Kernels {
    const char* name;  // "avx512_bf16", "avx2", "scalar", ...

    // y[m][o] = sum_i x[m][i] * W[o][i] for o in [o0, o1): FP32 activations and accumulation.
    void (*gemm)(const PackedMatrix& w, const float* x, int64_t ldx, int64_t m, float* y, int64_t ldy, int64_t o0,
                 int64_t o1);
    // The same when every x is exactly representable in BF16 (numerics `reference`): may use BF16 dot and tile
    // instructions with FP32 accumulation. For f8/fp4 weights x carries its own FP8 quantisation already.
    void (*gemm_bf16)(const PackedMatrix& w, const float* x, int64_t ldx, int64_t m, float* y, int64_t ldy, int64_t o0,
                      int64_t o1);

    float (*dot)(const float* a, const float* b, int64_t n);
    void (*axpy)(float a, const float* x, float* y, int64_t n);  // y += a*x

    // One query token against n rows that are key and value at once (v4-spec 3.6), heads [h0, h1) of q [H, c].
    // out[h] = sum_j p_j row_j / Z with p_j = exp(scale*q.row_j - M), Z = sum p_j + exp(sink_h - M). `probs` (may be
    // null): p_j/Z to probs[h*n + j]; sink_probs (may be null): exp(sink-M)/Z to sink_probs[h]. p_bf16: round p to BF16
    // before the product with the rows (reference; where q is BF16 values too and rows are packed, products are of BF16
    // pairs). sinks may be null: none. out, probs and sink_probs are indexed by the head's own number. scratch: at
    // least attend_scratch_floats(n, c, h1 - h0) floats, private to the caller.
    void (*attend)(const EntryFormat& format, const void* const* rows, int64_t n, const float* q, int64_t h0,
                   int64_t h1, float scale, const float* sinks, bool p_bf16, float* out, float* probs,
                   float* sink_probs, float* scratch);
    int64_t (*attend_scratch_floats)(int64_t n, int64_t c, int64_t n_heads);

    // scores[s] = sum_h w[h] * max(0, Q[h] . key_s) for n keys lying row_bytes apart from `keys` (v4-spec 4.6).
    // Packed keys of 128 dims with q after the FP4 simulation are summed in exact integers.
    // bf16_scores: the reference's rounding (dot to BF16, product with w to BF16, head sum to BF16).
    void (*index_scores)(const IndexKeyFormat& format, const void* keys, int64_t n, const float* q, const float* w,
                         int64_t n_heads, bool bf16_scores, float* scores);

    // One row each; `bf16` rounds the result to BF16 in the same pass. y may be x where both are given.
    void (*round_row)(float* x, int64_t n);  // x = bf16(x)
    // y = sum_j a_j row_j
    void (*weighted_sum)(const float* const* rows, const float* a, int64_t n_rows, int64_t n, bool bf16, float* y);
    // y = w x / sqrt(mean(x^2) + eps); w may be null: no weight.
    void (*rms_row)(const float* x, const float* w, int64_t n, float eps, bool bf16, float* y);
    // h = weight * silu(min(gate, limit)) * clamp(up, -limit, limit); `bf16` rounds gate and up first, h last.
    void (*swiglu_row)(const float* gate, const float* up, int64_t n, float limit, float weight, bool bf16, float* h);

    // In double, for what is watched: y_j = sum over rows of x [n_rows, n], rows in order; and the sum of one row, eight sums
    // side by side: the rest of fewer than eight first, then those in order.
    void (*sum_rows)(const float* x, int64_t n_rows, int64_t n, double* y);
    double (*sum)(const float* x, int64_t n);

    // For training. y_i = exp(x_i - top) for x_i <= top; y may be null; returns their sum.
    float (*exp_row)(const float* x, int64_t n, float top, float* y);
    // y_i += a exp(x_i - top)
    void (*exp_axpy)(float a, const float* x, int64_t n, float top, float* y);
    // From dh, the gradient of swiglu_row's h: gradients of gate and up (0 where clamped), h itself; returns the gradient of
    // weight. dup may be dh.
    float (*swiglu_backward_row)(const float* gate, const float* up, const float* dh, int64_t n, float limit, float weight,
                                 float* h, float* dgate, float* dup);

    const HyperKernels<float>* hyper;  // hyper-connections: hyper_kernels.h
};

const Kernels& kernels();         // the best for this processor; never changes after the first call
const Kernels& scalar_kernels();  // plain loops: what the others are tested against

}  // namespace vitrine::cpu
