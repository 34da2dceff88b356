// Attention on the tape on a GPU: work lists, what is kept between forward and backward, and the sums over key blocks.
#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "engine/ops/attend/attend_tape.cuh"
#include "engine/ops/linear/copies.h"
#include "engine/ops/trained.h"

namespace vitrine::cuda {
namespace {

constexpr int kSumThreads = 256, kSumRows = 8;  // keys that a block of `add_partials` takes

// ---- kernels of both families

// Bits of the chosen entries that are complete, [T, n_words]: a warp per query, by the block that has its first head.
__global__ void mark_chosen(const TapeCall a, const QueryBlock* blocks, const int32_t* chosen, int k, uint32_t* bits) {
    after_previous();
    extern __shared__ __align__(16) uint32_t words[];
    const QueryBlock b = blocks[blockIdx.x];
    const int lane = threadIdx.x % kWarp, n_warps = blockDim.x / kWarp;
    uint32_t* mine = words + threadIdx.x / kWarp * a.n_words;
    for (int t = (b.begin + a.n_heads - 1) / a.n_heads + threadIdx.x / kWarp; t * a.n_heads < b.end; t += n_warps) {
        for (int i = lane; i < a.n_words; i += kWarp) mine[i] = 0;
        __syncwarp();
        const int n = a.n_complete(b, t);
        for (int i = lane; i < k; i += kWarp) {
            const int e = chosen[static_cast<int64_t>(t) * k + i];
            if (e >= 0 && e < n) atomicOr(mine + e / 32, 1u << e % 32);
        }
        __syncwarp();
        for (int i = lane; i < a.n_words; i += kWarp) bits[static_cast<int64_t>(t) * a.n_words + i] = mine[i];
        __syncwarp();
    }
}

// Where the gradients of keys go: rows [T, G, c] and their values [T, G, v] (null: values are keys), entries [S, c].
struct KeyGradients {
    float *keys, *values, *entries;
    bool adds_keys, adds_values, adds_entries;
};

// In the order of the key blocks. Grid: sums, groups of kSumRows keys, key heads.
__global__ void add_partials(const TapeCall a, const KeySum* sums, const float* partials, const KeyGradients to) {
    after_previous();
    const KeySum s = sums[blockIdx.x];
    const int group = blockIdx.z, width = a.c + (to.values ? a.v : 0);
    const int first = blockIdx.y * kSumRows, n = (min(first + kSumRows, s.n_keys) - first) * width;
    const int64_t stride = static_cast<int64_t>(a.n_groups) * kTapeKeys * width;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        const int key = first + i / width, column = i % width;
        const float* from =
            partials + s.block * stride + (static_cast<int64_t>(group) * kTapeKeys + key) * width + column;
        float sum = 0;
        for (int j = 0; j < s.n_blocks; ++j) sum += from[j * stride];
        const int64_t row = s.key + key;
        float* out = s.is_entry     ? to.entries + row * a.c + column
                     : column < a.c ? to.keys + (row * a.n_groups + group) * a.c + column
                                    : to.values + (row * a.n_groups + group) * a.v + column - a.c;
        const bool adds = s.is_entry ? to.adds_entries : column < a.c ? to.adds_keys : to.adds_values;
        *out = (adds ? *out : 0.0f) + sum;
    }
}

// d sink = - sum over queries of p_sink o . dout: a block per head.
__global__ void sink_gradients(const TapeCall a, const float* delta, int n_tokens, float* to, bool adds) {
    after_previous();
    __shared__ float scratch[kWarp];
    const int h = blockIdx.x;
    const float sink = a.sinks[h];
    float sum = 0;
#pragma unroll 8
    for (int t = threadIdx.x; t < n_tokens; t += blockDim.x) {
        const int64_t r = static_cast<int64_t>(t) * a.n_heads + h;
        sum -= expf(sink - a.lse[r]) * delta[r];
    }
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) to[h] = (adds ? to[h] : 0.0f) + sum;
}

