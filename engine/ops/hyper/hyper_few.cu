// A site for few tokens: a cluster of blocks per token makes projections, coefficients, the collapsed input and its
// norm in one launch. Each block owns a slice of the channels of every stream; sums go over the cluster in the order of
// its blocks, so a token's bits don't depend on the others.
#include <cooperative_groups.h>

#include "engine/ops/hyper/coefficients.cuh"
#include "engine/ops/linear/linear.h"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp, kMostBlocks = 8;

struct Site {
    cpu::PackedMatrix fn, base, scale, norm;  // norm.data null: no norm
    int d, slice;                             // channels; of a block, a multiple of 4
    float rms_eps;
    float *pre, *post, *mixing;
};

struct alignas(16) Four {
    float at[4];
};
template <class T>
struct alignas(4 * sizeof(T)) FourOf {
    T at[4];
};
template <class T>
__device__ Four load_four(const T* p) {
    const FourOf<T> v = *reinterpret_cast<const FourOf<T>*>(p);
    return {widen(v.at[0]), widen(v.at[1]), widen(v.at[2]), widen(v.at[3])};
}

// The sums of `part` [count] over the cluster's blocks, in their order, to `total`; every block has them all. A thread
// fetches one value of one block, so that the way to the other blocks is paid once.
__device__ void sum_cluster(cooperative_groups::cluster_group& cluster, float* part, int count, float* fetched,
                            float* total) {
    cluster.sync();
    const int n_blocks = static_cast<int>(cluster.num_blocks());
    for (int i = threadIdx.x; i < count * n_blocks; i += kThreads)
        fetched[i] = *cluster.map_shared_rank(part + i % count, static_cast<unsigned>(i / count));
    __syncthreads();
    for (int q = threadIdx.x; q < count; q += kThreads) {
        float sum = 0;
        for (int r = 0; r < n_blocks; ++r) sum += fetched[r * count + q];
        total[q] = sum;
    }
    __syncthreads();
}

// grid: (blocks of a cluster, tokens). R: rows of fn. Shared memory: the block's slice of the streams [n, slice], as
// floats.
template <class A, class W, int R>
__global__ void __launch_bounds__(kThreads)
    few(const A* x, const __grid_constant__ Site s, const __grid_constant__ Form form, A* u, A* normed) {
    extern __shared__ float mine[];
    __shared__ float warps[kWarps][R + 1], part[R + 1], fetched[(R + 1) * kMostBlocks], total[R + 1], z[R];
    __shared__ float scratch[kWarp], squares_of_u;
    auto cluster = cooperative_groups::this_cluster();
    const int64_t t = blockIdx.y;
    const int n = form.n, lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const int first = static_cast<int>(blockIdx.x) * s.slice, width = max(0, min(s.slice, s.d - first)),
              per_stream = width / 4;
    const W* fn = static_cast<const W*>(s.fn.data) + first;
    // Weights don't depend on the kernel before.
    for (int i = threadIdx.x; i < R * n; i += kThreads)
        for (int byte = 0; byte < width * static_cast<int>(sizeof(W)); byte += 128)
            asm volatile("prefetch.global.L2 [%0];" ::"l"(
                reinterpret_cast<const char*>(fn + static_cast<int64_t>(i) * s.d) + byte));
    after_previous();
    x += t * n * s.d + first;

    // A thread owns four neighbouring channels of a stream: their products with all rows of fn are R independent loads.
    float sum[R + 1] = {};
    for (int i = threadIdx.x; i < n * per_stream; i += kThreads) {
        const int j = i / per_stream, at = i % per_stream * 4;
        const Four v = load_four(x + j * s.d + at);
        *reinterpret_cast<Four*>(mine + j * s.slice + at) = v;
#pragma unroll
        for (int q = 0; q < R; ++q) {
            const Four w = load_four(fn + (static_cast<int64_t>(q) * n + j) * s.d + at);
            sum[q] += (w.at[0] * v.at[0] + w.at[1] * v.at[1]) + (w.at[2] * v.at[2] + w.at[3] * v.at[3]);
        }
        sum[R] += (v.at[0] * v.at[0] + v.at[1] * v.at[1]) + (v.at[2] * v.at[2] + v.at[3] * v.at[3]);
    }
#pragma unroll
    for (int q = 0; q <= R; ++q) {
        const float all = warp_sum(sum[q]);
        if (lane == 0) warps[warp][q] = all;
    }
    __syncthreads();
    for (int q = threadIdx.x; q <= R; q += kThreads) {
        float all = 0;
        for (int i = 0; i < kWarps; ++i) all += warps[i][q];
        part[q] = all;
    }
    sum_cluster(cluster, part, R + 1, fetched, total);
    const float factor = rsqrtf(total[R] / static_cast<float>(n * s.d) + s.rms_eps);
    for (int q = threadIdx.x; q < R; q += kThreads) z[q] = coefficient(form, s.base, s.scale, q, total[q] * factor);
    __syncthreads();

    float squares = 0;
    for (int i = threadIdx.x; i < width; i += kThreads) {
        float into = 0;
        for (int j = 0; j < n; ++j) into += z[j] * mine[j * s.slice + i];
        const A v = narrow<A>(into);
        mine[i] = widen(v);  // stream 0 is not read again
        squares += mine[i] * mine[i];
        u[t * s.d + first + i] = v;
    }
    squares = block_sum(squares, scratch);
    if (threadIdx.x == 0) squares_of_u = squares;
    if (s.norm.data) {
        sum_cluster(cluster, &squares_of_u, 1, fetched, total);
        const float scale = 1.0f / sqrtf(total[0] / static_cast<float>(s.d) + s.rms_eps);
        for (int i = threadIdx.x; i < width; i += kThreads)
            normed[t * s.d + first + i] = narrow<A>(mine[i] * scale * element(s.norm, 0, first + i));
    }
    // The mixing matrix is made by hyper_mix, which has time for it: nothing waits for it before.
    if (blockIdx.x == 0 && warp == 0) write_unmixed(form, z, t, s.pre, s.post, s.mixing);
    cluster.sync();  // nobody leaves while its sums are read
}

