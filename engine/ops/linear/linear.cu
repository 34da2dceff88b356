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
            gemm(*ctx.cuda, {p.n_rows, n, p.w.in, p.ldx, p.w.in, p.w.out, type, y.dtype}, at(x.data, g * p.w.in * size),
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
            gemm(*ctx.cuda, {p.n_rows, kTerms * n, p.w.in, p.ldx, p.w.in, kTerms * n, DType::bf16, DType::f32},
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

// Few rows: as many of the products as can be go together.
void multiply_few(Ctx& ctx, const Tensor& x, std::span<const FewRows> products) {
    std::vector<FewRows> together;
    const auto on_tensor_cores = [&](const FewRows& f) { return ctx.is_reference() && takes_few_rows(f.w, f.groups); };
    for (const FewRows& f : products)
        if (on_tensor_cores(f)) together.push_back(f);
    if (!together.empty()) multiply_on_tensor_cores(ctx, as_dtype(ctx, x, DType::bf16), together);
    std::vector<bool> is_done(products.size());
    for (size_t i = 0; i < products.size(); ++i) {  // FP32 lanes: those of one format and input in one launch
        if (is_done[i] || on_tensor_cores(products[i])) continue;
        together.clear();
        for (size_t j = i; j < products.size(); ++j) {
            const FewRows &a = products[i], &b = products[j];
            if (is_done[j] || on_tensor_cores(b) || a.w.dtype != b.w.dtype || a.is_quantised != b.is_quantised) continue;
            together.push_back(b), is_done[j] = true;
        }
        multiply_on_lanes(ctx, products[i].is_quantised ? fp8_rows(ctx, x, products[i].w.in) : x, together);
    }
}

FewRows few_rows(const Ctx& ctx, const cpu::PackedMatrix& w, const Tensor& y, int groups, LinearOptions options) {
    const bool is_packed = w.dtype == DType::f8_e4m3 || w.dtype == DType::fp4_e2m1;
    return {w, y.data, y.dtype, groups, ctx.is_reference() && options.quantise_input && is_packed};
}

Tensor multiply(Ctx& ctx, const Tensor& x, const Param& weight, int groups, LinearOptions options) {
    const cpu::PackedMatrix& w = weight.view;
    const Product p{w, groups, w.out / groups, x.count() / (w.in * groups), w.in * groups};
    VITRINE_ASSERT(p.group_out * groups == w.out && p.n_rows * p.ldx == x.count());
    VITRINE_ASSERT(reinterpret_cast<uintptr_t>(x.data) % 16 == 0);
    ctx.count(OpKind::linear, static_cast<double>(p.n_rows * w.in) * static_cast<double>(w.out));
    const Tensor y = ctx.arena.make(options.round_output ? ctx.activation() : DType::f32, {p.n_rows, w.out});
    if (p.n_rows == 0) return y;
    const Arena::Scope scratch(ctx.arena);
    const FewRows few = few_rows(ctx, w, y, groups, options);
    if (p.n_rows <= kFewRows) multiply_few(ctx, x, {&few, 1});
    else multiply_many(ctx, p, few.is_quantised ? fp8_rows(ctx, x, w.in) : x, y);
    return y;
}

}  // namespace

Tensor linear(Ctx& ctx, const Tensor& x_TI, const Param& w_OI, LinearOptions options) {
    auto& ahead = ctx.cuda->ahead;
    for (auto a = ahead.begin(); a != ahead.end(); ++a)
        if (a->x == x_TI.data && a->w == w_OI.view.data) {
            const Tensor y = a->y;
            ahead.erase(a);
            return y;
        }
    return multiply(ctx, x_TI, w_OI, 1, options);
}

Tensor grouped_linear(Ctx& ctx, const Tensor& x_TGI, const Param& w_GOI, int groups) {
    return multiply(ctx, x_TGI, w_GOI, groups, {.quantise_input = false});
}

void linear_ahead(Ctx& ctx, const Tensor& x_TI, std::span<const LinearItem> items) {
    if (x_TI.dim(0) > kFewRows) return;
    const std::vector<Tensor> y = linear_many(ctx, x_TI, items);
    for (size_t i = 0; i < y.size(); ++i) ctx.cuda->ahead.push_back({x_TI.data, items[i].w->view.data, y[i]});
}

bool normed_linear_ahead(Ctx& ctx, const Tensor& x_TI, const Param& norm_I, double eps, std::span<const LinearItem> items) {
    const int64_t n_rows = x_TI.dim(0);
    if (n_rows == 0 || n_rows > kFewRows || x_TI.dtype != DType::bf16 || norm_I.view.dtype != DType::bf16 ||
        !ctx.is_reference())
        return false;
    std::vector<FewRows> products;
    for (const LinearItem& item : items)
        products.push_back(few_rows(ctx, item.w->view, {nullptr, item.options.round_output ? ctx.activation() : DType::f32, {}}, 1,
                                    item.options));
    if (products.size() > kMaxFewRows || !takes_normed_rows(products)) return false;
    for (size_t i = 0; i < items.size(); ++i) {
        const cpu::PackedMatrix& w = items[i].w->view;
        VITRINE_ASSERT(n_rows * w.in == x_TI.count());
        ctx.count(OpKind::linear, static_cast<double>(n_rows * w.in) * static_cast<double>(w.out));
        const Tensor y = ctx.arena.make(products[i].dtype, {n_rows, w.out});
        products[i].y = y.data;
        ctx.cuda->ahead.push_back({x_TI.data, w.data, y});
    }
    multiply_normed_on_tensor_cores(ctx, x_TI, norm_I.view, eps, products);
    return true;
}

std::vector<Tensor> linear_many(Ctx& ctx, const Tensor& x_TI, std::span<const LinearItem> items) {
    std::vector<Tensor> y;
    const int64_t n_rows = items.empty() ? 0 : x_TI.count() / items[0].w->view.in;
    if (n_rows == 0 || n_rows > kFewRows) {
        for (const LinearItem& item : items) y.push_back(cuda::linear(ctx, x_TI, *item.w, item.options));
        return y;
    }
    std::vector<FewRows> products;
    for (const LinearItem& item : items) {
        const cpu::PackedMatrix& w = item.w->view;
        VITRINE_ASSERT(n_rows * w.in == x_TI.count());
        ctx.count(OpKind::linear, static_cast<double>(n_rows * w.in) * static_cast<double>(w.out));
        y.push_back(ctx.arena.make(item.options.round_output ? ctx.activation() : DType::f32, {n_rows, w.out}));
        products.push_back(few_rows(ctx, w, y.back(), 1, item.options));
    }
    const Arena::Scope scratch(ctx.arena);
    for (size_t i = 0; i < products.size(); i += kMaxFewRows)
        multiply_few(ctx, x_TI, std::span(products).subspan(i, std::min<size_t>(kMaxFewRows, products.size() - i)));
    return y;
}

}  // namespace vitrine::cuda
