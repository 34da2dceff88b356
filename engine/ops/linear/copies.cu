// Copies of values and weights for the products of a training step on a GPU.
#include "engine/ops/linear/copies.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "engine/ops/linear/convert.h"
#include "engine/ops/linear/packed.cuh"
#include "engine/ops/squares/chunks.cuh"
#include "engine/ops/trained.h"
#include "engine/ops/training.h"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 256, kWeightBlock = 128;  // cpu::kFp8WeightBlock

enum class Rounding : uint8_t { none, fp8, fp4 };

// Matrix `at` of several: `one` if it is alone, else the list's.
__device__ inline const float* source_of(const float* one, const uint64_t* list, int at) {
    return one ? one : reinterpret_cast<const float*>(list[at]);
}

// y = BF16 of x, eight values a thread; blockIdx.y: the matrix.
__global__ void to_bf16(const float* one, const uint64_t* list, int64_t n, bool is_whole, bf16* y) {
    after_previous();
    const float* x = source_of(one, list, blockIdx.y);
    y += blockIdx.y * n;
    const int64_t i = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * 8;
    if (i >= n) return;
    if (!is_whole) {
        for (int64_t j = i; j < n && j < i + 8; ++j) y[j] = narrow<bf16>(x[j]);
        return;
    }
    const float4 a = *reinterpret_cast<const float4*>(x + i), b = *reinterpret_cast<const float4*>(x + i + 4);
    union {
        __nv_bfloat162 pair[4];
        uint4 all;
    } to = {{__floats2bfloat162_rn(a.x, a.y), __floats2bfloat162_rn(a.z, a.w), __floats2bfloat162_rn(b.x, b.y),
             __floats2bfloat162_rn(b.z, b.w)}};
    *reinterpret_cast<uint4*>(y + i) = to.all;
}

struct KeptCopy {
    const float* from;
    bf16* to;
    int64_t count;
};
// A block per chunk of a weight.
__global__ void __launch_bounds__(kChunkThreads) write_chunk(ChunkTable table, const KeptCopy* copies) {
    after_previous();
    const ChunkAt at = chunk_at(table);
    const KeptCopy c = copies[at.tensor];
    const int64_t end = c.count - at.begin < kChunkElements ? c.count : at.begin + kChunkElements;
    for (int64_t i = at.begin + 4 * threadIdx.x; i < end; i += 4 * kChunkThreads)
        store_four(c.to + i, load_four(c.from + i, end - i, end - i >= 4), end - i, end - i >= 4);
}

// As cpu::fp8_round_weight: a block of threads per 128 x 128 weights. Magnitudes are ordered as their bits are, NaN above all.
template <class Y>
__global__ void round_fp8(const float* one, const uint64_t* list, int64_t rows, int64_t cols, Y* y) {
    after_previous();
    __shared__ unsigned largest[kThreads / kWarp];
    const float* x = source_of(one, list, blockIdx.z);
    y += blockIdx.z * rows * cols;
    const int64_t row0 = static_cast<int64_t>(blockIdx.y) * kWeightBlock, col0 = static_cast<int64_t>(blockIdx.x) * kWeightBlock;
    const int n_rows = static_cast<int>(rows - row0 < kWeightBlock ? rows - row0 : kWeightBlock);
    const int64_t col = col0 + threadIdx.x % kWeightBlock;
    const int first = threadIdx.x / kWeightBlock, step = blockDim.x / kWeightBlock;
    unsigned mine = 0;
    for (int r = first; r < n_rows && col < cols; r += step) {
        const unsigned bits = __float_as_uint(x[(row0 + r) * cols + col]) & 0x7fffffffu;
        mine = bits > mine ? bits : mine;
    }
    mine = __reduce_max_sync(~0u, mine);
    if (threadIdx.x % kWarp == 0) largest[threadIdx.x / kWarp] = mine;
    __syncthreads();
    for (int i = 0; i < kThreads / kWarp; ++i) mine = largest[i] > mine ? largest[i] : mine;
    const float amax = __uint_as_float(mine);
    const float s = cpu::e8m0_to_f32(cpu::fp8_scale(amax < cpu::kFp8MinAmax ? cpu::kFp8MinAmax : amax));
    for (int r = first; r < n_rows && col < cols; r += step) {
        const int64_t i = (row0 + r) * cols + col;
        y[i] = narrow<Y>(cpu::fp8_decode(cpu::fp8_encode(x[i] / s)) * s);
    }
}

