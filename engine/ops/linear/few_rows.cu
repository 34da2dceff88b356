// Products of few rows on tensor cores: decoding is bound by reading weights, and these kernels widen them with the
// least work.
#include <algorithm>

#include "engine/ops/linear/convert.h"
#include "engine/ops/linear/copied_rows.cuh"
#include "engine/ops/linear/few_rows.h"

namespace vitrine::cuda {
namespace {

constexpr int kColumns = 8, kTileOut = 16, kMaxWarps = 8, kPrefetched = 8, kMaxStaged = 2;
constexpr int64_t kMaxStagedBytes = 32 << 10;

struct Product {
    cpu::PackedMatrix w;
    void* y;
    const bf16* x;
    int64_t group_out;
    unsigned first_block, blocks_per_group;
    int n_warps;
    bool is_bf16, is_staged;
};
struct Products {
    Product product[kMaxFewRows];
    int n, n_rows;
    int64_t ldx;
    cpu::PackedMatrix norm;  // data null: x is multiplied as it is
    float eps;
    bool is_once;            // weights that no cache keeps until the next token
};

// The two halves of after_previous().
__device__ inline void let_next_start() {
#if __CUDA_ARCH__ >= 900
    cudaTriggerProgrammaticLaunchCompletion();
#endif
}
__device__ inline void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
    cudaGridDependencySynchronize();
#endif
}

// 1 / rms of rows x + i ldx, i < n, of `width` values: lane 4 i + t gets row i's. A sum: pieces of eight in a lane's order.
__device__ float norm_factors(const bf16* x, int64_t ldx, int n, int width, float eps) {
    const int lane = threadIdx.x % kWarp;
    float mine = 0;
    for (int row = 0; row < n; ++row) {
        float sum = 0;
#pragma unroll 4
        for (int i = lane * 8; i < width; i += kWarp * 8) {
            const uint4 v = __ldcg(reinterpret_cast<const uint4*>(x + row * ldx + i));
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const float2 pair = bf16_pair(word_of(v, j));
                sum += pair.x * pair.x, sum += pair.y * pair.y;
            }
        }
        const float factor = 1.0f / sqrtf(warp_sum(sum) / static_cast<float>(width) + eps);
        if (lane / 4 == row) mine = factor;
    }
    return mine;
}

// A block: 16 rows of one W, 8 rows of x. grid: (tiles of all matrices, rows of x / 8). Dynamic shared memory: staged rows of x.
template <bool kIsBf16>
__global__ void __launch_bounds__(kMaxWarps* kWarp, kIsBf16 ? 3 : 2) multiply_few(const __grid_constant__ Products a) {
    extern __shared__ __align__(16) bf16 staged[];
    __shared__ float sums[kMaxWarps][kColumns * kTileOut];
    int which = 0;
    while (which + 1 < a.n && blockIdx.x >= a.product[which + 1].first_block) ++which;
    const Product& p = a.product[which];
    const unsigned tile = blockIdx.x - p.first_block, group = tile / p.blocks_per_group;
    const int64_t row0 = group * p.group_out + static_cast<int64_t>(tile % p.blocks_per_group) * kTileOut;
    const int warp = threadIdx.x / kWarp, m0 = static_cast<int>(blockIdx.y) * kColumns, m = m0 + threadIdx.x % kWarp / 4;
    const int64_t pitch = p.w.in + 8;
    const bool is_at_work = warp < p.n_warps;
    const auto row_of_x = [&]() -> const bf16* {
        if (m >= a.n_rows) return nullptr;
        return p.is_staged ? staged + m * pitch : p.x + m * a.ldx + group * p.w.in;
    };
    float sum[4] = {};
    if constexpr (kIsBf16) {
        RowsAhead<DType::bf16> rows(p.w, row0, warp, p.n_warps, is_at_work, a.is_once);
        if (is_at_work) prefetch_rows(p.w, row0, warp + p.n_warps, p.n_warps, kPrefetched, a.is_once);
        after_previous();
        if (is_at_work) rows.multiply(row_of_x(), sum);
    } else {
        if (is_at_work) prefetch_rows(p.w, row0, warp, p.n_warps, kPrefetched, a.is_once);
        after_previous();
        if (p.is_staged) {
            stage_fp8_rows([&](int i) { return p.x + i * a.ldx; }, [&](int) { return p.w.in; }, a.n_rows, p.w.in, staged, pitch);
            __syncthreads();
        }
        if (is_at_work) add_tensor_products(p.w, row0, row_of_x(), warp, p.n_warps, sum);
    }
    if (is_at_work) store_sums(sum, sums[warp]);
    __syncthreads();
    for (int i = threadIdx.x; i < kColumns * kTileOut; i += blockDim.x) {
        const int64_t col = m0 + i / kTileOut, row = row0 + i % kTileOut;
        if (col >= a.n_rows || row >= (group + 1) * p.group_out) continue;
        float total = 0;
        for (int w = 0; w < p.n_warps; ++w) total += sums[w][i];
        if (p.is_bf16) static_cast<bf16*>(p.y)[col * p.w.out + row] = narrow<bf16>(total);
        else static_cast<float*>(p.y)[col * p.w.out + row] = total;
    }
}

