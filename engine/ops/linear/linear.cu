// Linear layers on the GPU: few rows by own kernels over the packed weights, many by dense products of widened operands.
#include "engine/ops/linear/linear.h"

#include <algorithm>

#include "engine/device/cuda/blas.h"
#include "engine/ops/linear/convert.h"
#include "engine/ops/linear/few_rows.h"
#include "engine/ops/linear/packed.cuh"

namespace vitrine::cuda {
namespace {

constexpr int64_t kMaxWidened = int64_t{256} << 20;  // bytes of scratch for widened weights

// y = W x of `groups` blocks of the diagonal; one group is an ordinary product.
struct Product {
    cpu::PackedMatrix w;
    int groups;
    int64_t group_out, n_rows, ldx;
};

// R rows of W times M rows of x per block, whose warps share the columns. grid: (rows of a group / R, groups, rows of x / M).
template <DType D, class X, int R, int M>
__global__ void few_rows(Product p, const X* x, void* y, bool is_bf16, bool is_whole) {
    __shared__ float scratch[kWarp * R * M], total[R * M];
    const int64_t group = blockIdx.y, o0 = static_cast<int64_t>(blockIdx.x) * R, m0 = static_cast<int64_t>(blockIdx.z) * M;
    int64_t rows[R];
    const X* xs[M];
#pragma unroll
    for (int r = 0; r < R; ++r) rows[r] = group * p.group_out + min(o0 + r, p.group_out - 1);
#pragma unroll
    for (int m = 0; m < M; ++m) xs[m] = x + min(m0 + m, p.n_rows - 1) * p.ldx + group * p.w.in;
    float sum[R][M] = {};
    add_products<D>(p.w, rows, xs, threadIdx.x, blockDim.x, is_whole, sum);
    float flat[R * M];
#pragma unroll
    for (int i = 0; i < R * M; ++i) flat[i] = sum[i / M][i % M];
    block_totals(flat, scratch, total);
    const int i = threadIdx.x;
    if (i >= R * M || o0 + i / M >= p.group_out || m0 + i % M >= p.n_rows) return;
    const int64_t at = (m0 + i % M) * p.w.out + rows[0] + i / M;
    if (is_bf16) static_cast<bf16*>(y)[at] = narrow<bf16>(total[i]);
    else static_cast<float*>(y)[at] = total[i];
}

// Threads per block: two chunks each, a function of the matrix alone, so that a row's sum is too.
int threads_for(const cpu::PackedMatrix& w) {
    const int64_t n_chunks = (w.in + chunk_of(w.dtype) - 1) / chunk_of(w.dtype);
    const int64_t most = w.out <= 64 ? 32 : 8;
    return kWarp * static_cast<int>(std::clamp<int64_t>((n_chunks + 2 * kWarp - 1) / (2 * kWarp), 1, most));
}

template <DType D, class X, int R, int M>
void launch_few(Ctx& ctx, const Product& p, const Tensor& x, const Tensor& y) {
    const dim3 grid(ceil_div(p.group_out, R), static_cast<unsigned>(p.groups), ceil_div(p.n_rows, M));
    few_rows<D, X, R, M><<<grid, threads_for(p.w), 0, ctx.cuda->stream()>>>(p, static_cast<const X*>(x.data), y.data,
                                                                           y.dtype == DType::bf16, has_whole_chunks(p.w));
    check_launch(ctx, "a linear layer of few rows");
}

void multiply_few(Ctx& ctx, const Product& p, const Tensor& x, const Tensor& y) {
    with_format(p.w, [&](auto format) {
        with_activation(x.dtype, [&](auto type) {
            constexpr DType D = decltype(format)::value;
            using X = decltype(type);
            if (p.n_rows == 1) return p.w.out <= 512 ? launch_few<D, X, 1, 1>(ctx, p, x, y) : launch_few<D, X, 2, 1>(ctx, p, x, y);
            launch_few<D, X, 2, 4>(ctx, p, x, y);
        });
    });
}

// Dense products of operands in `type`; y is f32, or bf16 where the operands are. Weights that aren't of that type are widened,
// at most kMaxWidened bytes at a time.
void multiply_dense(Ctx& ctx, const Product& p, const Tensor& x_any, const Tensor& y, DType type) {
    const Tensor x = as_dtype(ctx, x_any, type);
    const int64_t size = static_cast<int64_t>(dtype_bits(type)) / 8, y_size = static_cast<int64_t>(dtype_bits(y.dtype)) / 8;
    const auto at = [](const void* base, int64_t bytes) { return static_cast<std::byte*>(const_cast<void*>(base)) + bytes; };
    const bool is_widened = p.w.dtype != type;
    const int64_t step = !is_widened ? p.group_out : std::clamp<int64_t>(kMaxWidened / (p.w.in * size), 1, p.group_out);
    const void* wide = is_widened ? ctx.arena.bytes(static_cast<size_t>(step * p.w.in * size)) : nullptr;
    for (int64_t g = 0; g < p.groups; ++g)
        for (int64_t o = 0; o < p.group_out; o += step) {
            const int64_t row = g * p.group_out + o, n = std::min(step, p.group_out - o);
            if (is_widened) widen_weights(ctx, p.w, row, row + n, const_cast<void*>(wide), type);
            gemm_nt(*ctx.cuda, {p.n_rows, n, p.w.in, p.ldx, p.w.in, p.w.out, type, y.dtype}, at(x.data, g * p.w.in * size),
                    is_widened ? wide : at(p.w.data, row * p.w.in * size), at(y.data, row * y_size));
        }
}

// BF16 rows and weights that BF16 can't hold, in three terms: FP32's bits at a third of the tensor cores' speed.
void multiply_split(Ctx& ctx, const Product& p, const Tensor& x_any, const Tensor& y) {
    const Tensor x = as_dtype(ctx, x_any, DType::bf16);
    const int64_t y_size = static_cast<int64_t>(dtype_bits(y.dtype)) / 8;
    const int64_t by_weights = kMaxWidened / (kTerms * p.w.in * 2), by_rows = kMaxWidened / (kTerms * p.n_rows * 4);
    const int64_t step = std::clamp<int64_t>(std::min(by_weights, by_rows), 1, p.group_out);
    void* terms = ctx.arena.bytes(static_cast<size_t>(kTerms * step * p.w.in * 2));
    float* products = ctx.arena.make(DType::f32, {p.n_rows, kTerms * step}).f32();
    for (int64_t g = 0; g < p.groups; ++g)
        for (int64_t o = 0; o < p.group_out; o += step) {
            const int64_t row = g * p.group_out + o, n = std::min(step, p.group_out - o);
            split_weights(ctx, p.w, row, row + n, terms);
            gemm_nt(*ctx.cuda, {p.n_rows, kTerms * n, p.w.in, p.ldx, p.w.in, kTerms * n, DType::bf16, DType::f32},
                    static_cast<bf16*>(x.data) + g * p.w.in, terms, products);
            add_split_products(ctx, products, p.n_rows, n, static_cast<std::byte*>(y.data) + row * y_size, y.dtype, p.w.out);
        }
}

// In `reference` every activation is a BF16 number.
void multiply_many(Ctx& ctx, const Product& p, const Tensor& x, const Tensor& y) {
    if (!ctx.is_reference()) return multiply_dense(ctx, p, x, y, DType::f32);
    if (is_bf16_exact(p.w)) return multiply_dense(ctx, p, x, y, DType::bf16);
    multiply_split(ctx, p, x, y);
}

bool is_quantised(const Ctx& ctx, const cpu::PackedMatrix& w, LinearOptions options) {
    return ctx.is_reference() && options.quantise_input && (w.dtype == DType::f8_e4m3 || w.dtype == DType::fp4_e2m1);
}
bool is_for_tensor_cores(const Ctx& ctx, const cpu::PackedMatrix& w, int64_t n_rows, int groups) {
    return ctx.is_reference() && n_rows <= kFewRows && takes_few_rows(w, groups);
}

Tensor output(Ctx& ctx, const cpu::PackedMatrix& w, int64_t n_rows, LinearOptions options) {
    ctx.count(OpKind::linear, static_cast<double>(n_rows * w.in) * static_cast<double>(w.out));
    return ctx.arena.make(options.round_output ? ctx.activation() : DType::f32, {n_rows, w.out});
}

Tensor multiply(Ctx& ctx, const Tensor& x_any, const Param& weight, int groups, LinearOptions options) {
    const cpu::PackedMatrix& w = weight.view;
    const Product p{w, groups, w.out / groups, x_any.count() / (w.in * groups), w.in * groups};
    VITRINE_ASSERT(p.group_out * groups == w.out && p.n_rows * p.ldx == x_any.count());
    VITRINE_ASSERT(reinterpret_cast<uintptr_t>(x_any.data) % 16 == 0);
    const Tensor y = output(ctx, w, p.n_rows, options);
    if (p.n_rows == 0) return y;
    const Arena::Scope scratch(ctx.arena);
    if (is_for_tensor_cores(ctx, w, p.n_rows, groups)) {
        const FewRows few{w, y.data, y.dtype, groups, is_quantised(ctx, w, options)};
        multiply_few_rows(ctx, as_dtype(ctx, x_any, DType::bf16), {&few, 1});
        return y;
    }
    const Tensor x = is_quantised(ctx, w, options) ? fp8_rows(ctx, x_any, w.in) : x_any;
    (p.n_rows <= kFewRows ? multiply_few : multiply_many)(ctx, p, x, y);
    return y;
}

}  // namespace

Tensor linear(Ctx& ctx, const Tensor& x_TI, const Param& w_OI, LinearOptions options) {
    return multiply(ctx, x_TI, w_OI, 1, options);
}

Tensor grouped_linear(Ctx& ctx, const Tensor& x_TGI, const Param& w_GOI, int groups) {
    return multiply(ctx, x_TGI, w_GOI, groups, {.quantise_input = false});
}

std::vector<Tensor> linear_many(Ctx& ctx, const Tensor& x_TI, std::span<const LinearItem> items) {
    std::vector<Tensor> y;
    std::vector<FewRows> together;
    for (const LinearItem& item : items) {
        const cpu::PackedMatrix& w = item.w->view;
        const int64_t n_rows = x_TI.count() / w.in;
        const bool is_together = n_rows > 0 && together.size() < kMaxFewRows && is_for_tensor_cores(ctx, w, n_rows, 1);
        y.push_back(is_together ? output(ctx, w, n_rows, item.options) : cuda::linear(ctx, x_TI, *item.w, item.options));
        if (is_together) together.push_back({w, y.back().data, y.back().dtype, 1, is_quantised(ctx, w, item.options)});
    }
    if (together.empty()) return y;
    const Arena::Scope scratch(ctx.arena);
    multiply_few_rows(ctx, as_dtype(ctx, x_TI, DType::bf16), together);
    return y;
}

}  // namespace vitrine::cuda
