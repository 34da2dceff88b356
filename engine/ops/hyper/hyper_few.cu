// A site for few tokens: a cluster of blocks per token makes projections, coefficients, the collapsed input and its norm in one
// launch, and before them, where a mix waits for its site, the streams themselves. Each block multiplies a slice of the channels of
// every stream by the weights, which it fetches before the kernel before it is done; sums go over the cluster in the order of its
// blocks, so a token's bits don't depend on the others. What is cheap (streams, collapse, its squares) every block makes whole.
#include <cooperative_groups.h>

#include <type_traits>
#include <utility>

#include "engine/ops/deliveries.h"
#include "engine/ops/hyper/coefficients.cuh"
#include "engine/ops/linear/linear.h"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp, kMostBlocks = 8, kFewStreams = 4;
constexpr int kEarly = 2;  // times kThreads fours of channels that are read before the kernel before is done
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
    bool has_matrix;  // comb is made; else from `mixing`
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
__device__ Four wide_four(const FourOf<T>& v) {
    return {widen(v.at[0]), widen(v.at[1]), widen(v.at[2]), widen(v.at[3])};
}
// From the second-level cache: what is read may be written while this kernel's blocks wait to start.
template <class T>
__device__ FourOf<T> load_four(const T* p) {
    using Word = std::conditional_t<sizeof(T) == 2, uint2, uint4>;
    const Word v = __ldcg(reinterpret_cast<const Word*>(p));
    return *reinterpret_cast<const FourOf<T>*>(&v);
}

// Sums of v over the warp's lanes: lane l gets that of value l. The same bits as warp_sum of each, with 31 exchanges
// for all.
template <int kHalf>
__device__ float sums_of(const float (&v)[2 * kHalf]) {
    const bool is_upper = threadIdx.x & kHalf;
    float kept[kHalf];
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
        const float other = __shfl_xor_sync(~0u, is_upper ? v[i] : v[i + kHalf], kHalf);
        kept[i] = (is_upper ? v[i + kHalf] : v[i]) + other;
    }
    if constexpr (kHalf == 1)
        return kept[0];
    else
        return sums_of<kHalf / 2>(kept);
}
template <int N>
__device__ float warp_sums(const float (&v)[N]) {
    static_assert(N <= kWarp);
    float all[kWarp] = {};
#pragma unroll
    for (int i = 0; i < N; ++i) all[i] = v[i];
    return sums_of<kWarp / 2>(all);
}

