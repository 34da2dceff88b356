// A site for few tokens: a cluster of blocks per token makes projections, coefficients, the collapsed input and its norm in one
// launch, and before them, where a mix waits for its site, the streams themselves. Each block multiplies a slice of the channels of
// every stream by the weights, which it fetches before the kernel before it is done; sums go over the cluster in the order of its
// blocks, so a token's bits don't depend on the others. What is cheap (streams, collapse, its squares) every block makes whole.
#include <cooperative_groups.h>

#include <utility>

#include "engine/ops/hyper/coefficients.cuh"
#include "engine/ops/linear/linear.h"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp, kMostBlocks = 8, kFewStreams = 4;
constexpr int64_t kMostStaged = 40 << 10;  // values of all streams in shared memory

struct Site {
    cpu::PackedMatrix fn, base, scale, norm;  // norm.data null: no norm
    int d, slice;                             // channels; of a block, a multiple of 4
    float rms_eps;
    float *pre, *post, *mixing;
};

// The mix that makes the site's streams y: of x, f, and coefficients that are older than the kernel before the site. y null: x are
// the site's streams.
template <class A>
struct Mix {
    const A *x, *f;
    const float *post, *mixing;
    float* comb;
    A* y;
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

// Four channels of every stream of a token: y[k] = post[k] f + sum_j made[j][k] x[j], or x as it is.
template <class A>
__device__ void make_streams(const Mix<A>& mix, const A* x, const float* post, const float* made, int n, int d, int at,
                             bool is_mine, int64_t t, float* streams) {
    if (!mix.y) {
        for (int k = 0; k < n; ++k) *reinterpret_cast<Four*>(streams + k * d + at) = load_four(x + k * d + at);
        return;
    }
    Four from[4];
#pragma unroll
    for (int j = 0; j < 4; ++j)
        if (j < n) from[j] = load_four(x + j * d + at);
    const Four f = load_four(mix.f + t * d + at);
    for (int k = 0; k < n; ++k) {
        FourOf<A> y;
        Four wide;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            float sum = post[k] * f.at[i];
#pragma unroll
            for (int j = 0; j < 4; ++j)
                if (j < n) sum += made[j * n + k] * from[j].at[i];
            y.at[i] = narrow<A>(sum);
            wide.at[i] = widen(y.at[i]);
        }
        *reinterpret_cast<Four*>(streams + k * d + at) = wide;
        if (is_mine) *reinterpret_cast<FourOf<A>*>(mix.y + (t * n + k) * d + at) = y;
    }
}