template <class A, class W>
auto kernel_for(int n_rows) {
    switch (n_rows) {
        case 4:
            return few<A, W, 4>;  // four streams: the head,
        case 24:
            return few<A, W, 24>;  // a site
        default:
            return few<A, W, 8>;  // two streams
    }
}

}  // namespace

bool fits_few(const Ctx&, const Tensor& x_TND, const HyperWeights& w, const HyperForm& form) {
    const DType t = w.fn.view.dtype;
    const int n_rows = form.n_rows();
    return x_TND.dim(0) <= kFewRows && (n_rows == 4 || n_rows == 8 || n_rows == 24) &&
           (t == DType::f32 || t == DType::bf16) && x_TND.dim(2) % 4 == 0 && x_TND.dim(1) * x_TND.dim(2) <= 8 * 8192;
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
    s.mixing_TM = ctx.arena.make(DType::f32, {n_tokens, std::max<int64_t>(1, form.is_head ? 0 : form.n_mixing())});
    s.form = form;
    const unsigned n_blocks = d >= 1024  ? 8
                              : d >= 256 ? 4
                                         : 1;  // a function of the shape: the order of sums depends on it
    Site site{w.fn.view,
              w.base.view,
              w.scale.view,
              norm_D ? norm_D->view : cpu::PackedMatrix{},
              static_cast<int>(d),
              static_cast<int>((d / 4 + n_blocks - 1) / n_blocks * 4),
              static_cast<float>(rms_norm_eps),
              s.pre_TN.f32(),
              s.post_TN.f32(),
              s.mixing_TM.f32()};
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
        const auto kernel = (w.fn.view.dtype == DType::f32 ? kernel_for<A, float> : kernel_for<A, bf16>)(form.n_rows());
        ctx.cuda->check(cudaLaunchKernelEx(&launch, kernel, static_cast<const A*>(x_TND.data), site, as_form(form),
                                           static_cast<A*>(s.u_TD.data), static_cast<A*>(s.normed_TD.data)),
                        "a site of hyper-connections");
    });
    return s;
}

}  // namespace vitrine::cuda
