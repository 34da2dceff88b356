// Many tensors of any size in one launch: a block per chunk of elements, sums of each tensor in a fixed order.
#pragma once
#include <cstring>
#include <span>
#include <vector>

#include "engine/ops/kernel.cuh"

namespace vitrine::cuda {

constexpr int kChunkThreads = 256;
constexpr int64_t kChunkElements = 16384;

// Chunks of tensor i are [first[i], first[i + 1]).
struct ChunkTable {
    const int32_t* first;
    int n_tensors, n_chunks;
};
inline ChunkTable chunk_table(Ctx& ctx, std::span<const int64_t> counts) {
    std::vector<int32_t> first{0};
    for (const int64_t n : counts) first.push_back(first.back() + static_cast<int32_t>((n + kChunkElements - 1) / kChunkElements));
    return {ctx.cuda->ints(first), static_cast<int>(counts.size()), first.back()};
}
// A list of plain structs in the GPU's memory.
template <class T>
const T* place_list(Ctx& ctx, const std::vector<T>& list) {
    static_assert(sizeof(T) % 4 == 0 && std::is_trivially_copyable_v<T>);
    std::vector<int32_t> words(list.size() * sizeof(T) / 4);
    std::memcpy(words.data(), list.data(), list.size() * sizeof(T));
    return reinterpret_cast<const T*>(ctx.cuda->ints(words));
}

// Of this block.
struct ChunkAt {
    int tensor;
    int64_t begin;  // its end is kChunkElements on, or the tensor's
};
__device__ inline ChunkAt chunk_at(const ChunkTable& table) {
    const int chunk = static_cast<int>(blockIdx.x);
    int low = 0, high = table.n_tensors;  // first[low] <= chunk < first[high]
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        (table.first[middle] <= chunk ? low : high) = middle;
    }
    return {low, (chunk - table.first[low]) * kChunkElements};
}

// Over a block of kChunkThreads, in one order; for thread 0.
__device__ inline double chunk_sum(double x) {
    __shared__ double in_warp[kChunkThreads / kWarp];
    for (int i = kWarp / 2; i > 0; i /= 2) x += __shfl_xor_sync(~0u, x, i);
    __syncthreads();
    if (threadIdx.x % kWarp == 0) in_warp[threadIdx.x / kWarp] = x;
    __syncthreads();
    double sum = 0;
    for (int w = 0; w < kChunkThreads / kWarp; ++w) sum += in_warp[w];
    return sum;
}

// A block per tensor: sums [tensors, n] of its chunks' [chunks, n].
static __global__ void sum_chunks(ChunkTable table, const double* of_chunks, int n, double* sums) {
    after_previous();
    const int c0 = table.first[blockIdx.x], c1 = table.first[blockIdx.x + 1];
    for (int i = 0; i < n; ++i) {
        double sum = 0;
        for (int c = c0 + static_cast<int>(threadIdx.x); c < c1; c += kChunkThreads)
            sum += of_chunks[static_cast<int64_t>(c) * n + i];
        sum = chunk_sum(sum);
        if (threadIdx.x == 0) sums[static_cast<int64_t>(blockIdx.x) * n + i] = sum;
    }
}

// Adds up of_chunks and waits for the result: [tensors, n].
inline std::vector<double> collect_sums(Ctx& ctx, const ChunkTable& table, const double* of_chunks, int n) {
    const Tensor sums = ctx.arena.make(DType::f64, {table.n_tensors, n});
    sum_chunks<<<static_cast<unsigned>(table.n_tensors), kChunkThreads, 0, ctx.cuda->stream()>>>(table, of_chunks, n,
                                                                                                sums.as<double>());
    check_launch(ctx, "sums of tensors");
    std::vector<double> here(static_cast<size_t>(sums.count()));
    ctx.cuda->read_later(sums, [&](const void* data) { std::memcpy(here.data(), data, here.size() * sizeof(double)); });
    ctx.cuda->collect();
    return here;
}

inline bool is_aligned_16(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

}  // namespace vitrine::cuda
