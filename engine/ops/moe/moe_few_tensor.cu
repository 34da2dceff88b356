// Few rows of the mixture of experts on tensor cores, in two launches: up with SwiGLU, and down with each token's sum.
#include <algorithm>

#include "engine/ops/hyper/coefficients.cuh"
#include "engine/ops/linear/convert.h"
#include "engine/ops/linear/copied_rows.cuh"
#include "engine/ops/moe/experts.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kColumns = 8, kTileOut = 16, kMaxWarps = 16, kMaxStaged = 2, kMaxPerToken = 16, kPrefetched = 8;
constexpr int kTileUp = 8, kUpWarps = 8, kCopyWarps = 8;  // of `up`; of `down` by copies
constexpr int64_t kMaxStagedBytes = 96 << 10;
constexpr size_t kMostCopied = (227 << 10) - 1024;  // dynamic shared memory beside what kernels declare

struct Stage {
    Kind routed, shared;
    bool has_shared, is_staged;  // x or h passes through FP8 into shared memory
    bool is_once;                // weights that no cache keeps until the next token
    int64_t n_routed, n_tokens, width;
    int k;
};

// 8 hidden columns of one slot of a routed expert, or of up to 8 slots of the shared one: w1's and w3's rows are the halves of
// a tensor core's 16. grid: (tiles of the widest expert, groups of shared slots and routed slots).
template <bool kIsBf16>
__global__ void __launch_bounds__(kUpWarps* kWarp, kIsBf16 ? 3 : 2)
    up(const __grid_constant__ Stage a, const bf16* x, bf16* h, float limit, int n_shared, int routed_warps, int shared_warps) {
    extern __shared__ __align__(16) bf16 staged[];
    __shared__ float sums[kUpWarps][kColumns * kTileOut];
    const bool is_shared = static_cast<int>(blockIdx.y) < n_shared;
    const Kind& kind = is_shared ? a.shared : a.routed;
    const int64_t first = is_shared ? blockIdx.y * kColumns : blockIdx.y - n_shared,
                  n_columns = is_shared ? min(a.n_tokens - first, static_cast<int64_t>(kColumns)) : 1;
    const int64_t row0 = static_cast<int64_t>(blockIdx.x) * kTileUp, d = kind.w1.first.in, pitch = d + 8;
    if (!is_shared) after_previous();  // the choice; the shared expert's weights may come before
    const int expert = is_shared ? 0 : kind.chosen[first];
    if (expert < 0 || row0 >= kind.w1.first.out) {
        if (is_shared) after_previous();
        return;
    }
    const auto row_of = [&](int64_t column) { return x + (first + column) / kind.per_token * d; };
    const int column = threadIdx.x % kWarp / 4, warp = threadIdx.x / kWarp, n_warps = is_shared ? shared_warps : routed_warps;
    const auto mine = [&]() -> const bf16* {
        if (column >= n_columns) return nullptr;
        return a.is_staged ? staged + column * pitch : row_of(column);
    };
    const cpu::PackedMatrix w1 = kind.w1.at(expert), w3 = kind.w3.at(expert);
    float sum[4] = {};
    if constexpr (kIsBf16) {
        RowsAhead<DType::bf16> rows(w1, row0, w3, row0, warp, n_warps, warp < n_warps, a.is_once);
        if (is_shared) after_previous();
        rows.multiply(mine(), sum);
    } else {
        if (is_shared) after_previous();
        if (a.is_staged) {
            stage_fp8_rows(row_of, [&](int) { return d; }, static_cast<int>(n_columns), d, staged, pitch);
            __syncthreads();
        }
        if (warp < n_warps) add_tensor_products(w1, row0, w3, row0, mine(), warp, n_warps, sum);
    }
    if (warp < n_warps) store_sums(sum, sums[warp]);
    __syncthreads();
    const int slot = static_cast<int>(threadIdx.x) / kTileUp, r = static_cast<int>(threadIdx.x) % kTileUp;
    const int64_t s = first + slot, row = row0 + r;
    if (slot >= n_columns || row >= kind.w1.first.out) return;
    float gate = 0, raise = 0;
    for (int w = 0; w < n_warps; ++w) gate += sums[w][slot * kTileOut + r], raise += sums[w][slot * kTileOut + kTileUp + r];
    const float weight = kind.weights ? kind.weights[s] : 1;
    h[(kind.slot0 + s) * a.width + row] = narrow<bf16>(swiglu(round_bf16(gate), round_bf16(raise), limit, weight));
}