// ---- work lists, in the GPU's memory
struct Work {
    const QueryBlock* queries;
    const KeyBlock* keys;
    const KeySum* sums;
    int64_t n_queries = 0, n_keys = 0, n_sums = 0;
};

template <class Item>
const Item* place(Ctx& ctx, const std::vector<Item>& list) {
    return reinterpret_cast<const Item*>(
        ctx.cuda->ints({reinterpret_cast<const int32_t*>(list.data()), list.size() * sizeof(Item) / sizeof(int32_t)}));
}

int32_t small(int64_t x) {
    return static_cast<int32_t>(x);
}

int64_t n_entries(const TapeKeys& k, int64_t segment) {
    if (k.entries_SC.empty()) return 0;
    return std::min((k.rows[segment + 1] - k.rows[segment]) / k.ratio, k.entries[segment + 1] - k.entries[segment]);
}

// Whole queries as long as their heads fit into a block.
std::vector<QueryBlock> query_blocks(const TapeKeys& k, int64_t n_heads) {
    std::vector<QueryBlock> list;
    const int64_t step = n_heads < kTapeRows ? kTapeRows / n_heads * n_heads : kTapeRows;
    for (int64_t s = 0; s < n_segments(k.rows); ++s)
        for (int64_t r = k.rows[s] * n_heads; r < k.rows[s + 1] * n_heads; r += step)
            list.push_back({small(r), small(std::min(r + step, k.rows[s + 1] * n_heads)), small(k.rows[s]),
                            k.entries_SC.empty() ? 0 : small(k.entries[s]), small(n_entries(k, s))});
    return list;
}

// A key block with all queries that can see it, for every run of keys of a segment: window rows, then entries.
std::vector<KeyBlock> whole_key_blocks(const TapeKeys& k) {
    std::vector<KeyBlock> list;
    for (int64_t s = 0; s < n_segments(k.rows); ++s) {
        const int64_t first = k.rows[s], end = k.rows[s + 1];
        for (int64_t j = first; j < end; j += kTapeKeys) {
            const int64_t last = std::min(j + kTapeKeys, end) - 1;
            list.push_back(
                {small(j), small(last - j + 1), -1, small(j), small(std::min(last + k.window, end)), small(first)});
        }
        for (int64_t e = 0; !k.entries_SC.empty() && e < k.entries[s + 1] - k.entries[s]; e += kTapeKeys) {
            const int64_t n = std::min<int64_t>(kTapeKeys, k.entries[s + 1] - k.entries[s] - e);
            const int64_t begin = std::min(first + (e + 1) * k.ratio - 1, end);
            list.push_back({small(k.entries[s] + e), small(n), small(e), small(begin), small(end), small(first)});
        }
    }
    return list;
}

// Cut along the queries where that gives the GPU enough to do: about kEnough blocks, by shapes alone.
void cut(const std::vector<KeyBlock>& whole, std::vector<KeyBlock>& blocks, std::vector<KeySum>& sums) {
    constexpr int64_t kEnough = 1024, kFewest = 32;  // queries
    int64_t all = 0;
    for (const KeyBlock& b : whole) all += b.end - b.begin;
    const int64_t most = std::max(kFewest, (all + kEnough - 1) / kEnough);
    for (const KeyBlock& b : whole) {
        const int64_t n = b.end - b.begin, pieces = (n + most - 1) / most;
        sums.push_back({b.key, b.n_keys, b.place >= 0, small(static_cast<int64_t>(blocks.size())), small(pieces)});
        for (int64_t i = 0; i < pieces; ++i) {
            blocks.push_back(b);
            blocks.back().begin = small(b.begin + n * i / pieces),
            blocks.back().end = small(b.begin + n * (i + 1) / pieces);
        }
    }
}

Work query_work(Ctx& ctx, const TapeKeys& k, int64_t n_heads) {
    const std::vector<QueryBlock> queries = query_blocks(k, n_heads);
    Work w{};
    w.queries = place(ctx, queries), w.n_queries = static_cast<int64_t>(queries.size());
    return w;
}