// As cpu::fp4_round_weight: a warp per 32 weights of a row.
template <class Y>
__global__ void round_fp4(const float* one, const uint64_t* list, int64_t rows, int64_t cols, Y* y) {
    after_previous();
    const float* x = source_of(one, list, blockIdx.y);
    y += blockIdx.y * rows * cols;
    const int64_t per_row = (cols + kWarp - 1) / kWarp;
    const int64_t at = static_cast<int64_t>(blockIdx.x) * (blockDim.x / kWarp) + threadIdx.x / kWarp;
    if (at >= rows * per_row) return;  // whole warps
    const int64_t col = at % per_row * kWarp + threadIdx.x % kWarp, i = at / per_row * cols + col;
    const float v = col < cols ? x[i] : 0.0f;
    const float amax = __uint_as_float(__reduce_max_sync(~0u, __float_as_uint(v) & 0x7fffffffu));
    const float s = cpu::e8m0_to_f32(cpu::fp4_scale(amax < cpu::kFp4MinAmax ? cpu::kFp4MinAmax : amax));
    if (col < cols) y[i] = narrow<Y>(cpu::fp4_decode(cpu::fp4_encode(v / s)) * s);
}

struct Sources {
    const float* one;       // or
    const uint64_t* list;   // in the GPU's memory
    unsigned count;
    bool is_aligned;        // to four values, each of them
};

bool is_aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

// y [count, rows, cols], f32 or bf16.
void write_copies(Ctx& ctx, const Sources& from, int64_t rows, int64_t cols, Rounding rounding, const Tensor& y) {
    if (y.count() == 0) return;
    const auto stream = ctx.cuda->stream();
    with_activation(y.dtype, [&](auto type) {
        auto* to = static_cast<decltype(type)*>(y.data);
        if (rounding == Rounding::fp8) {
            const dim3 grid(ceil_div(cols, kWeightBlock), ceil_div(rows, kWeightBlock), from.count);
            round_fp8<<<grid, kThreads, 0, stream>>>(from.one, from.list, rows, cols, to);
        } else if (rounding == Rounding::fp4) {
            const int64_t n_blocks = rows * ((cols + kWarp - 1) / kWarp);
            const dim3 grid(ceil_div(n_blocks, kThreads / kWarp), from.count);
            round_fp4<<<grid, kThreads, 0, stream>>>(from.one, from.list, rows, cols, to);
        } else if constexpr (sizeof(type) == 2) {
            const int64_t n = rows * cols;
            const dim3 grid(ceil_div(n, kThreads * 8), from.count);
            to_bf16<<<grid, kThreads, 0, stream>>>(from.one, from.list, n, n % 8 == 0 && from.is_aligned, to);
        }
    });
    check_launch(ctx, "copying for products");
}

StepCopies* copies_of(Ctx& ctx) {
    if (!ctx.training) return nullptr;
    if (!ctx.training->on_gpu) ctx.training->on_gpu = std::make_shared<StepCopies>();
    return ctx.training->on_gpu.get();
}

Rounding rounding_of(const Ctx& ctx, WeightUse use) {
    if (!ctx.training) return Rounding::none;
    const FakeQuant& q = ctx.training->quant;
    if (use == WeightUse::dense && q.fp8_weights) return Rounding::fp8;
    return use == WeightUse::routed && q.fp4_experts ? Rounding::fp4 : Rounding::none;
}

// Whether inputs of FP8 linears are rounded.
bool asks_fp8_rows(const Ctx& ctx) {
    if (!ctx.training || !ctx.training->quant.fp8_activations) return false;
    if (ctx.training->quant.fp8_per_tensor)
        throw Error(ErrorKind::bad_input, "fp8_activation_scale: expected row on a GPU; --device cpu runs it");
    return true;
}

// The values to copy, in FP32.
Sources sources_of(Ctx& ctx, std::span<const Param* const> params) {
    std::vector<uint64_t> addresses;
    bool are_aligned = true;
    for (const Param* p : params) {
        const Tensor value = trained_value(ctx, *p);
        VITRINE_ASSERT(value.dtype == DType::f32);
        addresses.push_back(reinterpret_cast<uint64_t>(value.data));
        are_aligned = are_aligned && is_aligned(value.data);
    }
    const auto count = static_cast<unsigned>(params.size());
    if (count == 1) return {reinterpret_cast<const float*>(addresses[0]), nullptr, 1, are_aligned};
    std::vector<int32_t> words(2 * params.size());
    std::memcpy(words.data(), addresses.data(), words.size() * 4);
    return {nullptr, reinterpret_cast<const uint64_t*>(ctx.cuda->ints(words)), count, are_aligned};
}

Shape stacked_shape(std::span<const Param* const> params) {
    const Shape& s = params[0]->shape;
    for (const Param* p : params) VITRINE_ASSERT(p->shape == s);
    const int64_t cols = s[s.rank - 1];
    return {static_cast<int64_t>(params.size()), s.count() / cols, cols};
}

