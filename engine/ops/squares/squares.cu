// Sums of squares on the GPU: a block per chunk, then one per tensor.
#include "engine/ops/squares/squares.h"

#include "engine/ops/squares/chunks.cuh"

namespace vitrine::cuda {
namespace {

struct Source {
    const float* x;
    int64_t count;
};

__device__ double square(float x) { return static_cast<double>(x) * static_cast<double>(x); }

__global__ void square_chunk(ChunkTable table, const Source* sources, double* sums) {
    after_previous();
    const ChunkAt at = chunk_at(table);
    const Source s = sources[at.tensor];
    const float* x = s.x + at.begin;
    const int64_t n = s.count - at.begin < kChunkElements ? s.count - at.begin : kChunkElements;
    const int64_t n_four = reinterpret_cast<uintptr_t>(x) % 16 == 0 ? n / 4 : 0;
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n_four; i += kChunkThreads) {
        const float4 v = reinterpret_cast<const float4*>(x)[i];
        sum += (square(v.x) + square(v.y)) + (square(v.z) + square(v.w));
    }
    for (int64_t i = 4 * n_four + threadIdx.x; i < n; i += kChunkThreads) sum += square(x[i]);
    sum = chunk_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

}  // namespace

std::vector<double> sums_of_squares(Ctx& ctx, std::span<const Tensor> tensors) {
    if (tensors.empty()) return {};
    const Arena::Scope scratch(ctx.arena);
    std::vector<int64_t> counts;
    std::vector<Source> sources;
    for (const Tensor& t : tensors) counts.push_back(t.count()), sources.push_back({t.f32(), t.count()});
    const ChunkTable table = chunk_table(ctx, counts);
    const Tensor of_chunks = ctx.arena.make(DType::f64, {table.n_chunks + 1});
    const Source* there = place_list(ctx, sources);
    if (table.n_chunks > 0)
        square_chunk<<<static_cast<unsigned>(table.n_chunks), kChunkThreads, 0, ctx.cuda->stream()>>>(table, there,
                                                                                                     of_chunks.as<double>());
    check_launch(ctx, "squares");
    return collect_sums(ctx, table, of_chunks.as<double>(), 1);
}

}  // namespace vitrine::cuda