// The same for BF16 weights whose rows shared memory holds: all of a block's are on their way before the kernel before
// is done.
template <bool kIsNormed>
__global__ void __launch_bounds__(kMaxWarps* kWarp, 3) multiply_by_copies(const __grid_constant__ Products a) {
    extern __shared__ __align__(128) std::byte copied[];
    __shared__ float sums[kMaxWarps][kColumns * kTileOut];
    __shared__ Arrival arrival;
    int which = 0;
    while (which + 1 < a.n && blockIdx.x >= a.product[which + 1].first_block) ++which;
    const Product& p = a.product[which];
    const unsigned tile = blockIdx.x - p.first_block, group = tile / p.blocks_per_group;
    const int64_t row0 = group * p.group_out + static_cast<int64_t>(tile % p.blocks_per_group) * kTileOut;
    const int warp = threadIdx.x / kWarp, m0 = static_cast<int>(blockIdx.y) * kColumns,
              m = m0 + threadIdx.x % kWarp / 4;
    const int width = static_cast<int>(p.w.in);
    if (threadIdx.x == 0) copy_rows(p.w, row0, kTileOut, copied, arrival, a.is_once);
    const auto* row = reinterpret_cast<const uint4*>(m < a.n_rows ? p.x + m * a.ldx + group * p.w.in : nullptr);
    uint4 held[kHeld];
    if constexpr (!kIsNormed) {
        after_previous();
        hold_columns(width, warp, held_warps(width), held, [&](int chunk) {
            return row ? __ldcg(row + chunk) : uint4{0, 0, 0, 0};
        });
    } else {
        let_next_start();
        const float factor = norm_factors(p.x + m0 * a.ldx, a.ldx, min(kColumns, a.n_rows - m0), width, a.eps);
        const auto* norm = static_cast<const uint4*>(a.norm.data);
        hold_columns(width, warp, held_warps(width), held, [&](int chunk) -> uint4 {
            if (!row) return {0, 0, 0, 0};
            const uint4 v = __ldcg(row + chunk), w = __ldg(norm + chunk);
            const auto pair = [&](uint32_t values, uint32_t weights) {
                const float2 u = bf16_pair(values), by = bf16_pair(weights);
                return pair_bits(__floats2bfloat162_rn(u.x * factor * by.x, u.y * factor * by.y));
            };
            return {pair(v.x, w.x), pair(v.y, w.y), pair(v.z, w.z), pair(v.w, w.w)};
        });
    }
    __syncthreads();  // the count of arrivals has begun
    arrival.wait();
    multiply_held(copied, width, warp, held, sums);
    if constexpr (kIsNormed) wait_for_previous();  // the end of this kernel is the end of that one too
    __syncthreads();
    for (int i = threadIdx.x; i < kColumns * kTileOut; i += blockDim.x) {
        const int64_t col = m0 + i / kTileOut, to = row0 + i % kTileOut;
        if (col >= a.n_rows || to >= (group + 1) * p.group_out) continue;
        float total = 0;
        for (int w = 0; w < sums_of_held(width); ++w) total += sums[w][i];
        if (p.is_bf16)
            static_cast<bf16*>(p.y)[col * p.w.out + to] = narrow<bf16>(total);
        else
            static_cast<float*>(p.y)[col * p.w.out + to] = total;
    }
}

}  // namespace