struct None {
    template <class... A>
    __device__ None(const A&...) {}
};

// Thread i of a block, as its last: row0 + i of token t, the slots that are there added in the order of `order`, each the sum of
// n_parts values of `sums` [slot, part, pitch]. rows: null, or where to leave each slot's value.
__device__ void add_slots(const Stage& a, int64_t t, int64_t row0, const int* order, const float* sums, int n_parts, int pitch,
                          bf16* y, float* rows) {
    const int64_t d = a.routed.w2.first.out;
    const int i = threadIdx.x;
    if (i >= kTileOut || row0 + i >= d) return;
    int n_there = a.has_shared;
    for (int o = 0; o < a.k; ++o) n_there += a.routed.chosen[t * a.k + o] >= 0;
    float total = 0;
    for (int o = 0; o < n_there; ++o) {
        const int slot = order[o];
        float v = 0;
        for (int part = 0; part < n_parts; ++part) v += sums[(slot * n_parts + part) * pitch + i];
        v = round_bf16(v);
        total = o == 0 ? v : total + v;
        if (rows) rows[(slot == a.k ? a.shared.slot0 + t : t * a.k + slot) * d + row0 + i] = v;
    }
    y[t * d + row0 + i] = narrow<bf16>(total);
}

// 16 output columns of one token, or its mixing matrix: `share` warps for each of its slots, which are added up in
// ascending order of experts, the shared one last. grid: (tiles, tokens). rows: null, or where to leave each slot's
// columns too.
template <bool kIsBf16>
__global__ void __launch_bounds__(kMaxWarps* kWarp, 1)
    down(const __grid_constant__ Stage a, const __grid_constant__ Mixing mixing, const bf16* h, bf16* y, float* rows,
         int share) {
    extern __shared__ __align__(16) bf16 staged[];
    __shared__ float sums[kMaxWarps][kColumns * kTileOut];
    __shared__ int order[kMaxPerToken];
    const int64_t t = blockIdx.y, row0 = static_cast<int64_t>(blockIdx.x) * kTileOut, d = a.routed.w2.first.out,
                  pitch = a.width + 8;
    if (row0 >= d) {
        mixing.make(t);
        return after_previous();
    }
    const int32_t* chosen = a.routed.chosen + t * a.k;
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, n_all = a.k + a.has_shared, j = warp / share;
    const auto is_there = [&](int i) { return i == a.k || chosen[i] >= 0; };
    // The router is done: the kernel before this one waited for it. Weights depend on no kernel.
    const bool is_at_work = j < n_all && is_there(j);
    const cpu::PackedMatrix w = (j == a.k ? a.shared.w2 : a.routed.w2).at(is_at_work && j < a.k ? chosen[j] : 0);
    if (is_at_work) prefetch_rows(w, row0, warp % share + (kIsBf16 ? share : 0), share, kPrefetched, a.is_once);
    std::conditional_t<kIsBf16, RowsAhead<DType::bf16>, None> weights(w, row0, warp % share, share, is_at_work,
                                                                     a.is_once);
    after_previous();
    const auto row_of = [&](int i) -> const bf16* {
        return is_there(i) ? h + (i == a.k ? a.shared.slot0 + t : t * a.k + i) * a.width : nullptr;
    };
    const auto width_of = [&](int i) { return (i == a.k ? a.shared : a.routed).w2.first.in; };
    if (a.is_staged) stage_fp8_rows(row_of, width_of, n_all, a.width, staged, pitch);
    if (static_cast<int>(threadIdx.x) < n_all) {
        const int i = threadIdx.x;
        int rank = 0;
        for (int o = 0; o < a.k; ++o)
            if (o != i && chosen[o] >= 0) rank += i == a.k || chosen[o] < chosen[i] || (chosen[o] == chosen[i] && o < i);
        if (is_there(i)) order[rank] = i;
    }
    __syncthreads();
    if (is_at_work) {
        const bf16* mine = lane / 4 > 0 ? nullptr : a.is_staged ? staged + j * pitch : row_of(j);
        float sum[4] = {};
        if constexpr (kIsBf16) weights.multiply(mine, sum);
        else add_tensor_products(w, row0, mine, warp % share, share, sum);
        store_sums(sum, sums[warp]);
    }
    __syncthreads();
    add_slots(a, t, row0, order, &sums[0][0], share, kColumns * kTileOut, y, rows);
}

