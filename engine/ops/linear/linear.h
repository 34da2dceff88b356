// Linear layers on packed weights: y = W x, W [out, in] in any of the file's formats (v4-spec 3.8, 5.3, 5.4).
#pragma once
#include <span>
#include <vector>

#include "engine/model/param.h"
#include "engine/ops/ctx.h"

namespace vitrine {

struct LinearOptions {
    // `reference`, FP8 and FP4 weights only: quantise x to FP8 per row and 128 columns with a power-of-two scale first.
    bool quantise_input = true;
    // `reference`: round y to BF16. False for the products that the specification keeps in FP32 (mHC, compressors, gate, head).
    bool round_output = true;
    // On the tape: no gradient flows to x (what the indexer reads, v4-spec 10.3).
    bool is_input_detached = false;
};

// x [T, in] -> y [T, out], FP32 accumulation.
Tensor linear(Ctx& ctx, const Tensor& x_TI, const Param& w_OI, LinearOptions options = {});

// Block-diagonal: x [T, g*in], W [g*out, in] -> y [T, g*out]; group i of x meets rows i*out..(i+1)*out of W. Never quantises x.
Tensor grouped_linear(Ctx& ctx, const Tensor& x_TGI, const Param& w_GOI, int groups);

// Rows [o0, o1) of y = W x for m rows, on the calling thread: what `linear` and the expert GEMM are made of. Not rounded.
void linear_rows(const Ctx& ctx, const cpu::PackedMatrix& w, const float* x, int64_t ldx, int64_t m, float* y, int64_t ldy,
                 int64_t o0, int64_t o1);

// Output rows per parallel piece: a function of the shape alone.
int64_t linear_grain(const cpu::PackedMatrix& w, int64_t m);

// A hint, given before a product or another job: w is what the next one reads. Idle threads fetch it; no result changes.
void will_use(const Ctx& ctx, const Param& w);

// x as the FP8 linear sees it (a copy in the arena), or x itself when nothing is quantised.
Tensor quantised_input(Ctx& ctx, const Tensor& x_TI, const cpu::PackedMatrix& w);

// The GPU's twins. x: f32 or bf16. Outputs: ctx.activation() where they are rounded, else f32. Up to kFewRows rows are multiplied
// by own kernels, each row in an order that depends on the matrix alone: its bits don't depend on the other rows.
namespace cuda {
inline constexpr int kFewRows = 16;
Tensor linear(Ctx& ctx, const Tensor& x_TI, const Param& w_OI, LinearOptions options = {});
Tensor grouped_linear(Ctx& ctx, const Tensor& x_TGI, const Param& w_GOI, int groups);
// Several layers on the same x: the same bits as `linear` of each; few rows take one launch where the formats allow.
struct LinearItem {
    const Param* w;
    LinearOptions options;
};
std::vector<Tensor> linear_many(Ctx& ctx, const Tensor& x_TI, std::span<const LinearItem> items);
// The same for few rows, when other ops will ask for the products one by one: `linear` of this x and w then gives what is there.
// Each is to be asked for once, before the block ends.
void linear_ahead(Ctx& ctx, const Tensor& x_TI, std::span<const LinearItem> items);
// The same for products of rmsnorm(x), made with the norm in one launch; `linear` is then asked with x itself. x is to be older
// than the kernel queued last, beside which the products are made. False: not of these rows and weights, and nothing is done.
bool normed_linear_ahead(Ctx& ctx, const Tensor& x_TI, const Param& norm_I, double eps, std::span<const LinearItem> items);
}  // namespace cuda

}  // namespace vitrine
