// A site for few tokens: a cluster of blocks per token makes projections, coefficients, the collapsed input and its norm in one
// launch. Each block owns a slice of the channels of every stream; sums go over the cluster in the order of its blocks, so a
// token's bits don't depend on the others.
#include <cooperative_groups.h>

#include "engine/ops/hyper/coefficients.cuh"
#include "engine/ops/linear/linear.h"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 256, kFewestRows = 64;

struct Site {
    cpu::PackedMatrix fn, base, scale, norm;  // norm.data null: no norm
    int d, slice;                             // channels; of a block
    float rms_eps;
    float *pre, *post, *comb;
};

// The sum of `part` over the cluster's blocks, in their order.
__device__ float over_cluster(cooperative_groups::cluster_group& cluster, float* part) {
    float sum = 0;
    for (unsigned r = 0; r < cluster.num_blocks(); ++r) sum += *cluster.map_shared_rank(part, r);
    return sum;
}

// grid: (blocks of a cluster, tokens). Shared memory: the block's slice of the streams [n, slice], as floats.
template <class A, class W>
__global__ void few(const A* x, const __grid_constant__ Site s, const __grid_constant__ Form form, A* u, A* normed) {
    after_previous();
    extern __shared__ float mine[];
    __shared__ float part[kFewestRows + 2], z[kFewestRows], mixed[kMaxStreams * kMaxStreams], scratch[kWarp];
    auto cluster = cooperative_groups::this_cluster();
    const int64_t t = blockIdx.y;
    const int n = form.n, lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const int first = static_cast<int>(blockIdx.x) * s.slice, width = max(0, min(s.slice, s.d - first));
    x += t * n * s.d + first;

    float squares = 0;
    for (int j = 0; j < n; ++j)
        for (int i = threadIdx.x; i < width; i += kThreads) {
            const float v = widen(x[j * s.d + i]);
            mine[j * s.slice + i] = v;
            squares += v * v;
        }
    squares = block_sum(squares, scratch);
    if (threadIdx.x == 0) part[form.n_rows] = squares;
    for (int q = warp; q < form.n_rows; q += kThreads / kWarp) {
        const W* row = static_cast<const W*>(s.fn.data) + static_cast<int64_t>(q) * n * s.d + first;
        float sum = 0;
        for (int j = 0; j < n; ++j)
#pragma unroll 4
            for (int i = lane; i < width; i += kWarp) sum += mine[j * s.slice + i] * widen(row[j * s.d + i]);
        sum = warp_sum(sum);
        if (lane == 0) part[q] = sum;
    }
    cluster.sync();
    const float factor = rsqrtf(over_cluster(cluster, part + form.n_rows) / static_cast<float>(n * s.d) + s.rms_eps);
    for (int q = threadIdx.x; q < form.n_rows; q += kThreads)
        z[q] = coefficient(form, s.base, s.scale, q, over_cluster(cluster, part + q) * factor);
    __syncthreads();

    squares = 0;
    for (int i = threadIdx.x; i < width; i += kThreads) {
        float sum = 0;
        for (int j = 0; j < n; ++j) sum += z[j] * mine[j * s.slice + i];
        const A v = narrow<A>(sum);
        mine[i] = widen(v);  // stream 0 is not read again
        squares += mine[i] * mine[i];
        u[t * s.d + first + i] = v;
    }
    squares = block_sum(squares, scratch);
    if (threadIdx.x == 0) part[kFewestRows + 1] = squares;
    // Sinkhorn runs in one block while the others go on.
    if (blockIdx.x == 0 && warp == 0) write_coefficients(form, z, mixed, t, s.pre, s.post, s.comb);
    cluster.sync();
    if (s.norm.data) {
        const float scale = 1.0f / sqrtf(over_cluster(cluster, part + kFewestRows + 1) / static_cast<float>(s.d) + s.rms_eps);
        for (int i = threadIdx.x; i < width; i += kThreads)
            normed[t * s.d + first + i] = narrow<A>(mine[i] * scale * element(s.norm, 0, first + i));
    }
    cluster.sync();  // nobody leaves while its sums are read
}

}  // namespace

bool fits_few(const Ctx&, const Tensor& x_TND, const HyperWeights& w, const HyperForm& form) {
    const DType t = w.fn.view.dtype;
    return x_TND.dim(0) <= kFewRows && form.n_rows() <= kFewestRows && (t == DType::f32 || t == DType::bf16) &&
           x_TND.dim(1) * x_TND.dim(2) <= 8 * 8192;
}

HyperSite few_sites(Ctx& ctx, const Tensor& x_TND, const HyperWeights& w, const HyperForm& form, double rms_norm_eps,
                    const Param* norm_D) {
    const int64_t n_tokens = x_TND.dim(0), n = x_TND.dim(1), d = x_TND.dim(2);
    HyperSite s;
    s.u_TD = ctx.arena.make(x_TND.dtype, {n_tokens, d});
    if (norm_D) s.normed_TD = ctx.arena.make(x_TND.dtype, {n_tokens, d});
    s.pre_TN = ctx.arena.make(DType::f32, {n_tokens, n});
    s.post_TN = ctx.arena.make(DType::f32, {n_tokens, n});
    s.comb_TNN = ctx.arena.make(DType::f32, {n_tokens, n, n});
    const unsigned n_blocks = d >= 1024 ? 8 : d >= 256 ? 4 : 1;  // a function of the shape: the order of sums depends on it
    Site site{w.fn.view, w.base.view, w.scale.view, norm_D ? norm_D->view : cpu::PackedMatrix{},
              static_cast<int>(d), static_cast<int>((d + n_blocks - 1) / n_blocks), static_cast<float>(rms_norm_eps),
              s.pre_TN.f32(), s.post_TN.f32(), s.comb_TNN.f32()};
    cudaLaunchAttribute cluster{};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {n_blocks, 1, 1};
    cudaLaunchConfig_t launch{};
    launch.gridDim = dim3(n_blocks, static_cast<unsigned>(n_tokens));
    launch.blockDim = dim3(kThreads);
    launch.dynamicSmemBytes = static_cast<size_t>(n * site.slice) * sizeof(float);
    launch.stream = ctx.cuda->stream();
    launch.attrs = &cluster, launch.numAttrs = 1;
    with_activation(x_TND.dtype, [&](auto a) {
        using A = decltype(a);
        const auto kernel = w.fn.view.dtype == DType::f32 ? few<A, float> : few<A, bf16>;
        ctx.cuda->check(cudaLaunchKernelEx(&launch, kernel, static_cast<const A*>(x_TND.data), site, as_form(form),
                                           static_cast<A*>(s.u_TD.data), static_cast<A*>(s.normed_TD.data)),
                        "a site of hyper-connections");
    });
    return s;
}

}  // namespace vitrine::cuda
