// Attention on the tape in plain FP32, for any head size and any number of key heads: a warp per (query, head), or per
// key.
#include "engine/ops/attend/attend_tape.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * kWarp;

// What query t sees of one key head: columns [0, n_rows) are rows, the others entries, some of which may not be chosen.
struct Seen {
    const float *keys, *values, *entries;
    const uint32_t* chosen;
    int64_t ld_keys, ld_values;
    int c, n_rows, n;

    __device__ Seen(const TapeCall& a, const QueryBlock& b, int t, int group) {
        const int first = max(b.first, t - a.window + 1);
        ld_keys = static_cast<int64_t>(a.n_groups) * a.c, ld_values = static_cast<int64_t>(a.n_groups) * a.v;
        keys = a.keys + first * ld_keys + group * a.c;
        values = a.values + first * ld_values + group * a.v;
        entries = a.entries + static_cast<int64_t>(b.entry) * a.c;
        chosen = a.chosen ? a.chosen + static_cast<int64_t>(t) * a.n_words : nullptr;
        c = a.c, n_rows = t - first + 1, n = n_rows + a.n_complete(b, t);
    }
    __device__ bool has(int j) const {
        const int e = j - n_rows;
        return j < n && (e < 0 || !chosen || (chosen[e / 32] >> e % 32 & 1));
    }
    __device__ const float* key(int j) const {
        return j < n_rows ? keys + j * ld_keys : entries + static_cast<int64_t>(j - n_rows) * c;
    }
    __device__ const float* value(int j) const {
        return j < n_rows ? values + j * ld_values : entries + static_cast<int64_t>(j - n_rows) * c;
    }
};

// Rows whose length is a multiple of 4 are aligned to four values, in memory and in shared memory, if that holds for c
// and v.
__device__ inline float dot(const float* x, const float* y, int n, bool is_aligned) {
    float sum = 0;
    if (!is_aligned) {
        for (int i = 0; i < n; ++i) sum += x[i] * y[i];
        return sum;
    }
#pragma unroll 4
    for (int i = 0; i < n; i += 4) {
        const float4 u = *reinterpret_cast<const float4*>(x + i), v = *reinterpret_cast<const float4*>(y + i);
        sum += u.x * v.x + u.y * v.y + (u.z * v.z + u.w * v.w);
    }
    return sum;
}
__device__ inline bool has_aligned_rows(const TapeCall& a) {
    return a.c % 4 == 0 && a.v % 4 == 0;
}
__device__ inline void copy_row(float* to, const float* from, int n) {
    for (int i = threadIdx.x % kWarp; i < n; i += kWarp) to[i] = from[i];
}

// Shared memory per warp: the query [c], the sum [v], the weights of kWarp keys.
__global__ void forward(const TapeCall a, const QueryBlock* blocks) {
    after_previous();
    extern __shared__ __align__(16) float shared[];
    const QueryBlock b = blocks[blockIdx.x];
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    const bool is_aligned = has_aligned_rows(a);
    float *q = shared + warp * (a.c + a.v + kWarp), *sum = q + a.c, *p = sum + a.v;
    for (int r = b.begin + warp; r < b.end; r += kWarps) {
        const int t = r / a.n_heads, h = r % a.n_heads;
        const Seen seen(a, b, t, h / (a.n_heads / a.n_groups));
        copy_row(q, a.q + static_cast<int64_t>(r) * a.c, a.c);
        for (int i = lane; i < a.v; i += kWarp) sum[i] = 0;
        __syncwarp();
        float top = a.sinks ? a.sinks[h] : -INFINITY, z = a.sinks && lane == 0 ? 1.0f : 0.0f;
        for (int j0 = 0; j0 < seen.n; j0 += kWarp) {
            const bool has = seen.has(j0 + lane);
            const float score =
                has ? cap_score(dot(q, seen.key(j0 + lane), a.c, is_aligned) * a.scale, a.softcap).score : -INFINITY;
            const float higher = fmaxf(top, warp_max(score));
            if (higher == -INFINITY) continue;
            const float factor = expf(top - higher), mine = expf(score - higher);
            p[lane] = mine;
            z = z * factor + mine, top = higher;
            __syncwarp();
            const int n = min(kWarp, seen.n - j0);
            for (int i = lane; i < a.v; i += kWarp) {
                float s = sum[i] * factor;
                for (int j = 0; j < n; ++j)
                    if (p[j] != 0) s += p[j] * seen.value(j0 + j)[i];
                sum[i] = s;
            }
            __syncwarp();
        }
        z = warp_sum(z);
        for (int i = lane; i < a.v; i += kWarp) a.o[static_cast<int64_t>(r) * a.v + i] = sum[i] / z;
        if (lane == 0) a.lse[r] = top + logf(z);
        __syncwarp();
    }
}