// The same for BF16 weights whose rows of all slots shared memory holds. Warps go from slot to slot in groups of
// n_shares.
__global__ void __launch_bounds__(kCopyWarps* kWarp, 1)
    down_by_copies(const __grid_constant__ Stage a, const __grid_constant__ Mixing mixing, const bf16* h, bf16* y,
                   float* rows, int n_shares) {
    extern __shared__ __align__(128) std::byte copied[];
    __shared__ Arrival arrivals[kMaxPerToken];
    __shared__ int order[kMaxPerToken];
    const int64_t t = blockIdx.y, row0 = static_cast<int64_t>(blockIdx.x) * kTileOut, d = a.routed.w2.first.out,
                  slab = kTileOut * a.width * 2;
    if (row0 >= d) {
        mixing.make(t);
        return after_previous();
    }
    const int32_t* chosen = a.routed.chosen + t * a.k;
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, n_all = a.k + a.has_shared;
    auto* sums = reinterpret_cast<float*>(copied + n_all * slab);  // [slots][shares][16]
    const auto is_there = [&](int i) { return i == a.k || chosen[i] >= 0; };
    const auto kind_of = [&](int i) -> const Kind& { return i == a.k ? a.shared : a.routed; };
    // The router is done: the kernel before this one waited for it. Weights depend on no kernel.
    if (static_cast<int>(threadIdx.x) < n_all && is_there(threadIdx.x)) {
        const int i = threadIdx.x;
        const cpu::PackedMatrix w = kind_of(i).w2.at(i == a.k ? 0 : chosen[i]);
        copy_rows(w, row0, kTileOut, copied + i * slab, arrivals[i], a.is_once);
        int rank = 0;
        for (int o = 0; o < a.k; ++o)
            if (o != i && chosen[o] >= 0)
                rank += i == a.k || chosen[o] < chosen[i] || (chosen[o] == chosen[i] && o < i);
        order[rank] = i;
    }
    after_previous();
    __syncthreads();
    const int share = warp % n_shares, n_groups = static_cast<int>(blockDim.x) / kWarp / n_shares;
    for (int i = warp / n_shares; i < n_all; i += n_groups) {
        if (!is_there(i)) continue;
        const int64_t in = kind_of(i).w2.first.in;
        const auto* row = reinterpret_cast<const uint4*>(h + (i == a.k ? a.shared.slot0 + t : t * a.k + i) * a.width);
        uint4 held[kHeld];
        hold_columns(in, share, n_shares, held, [&](int chunk) { return lane < 4 ? row[chunk] : uint4{0, 0, 0, 0}; });
        arrivals[i].wait();
        float sum[4] = {};
        multiply_group(copied + i * slab, in, share, held, sum);
        multiply_group(copied + i * slab, in, share + n_shares, held + kAhead, sum);
        if (lane % 4 == 0) {  // the one column
            float* to = sums + (i * n_shares + share) * kTileOut + lane / 4;
            to[0] = sum[0], to[8] = sum[2];
        }
    }
    __syncthreads();
    add_slots(a, t, row0, order, sums, n_shares, kTileOut, y, rows);
}

}  // namespace

bool takes_few_rows(const Job& job) {
    if (!job.ctx.is_reference() || job.width % 8) return false;
    for (const Kind& kind : job.kinds) {
        if (kind.w1.first.dtype != kind.w3.first.dtype) return false;
        for (const Experts* e : {&kind.w1, &kind.w2, &kind.w3})
            if (!fits_tensor_cores(e->first)) return false;
    }
    return job.kinds[0].per_token + 1 <= kMaxPerToken;
}