// Rows of a tile lie in one group: a row beyond the group would only be read, and the matrix's last tile is cut.
bool takes_few_rows(const cpu::PackedMatrix& w, int groups) {
    return fits_tensor_cores(w) && w.out % groups == 0 && w.in < int64_t{1} << 24;
}

bool takes_normed_rows(std::span<const FewRows> products) {
    return std::all_of(products.begin(), products.end(), [](const FewRows& f) {
        return takes_few_rows(f.w, f.groups) && f.w.dtype == DType::bf16 && f.groups == 1 && can_hold(f.w.in);
    });
}

namespace {

void multiply(Ctx& ctx, const Tensor& x, const cpu::PackedMatrix& norm, double eps, std::span<const FewRows> products) {
    VITRINE_ASSERT(x.dtype == DType::bf16 && !products.empty() && products.size() <= kMaxFewRows);
    const FewRows& first = products[0];
    Products a{};
    a.norm = norm, a.eps = static_cast<float>(eps), a.is_once = ctx.cuda->reads_weights_once;
    a.ldx = first.w.in * first.groups, a.n_rows = static_cast<int>(x.count() / a.ldx), a.n = static_cast<int>(products.size());
    const size_t staged_bytes = static_cast<size_t>(a.n_rows * (a.ldx + 8)) * sizeof(bf16);
    const bool is_staged = a.n_rows <= kMaxStaged && static_cast<int64_t>(staged_bytes) <= kMaxStagedBytes;
    Tensor quantised;
    unsigned n_blocks = 0;
    int n_warps = 1;
    bool needs_staging = false, is_bf16 = true, is_of_one_width = true;
    for (int i = 0; i < a.n; ++i) {
        const FewRows& f = products[static_cast<size_t>(i)];
        Product& p = a.product[i];
        VITRINE_ASSERT(takes_few_rows(f.w, f.groups) && f.w.in * f.groups == a.ldx && (!f.is_quantised || f.groups == 1));
        if (f.is_quantised && !is_staged && quantised.empty()) quantised = fp8_rows(ctx, x, f.w.in);
        p = {f.w,
             f.y,
             static_cast<const bf16*>(f.is_quantised && !is_staged ? quantised.data : x.data),
             f.w.out / f.groups,
             n_blocks,
             ceil_div(f.w.out / f.groups, kTileOut),
             tensor_warps(f.w, kMaxWarps),
             f.dtype == DType::bf16,
             f.is_quantised && is_staged};
        n_blocks += p.blocks_per_group * static_cast<unsigned>(f.groups);
        n_warps = std::max(n_warps, p.n_warps);
        needs_staging |= p.is_staged, is_bf16 &= f.w.dtype == DType::bf16;
        is_of_one_width &= f.w.in == first.w.in;
    }
    const dim3 grid(n_blocks, ceil_div(a.n_rows, kColumns));
    if (is_bf16 && is_of_one_width && can_hold(first.w.in)) {
        const auto copying = norm.data ? multiply_by_copies<true> : multiply_by_copies<false>;
        const auto bytes = static_cast<size_t>(kTileOut * first.w.in) * sizeof(bf16);
        allow_shared(ctx, copying, bytes);
        copying<<<grid, held_warps(first.w.in) * kWarp, bytes, ctx.cuda->stream()>>>(a);
        return check_launch(ctx, "linear layers of few rows");
    }
    VITRINE_ASSERT(!norm.data);
    const auto kernel = is_bf16 ? multiply_few<true> : multiply_few<false>;
    kernel<<<grid, n_warps * kWarp, needs_staging ? staged_bytes : 0, ctx.cuda->stream()>>>(a);
    check_launch(ctx, "linear layers of few rows");
}

}  // namespace

void multiply_on_tensor_cores(Ctx& ctx, const Tensor& x, std::span<const FewRows> products) {
    multiply(ctx, x, {}, 0, products);
}

void multiply_normed_on_tensor_cores(Ctx& ctx, const Tensor& x, const cpu::PackedMatrix& norm, double eps,
                                     std::span<const FewRows> products) {
    VITRINE_ASSERT(takes_normed_rows(products));
    multiply(ctx, x, norm, eps, products);
}

}  // namespace vitrine::cuda
