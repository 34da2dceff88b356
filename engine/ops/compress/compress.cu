// Token-level compression on the GPU: one block per token stores its K | S row and pools the entry that it completes.
#include <algorithm>

#include "engine/ops/kernel.cuh"
#include "engine/ops/compress/compress.h"
#include "engine/ops/linear/linear.h"
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

__device__ void norm_and_rotate(const Compression& c, int64_t start, float* row) {
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
    for (int i = threadIdx.x; i < c.frequencies.n; i += blockDim.x) {
        float cosine, sine, a = last[2 * i], b = last[2 * i + 1];
        cos_sin(start, c.frequencies.at[i], cosine, sine);
        rotate_pair(a, b, cosine, sine);
        last[2 * i] = c.is_rounded ? round_bf16(a) : a;
        last[2 * i + 1] = c.is_rounded ? round_bf16(b) : b;
    }
    __syncthreads();
}

// One block per token. Shared memory: n_slots slots, 3 d floats.
__global__ void compress_tokens(const __grid_constant__ Compression c) {
    after_previous();
    extern __shared__ __align__(16) std::byte shared[];
    auto* slots = reinterpret_cast<Slot*>(shared);
    auto* row = reinterpret_cast<float*>(slots + c.n_slots);
    const int64_t t = blockIdx.x;
    const TokenAt at = c.tokens[t];
    const LayerView& view = c.views[at.sequence];
    float* ring = c.is_key ? view.index_compressor : view.compressor;
    const int64_t capacity = c.is_key ? view.index_compressor_capacity : view.compressor_capacity;

    float* stored = ring + at.position % capacity * 2 * c.width;
    for (int i = threadIdx.x; i < c.width; i += blockDim.x) {
        stored[i] = c.k[t * c.width + i];
        stored[c.width + i] = c.s[t * c.width + i] + element(c.ape, at.position % c.ratio, i);
    }
    if ((at.position + 1) % c.ratio != 0) return;

    const int64_t index = at.position / c.ratio;
    const int first = c.n_slots > c.ratio && index == 0 ? c.ratio : 0;  // entry 0 has no previous block
    float *tops = row + c.d, *sums = tops + c.d;
    for (int i = first + threadIdx.x; i < c.n_slots; i += blockDim.x) slots[i] = slot_at(c, t, at, ring, capacity, i);
    __syncthreads();
    pool(c, slots, first, row, tops, sums);
    __syncthreads();
    if (c.weights) mean_weights(c, t, slots, first, tops, sums);
    norm_and_rotate(c, index * c.ratio, row);
    for (int i = threadIdx.x; i < c.d && c.entries; i += blockDim.x) c.entries[t * c.d + i] = row[i];
    if (c.is_key) {
        if (c.is_rounded) hadamard(row, c.d, threadIdx.x, blockDim.x, [] { __syncthreads(); });
        write_index_key(c.format, row, view.index_keys + index * c.format.bytes);
    } else {
        write_entry(c.format, row, view.entries + index * c.format.bytes);
    }
}

// Rows of x [T, width] of the tokens that completed an entry.
void publish_completed(Ctx& ctx, Probe p, const Tensor& x, int ratio) {
    ctx.cuda->deliver(x, [=, l = ctx.layer, width = x.dim(1)](const Arrived& a, ProbeSink& sink) {
        for (int t = 0; t < a.n_tokens; ++t)
            if ((a.tokens[t].position + 1) % ratio == 0)
                sink.put(t, p, l, a.f32() + t * width, 1, static_cast<int>(width));
    });
}

}  // namespace

void compress(Ctx& ctx, const Tensor& x_TD, const CompressorWeights& w, int ratio, int entry_size, int rope_dim,
              const std::vector<double>& frequencies, double eps, EntryKind kind, bool is_normed) {
    const OpTimer timer(ctx, OpKind::compress);
    VITRINE_ASSERT(static_cast<size_t>(rope_dim) == 2 * frequencies.size());
    const bool is_key = kind == EntryKind::index_key;
    const Step& step = ctx.cuda->step;
    const int64_t n_slots = ratio == 4 ? 2 * ratio : ratio, width = n_slots / ratio * entry_size;
    const bool wants_entry = !is_key && ctx.wants(kEntry), wants_weights = !is_key && ctx.wants(kEntryWeights);
    const Tensor entries = wants_entry ? ctx.arena.make(DType::f32, {step.n_tokens, entry_size}) : Tensor{};
    const Tensor weights = wants_weights ? ctx.arena.make(DType::f32, {step.n_tokens, n_slots}) : Tensor{};

    const Arena::Scope scratch(ctx.arena);
    const LinearOptions wide{.quantise_input = false, .round_output = false};
    const Tensor k = cuda::linear(ctx, x_TD, w.wkv, wide), s = cuda::linear(ctx, x_TD, w.wgate, wide);
    VITRINE_ASSERT(k.dim(1) == width && k.dtype == DType::f32 && s.dtype == DType::f32);
    const Compression c{step.tokens,
                        step.layer(ctx.layer),
                        k.f32(),
                        s.f32(),
                        w.ape.view,
                        is_normed ? w.norm.view : cpu::PackedMatrix{},
                        entry_size,
                        static_cast<int>(width),
                        ratio,
                        static_cast<int>(n_slots),
                        is_key,
                        ctx.is_reference(),
                        static_cast<float>(eps),
                        is_key ? index_rows(ctx, entry_size) : entry_rows(ctx, entry_size, rope_dim),
                        frequencies_of(frequencies),
                        wants_entry ? entries.f32() : nullptr,
                        wants_weights ? weights.f32() : nullptr};
    const int threads = std::clamp((entry_size + kWarp - 1) / kWarp * kWarp, 2 * kWarp, 512);
    const size_t bytes = n_slots * sizeof(Slot) + 3 * entry_size * sizeof(float);
    compress_tokens<<<step.n_tokens, threads, bytes, ctx.cuda->stream()>>>(c);
    check_launch(ctx, "compress");
    if (wants_entry) publish_completed(ctx, kEntry, entries, ratio);
    if (wants_weights) publish_completed(ctx, kEntryWeights, weights, ratio);
}

}  // namespace vitrine::cuda
