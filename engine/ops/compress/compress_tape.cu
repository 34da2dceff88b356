// Compression on the tape of a GPU: pooling, norm and rotation of an entry in one pass, forward and backward
// (docs/math/compressor.md; the CPU's twins are pool_on_tape, rmsnorm and apply_rope).
#include <algorithm>
#include <vector>

#include "engine/ops/compress/compress_tape.h"
#include "engine/ops/kernel.cuh"
#include "engine/ops/linear/copies.h"
#include "engine/ops/rope/rope.h"
#include "engine/ops/rope/rotate.cuh"
#include "engine/ops/trained.h"

namespace vitrine::cuda {
namespace {

// Rows [first, first + n_rows) of the batch: block `index` of its segment. entry -1: a segment's tail, which gives none.
struct Block {
    int first, index, n_rows, entry;
};

struct Pooling {
    const Block* blocks;                      // [entries], then the tails
    const float *k, *s, *ape;                 // [T, width] twice, [ratio, width]; width = o * d
    const float *norm, *cosines, *sines;      // [d], or null: not normed; [most entries of a segment, half]
    int d, width, ratio, half, n_x;           // threads are n_x channels wide, slots go over the others
    float eps;
    float *pooled, *log_z, *factors;          // [S, d] twice, [S]
    __device__ int n_slots() const { return width > d ? 2 * ratio : ratio; }
    // CSA's entry 0 has no previous block.
    __device__ int first_slot(const Block& b) const { return width > d && b.index == 0 ? ratio : 0; }
};

// Where channel 0 of a slot lies in k and s, and in ape: CSA takes first halves of the previous block's tokens, then second
// halves of its own.
struct Slot {
    int64_t at;
    int ape;
};
__device__ inline Slot slot_of(const Pooling& p, const Block& b, int j) {
    if (p.width == p.d) return {static_cast<int64_t>(b.first + j) * p.width, j * p.width};
    const bool is_own = j >= p.ratio;
    const int half = is_own ? p.d : 0;
    return {static_cast<int64_t>(b.first - p.ratio + j) * p.width + half, (is_own ? j - p.ratio : j) * p.width + half};
}

// Softmax over a thread's slots of each channel and the weighted sum, then over the threads of the channel, in order.
// parts: [3, n_y, d] floats. Leaves the entry in row.
__device__ void pool(const Pooling& p, const Block& b, float* row, float* parts) {
    const int x = threadIdx.x % p.n_x, y = threadIdx.x / p.n_x, n_y = blockDim.x / p.n_x;
    const int first = p.first_slot(b) + y, n_slots = p.n_slots();
    float *tops = parts, *sums = tops + n_y * p.d, *values = sums + n_y * p.d;
    for (int ch = x; ch < p.d; ch += p.n_x) {
        float top = -INFINITY, sum = 0, value = 0;
#pragma unroll 4
        for (int j = first; j < n_slots; j += n_y) {
            const Slot slot = slot_of(p, b, j);
            top = fmaxf(top, p.s[slot.at + ch] + p.ape[slot.ape + ch]);
        }
#pragma unroll 4
        for (int j = first; j < n_slots; j += n_y) {
            const Slot slot = slot_of(p, b, j);
            const float a = expf(p.s[slot.at + ch] + p.ape[slot.ape + ch] - top);
            sum += a, value += a * p.k[slot.at + ch];
        }
        tops[y * p.d + ch] = top, sums[y * p.d + ch] = sum, values[y * p.d + ch] = value;
    }
    __syncthreads();
    for (int ch = threadIdx.x; ch < p.d; ch += blockDim.x) {
        float top = -INFINITY, sum = 0, value = 0;
        for (int i = 0; i < n_y; ++i) top = fmaxf(top, tops[i * p.d + ch]);
        for (int i = 0; i < n_y; ++i) {
            const float share = expf(tops[i * p.d + ch] - top);  // 0 of a thread without slots
            sum += share * sums[i * p.d + ch], value += share * values[i * p.d + ch];
        }
        row[ch] = value / sum;
        p.pooled[static_cast<int64_t>(b.entry) * p.d + ch] = row[ch];
        p.log_z[static_cast<int64_t>(b.entry) * p.d + ch] = top + logf(sum);
    }
    __syncthreads();
}

// One block per entry, to FP32 and, where copy is not null, BF16. Shared memory: (1 + 3 n_y) d floats.
__global__ void pool_entries(const __grid_constant__ Pooling p, float* entries, bf16* copy) {
    after_previous();
    extern __shared__ __align__(16) float row[];
    __shared__ float scratch[kWarp];
    const Block b = p.blocks[blockIdx.x];
    pool(p, b, row, row + p.d);
    if (p.norm) {
        float sum = 0;
        for (int i = threadIdx.x; i < p.d; i += blockDim.x) sum += row[i] * row[i];
        sum = block_sum(sum, scratch);
        const float factor = 1.0f / sqrtf(sum / static_cast<float>(p.d) + p.eps);
        for (int i = threadIdx.x; i < p.d; i += blockDim.x) row[i] = p.norm[i] * row[i] * factor;
        if (threadIdx.x == 0) p.factors[b.entry] = factor;
        __syncthreads();
    }
    rotate_row(row, p.d, p.cosines + b.index * p.half, p.sines + b.index * p.half, p.half, 1.0f, false, threadIdx.x,
               blockDim.x);
    __syncthreads();
    const int64_t at = static_cast<int64_t>(b.entry) * p.d;
    for (int i = threadIdx.x; i < p.d; i += blockDim.x) {
        entries[at + i] = row[i];
        if (copy) copy[at + i] = narrow<bf16>(row[i]);
    }
}

struct PoolGradients {
    const float* entries;  // [S, d]
    float *k, *s;          // [T, width]
    bool k_accumulates, s_accumulates;
    float* parts;          // [blocks of the grid, ratio * width + d]: ape, then norm
    bool is_part_shared;   // it is collected in shared memory
    int n_blocks;
};

__device__ inline void put(float* to, float x, bool accumulates) { *to = accumulates ? *to + x : x; }

// dL/d(pooled) of an entry to g; its share of the norm's gradient to part.
__device__ void entry_gradient(const Pooling& p, const PoolGradients& to, const Block& b, float* g, float* part, float* scratch) {
    const int64_t at = static_cast<int64_t>(b.entry) * p.d;
    for (int i = threadIdx.x; i < p.d; i += blockDim.x) g[i] = to.entries[at + i];
    __syncthreads();
    rotate_row(g, p.d, p.cosines + b.index * p.half, p.sines + b.index * p.half, p.half, -1.0f, false, threadIdx.x, blockDim.x);
    __syncthreads();
    if (!p.norm) return;
    float sum = 0;
    for (int i = threadIdx.x; i < p.d; i += blockDim.x) sum += p.norm[i] * g[i] * p.pooled[at + i];
    sum = block_sum(sum, scratch);
    const float factor = p.factors[b.entry], shared = sum / static_cast<float>(p.d) * factor * factor;
    for (int i = threadIdx.x; i < p.d; i += blockDim.x) {
        const float x = p.pooled[at + i];
        part[i] += g[i] * x * factor;
        g[i] = factor * (p.norm[i] * g[i] - x * shared);
    }
    __syncthreads();
}

// Nothing flows to a tail, nor (CSA) to the first halves of the block before it: the entry that would take them never comes.
__device__ void clear_tail(const Pooling& p, const PoolGradients& to, const Block& b) {
    for (int i = threadIdx.x; i < b.n_rows * p.width; i += blockDim.x) {
        const int64_t at = static_cast<int64_t>(b.first) * p.width + i;
        if (!to.k_accumulates) to.k[at] = 0;
        if (!to.s_accumulates) to.s[at] = 0;
    }
    if (p.width == p.d || b.index == 0) return;
    for (int i = threadIdx.x; i < p.ratio * p.d; i += blockDim.x) {
        const int64_t at = static_cast<int64_t>(b.first - p.ratio + i / p.d) * p.width + i % p.d;
        if (!to.k_accumulates) to.k[at] = 0;
        if (!to.s_accumulates) to.s[at] = 0;
    }
}

// Each block of the grid takes a run of blocks of rows, one after the other: an element of ape meets one slot of each, so that
// its sum is in their order.
// Shared memory: d floats, and ratio * width + d more if a part is collected there.
__global__ void pool_backward(const __grid_constant__ Pooling p, const __grid_constant__ PoolGradients to) {
    after_previous();
    extern __shared__ __align__(16) float g[];
    __shared__ float scratch[kWarp];
    const int n_part = p.ratio * p.width + p.d, n_slots = p.n_slots();
    const int x = threadIdx.x % p.n_x, y = threadIdx.x / p.n_x, n_y = blockDim.x / p.n_x;
    float *kept = to.parts + static_cast<int64_t>(blockIdx.x) * n_part, *part = to.is_part_shared ? g + p.d : kept;
    for (int i = threadIdx.x; i < n_part; i += blockDim.x) part[i] = 0;
    __syncthreads();
    const auto begin = static_cast<int>(static_cast<int64_t>(to.n_blocks) * blockIdx.x / gridDim.x);
    const auto end = static_cast<int>(static_cast<int64_t>(to.n_blocks) * (blockIdx.x + 1) / gridDim.x);
    for (int i = begin; i < end; ++i) {
        const Block b = p.blocks[i];
        if (b.entry < 0) {
            clear_tail(p, to, b);
            continue;
        }
        entry_gradient(p, to, b, g, part + p.ratio * p.width, scratch);
        for (int ch = x; ch < p.d; ch += p.n_x) {
            const int64_t at = static_cast<int64_t>(b.entry) * p.d + ch;
            const float log_z = p.log_z[at], mean = p.pooled[at], gradient = g[ch];
#pragma unroll 4
            for (int j = p.first_slot(b) + y; j < n_slots; j += n_y) {
                const Slot slot = slot_of(p, b, j);
                const float a = expf(p.s[slot.at + ch] + p.ape[slot.ape + ch] - log_z) * gradient;
                const float by_score = a * (p.k[slot.at + ch] - mean);
                put(to.k + slot.at + ch, a, to.k_accumulates);
                put(to.s + slot.at + ch, by_score, to.s_accumulates);
                part[slot.ape + ch] += by_score;
            }
        }
        __syncthreads();
    }
    for (int i = threadIdx.x; i < n_part && to.is_part_shared; i += blockDim.x) kept[i] = part[i];
}

// ape += and norm += the parts' columns, in order: 32 threads over columns, 32 over parts. Either may be null.
__global__ void add_parts(const float* parts, int n_parts, int n_ape, int n_norm, float* ape, float* norm) {
    after_previous();
    __shared__ float sums[kWarp][kWarp + 1];
    const int n = n_ape + n_norm, column = blockIdx.x * kWarp + threadIdx.x;
    float sum = 0;
#pragma unroll 8
    for (int i = threadIdx.y; i < n_parts; i += kWarp) sum += column < n ? parts[static_cast<int64_t>(i) * n + column] : 0.0f;
    sums[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || column >= n) return;
    for (int i = 1; i < kWarp; ++i) sum += sums[i][threadIdx.x];
    float* to = column < n_ape ? ape : norm;
    if (to) to[column < n_ape ? column : column - n_ape] += sum;
}

// Entries of all segments, then what is left of each behind its entries (in CSA also where nothing is left).
std::vector<int32_t> list_blocks(const Offsets& rows, const Offsets& entries, int ratio) {
    std::vector<int32_t> list;
    const auto put = [&](int64_t first, int64_t index, int64_t n_rows, int64_t entry) {
        for (int64_t x : {first, index, n_rows, entry}) list.push_back(static_cast<int32_t>(x));
    };
    for (int64_t s = 0; s < n_segments(rows); ++s)
        for (int64_t i = 0; i < entries[s + 1] - entries[s]; ++i) put(rows[s] + i * ratio, i, ratio, entries[s] + i);
    for (int64_t s = 0; s < n_segments(rows); ++s) {
        const int64_t n = entries[s + 1] - entries[s], first = rows[s] + n * ratio;
        put(first, n, rows[s + 1] - first, -1);
    }
    return list;
}

void set_shared_memory(const Ctx& ctx, const void* kernel, size_t bytes) {
    ctx.cuda->check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)), "compress");
}