// A warp per query, by the block that has its first head.
__global__ void entry_mass(const TapeCall a, const QueryBlock* blocks, float* mass, int n_columns) {
    after_previous();
    const QueryBlock b = blocks[blockIdx.x];
    const bool is_aligned = has_aligned_rows(a);
    for (int t = (b.begin + a.n_heads - 1) / a.n_heads + threadIdx.x / kWarp; t * a.n_heads < b.end; t += kWarps) {
        const Seen seen(a, b, t, 0);
        for (int e = threadIdx.x % kWarp; e < n_columns; e += kWarp) {
            float sum = 0;
            const int j = seen.n_rows + e;
            for (int h = 0; h < a.n_heads && seen.has(j); ++h) {
                const int r = t * a.n_heads + h;
                const float score = dot(a.q + static_cast<int64_t>(r) * a.c, seen.key(j), a.c, is_aligned) * a.scale;
                sum += expf(cap_score(score, a.softcap).score - a.lse[r]);
            }
            mass[static_cast<int64_t>(t) * n_columns + e] = sum;
        }
    }
}

// Shared memory per warp: the query and its gradient [2 c], the gradient of its output [v], those of kWarp scores.
__global__ void query_gradients(const TapeCall a, const TapeGradients g, const QueryBlock* blocks) {
    after_previous();
    extern __shared__ __align__(16) float shared[];
    const QueryBlock b = blocks[blockIdx.x];
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    const bool is_aligned = has_aligned_rows(a);
    float *q = shared + warp * (2 * a.c + a.v + kWarp), *dq = q + a.c, *dout = dq + a.c, *ds = dout + a.v;
    for (int r = b.begin + warp; r < b.end; r += kWarps) {
        const int t = r / a.n_heads, h = r % a.n_heads;
        const Seen seen(a, b, t, h / (a.n_heads / a.n_groups));
        copy_row(q, a.q + static_cast<int64_t>(r) * a.c, a.c);
        copy_row(dout, g.dout + static_cast<int64_t>(r) * a.v, a.v);
        for (int i = lane; i < a.c; i += kWarp) dq[i] = 0;
        float delta = 0;
        for (int i = lane; i < a.v; i += kWarp) delta += a.o[static_cast<int64_t>(r) * a.v + i] * dout[i];
        delta = warp_sum(delta);
        if (lane == 0) g.delta[r] = delta;
        __syncwarp();
        for (int j0 = 0; j0 < seen.n; j0 += kWarp) {
            const int j = j0 + lane;
            float mine = 0;
            if (seen.has(j)) {
                const Capped s = cap_score(dot(q, seen.key(j), a.c, is_aligned) * a.scale, a.softcap);
                mine = expf(s.score - a.lse[r]) * (dot(dout, seen.value(j), a.v, is_aligned) - delta) * s.slope;
            }
            ds[lane] = mine;
            __syncwarp();
            const int n = min(kWarp, seen.n - j0);
            for (int i = lane; i < a.c; i += kWarp) {
                float s = dq[i];
                for (int k = 0; k < n; ++k)
                    if (ds[k] != 0) s += ds[k] * seen.key(j0 + k)[i];
                dq[i] = s;
            }
            __syncwarp();
        }
        float* to = g.dq + static_cast<int64_t>(r) * a.c;
        for (int i = lane; i < a.c; i += kWarp) to[i] = (g.adds_dq ? to[i] : 0.0f) + a.scale * dq[i];
        __syncwarp();
    }
}

// Whether query t sees key i of the block.
__device__ inline bool sees(const TapeCall& a, const KeyBlock& b, int t, int i) {
    if (b.place < 0) return b.key + i <= t && t - a.window < b.key + i;
    const int e = b.place + i;
    if ((t - b.first + 1) / a.ratio <= e) return false;
    return !a.chosen || (a.chosen[static_cast<int64_t>(t) * a.n_words + e / 32] >> e % 32 & 1);
}

