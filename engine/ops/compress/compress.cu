// Token-level compression on the GPU: one block per token stores its K | S row and pools the entry that it completes.
#include <algorithm>
#include <array>

#include "engine/ops/compress/compress.h"
#include "engine/ops/compress/window_rows.cuh"
#include "engine/ops/kernel.cuh"
#include "engine/ops/linear/linear.h"
#include "engine/ops/linear/packed.cuh"
#include "engine/ops/quantize/rows.cuh"
#include "engine/ops/rope/rotate.cuh"

namespace vitrine::cuda {
namespace {

struct Compression {
    const TokenAt* tokens;
    const LayerView* views;        // of the layer
    const float *k, *s;            // [T, width] of this step; ape not yet added
    cpu::PackedMatrix ape, norm;   // norm.data null: not normed
    int d, width, ratio, n_slots;  // width = o * d; CSA (o = 2): 2 * ratio slots, the previous block's first
    bool is_key, is_rounded;
    float eps;
    RowFormat format;
    Frequencies frequencies;
    float *entries, *weights;  // for probes: [T, d], [T, n_slots], or null
};

// A row K | S of a block: of this step, where the ring may not have it yet and ape is not added, or of the ring.
struct Slot {
    const float *k, *s;
    int ape_row;  // -1: added already
};
__device__ Slot slot_at(const Compression& c, int64_t t, TokenAt at, const float* ring, int64_t capacity, int i) {
    const int64_t row = t - (c.n_slots - 1 - i), position = at.position - (c.n_slots - 1 - i);
    const bool is_new = row >= 0 && c.tokens[row].sequence == at.sequence;  // a sequence's tokens follow each other
    const float* k = is_new ? c.k + row * c.width : ring + position % capacity * 2 * c.width;
    const float* s = is_new ? c.s + row * c.width : k + c.width;
    const int half = c.n_slots > c.ratio && i >= c.ratio ? c.d : 0;
    return {k + half, s + half, is_new ? i % c.ratio : -1};
}
__device__ inline float score(const Compression& c, const Slot& slot, int i, int channel) {
    if (slot.ape_row < 0) return slot.s[channel];
    return slot.s[channel] + element(c.ape, slot.ape_row, (c.n_slots > c.ratio && i >= c.ratio ? c.d : 0) + channel);
}

// One channel of the slots of a short block, in registers: thread i holds channel i.
constexpr int kHeldSlots = 8;
struct Channel {
    float k[kHeldSlots], s[kHeldSlots];
};
__device__ inline bool holds_channels(const Compression& c) {
    return c.n_slots == kHeldSlots && c.d <= static_cast<int>(blockDim.x);
}
// Those of slots that this step makes, or those of the others, which are there before it.
__device__ void fetch(const Compression& c, int64_t t, TokenAt at, const float* ring, int64_t capacity, int first,
                      bool is_new, Channel& to) {
    const auto channel = static_cast<int>(threadIdx.x);
#pragma unroll
    for (int i = 0; i < kHeldSlots; ++i) {
        const int64_t row = t - (kHeldSlots - 1 - i);
        if (i < first || channel >= c.d || (row >= 0 && c.tokens[row].sequence == at.sequence) != is_new) continue;
        const Slot slot = slot_at(c, t, at, ring, capacity, i);
        to.k[i] = slot.k[channel], to.s[i] = score(c, slot, i, channel);
    }
}
// As `pool`, bit for bit.
__device__ void pool(const Compression& c, const Channel& of, int first, float* row, float* tops, float* sums) {
    const auto channel = static_cast<int>(threadIdx.x);
    if (channel >= c.d) return;
    float top = -INFINITY, sum = 0, value = 0, e[kHeldSlots];
#pragma unroll
    for (int i = 0; i < kHeldSlots; ++i)
        if (i >= first) top = fmaxf(top, of.s[i]);
#pragma unroll
    for (int i = 0; i < kHeldSlots; ++i)
        if (i >= first) sum += e[i] = expf(of.s[i] - top);
#pragma unroll
    for (int i = 0; i < kHeldSlots; ++i)
        if (i >= first) value = __fadd_rn(value, __fmul_rn(e[i] / sum, of.k[i]));
    row[channel] = c.is_rounded ? round_bf16(value) : value;
    tops[channel] = top, sums[channel] = sum;
}

// Channel by channel: softmax over the slots' scores, weighted sum of their values. tops, sums [d]: for the mean
// weights.
__device__ void pool(const Compression& c, const Slot* slots, int first, float* row, float* tops, float* sums) {
    for (int ch = threadIdx.x; ch < c.d; ch += blockDim.x) {
        float top = -INFINITY, sum = 0, value = 0;
#pragma unroll 4
        for (int i = first; i < c.n_slots; ++i) top = fmaxf(top, score(c, slots[i], i, ch));
#pragma unroll 4
        for (int i = first; i < c.n_slots; ++i) sum += expf(score(c, slots[i], i, ch) - top);
#pragma unroll 4
        for (int i = first; i < c.n_slots; ++i)
            value = __fadd_rn(value, __fmul_rn(expf(score(c, slots[i], i, ch) - top) / sum, slots[i].k[ch]));
        row[ch] = c.is_rounded ? round_bf16(value) : value;
        tops[ch] = top, sums[ch] = sum;
    }
}

__device__ void mean_weights(const Compression& c, int64_t t, const Slot* slots, int first, const float* tops,
                             const float* sums) {
    const int lane = threadIdx.x % kWarp;
    for (int i = threadIdx.x / kWarp; i < c.n_slots; i += blockDim.x / kWarp) {
        float sum = 0;
        for (int ch = lane; ch < c.d && i >= first; ch += kWarp)
            sum += expf(score(c, slots[i], i, ch) - tops[ch]) / sums[ch];
        sum = warp_sum(sum);
        if (lane == 0) c.weights[t * c.n_slots + i] = sum / static_cast<float>(c.d);
    }
}

// cosine, sine: of thread i's pair i.
__device__ void norm_and_rotate(const Compression& c, float cosine, float sine, float* row) {
    __shared__ float scratch[kWarp];
    if (c.norm.data) {
        float sum = 0;
        for (int i = threadIdx.x; i < c.d; i += blockDim.x) sum += row[i] * row[i];
        sum = block_sum(sum, scratch);
        const float factor = 1.0f / sqrtf(sum / static_cast<float>(c.d) + c.eps);
        for (int i = threadIdx.x; i < c.d; i += blockDim.x) {
            const float v = row[i] * factor * element(c.norm, 0, i);
            row[i] = c.is_rounded ? round_bf16(v) : v;
        }
        __syncthreads();
    }
    float* last = row + c.d - 2 * c.frequencies.n;
    if (const auto i = static_cast<int>(threadIdx.x); i < c.frequencies.n) {
        float a = last[2 * i], b = last[2 * i + 1];
        rotate_pair(a, b, cosine, sine);
        last[2 * i] = c.is_rounded ? round_bf16(a) : a;
        last[2 * i + 1] = c.is_rounded ? round_bf16(b) : b;
    }
    __syncthreads();
}

// Token t, by all threads of the block. Shared memory: n_slots slots, 3 d floats.
__device__ void compress_token(const Compression& c, int64_t t, std::byte* shared) {
    auto* slots = reinterpret_cast<Slot*>(shared);
    auto* row = reinterpret_cast<float*>(slots + c.n_slots);
    const TokenAt at = c.tokens[t];
    const LayerView& view = c.views[at.sequence];
    float* ring = c.is_key ? view.index_compressor : view.compressor;
    const int64_t capacity = c.is_key ? view.index_compressor_capacity : view.compressor_capacity,
                  index = at.position / c.ratio;
    const int first = c.n_slots > c.ratio && index == 0 ? c.ratio : 0;  // entry 0 has no previous block
    const bool is_complete = (at.position + 1) % c.ratio == 0, is_held = holds_channels(c);

    // What depends on no kernel of this step: rows of tokens before it, angles, small weights.
    Channel held;
    float cosine = 0, sine = 0;
    prefetch_row(c.ape, at.position % c.ratio);
    if (is_complete) {
        if (c.norm.data) prefetch_row(c.norm, 0);
        if (is_held) fetch(c, t, at, ring, capacity, first, false, held);
        if (static_cast<int>(threadIdx.x) < c.frequencies.n)
            cos_sin(index * c.ratio, c.frequencies.at[threadIdx.x], cosine, sine);
    }
    after_previous();

    float* stored = ring + at.position % capacity * 2 * c.width;
    for (int i = threadIdx.x; i < c.width; i += blockDim.x) {
        stored[i] = c.k[t * c.width + i];
        stored[c.width + i] = c.s[t * c.width + i] + element(c.ape, at.position % c.ratio, i);
    }
    if (!is_complete) return;

    float *tops = row + c.d, *sums = tops + c.d;
    if (is_held) fetch(c, t, at, ring, capacity, first, true, held);
    if (!is_held || c.weights) {
        for (int i = first + threadIdx.x; i < c.n_slots; i += blockDim.x)
            slots[i] = slot_at(c, t, at, ring, capacity, i);
        __syncthreads();
    }
    if (is_held)
        pool(c, held, first, row, tops, sums);
    else
        pool(c, slots, first, row, tops, sums);
    __syncthreads();
    if (c.weights) mean_weights(c, t, slots, first, tops, sums);
    norm_and_rotate(c, cosine, sine, row);
    for (int i = threadIdx.x; i < c.d && c.entries; i += blockDim.x) c.entries[t * c.d + i] = row[i];
    if (c.is_key) {
        if (c.is_rounded) hadamard(row, c.d, threadIdx.x, blockDim.x, [] { __syncthreads(); });
        write_index_key(c.format, row, view.index_keys + index * c.format.bytes);
    } else {
        write_entry(c.format, row, view.entries + index * c.format.bytes);
    }
}

constexpr int kMostCompressors = 2;
template <class T>
struct KeySide {
    Compression compressors[kMostCompressors];
    int n;
    WindowRows<T> window;  // kv null: none
};

// A block per token (x) and compressor, or the window after them (y).
template <class T>
__global__ void append_rows(const __grid_constant__ KeySide<T> a) {
    extern __shared__ __align__(16) std::byte shared[];
    if (static_cast<int>(blockIdx.y) < a.n) return compress_token(a.compressors[blockIdx.y], blockIdx.x, shared);
    if (a.window.norm.data) prefetch_row(a.window.norm, 0);
    after_previous();
    store_window_row(a.window, blockIdx.x, reinterpret_cast<float*>(shared));
}

// Rows of x [T, width] of the tokens that completed an entry.
void publish_completed(Ctx& ctx, Probe p, const Tensor& x, int ratio) {
    ctx.cuda->deliver(x, [=, l = ctx.layer, width = x.dim(1)](const Arrived& a, ProbeSink& sink) {
        for (int t = 0; t < a.n_tokens; ++t)
            if ((a.tokens[t].position + 1) % ratio == 0)
                sink.put(t, p, l, a.f32() + t * width, 1, static_cast<int>(width));
    });
}

int64_t n_slots_of(const CompressorInput& in) { return in.ratio == 4 ? 2 * in.ratio : in.ratio; }

// entries, weights: for probes, or empty.
Compression compression(Ctx& ctx, const Tensor& x_TD, const CompressorInput& in, const Tensor& entries, const Tensor& weights) {
    VITRINE_ASSERT(static_cast<size_t>(in.rope_dim) == 2 * in.frequencies.size());
    const bool is_key = in.kind == EntryKind::index_key;
    const Step& step = ctx.cuda->step;
    const int64_t n_slots = n_slots_of(in), width = n_slots / in.ratio * in.entry_size;
    const LinearOptions wide{.quantise_input = false, .round_output = false};
    const Tensor k = cuda::linear(ctx, x_TD, in.w.wkv, wide), s = cuda::linear(ctx, x_TD, in.w.wgate, wide);
    VITRINE_ASSERT(k.dim(1) == width && k.dtype == DType::f32 && s.dtype == DType::f32);
    return {step.tokens,
            step.layer(ctx.layer),
            k.f32(),
            s.f32(),
            in.w.ape.view,
            in.is_normed ? in.w.norm.view : cpu::PackedMatrix{},
            in.entry_size,
            static_cast<int>(width),
            in.ratio,
            static_cast<int>(n_slots),
            is_key,
            ctx.is_reference(),
            static_cast<float>(in.eps),
            is_key ? index_rows(ctx, in.entry_size) : entry_rows(ctx, in.entry_size, in.rope_dim),
            frequencies_of(in.frequencies),
            entries.empty() ? nullptr : entries.f32(),
            weights.empty() ? nullptr : weights.f32()};
}

}  // namespace

void append_keys(Ctx& ctx, const Tensor& x_TD, std::span<const CompressorInput> compressors, const WindowInput* window) {
    const OpTimer timer(ctx, OpKind::compress);
    VITRINE_ASSERT(compressors.size() <= kMostCompressors);
    const Step& step = ctx.cuda->step;
    Tensor entries, weights;  // of the main entries; what is watched outlives the scratch below
    for (const CompressorInput& in : compressors) {
        if (in.kind == EntryKind::index_key) continue;
        if (ctx.wants(kEntry)) entries = ctx.arena.make(DType::f32, {step.n_tokens, in.entry_size});
        if (ctx.wants(kEntryWeights)) weights = ctx.arena.make(DType::f32, {step.n_tokens, n_slots_of(in)});
    }
    const Arena::Scope scratch(ctx.arena);
    int threads = 256;
    size_t bytes = window ? window->kv_TC.dim(1) * sizeof(float) : 0;
    std::array<Compression, kMostCompressors> c{};
    for (size_t i = 0; i < compressors.size(); ++i) {
        const CompressorInput& in = compressors[i];
        const bool is_main = in.kind == EntryKind::main;
        c[i] = compression(ctx, x_TD, in, is_main ? entries : Tensor{}, is_main ? weights : Tensor{});
        threads = std::max(threads, std::min((in.entry_size + kWarp - 1) / kWarp * kWarp, 512));
        bytes = std::max(bytes, n_slots_of(in) * sizeof(Slot) + 3 * in.entry_size * sizeof(float));
    }
    const dim3 grid(static_cast<unsigned>(step.n_tokens), static_cast<unsigned>(compressors.size()) + (window != nullptr));
    with_activation(window ? window->kv_TC.dtype : DType::f32, [&](auto t) {
        using T = decltype(t);
        KeySide<T> side{};
        std::copy(c.begin(), c.end(), side.compressors);
        side.n = static_cast<int>(compressors.size());
        if (window) side.window = window_rows<T>(ctx, *window);
        append_rows<T><<<grid, threads, bytes, ctx.cuda->stream()>>>(side);
    });
    check_launch(ctx, "append keys");
    if (!entries.empty()) publish_completed(ctx, kEntry, entries, compressors[0].ratio);
    if (!weights.empty()) publish_completed(ctx, kEntryWeights, weights, compressors[0].ratio);
}

void compress(Ctx& ctx, const Tensor& x_TD, const CompressorInput& in) { append_keys(ctx, x_TD, {&in, 1}, nullptr); }

}  // namespace vitrine::cuda