void backward(Ctx& ctx, const Pooling& p, int threads, int n_blocks, const Tensor& y, const Tensor& k, const Tensor& s,
              const Tensor& ape, const Tensor& norm) {
    const int n_part = p.ratio * p.width + p.d;
    const int64_t most = std::max<int64_t>(1, (int64_t{4} << 20) / n_part);  // 16 MiB of parts
    const auto n_parts = static_cast<int>(std::min<int64_t>({n_blocks, most, 1024}));
    const Tensor parts = ctx.arena.make(DType::f32, {n_parts, n_part});
    const Tape::Flow dk = ctx.tape->flow(k), ds = ctx.tape->flow(s);
    const bool is_part_shared = n_part <= 8192;
    const PoolGradients to{ctx.tape->grad(y).f32(), dk.gradient.f32(), ds.gradient.f32(), dk.accumulates, ds.accumulates,
                           parts.f32(), is_part_shared, n_blocks};
    const size_t bytes = (p.d + (is_part_shared ? n_part : 0)) * sizeof(float);
    set_shared_memory(ctx, reinterpret_cast<const void*>(pool_backward), bytes);
    pool_backward<<<static_cast<unsigned>(n_parts), threads, bytes, ctx.cuda->stream()>>>(p, to);
    check_launch(ctx, "compress, backward");
    if (ape.empty() && norm.empty()) return;
    const dim3 block(kWarp, kWarp);
    add_parts<<<ceil_div(n_part, kWarp), block, 0, ctx.cuda->stream()>>>(
        parts.f32(), n_parts, p.ratio * p.width, p.d, ape.empty() ? nullptr : ctx.tape->grad(ape).f32(),
        norm.empty() ? nullptr : ctx.tape->grad(norm).f32());
    check_launch(ctx, "compress, gradients of weights");
}

}  // namespace