// A warp per key; blockIdx.y: the key head. Shared memory per warp: the key [c], the value [v], their gradients, and of
// kWarp queries what each adds to them.
__global__ void key_gradients(const TapeCall a, const TapeGradients g, const KeyBlock* blocks) {
    after_previous();
    extern __shared__ __align__(16) float shared[];
    const KeyBlock b = blocks[blockIdx.x];
    const bool is_shared = a.keys == a.values, is_row = b.place < 0;
    const bool is_aligned = has_aligned_rows(a);
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, group = blockIdx.y,
              heads = a.n_heads / a.n_groups;
    const int width = a.c + (is_shared ? 0 : a.v), n = (b.end - b.begin) * heads;
    float *key = shared + warp * (2 * (a.c + a.v) + 2 * kWarp), *value = key + a.c, *dk = value + a.v, *dv = dk + a.c;
    float *ds = dv + a.v, *p = ds + kWarp;
    // The row (query, head) of the batch with number i.
    const auto row_of = [&](int i) {
        return static_cast<int64_t>(b.begin + i / heads) * a.n_heads + group * heads + i % heads;
    };
    for (int k = warp; k < b.n_keys; k += kWarps) {
        const int64_t at = static_cast<int64_t>(b.key + k) * a.n_groups + group;
        copy_row(key, is_row ? a.keys + at * a.c : a.entries + static_cast<int64_t>(b.key + k) * a.c, a.c);
        copy_row(value, is_row ? a.values + at * a.v : a.entries + static_cast<int64_t>(b.key + k) * a.c, a.v);
        for (int i = lane; i < a.c; i += kWarp) dk[i] = 0;
        for (int i = lane; i < a.v; i += kWarp) dv[i] = 0;
        __syncwarp();
        for (int i0 = 0; i0 < n; i0 += kWarp) {
            const int i = i0 + lane;
            const bool has = i < n && sees(a, b, b.begin + i / heads, k);
            if (!__any_sync(~0u, has)) continue;
            float prob = 0, dscore = 0;
            if (has) {
                const int64_t r = row_of(i);
                const Capped s = cap_score(dot(a.q + r * a.c, key, a.c, is_aligned) * a.scale, a.softcap);
                prob = expf(s.score - a.lse[r]);
                dscore = prob * (dot(g.dout + r * a.v, value, a.v, is_aligned) - g.delta[r]) * s.slope * a.scale;
            }
            p[lane] = prob, ds[lane] = dscore;
            __syncwarp();
            const int most = min(kWarp, n - i0);
            for (int j = 0; j < most; ++j) {
                if (p[j] == 0) continue;
                const int64_t r = row_of(i0 + j);
                for (int x = lane; x < a.c; x += kWarp) dk[x] += ds[j] * a.q[r * a.c + x];
                for (int x = lane; x < a.v; x += kWarp) dv[x] += p[j] * g.dout[r * a.v + x];
            }
            __syncwarp();
        }
        float* to = g.partials + ((static_cast<int64_t>(blockIdx.x) * a.n_groups + group) * kTapeKeys + k) * width;
        for (int i = lane; i < a.c; i += kWarp) to[i] = is_shared ? dk[i] + dv[i] : dk[i];
        for (int i = lane; i < a.v && !is_shared; i += kWarp) to[a.c + i] = dv[i];
        __syncwarp();
    }
}

// floats of shared memory per warp
template <class Kernel>
size_t shared_bytes(Ctx& ctx, Kernel kernel, int64_t floats) {
    const size_t bytes = static_cast<size_t>(floats) * kWarps * sizeof(float);
    if (bytes > 48 * 1024)
        ctx.cuda->check(
            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
            "attention: heads too large for its shared memory");
    return bytes;
}

}  // namespace

void attend_plain(Ctx& ctx, const TapeCall& a, const QueryBlock* blocks, int64_t n_blocks) {
    const size_t bytes = shared_bytes(ctx, forward, a.c + a.v + kWarp);
    forward<<<static_cast<unsigned>(n_blocks), kThreads, bytes, ctx.cuda->stream()>>>(a, blocks);
    check_launch(ctx, "attention");
}

void attend_plain_mass(Ctx& ctx, const TapeCall& a, const QueryBlock* blocks, int64_t n_blocks, const Tensor& mass_TS) {
    const auto n_columns = static_cast<int>(mass_TS.dim(1));
    entry_mass<<<static_cast<unsigned>(n_blocks), kThreads, 0, ctx.cuda->stream()>>>(a, blocks, mass_TS.f32(),
                                                                                     n_columns);
    check_launch(ctx, "attention's mass");
}

void attend_plain_queries(Ctx& ctx, const TapeCall& a, const TapeGradients& g, const QueryBlock* blocks,
                          int64_t n_blocks) {
    const size_t bytes = shared_bytes(ctx, query_gradients, 2 * a.c + a.v + kWarp);
    query_gradients<<<static_cast<unsigned>(n_blocks), kThreads, bytes, ctx.cuda->stream()>>>(a, g, blocks);
    check_launch(ctx, "attention's gradients of queries");
}

void attend_plain_keys(Ctx& ctx, const TapeCall& a, const TapeGradients& g, const KeyBlock* blocks, int64_t n_blocks) {
    const size_t bytes = shared_bytes(ctx, key_gradients, 2 * (a.c + a.v) + 2 * kWarp);
    const dim3 grid(static_cast<unsigned>(n_blocks), static_cast<unsigned>(a.n_groups));
    key_gradients<<<grid, kThreads, bytes, ctx.cuda->stream()>>>(a, g, blocks);
    check_launch(ctx, "attention's gradients of keys");
}

}  // namespace vitrine::cuda
