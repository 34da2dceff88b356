// Products of few rows on tensor cores: decoding is bound by reading weights, and these kernels widen them with the least work.
#include "engine/ops/linear/few_rows.h"

#include "engine/ops/linear/convert.h"
#include "engine/ops/linear/tensor.cuh"

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
};

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
        RowsAhead<DType::bf16> rows(p.w, row0, warp, p.n_warps, is_at_work);
        if (is_at_work) prefetch_rows(p.w, row0, warp + p.n_warps, p.n_warps, kPrefetched);
        after_previous();
        if (is_at_work) rows.multiply(row_of_x(), sum);
    } else {
        if (is_at_work) prefetch_rows(p.w, row0, warp, p.n_warps, kPrefetched);
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

}  // namespace

// Rows of a tile lie in one group: a row beyond the group would only be read, and the matrix's last tile is cut.
bool takes_few_rows(const cpu::PackedMatrix& w, int groups) {
    return fits_tensor_cores(w) && w.out % groups == 0 && w.in < int64_t{1} << 24;
}

void multiply_on_tensor_cores(Ctx& ctx, const Tensor& x, std::span<const FewRows> products) {
    VITRINE_ASSERT(x.dtype == DType::bf16 && !products.empty() && products.size() <= kMaxFewRows);
    const FewRows& first = products[0];
    Products a{};
    a.ldx = first.w.in * first.groups, a.n_rows = static_cast<int>(x.count() / a.ldx), a.n = static_cast<int>(products.size());
    const size_t staged_bytes = static_cast<size_t>(a.n_rows * (a.ldx + 8)) * sizeof(bf16);
    const bool is_staged = a.n_rows <= kMaxStaged && static_cast<int64_t>(staged_bytes) <= kMaxStagedBytes;
    Tensor quantised;
    unsigned n_blocks = 0;
    int n_warps = 1;
    bool needs_staging = false, is_bf16 = true;
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
    }
    const dim3 grid(n_blocks, ceil_div(a.n_rows, kColumns));
    const auto kernel = is_bf16 ? multiply_few<true> : multiply_few<false>;
    kernel<<<grid, n_warps * kWarp, needs_staging ? staged_bytes : 0, ctx.cuda->stream()>>>(a);
    check_launch(ctx, "linear layers of few rows");
}

}  // namespace vitrine::cuda