Tensor weight_copy(Ctx& ctx, std::span<const Param* const> params, WeightUse use, DType dtype, Shape shape) {
    if (dtype == DType::bf16 && params.size() == 1)
        if (const Tensor kept = kept_copy(ctx, *params[0], use); !kept.empty()) return kept.reshaped(shape);
    StepCopies* const copies = copies_of(ctx);
    const Param& first = *params[0];
    const void* key = first.master.empty() ? first.view.data : first.master.data;
    const int kind = (static_cast<int>(use) * 2 + (dtype == DType::bf16)) * 2 + (params.size() > 1);
    if (copies)
        if (const auto at = copies->weights.find({key, kind}); at != copies->weights.end()) return at->second.reshaped(shape);
    const Tensor y = (copies ? ctx.cuda->kept() : ctx.arena).make(dtype, shape);
    const int64_t cols = first.shape[first.shape.rank - 1];
    write_copies(ctx, sources_of(ctx, params), first.shape.count() / cols, cols, rounding_of(ctx, use), y);
    if (copies) copies->weights[{key, kind}] = y;
    return y;
}

}  // namespace

Tensor kept_copy(const Ctx& ctx, const Param& w, WeightUse use) {
    return rounding_of(ctx, use) == Rounding::none ? w.bf16 : Tensor{};
}

void write_kept_copies(Ctx& ctx, std::span<const Param* const> params) {
    if (params.empty()) return;
    std::vector<int64_t> counts;
    std::vector<KeptCopy> list;
    for (const Param* p : params) {
        counts.push_back(p->master.count());
        list.push_back({p->master.f32(), static_cast<bf16*>(p->bf16.data), counts.back()});
    }
    const ChunkTable table = chunk_table(ctx, counts);
    write_chunk<<<static_cast<unsigned>(table.n_chunks), kChunkThreads, 0, ctx.cuda->stream()>>>(table, place_list(ctx, list));
    check_launch(ctx, "copying weights for products");
}

Tensor bf16_copy(Ctx& ctx, const Tensor& x) {
    VITRINE_ASSERT(x.dtype == DType::f32);
    const Tensor y = ctx.arena.make(DType::bf16, x.shape);
    write_copies(ctx, {x.f32(), nullptr, 1, is_aligned(x.data)}, 1, x.count(), Rounding::none, y);
    return y;
}

Tensor bf16_value(Ctx& ctx, const Tensor& x, bool rounds) {
    rounds = rounds && asks_fp8_rows(ctx);
    StepCopies* const copies = copies_of(ctx);
    if (copies)
        if (const auto at = copies->values.find({x.data, rounds}); at != copies->values.end()) return at->second.reshaped(x.shape);
    const Tensor y = rounds ? fp8_rows(ctx, x, x.shape[x.shape.rank - 1]) : bf16_copy(ctx, x);
    if (copies) copies->values[{x.data, rounds}] = y;
    return y;
}

Tensor bf16_with(Ctx& ctx, const Tensor& y) {
    if (!ctx.training || !ctx.has_bf16_products) return {};
    const Tensor copy = ctx.arena.make(DType::bf16, y.shape);
    copies_of(ctx)->values[{y.data, false}] = copy;
    return copy;
}

void forget_values(Ctx& ctx) {
    if (ctx.training && ctx.training->on_gpu) ctx.training->on_gpu->values.clear();
}

Tensor bf16_weight(Ctx& ctx, const Param& w, WeightUse use) {
    const Param* one = &w;
    return weight_copy(ctx, {&one, 1}, use, DType::bf16, w.shape);
}

Tensor bf16_weights(Ctx& ctx, std::span<const Param* const> same_shape, WeightUse use) {
    return weight_copy(ctx, same_shape, use, DType::bf16, stacked_shape(same_shape));
}

Tensor f32_weights(Ctx& ctx, std::span<const Param* const> same_shape, WeightUse use) {
    VITRINE_ASSERT(rounding_of(ctx, use) != Rounding::none);
    return weight_copy(ctx, same_shape, use, DType::f32, stacked_shape(same_shape));
}

Tensor f32_value(Ctx& ctx, const Tensor& x, bool rounds) {
    return rounds && asks_fp8_rows(ctx) ? fp8_values(ctx, x, x.shape[x.shape.rank - 1]) : x;
}

Tensor f32_weight(Ctx& ctx, const Param& w, WeightUse use) {
    if (rounding_of(ctx, use) == Rounding::none) return trained_value(ctx, w);
    const Param* one = &w;
    return weight_copy(ctx, {&one, 1}, use, DType::f32, w.shape);
}

Tensor product_value(Ctx& ctx, const Tensor& x, bool rounds) {
    return ctx.has_bf16_products ? bf16_value(ctx, x, rounds) : f32_value(ctx, x, rounds);
}

Tensor product_weight(Ctx& ctx, const Param& w, WeightUse use) {
    return ctx.has_bf16_products ? bf16_weight(ctx, w, use) : f32_weight(ctx, w, use);
}

}  // namespace vitrine::cuda
