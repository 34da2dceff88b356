// AdamW on the GPU: all weights in one launch, a block per chunk of elements. Its time is that of reading four arrays and writing
// three.
#include "engine/ops/adamw/adamw.h"

#include <cmath>

#include "engine/ops/linear/packed.cuh"
#include "engine/ops/squares/chunks.cuh"

namespace vitrine::cuda {
namespace {

struct Slice {
    float *weight, *mean, *square;
    const float* gradient;
    bf16* copy;              // null: none
    int64_t count;
    float keep, rate, root_correction;
    int32_t is_whole;  // all four (of the copy half as many bytes) are aligned to 16 bytes
};

struct Rule {
    float scale, b1, b2, rest1, rest2, eps;
};

struct Sums {
    double weight = 0, update = 0, surprise = 0;
};

__device__ double square_of(float x) { return static_cast<double>(x) * static_cast<double>(x); }

// As the CPU's twin, operation by operation.
__device__ void update(const Rule& r, const Slice& s, float gradient, float& w, float& m, float& v, Sums& sums) {
    const float g = gradient * r.scale, before = w;
    m = r.b1 * m + r.rest1 * g;
    v = r.b2 * v + r.rest2 * g * g;
    const float root = sqrtf(v) * s.root_correction;
    w = before * s.keep - s.rate * m / (root + r.eps);
    sums.weight += square_of(before), sums.update += square_of(w - before);
    if (root > 0) sums.surprise += square_of(g / root);
}

__global__ void __launch_bounds__(kChunkThreads) update_chunk(ChunkTable table, const Slice* slices, Rule r, double* of_chunks) {
    after_previous();
    const ChunkAt at = chunk_at(table);
    const Slice s = slices[at.tensor];
    const int64_t end = s.count - at.begin < kChunkElements ? s.count : at.begin + kChunkElements;
    const int64_t end_four = s.is_whole ? at.begin + (end - at.begin) / 4 * 4 : at.begin;
    Sums sums;
    for (int64_t i = at.begin + 4 * threadIdx.x; i < end_four; i += 4 * kChunkThreads) {
        const float4 g = *reinterpret_cast<const float4*>(s.gradient + i);
        float4 w = *reinterpret_cast<const float4*>(s.weight + i), m = *reinterpret_cast<const float4*>(s.mean + i),
               v = *reinterpret_cast<const float4*>(s.square + i);
        update(r, s, g.x, w.x, m.x, v.x, sums), update(r, s, g.y, w.y, m.y, v.y, sums);
        update(r, s, g.z, w.z, m.z, v.z, sums), update(r, s, g.w, w.w, m.w, v.w, sums);
        *reinterpret_cast<float4*>(s.weight + i) = w, *reinterpret_cast<float4*>(s.mean + i) = m;
        *reinterpret_cast<float4*>(s.square + i) = v;
        if (s.copy) store_four(s.copy + i, w, 4, true);
    }
    for (int64_t i = end_four + threadIdx.x; i < end; i += kChunkThreads) {
        update(r, s, s.gradient[i], s.weight[i], s.mean[i], s.square[i], sums);
        if (s.copy) s.copy[i] = narrow<bf16>(s.weight[i]);
    }
    double* out = of_chunks + 3 * static_cast<int64_t>(blockIdx.x);
    const double weight = chunk_sum(sums.weight), moved = chunk_sum(sums.update), surprise = chunk_sum(sums.surprise);
    if (threadIdx.x == 0) out[0] = weight, out[1] = moved, out[2] = surprise;
}

}  // namespace

std::vector<UpdateSums> adamw(Ctx& ctx, const AdamW& a, std::span<const AdamWSlice> slices) {
    if (slices.empty()) return {};
    const Arena::Scope scratch(ctx.arena);
    std::vector<int64_t> counts;
    std::vector<Slice> list;
    for (const AdamWSlice& s : slices) {
        const auto t = static_cast<double>(s.t);
        Slice to{s.weight.f32(), s.mean.f32(), s.square.f32(), s.gradient.f32(), static_cast<bf16*>(s.bf16.data), s.weight.count()};
        to.keep = static_cast<float>(1 - a.lr * (s.decays ? a.weight_decay : 0));
        to.rate = static_cast<float>(a.lr / (1 - std::pow(a.beta1, t)));
        to.root_correction = static_cast<float>(1 / std::sqrt(1 - std::pow(a.beta2, t)));
        to.is_whole = is_aligned_16(to.weight) && is_aligned_16(to.mean) && is_aligned_16(to.square) && is_aligned_16(to.gradient);
        list.push_back(to), counts.push_back(to.count);
    }
    const Rule rule{static_cast<float>(a.gradient_scale), static_cast<float>(a.beta1),     static_cast<float>(a.beta2),
                    static_cast<float>(1 - a.beta1),      static_cast<float>(1 - a.beta2), static_cast<float>(a.eps)};
    const ChunkTable table = chunk_table(ctx, counts);
    const Slice* there = place_list(ctx, list);
    const Tensor of_chunks = ctx.arena.make(DType::f64, {table.n_chunks + 1, 3});
    if (table.n_chunks > 0)
        update_chunk<<<static_cast<unsigned>(table.n_chunks), kChunkThreads, 0, ctx.cuda->stream()>>>(table, there, rule,
                                                                                                     of_chunks.as<double>());
    check_launch(ctx, "AdamW");
    const std::vector<double> sums = collect_sums(ctx, table, of_chunks.as<double>(), 3);
    std::vector<UpdateSums> result;
    for (size_t i = 0; i < slices.size(); ++i) result.push_back({sums[3 * i], sums[3 * i + 1], sums[3 * i + 2], counts[i]});
    return result;
}

}  // namespace vitrine::cuda