// Four channels of every stream of a token: y[k] = post[k] f + sum_j made[j][k] x[j], or x as it is.
template <class A>
__device__ void make_streams(const Mix<A>& mix, const FourOf<A> (&x)[kFewStreams], const FourOf<A>& f_at,
                             const float* post, const float* made, int n, int d, int at, bool is_mine, int64_t t,
                             float* streams) {
    Four from[kFewStreams];
#pragma unroll
    for (int j = 0; j < kFewStreams; ++j)
        if (j < n) from[j] = wide_four(x[j]);
    if (!mix.y) {
#pragma unroll
        for (int k = 0; k < kFewStreams; ++k)
            if (k < n) *reinterpret_cast<Four*>(streams + k * d + at) = from[k];
        return;
    }
    const Four f = wide_four(f_at);
    for (int k = 0; k < n; ++k) {
        FourOf<A> y;
        Four wide;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            float sum = post[k] * f.at[i];
#pragma unroll
            for (int j = 0; j < kFewStreams; ++j)
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
__global__ void __launch_bounds__(kThreads + kThreads / 2)
    few(const A* x, const __grid_constant__ Site s, const __grid_constant__ Form form,
        const __grid_constant__ Mix<A> mix, A* u, A* normed) {
    extern __shared__ __align__(16) float streams[];
    __shared__ float sums[kMostBlocks][kWarps][kWarp], z[R], squares_of[kWarps];  // sums: of every warp of the cluster
    __shared__ float made[kFewStreams * kFewStreams], mixed[kFewStreams * kFewStreams], post[kFewStreams];
    auto cluster = cooperative_groups::this_cluster();
    cluster.barrier_arrive();  // nobody writes to a block that does not run
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
    const A* from = (mix.y ? mix.x : x) + t * n * d;
    FourOf<A> ahead[kEarly][kFewStreams];
    const auto read_streams = [&](int at, FourOf<A>(&to)[kFewStreams]) {
#pragma unroll
        for (int j = 0; j < kFewStreams; ++j)
            if (j < n && at < d) to[j] = load_four(from + j * d + at);
    };
#pragma unroll
    for (int e = 0; e < kEarly; ++e)
        if (mix.y) read_streams(4 * static_cast<int>(threadIdx.x) + 4 * kThreads * e, ahead[e]);
    if (mix.y && static_cast<int>(threadIdx.x) < n) post[threadIdx.x] = __ldcg(mix.post + t * n + threadIdx.x);
    const int q_of = static_cast<int>(threadIdx.x) / kMostBlocks,
              rank = threadIdx.x % kMostBlocks;  // of the sums, below
    const float norm =
        s.norm.data && static_cast<int>(threadIdx.x) < width ? element(s.norm, 0, first + threadIdx.x) : 0;
    float base = 0, scale = 0;
    if (q_of < R) base = element(s.base, 0, q_of), scale = element(s.scale, 0, part_of(form, q_of));
    if (mix.y && !mix.has_matrix && warp == 0) {
        for (int i = lane; i < form.n_mixing; i += kWarp) made[i] = __ldcg(mix.mixing + t * form.n_mixing + i);
        __syncwarp();
        const float* c = mixing_matrix(form, made, mixed);
        for (int i = lane; i < n * n; i += kWarp) {
            made[i] = c[i];
            if (blockIdx.x == 0) mix.comb[t * n * n + i] = c[i];
        }
    }
    after_previous();
    if (mix.y && mix.has_matrix && static_cast<int>(threadIdx.x) < n * n)
        made[threadIdx.x] = mix.comb[t * n * n + threadIdx.x];
    FourOf<A> into[kEarly];
#pragma unroll
    for (int e = 0; e < kEarly; ++e) {
        const int at = 4 * static_cast<int>(threadIdx.x) + 4 * kThreads * e;
        if (!mix.y)
            read_streams(at, ahead[e]);
        else if (at < d)
            into[e] = load_four(mix.f + t * d + at);
    }
    __syncthreads();
    const auto make = [&](int at, const FourOf<A>(&of)[kFewStreams], const FourOf<A>& f) {
        make_streams(mix, of, f, post, made, n, d, at, at >= first && at < first + width, t, streams);
    };
#pragma unroll
    for (int e = 0; e < kEarly; ++e)
        if (const int at = 4 * static_cast<int>(threadIdx.x) + 4 * kThreads * e; at < d) make(at, ahead[e], into[e]);
    for (int at = 4 * static_cast<int>(threadIdx.x) + 4 * kThreads * kEarly; at < d; at += 4 * kThreads) {
        read_streams(at, ahead[0]);
        if (mix.y) into[0] = load_four(mix.f + t * d + at);
        make(at, ahead[0], into[0]);
    }
    __syncthreads();

    float sum[R + 1] = {};
    const auto values_at = [&](int i) {
        return *reinterpret_cast<const Four*>(streams + i / per_stream * d + first + i % per_stream * 4);
    };
    const auto add = [&](int q, const FourOf<W>& weight, const Four& v) {
        const Four w = wide_four(weight);
        sum[q] += (w.at[0] * v.at[0] + w.at[1] * v.at[1]) + (w.at[2] * v.at[2] + w.at[3] * v.at[3]);
    };
    if (static_cast<int>(threadIdx.x) < n * per_stream) {
        const Four v = values_at(threadIdx.x);
#pragma unroll
        for (int q = 0; q < R; ++q) add(q, weights[q], v);
        sum[R] += (v.at[0] * v.at[0] + v.at[1] * v.at[1]) + (v.at[2] * v.at[2] + v.at[3] * v.at[3]);
    }
    for (int i = kThreads + threadIdx.x; i < n * per_stream; i += kThreads) {
        const Four v = values_at(i);
#pragma unroll
        for (int q = 0; q < R; ++q) add(q, *reinterpret_cast<const FourOf<W>*>(row_of(q, i)), v);
        sum[R] += (v.at[0] * v.at[0] + v.at[1] * v.at[1]) + (v.at[2] * v.at[2] + v.at[3] * v.at[3]);
    }
    const float of_warp = warp_sums(sum);
    cluster.barrier_wait();
    const int n_blocks = static_cast<int>(cluster.num_blocks());
    for (int r = 0; r < n_blocks && lane <= R; ++r)
        *cluster.map_shared_rank(&sums[blockIdx.x][warp][lane], static_cast<unsigned>(r)) = of_warp;
    cluster.sync();
    // Eight threads sum a row's, a block each; all of them the squares too.
    const auto sum_of = [&](int q) {
        float all = 0;
        if (rank < n_blocks)
            for (int w = 0; w < kWarps; ++w) all += sums[rank][w][q];
        for (int i = 1; i < kMostBlocks; i *= 2) all += __shfl_xor_sync(~0u, all, i);
        return all;
    };
    const float factor = rsqrtf(sum_of(R) / static_cast<float>(n * d) + s.rms_eps), h = sum_of(min(q_of, R)) * factor;
    if (rank == 0 && q_of < R) z[q_of] = coefficient(form, base, scale, q_of, h);
    __syncthreads();

    // The collapsed input and its squares, of all channels; a block keeps and writes its own.
    float squares = 0;
    for (int at = 4 * static_cast<int>(threadIdx.x); at < d; at += 4 * kThreads) {
        float into[4] = {};
        for (int j = 0; j < n; ++j) {
            const Four v = *reinterpret_cast<const Four*>(streams + j * d + at);
#pragma unroll
            for (int i = 0; i < 4; ++i) into[i] += z[j] * v.at[i];
        }
        FourOf<A> v;
        Four wide;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            v.at[i] = narrow<A>(into[i]), wide.at[i] = widen(v.at[i]);
            squares += wide.at[i] * wide.at[i];
        }
        if (at >= first && at < first + width) *reinterpret_cast<FourOf<A>*>(u + t * d + at) = v;
        *reinterpret_cast<Four*>(streams + at) = wide;  // of stream 0, which is not read again there
    }
    squares = warp_sum(squares);
    if (lane == 0) squares_of[warp] = squares;
    __syncthreads();
    if (s.norm.data) {
        squares = 0;
        for (const float of : squares_of) squares += of;
        const float by = 1.0f / sqrtf(squares / static_cast<float>(d) + s.rms_eps);
        for (int i = first + static_cast<int>(threadIdx.x); i < first + width; i += kThreads)
            normed[t * d + i] = narrow<A>(streams[i] * by * (i < first + kThreads ? norm : element(s.norm, 0, i)));
    }
    if (blockIdx.x == 0 && warp == 0) write_unmixed(form, z, t, s.pre, s.post, s.mixing);
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
            mix = {static_cast<const A*>(waiting->x_TND.data),
                   static_cast<const A*>(waiting->f_TD.data),
                   waiting->site.post_TN.f32(),
                   waiting->site.mixing_TM.f32(),
                   waiting->site.comb_TNN.f32(),
                   waiting->has_matrix,
                   static_cast<A*>(x_TND.data)};
        const auto kernel = (w.fn.view.dtype == DType::f32 ? kernel_for<A, float> : kernel_for<A, bf16>)(form.n_rows());
        allow_shared(ctx, kernel, launch.dynamicSmemBytes);
        ctx.cuda->check(cudaLaunchKernelEx(&launch, kernel, static_cast<const A*>(x_TND.data), site, as_form(form), mix,
                                           static_cast<A*>(s.u_TD.data), static_cast<A*>(s.normed_TD.data)),
                        "a site of hyper-connections");
    });
    if (!form.is_head)
        ctx.cuda->deliveries().mixing =
            std::make_shared<Mixing>(Mixing{as_form(form), s.mixing_TM.f32(), s.comb_TNN.f32()});
    return s;
}

}  // namespace vitrine::cuda