// grid: (blocks of a cluster, tokens). R: rows of fn. Shared memory: the streams [n, d].
template <class A, class W, int R>
__global__ void __launch_bounds__(kThreads)
    few(const A* x, const __grid_constant__ Site s, const __grid_constant__ Form form, const __grid_constant__ Mix<A> mix, A* u,
        A* normed) {
    extern __shared__ __align__(16) float streams[];
    __shared__ float warps[kWarps][R + 1], part[R + 1], fetched[(R + 1) * kMostBlocks], total[R + 1], z[R];
    __shared__ float scratch[kWarp], made[kFewStreams * kFewStreams], mixed[kFewStreams * kFewStreams], post[kFewStreams];
    auto cluster = cooperative_groups::this_cluster();
    const int64_t t = blockIdx.y;
    const int n = form.n, d = s.d, lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
    const int first = static_cast<int>(blockIdx.x) * s.slice, width = max(0, min(s.slice, d - first)), per_stream = width / 4;

    // What depends on no kernel that may still run: weights, and the mixing matrix of a site that is long done.
    const W* fn = static_cast<const W*>(s.fn.data) + first;
    const auto row_of = [&](int q, int i) {  // channels of item i: four of a stream
        return fn + (static_cast<int64_t>(q) * n + i / per_stream) * d + i % per_stream * 4;
    };
    FourOf<W> weights[R];
#pragma unroll
    for (int q = 0; q < R; ++q)
        if (static_cast<int>(threadIdx.x) < n * per_stream)
            weights[q] = *reinterpret_cast<const FourOf<W>*>(row_of(q, threadIdx.x));
    float base = 0, scale = 0;
    if (threadIdx.x < R) base = element(s.base, 0, threadIdx.x), scale = element(s.scale, 0, part_of(form, threadIdx.x));
    if (mix.y && warp == 0) {
        for (int i = lane; i < form.n_mixing; i += kWarp) made[i] = __ldcg(mix.mixing + t * form.n_mixing + i);
        __syncwarp();
        const float* c = mixing_matrix(form, made, mixed);
        for (int i = lane; i < n * n; i += kWarp) {
            made[i] = c[i];
            if (blockIdx.x == 0) mix.comb[t * n * n + i] = c[i];
        }
    }
    after_previous();
    if (mix.y && static_cast<int>(threadIdx.x) < n) post[threadIdx.x] = mix.post[t * n + threadIdx.x];
    __syncthreads();
    for (int at = 4 * static_cast<int>(threadIdx.x); at < d; at += 4 * kThreads)
        make_streams(mix, (mix.y ? mix.x : x) + t * n * d, post, made, n, d, at, at >= first && at < first + width, t, streams);
    __syncthreads();

    float sum[R + 1] = {};
    for (int i = threadIdx.x; i < n * per_stream; i += kThreads) {
        const Four v = *reinterpret_cast<const Four*>(streams + i / per_stream * d + first + i % per_stream * 4);
#pragma unroll
        for (int q = 0; q < R; ++q) {
            if (i >= kThreads) weights[q] = *reinterpret_cast<const FourOf<W>*>(row_of(q, i));
            const Four w{widen(weights[q].at[0]), widen(weights[q].at[1]), widen(weights[q].at[2]), widen(weights[q].at[3])};
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
    cluster.barrier_arrive();  // this block has read the others' sums
    const float factor = rsqrtf(total[R] / static_cast<float>(n * d) + s.rms_eps);
    if (threadIdx.x < R) z[threadIdx.x] = coefficient(form, base, scale, threadIdx.x, total[threadIdx.x] * factor);
    __syncthreads();

    // The collapsed input and its squares, of all channels; a block keeps and writes its own.
    float squares = 0;
    for (int i = threadIdx.x; i < d; i += kThreads) {
        float into = 0;
        for (int j = 0; j < n; ++j) into += z[j] * streams[j * d + i];
        const A v = narrow<A>(into);
        const bool is_mine = i >= first && i < first + width;
        if (is_mine) u[t * d + i] = v;
        streams[i] = widen(v);  // of stream 0, which is not read again at i
        squares += streams[i] * streams[i];
    }
    squares = block_sum(squares, scratch);
    if (s.norm.data) {
        const float by = 1.0f / sqrtf(squares / static_cast<float>(d) + s.rms_eps);
        for (int i = first + static_cast<int>(threadIdx.x); i < first + width; i += kThreads)
            normed[t * d + i] = narrow<A>(streams[i] * by * element(s.norm, 0, i));
    }
    if (blockIdx.x == 0 && warp == 0) write_unmixed(form, z, t, s.pre, s.post, s.mixing);
    cluster.barrier_wait();  // nobody leaves while its sums are read
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
    return x_TND.dim(0) <= kFewRows && (n_rows == 4 || n_rows == 8 || n_rows == 24) && form.n <= kFewStreams &&
           (t == DType::f32 || t == DType::bf16) && x_TND.dim(2) % 4 == 0 && x_TND.dim(1) * x_TND.dim(2) <= kMostStaged;
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
    const std::shared_ptr<WaitingMix> waiting = take_mix(ctx, x_TND, form);
    cudaLaunchAttribute cluster{};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {n_blocks, 1, 1};
    cudaLaunchConfig_t launch{};
    launch.gridDim = dim3(n_blocks, static_cast<unsigned>(n_tokens));
    launch.blockDim = dim3(kThreads);
    launch.dynamicSmemBytes = static_cast<size_t>(n * d) * sizeof(float);
    launch.stream = ctx.cuda->stream();
    launch.attrs = &cluster, launch.numAttrs = 1;
    with_activation(x_TND.dtype, [&](auto a) {
        using A = decltype(a);
        Mix<A> mix{};
        if (waiting)
            mix = {static_cast<const A*>(waiting->x_TND.data), static_cast<const A*>(waiting->f_TD.data),
                   waiting->site.post_TN.f32(),                waiting->site.mixing_TM.f32(),
                   waiting->site.comb_TNN.f32(),               static_cast<A*>(x_TND.data)};
        const auto kernel = (w.fn.view.dtype == DType::f32 ? kernel_for<A, float> : kernel_for<A, bf16>)(form.n_rows());
        if (launch.dynamicSmemBytes > 32 << 10)
            ctx.cuda->check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                 static_cast<int>(launch.dynamicSmemBytes)),
                            "asking for shared memory");
        ctx.cuda->check(cudaLaunchKernelEx(&launch, kernel, static_cast<const A*>(x_TND.data), site, as_form(form), mix,
                                           static_cast<A*>(s.u_TD.data), static_cast<A*>(s.normed_TD.data)),
                        "a site of hyper-connections");
    });
    return s;
}

}  // namespace vitrine::cuda