Tensor entries_on_tape(Ctx& ctx, const Tensor& k, const Tensor& s, const Offsets& rows, const Offsets& entries,
                       const CompressorWeights& w, int ratio, int entry_size, const std::vector<double>& frequencies, double eps,
                       bool is_normed) {
    const OpTimer timer(ctx, OpKind::compress);
    const int64_t n = entries.back(), d = entry_size, width = k.dim(1);
    VITRINE_ASSERT(width == (ratio == 4 ? 2 * d : d) && s.dim(1) == width);
    std::vector<int64_t> starts;  // an entry stands at the first token of its block
    for (int64_t i = 0; i < longest_segment(entries); ++i) starts.push_back(i * ratio);
    const RopeAngles angles = cuda::rope_angles(ctx, starts, frequencies);
    const std::vector<int32_t> blocks = list_blocks(rows, entries, ratio);
    const int n_blocks = static_cast<int>(blocks.size() / 4), n_slots = ratio == 4 ? 2 * ratio : ratio;

    const Tensor y = ctx.arena.make(DType::f32, {n, d}), kept = ctx.arena.make(DType::f32, {2 * d + 1, n});
    const Tensor copy = bf16_with(ctx, y);
    const int n_x = std::min(128, (entry_size + kWarp - 1) / kWarp * kWarp);
    const int n_y = std::clamp((n_slots >= 32 ? 512 : n < 4096 ? 256 : 128) / n_x, 1, n_slots);  // few entries: more threads each
    const Pooling p{reinterpret_cast<const Block*>(ctx.cuda->ints(blocks)), k.f32(), s.f32(), trained_value(ctx, w.ape).f32(),
                    is_normed ? trained_value(ctx, w.norm).f32() : nullptr, angles.cos.f32(), angles.sin.f32(), entry_size,
                    static_cast<int>(width), ratio, static_cast<int>(angles.cos.dim(1)), n_x, static_cast<float>(eps),
                    kept.f32(), kept.f32() + n * d, kept.f32() + 2 * n * d};
    const size_t bytes = (1 + 3 * n_y) * d * sizeof(float);
    set_shared_memory(ctx, reinterpret_cast<const void*>(pool_entries), bytes);
    pool_entries<<<static_cast<unsigned>(n), n_x * n_y, bytes, ctx.cuda->stream()>>>(p, y.f32(), static_cast<bf16*>(copy.data));
    check_launch(ctx, "compress");
    const Tensor ape = is_trained(ctx, w.ape) ? w.ape.master : Tensor{};
    const Tensor norm = is_normed && is_trained(ctx, w.norm) ? w.norm.master : Tensor{};
    ctx.tape->record([=](Ctx& c) {
        if (c.tape->has_grad(y)) backward(c, p, n_x * n_y, n_blocks, y, k, s, ape, norm);
    });
    return y;
}

}  // namespace vitrine::cuda
