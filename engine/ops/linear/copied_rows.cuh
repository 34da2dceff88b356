// Whole rows of BF16 weights on their way to shared memory by the copy engine: no registers hold them, nobody waits for
// them.
#pragma once
#include "engine/ops/linear/tensor.cuh"

namespace vitrine::cuda {

// In shared memory, of use once: the bytes that are to arrive there.
struct Arrival {
    uint64_t word;
    __device__ uint32_t address() const { return static_cast<uint32_t>(__cvta_generic_to_shared(&word)); }
    // By the thread that copies; a barrier of the block lies between this and `wait`.
    __device__ void expect(uint32_t bytes) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(address()) : "memory");
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address()), "r"(bytes) : "memory");
    }
    __device__ void wait() const {
        uint32_t is_there = 0;
        while (!is_there)
            asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                         : "=r"(is_there)
                         : "r"(address()), "r"(0)
                         : "memory");
    }
};

// The n rows of w from row0 on, as many as there are, as they lie, to `to`, of 16 bytes' alignment; by one thread.
__device__ inline void copy_rows(const cpu::PackedMatrix& w, int64_t row0, int n, std::byte* to, Arrival& arrival,
                                 bool is_once) {
    const auto bytes = static_cast<uint32_t>(min(w.out - row0, static_cast<int64_t>(n)) * w.in * 2);
    arrival.expect(bytes);
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::
            "r"(static_cast<uint32_t>(__cvta_generic_to_shared(to))),
        "l"(static_cast<const std::byte*>(w.data) + row0 * w.in * 2), "r"(bytes), "r"(arrival.address()),
        "l"(cache_policy(is_once))
        : "memory");
}

// How warps share the columns: groups of kAhead quadruples of chunks, as RowsAhead's. A warp holds two groups of x, its
// own and the one n_warps behind; of up to kMostSums groups each is summed by itself, of more the two together:
// RowsAhead's order with tensor_warps(w, kMostSums) warps, so its bits.
constexpr int kMostSums = 8, kHeld = 2 * kAhead, kHeldColumns = kHeld * 32;
__host__ __device__ inline int groups_of(int64_t in) {
    return static_cast<int>((in + kAhead * 32 - 1) / (kAhead * 32));
}
__host__ __device__ inline int held_warps(int64_t in) {
    return groups_of(in) > kMostSums ? kMostSums : (groups_of(in) + 1) / 2;
}
inline bool can_hold(int64_t in) {
    return in <= kMostSums * kHeldColumns;
}

// Lane 4 g + t holds chunk t of each quadruple of row g of x: `load(chunk)`, zeros beyond `in` columns.
template <class Load>
__device__ void hold_columns(int64_t in, int warp, int n_warps, uint4 (&x)[kHeld], Load&& load) {
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
        const int group = warp + i / kAhead * n_warps;
        const int chunk = (group * kAhead + i % kAhead) * 4 + static_cast<int>(threadIdx.x) % 4;
        x[i] = chunk * 8 < in ? load(chunk) : uint4{0, 0, 0, 0};
    }
}
__device__ inline uint4 choose(bool first, uint4 a, uint4 b) {  // in registers
    return {first ? a.x : b.x, first ? a.y : b.y, first ? a.z : b.z, first ? a.w : b.w};
}
// sum += 16 rows in shared memory, a group of their columns, times such columns of x. Two neighbouring quadruples are
// read together, by lanes of odd rows the other way round: neighbouring rows lie in the same banks.
__device__ inline void multiply_group(const std::byte* rows, int64_t in, int group, const uint4* x, float (&sum)[4]) {
    const int lane = threadIdx.x % kWarp, t = lane % 4, is_odd = lane / 4 % 2, n_chunks = static_cast<int>(in / 8);
    const auto *low = reinterpret_cast<const uint4*>(rows) + lane / 4 * n_chunks, *high = low + 8 * n_chunks;
    const auto read = [&](const uint4* row, int chunk) { return chunk < n_chunks ? row[chunk] : uint4{0, 0, 0, 0}; };
    const auto add = [&](const uint4& u, const uint4& v, const uint4& b) {
        multiply_16x8x16(sum, u.x, v.x, u.y, v.y, b.x, b.y);
        multiply_16x8x16(sum, u.z, v.z, u.w, v.w, b.z, b.w);
    };
#pragma unroll
    for (int i = 0; i < kAhead; i += 2) {
        const int first = (group * kAhead + i) * 4;
        if (first >= n_chunks) break;
        const int one = first + is_odd * 4 + t, other = first + (1 - is_odd) * 4 + t;
        const uint4 u = read(low, one), v = read(high, one), u2 = read(low, other), v2 = read(high, other);
        add(choose(is_odd, u2, u), choose(is_odd, v2, v), x[i]);
        add(choose(is_odd, u, u2), choose(is_odd, v, v2), x[i + 1]);
    }
}
// A warp's products, stored as store_sums does to `to` [groups_of(in), at most kMostSums][8 columns][16 rows].
__device__ inline void multiply_held(const std::byte* rows, int64_t in, int warp, const uint4 (&x)[kHeld],
                                     float (*to)[8 * 16]) {
    if (warp >= held_warps(in)) return;
    const int other = warp + held_warps(in);
    float sum[4] = {}, next[4] = {};
    multiply_group(rows, in, warp, x, sum);
    if (groups_of(in) > kMostSums)
        multiply_group(rows, in, other, x + kAhead, sum);
    else
        multiply_group(rows, in, other, x + kAhead, next);
    store_sums(sum, to[warp]);
    if (groups_of(in) <= kMostSums && other < groups_of(in)) store_sums(next, to[other]);
}
__host__ __device__ inline int sums_of_held(int64_t in) {
    return groups_of(in) > kMostSums ? kMostSums : groups_of(in);
}

}  // namespace vitrine::cuda