void add_key_work(Ctx& ctx, const TapeKeys& k, Work& w) {
    std::vector<KeyBlock> blocks;
    std::vector<KeySum> sums;
    cut(whole_key_blocks(k), blocks, sums);
    w.keys = place(ctx, blocks), w.n_keys = static_cast<int64_t>(blocks.size());
    w.sums = place(ctx, sums), w.n_sums = static_cast<int64_t>(sums.size());
}

// ---- what forward leaves to backward
struct Attended {
    TapeCall call;
    Work work;
    Tensor q, keys, values, entries, sinks, o;  // sinks: the master, empty if it is not trained
    TapeKeys seen;
    bool has_tensor_cores;
    bool is_shared() const { return keys.data == values.data; }
};

float* flow(Ctx& ctx, const Tensor& x, bool& adds) {
    if (x.empty()) return nullptr;
    const Tape::Flow f = ctx.tape->flow(x);
    adds = f.accumulates;
    return f.gradient.f32();
}

void backward(Ctx& ctx, Attended& op) {
    const TapeCall& a = op.call;
    const int64_t n_tokens = op.q.dim(0), n_rows = n_tokens * a.n_heads;
    add_key_work(ctx, op.seen, op.work);
    const int64_t width = a.c + (op.is_shared() ? 0 : a.v);
    TapeGradients g{};
    g.dout = ctx.tape->grad(op.o).f32();
    g.delta = ctx.arena.make(DType::f32, {n_rows}).f32();
    g.dq = flow(ctx, op.q, g.adds_dq);
    g.partials =
        ctx.arena.make(DType::f32, {std::max<int64_t>(1, op.work.n_keys), a.n_groups * kTapeKeys * width}).f32();
    if (op.has_tensor_cores) {
        g.q16 = static_cast<bf16*>(ctx.arena.make(DType::bf16, {n_rows, a.c}).data);
        g.dout16 = static_cast<bf16*>(ctx.arena.make(DType::bf16, {n_rows, a.c}).data);
        attend_tensor_queries(ctx, a, g, op.work.queries, op.work.n_queries);
        attend_tensor_keys(ctx, a, g, op.work.keys, op.work.n_keys);
    } else {
        attend_plain_queries(ctx, a, g, op.work.queries, op.work.n_queries);
        attend_plain_keys(ctx, a, g, op.work.keys, op.work.n_keys);
    }
    KeyGradients to{};
    to.keys = flow(ctx, op.keys, to.adds_keys);
    if (!op.is_shared()) to.values = flow(ctx, op.values, to.adds_values);
    to.entries = flow(ctx, op.entries, to.adds_entries);
    const dim3 grid(static_cast<unsigned>(op.work.n_sums), kTapeKeys / kSumRows, static_cast<unsigned>(a.n_groups));
    add_partials<<<grid, kSumThreads, 0, ctx.cuda->stream()>>>(a, op.work.sums, g.partials, to);
    check_launch(ctx, "attention's sums of key gradients");
    bool adds = false;
    float* const dsinks = flow(ctx, op.sinks, adds);
    if (!dsinks) return;
    sink_gradients<<<static_cast<unsigned>(a.n_heads), 1024, 0, ctx.cuda->stream()>>>(a, g.delta, small(n_tokens),
                                                                                      dsinks, adds);
    check_launch(ctx, "attention's sink gradients");
}

// Bits of the chosen entries, whole words of kTapeKeys entries.
void mark(Ctx& ctx, TapeCall& a, const Work& work, const TapeKeys& keys) {
    constexpr int kWarps = 4;
    a.n_words = small((longest_segment(keys.entries) + kTapeKeys - 1) / kTapeKeys * (kTapeKeys / 32));
    const Tensor bits = ctx.arena.make(DType::i32, {keys.rows.back(), a.n_words});
    const size_t bytes = static_cast<size_t>(kWarps) * a.n_words * 4;
    mark_chosen<<<static_cast<unsigned>(work.n_queries), kWarps * kWarp, bytes, ctx.cuda->stream()>>>(
        a, work.queries, keys.chosen_TK.as<int32_t>(), small(keys.chosen_TK.dim(1)), static_cast<uint32_t*>(bits.data));
    check_launch(ctx, "attention's chosen entries");
    a.chosen = static_cast<const uint32_t*>(bits.data);
}

}  // namespace