void few_rows_on_tensor_cores(const Job& job, float* rows, const Tensor& y) {
    Ctx& ctx = job.ctx;
    const Kind& routed = job.kinds[0];
    const int64_t n_tokens = job.x.dim(0), d = job.x.dim(1);
    const bool has_shared = job.kinds.size() > 1;
    const Kind& shared = job.kinds.back();
    Stage a{routed,         shared,   has_shared, false,    ctx.cuda->reads_weights_once,
            routed.n_slots, n_tokens, job.width,  static_cast<int>(routed.per_token)};
    const Tensor h = ctx.arena.make(DType::bf16, {job.n_slots, job.width});

    const int64_t columns = has_shared ? std::min<int64_t>(n_tokens, kColumns) : 1;
    size_t bytes = static_cast<size_t>(columns * (d + 8)) * sizeof(bf16);
    a.is_staged = job.is_quantised && n_tokens <= kMaxStaged && static_cast<int64_t>(bytes) <= kMaxStagedBytes;
    if (!a.is_staged) bytes = 0;
    const Tensor x = job.is_quantised && !a.is_staged ? fp8_rows(ctx, job.x, d) : job.x;
    const int routed_warps = tensor_warps(routed.w1.first, kUpWarps), shared_warps = tensor_warps(shared.w1.first, kUpWarps);
    const int64_t widest = std::max(routed.w1.first.out, shared.w1.first.out);
    const unsigned n_shared = has_shared ? ceil_div(n_tokens, kColumns) : 0;
    const dim3 up_grid(ceil_div(widest, kTileUp), n_shared + static_cast<unsigned>(routed.n_slots));
    bool is_bf16 = true;
    for (const Kind& kind : job.kinds)
        for (const Experts* e : {&kind.w1, &kind.w2, &kind.w3}) is_bf16 &= e->first.dtype == DType::bf16;
    const auto up_kernel = is_bf16 ? up<true> : up<false>;
    const auto down_kernel = is_bf16 ? down<true> : down<false>;
    allow_shared(ctx, up_kernel, bytes);
    const int up_threads = std::max(2, std::max(routed_warps, shared_warps)) * kWarp;  // one for each of 8 x 8 results
    up_kernel<<<up_grid, up_threads, bytes, ctx.cuda->stream()>>>(a, static_cast<const bf16*>(x.data),
                                                                  static_cast<bf16*>(h.data), job.limit,
                                                                  static_cast<int>(n_shared), routed_warps, shared_warps);
    check_launch(ctx, "experts of few rows, up");

    const int n_all = a.k + has_shared, share = kMaxWarps / n_all;
    const Mixing mixing = take_mixing(ctx);
    const dim3 down_grid(ceil_div(d, kTileOut) + (mixing.mixing != nullptr), static_cast<unsigned>(n_tokens));
    const int n_shares = held_warps(job.width);
    const size_t down_bytes =
        static_cast<size_t>(n_all * kTileOut) * (job.width * sizeof(bf16) + n_shares * sizeof(float));
    if (is_bf16 && can_hold(job.width) && down_bytes <= kMostCopied) {
        allow_shared(ctx, down_by_copies, down_bytes);
        const int threads = kCopyWarps / n_shares * n_shares * kWarp;
        down_by_copies<<<down_grid, threads, down_bytes, ctx.cuda->stream()>>>(
            a, mixing, static_cast<const bf16*>(h.data), static_cast<bf16*>(y.data), rows, n_shares);
        return check_launch(ctx, "experts of few rows, down");
    }
    bytes = static_cast<size_t>(n_all * (job.width + 8)) * sizeof(bf16);
    const bool are_both_packed = is_packed(routed.w2.first) && is_packed(shared.w2.first);
    a.is_staged = are_both_packed && static_cast<int64_t>(bytes) <= kMaxStagedBytes;
    if (!a.is_staged) bytes = 0, quantise_hidden(job, h);
    allow_shared(ctx, down_kernel, bytes);
    down_kernel<<<down_grid, n_all * share * kWarp, bytes, ctx.cuda->stream()>>>(
        a, mixing, static_cast<const bf16*>(h.data), static_cast<bf16*>(y.data), rows, share);
    check_launch(ctx, "experts of few rows, down");
}

}  // namespace vitrine::cuda