TapeAttention attend_on_tape(Ctx& ctx, const Tensor& q_THC, const TapeKeys& keys, const Param& sinks, bool wants_mass) {
    const int64_t n_tokens = q_THC.dim(0), n_heads = q_THC.dim(1), n_groups = keys.keys_TGC.dim(1),
                  v = keys.values_TGV.dim(2);
    const bool has_entries = !keys.entries_SC.empty(), is_shared = keys.keys_TGC.data == keys.values_TGV.data;
    VITRINE_ASSERT(n_heads % n_groups == 0 && keys.rows.back() == n_tokens && keys.window > 0 && n_tokens > 0);
    VITRINE_ASSERT(!has_entries || (n_groups == 1 && is_shared && keys.ratio > 0));
    VITRINE_ASSERT(n_tokens * n_heads < int64_t{1} << 30);
    TapeAttention out;
    out.o_THV = ctx.arena.make(DType::f32, {n_tokens, n_heads, v});
    const Tensor lse_TH = ctx.arena.make(DType::f32, {n_tokens, n_heads});
    const auto op = std::make_shared<Attended>();
    op->q = q_THC, op->keys = keys.keys_TGC, op->values = keys.values_TGV, op->entries = keys.entries_SC,
    op->o = out.o_THV;
    op->seen = keys;
    op->seen.window = std::min(keys.window, n_tokens);
    TapeCall& a = op->call;
    a.q = q_THC.f32(), a.keys = keys.keys_TGC.f32(), a.values = keys.values_TGV.f32();
    a.entries = has_entries ? keys.entries_SC.f32() : nullptr;
    a.o = out.o_THV.f32(), a.lse = lse_TH.f32();
    a.n_heads = small(n_heads), a.n_groups = small(n_groups), a.c = small(q_THC.dim(2)), a.v = small(v);
    a.window = small(op->seen.window), a.ratio = has_entries ? small(keys.ratio) : 0;
    a.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(a.c))), a.softcap = static_cast<float>(keys.softcap);
    if (!sinks.empty()) {
        const Tensor values = trained_value(ctx, sinks);
        a.sinks = values.f32();
        if (is_trained(ctx, sinks)) op->sinks = sinks.master;
    }
    op->work = query_work(ctx, op->seen, n_heads);
    if (has_entries && !keys.chosen_TK.empty()) mark(ctx, a, op->work, keys);

    op->has_tensor_cores = ctx.has_bf16_products && has_tape_tensor_kernels(a);
    if (op->has_tensor_cores) {
        a.keys16 = static_cast<const bf16*>(bf16_value(ctx, keys.keys_TGC).data);
        if (has_entries) a.entries16 = static_cast<const bf16*>(bf16_value(ctx, keys.entries_SC).data);
        attend_tensor(ctx, a, op->work.queries, op->work.n_queries);
    } else {
        attend_plain(ctx, a, op->work.queries, op->work.n_queries);
    }
    if (wants_mass && has_entries) {
        out.mass_TS = ctx.arena.make(DType::f32, {n_tokens, std::max<int64_t>(1, longest_segment(keys.entries))});
        const auto measure = op->has_tensor_cores && n_heads <= kTapeRows ? attend_tensor_mass : attend_plain_mass;
        measure(ctx, a, op->work.queries, op->work.n_queries, out.mass_TS);
    }
    ctx.tape->record([op](Ctx& c) {
        if (c.tape->has_grad(op->o)) backward(c, *op);
        c.tape->done(op->o);
    });
    return out;
}

}  // namespace vitrine::cuda
