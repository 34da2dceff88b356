// Core attention on tensor cores, for packed rows: all heads of a group against gathered keys that lie in shared memory
// as BF16.
#include "engine/ops/kernel.cuh"
#include "engine/device/cuda/mma.cuh"
#include "engine/ops/attend/attend.cuh"
#include "engine/ops/linear/packed.cuh"
#include "engine/ops/rope/rotate.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kTile = 16;           // heads of one product
constexpr int kPad = 8;             // of a row in shared memory: eight rows' 16-byte pieces then lie in different banks

// A block holds kKeys keys at a time. Scores: kParts warps share the columns of 16 keys.
template <int kKeys>
constexpr int kParts = kWarps / (kKeys / 16);
template <int kKeys>
constexpr int kScores = kKeys + 4;  // floats of a row of scores

// Where the pieces lie in shared memory; n_heads = kTile * kM.
template <int kKeys>
struct Pieces {
    bf16 *keys, *q, *p;       // [kKeys, c + kPad], [heads, c + kPad], [heads, kKeys + kPad]
    float *scores, *factors;  // [kParts, heads, kScores]; [heads]
    const std::byte** rows;   // [2, kKeys]
    size_t bytes;
    __host__ __device__ Pieces(std::byte* at, int c, int n_heads) {
        std::byte* next = at;
        const auto take = [&](size_t n) {
            std::byte* here = next;
            next += n;
            return here;
        };
        keys = reinterpret_cast<bf16*>(take(kKeys * (c + kPad) * sizeof(bf16)));
        q = reinterpret_cast<bf16*>(take(n_heads * (c + kPad) * sizeof(bf16)));
        p = reinterpret_cast<bf16*>(take(n_heads * (kKeys + kPad) * sizeof(bf16)));
        scores = reinterpret_cast<float*>(take(kParts<kKeys> * n_heads * kScores<kKeys> * sizeof(float)));
        factors = reinterpret_cast<float*>(take(n_heads * sizeof(float)));
        rows = reinterpret_cast<const std::byte**>(take(2 * kKeys * sizeof(std::byte*)));
        bytes = static_cast<size_t>(next - at);
    }
};

__device__ inline uint32_t times(uint32_t pair, bf16 factor) {
    const __nv_bfloat162 f{factor, factor};
    const __nv_bfloat162 x = __hmul2(*reinterpret_cast<const __nv_bfloat162*>(&pair), f);
    return *reinterpret_cast<const uint32_t*>(&x);
}
// Two FP8 codes in the upper bytes of 16-bit halves to BF16: their exponent's bits are put in place, 2^120 corrects its
// bias (subnormals too), then the block's scale. Both products are exact.
__device__ inline uint32_t widen_fp8(uint32_t codes, bf16 scale) {
    const uint32_t bits = (codes & 0x80008000u) | (codes >> 4 & 0x07f007f0u);
    return times(times(bits, __ushort_as_bfloat16(0x7b80)), scale);
}
// 2^(code - 127); 255 is NaN.
__device__ inline bf16 block_scale(uint8_t code) {
    return __ushort_as_bfloat16(code == 255 ? 0x7fc0 : code == 0 ? 0x0040 : static_cast<unsigned short>(code << 7));
}

// The chunk's rows as BF16; rows that are not there: zeros. A warp unpacks kKeys / kWarps rows, words of 8 bytes; what
// a lane reads of few rows is on its way all at once.
template <int kKeys>
__device__ void stage_keys(const RowFormat& f, const std::byte* const* rows, bf16* keys) {
    constexpr int kRows = kKeys / kWarps, kAtOnce = kRows <= 4 ? 3 : 1;
    const int lane = threadIdx.x % kWarp, first = threadIdx.x / kWarp * kRows, ld = f.c + kPad;
    const int n_fp8 = (f.c - f.rope) / 8, n_words = n_fp8 + f.rope / 4, scales = f.c + f.rope;
    for (int i0 = lane; i0 < n_words; i0 += kAtOnce * kWarp) {
        uint2 word[kAtOnce][kRows];
        uint8_t code[kAtOnce][kRows];
#pragma unroll
        for (int s = 0; s < kAtOnce; ++s) {
#pragma unroll
            for (int r = 0; r < kRows; ++r) {
                const int i = i0 + s * kWarp;
                const std::byte* row = i < n_words ? rows[first + r] : nullptr;
                word[s][r] = row ? *reinterpret_cast<const uint2*>(row + 8 * i) : uint2{0, 0};
                code[s][r] = row && i < n_fp8 ? static_cast<uint8_t>(row[scales + i / 8]) : uint8_t{0};
            }
        }
#pragma unroll
        for (int s = 0; s < kAtOnce; ++s) {
            const int i = i0 + s * kWarp;
            if (i >= n_words) break;
#pragma unroll
            for (int r = 0; r < kRows; ++r) {
                bf16* to = keys + (first + r) * ld;
                const uint2 w = word[s][r];
                if (i >= n_fp8) {
                    *reinterpret_cast<uint2*>(to + 8 * n_fp8 + 4 * (i - n_fp8)) = w;
                    continue;
                }
                const bf16 scale = block_scale(code[s][r]);
                *reinterpret_cast<uint4*>(to + 8 * i) = {
                    widen_fp8(__byte_perm(w.x, 0, 0x1404), scale), widen_fp8(__byte_perm(w.x, 0, 0x3424), scale),
                    widen_fp8(__byte_perm(w.y, 0, 0x1404), scale), widen_fp8(__byte_perm(w.y, 0, 0x3424), scale)};
            }
        }
    }
}

// Products q . key of 16 keys by each warp, over a part of the columns.
template <int kM, int kKeys>
__device__ void score_keys(const Pieces<kKeys>& at, int c) {
    constexpr int kGroups = kKeys / 16;
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, ld = c + kPad, key0 = warp % kGroups * 16,
              part = warp / kGroups;
    const int n_steps = c / 16, of_part = (n_steps + kParts<kKeys> - 1) / kParts<kKeys>, begin = part * of_part,
              end = min(begin + of_part, n_steps);
    float sum[kM][2][4] = {};
    const bf16* q = at.q + lane % 16 * ld + lane / 16 * 8;
    const bf16* key = at.keys + (key0 + lane / 16 * 8 + lane % 8) * ld + lane / 8 % 2 * 8;
#pragma unroll 4
    for (int step = begin; step < end; ++step) {
        uint32_t b[4];
        load_tiles(b, key + step * 16);
#pragma unroll
        for (int m = 0; m < kM; ++m) {
            uint32_t a[4];
            load_tiles(a, q + m * kTile * ld + step * 16);
            mma(sum[m][0], a, b[0], b[1]);
            mma(sum[m][1], a, b[2], b[3]);
        }
    }
    float* to = at.scores + part * kTile * kM * kScores<kKeys> + key0 + lane % 4 * 2;
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            float* row = to + (m * kTile + lane / 4) * kScores<kKeys> + i * 8;
            *reinterpret_cast<float2*>(row) = {sum[m][i][0], sum[m][i][1]};
            *reinterpret_cast<float2*>(row + 8 * kScores<kKeys>) = {sum[m][i][2], sum[m][i][3]};
        }
    }
}

// Scores of the chunk to p, online: warp w holds heads w, w + 8, ..; factors get what the sums so far are worth.
template <int kM, int kKeys>
__device__ void soften(const Pieces<kKeys>& at, const std::byte* const* rows, float scale, float (&top)[2 * kM],
                       float (&z)[2 * kM], float* kept, int64_t n_columns, int n_heads, int n_kept) {
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
#pragma unroll
    for (int i = 0; i < 2 * kM; ++i) {
        const int head = warp + i * kWarps;
        const float* s = at.scores + head * kScores<kKeys>;
        float score[kKeys / kWarp], higher = -INFINITY, sum = 0;
#pragma unroll
        for (int k = 0; k < kKeys / kWarp; ++k) {
            const int j = lane + k * kWarp;
            float all = s[j];
#pragma unroll
            for (int part = 1; part < kParts<kKeys>; ++part) all += s[part * kTile * kM * kScores<kKeys> + j];
            score[k] = rows[j] ? all * scale : -INFINITY;
            if (kept && head < n_heads && j < n_kept) kept[head * n_columns + j] = score[k];
            higher = fmaxf(higher, score[k]);
        }
        higher = fmaxf(top[i], warp_max(higher));
        const float factor = expf(top[i] - higher);
#pragma unroll
        for (int k = 0; k < kKeys / kWarp; ++k) {
            const float p = expf(score[k] - higher);
            sum += p;
            at.p[head * (kKeys + kPad) + lane + k * kWarp] = __float2bfloat16_rn(p);
        }
        z[i] = z[i] * factor + warp_sum(sum);
        top[i] = higher;
        if (lane == 0) at.factors[head] = factor;
    }
}

// sums = sums * factors + p . keys: a warp has kTiles tiles of 8 columns.
template <int kM, int kTiles, int kKeys>
__device__ void add_values(const Pieces<kKeys>& at, int c, float (&sum)[kM][kTiles][4]) {
    const int lane = threadIdx.x % kWarp, ld = c + kPad, column0 = threadIdx.x / kWarp * kTiles * 8;
    if (column0 >= c) return;
#pragma unroll
    for (int m = 0; m < kM; ++m) {
        const float above = at.factors[m * kTile + lane / 4], below = at.factors[m * kTile + lane / 4 + 8];
#pragma unroll
        for (int i = 0; i < kTiles; ++i)
            sum[m][i][0] *= above, sum[m][i][1] *= above, sum[m][i][2] *= below, sum[m][i][3] *= below;
    }
    const bf16* p = at.p + lane % 16 * (kKeys + kPad) + lane / 16 * 8;
    const bf16* key = at.keys + (lane / 8 % 2 * 8 + lane % 8) * ld + column0 + lane / 16 * 8;
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step) {
        uint32_t a[kM][4];
#pragma unroll
        for (int m = 0; m < kM; ++m) load_tiles(a[m], p + m * kTile * (kKeys + kPad) + step * 16);
#pragma unroll
        for (int i = 0; i < kTiles;
             i += 2) {  // a last odd tile reads the row's padding, and its second half is not used
            uint32_t b[4];
            load_tiles_transposed(b, key + step * 16 * ld + i * 8);
#pragma unroll
            for (int m = 0; m < kM; ++m) {
                mma(sum[m][i], a[m], b[0], b[1]);
                if (i + 1 < kTiles) mma(sum[m][i + 1], a[m], b[2], b[3]);
            }
        }
    }
}

// A warp's head of q, normed and rotated as norm_rotate_rows does, to shared memory: 16 bytes at a time.
__device__ void norm_query(const Attention& a, int64_t t, const bf16* q, bf16* to) {
    const int c = a.keys.format.c, rest = c - 2 * a.half, lane = threadIdx.x % kWarp;
    constexpr int kWide = 8, kMostPieces = 2;  // c <= 512
    struct alignas(16) Some {
        bf16 at[kWide];
    } v[kMostPieces];
    float sum = 0;
#pragma unroll
    for (int p = 0; p < kMostPieces; ++p) {
        const int i = (p * kWarp + lane) * kWide;
        if (i >= c) break;
        v[p] = *reinterpret_cast<const Some*>(q + i);
#pragma unroll
        for (int j = 0; j < kWide; ++j) sum += widen(v[p].at[j]) * widen(v[p].at[j]);
    }
    const float factor = 1.0f / sqrtf(warp_sum(sum) / static_cast<float>(c) + a.q_eps);
#pragma unroll
    for (int p = 0; p < kMostPieces; ++p) {
        const int i = (p * kWarp + lane) * kWide;
        if (i >= c) break;
#pragma unroll
        for (int j = 0; j < kWide; j += 2) {
            float x = round_bf16(widen(v[p].at[j]) * factor), y = round_bf16(widen(v[p].at[j + 1]) * factor);
            if (i + j >= rest) {
                const int64_t pair = t * a.half + (i + j - rest) / 2;
                rotate_pair(x, y, a.cosines[pair], a.sines[pair]);
            }
            v[p].at[j] = narrow<bf16>(x), v[p].at[j + 1] = narrow<bf16>(y);
        }
        *reinterpret_cast<Some*>(to + i) = v[p];
    }
}

// Two neighbouring columns (from an even one) of a head's output; rotated back, if it is asked for, after a rounding.
__device__ inline void write_pair(const Attention& a, int64_t t, int column, float x, float y, bf16* row) {
    const int pair = (column - (a.keys.format.c - 2 * a.half)) / 2;
    if (a.cosines && column >= a.keys.format.c - 2 * a.half) {
        x = round_bf16(x), y = round_bf16(y);
        rotate_pair(x, y, a.cosines[t * a.half + pair], -a.sines[t * a.half + pair]);
    }
    *reinterpret_cast<__nv_bfloat162*>(row + column) = __floats2bfloat162_rn(x, y);
}

// One block per split of a token's keys (x), group of kTile * kM heads (y) and token (z).
template <int kM, int kTiles, int kKeys>
__global__ void __launch_bounds__(kThreads, kM == 1 ? 2 : 1) attend_heads(const Attention a, const bf16* q, bf16* out) {
    extern __shared__ __align__(16) std::byte shared[];
    const int c = a.keys.format.c, head0 = blockIdx.y * kTile * kM, n_heads = min(kTile * kM, a.n_heads - head0);
    const Pieces<kKeys> at(shared, c, kTile * kM);
    const int64_t t = a.t0 + blockIdx.z;
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    const TokenKeys keys(a.keys, t);
    const int size = a.n_splits > 1 ? keys.split_size(kKeys) : keys.n;
    const int begin = blockIdx.x * size, end = min(begin + size, keys.n);
    // Rows that are not chosen are known, and all but the newest are there: on their way before the kernel before is done.
    if (const int j = begin + static_cast<int>(threadIdx.x); threadIdx.x < kKeys && j < end && (!keys.chosen || j < keys.n_window))
        for (int64_t i = 0; i < a.keys.format.bytes; i += 128) prefetch(keys.row(j, a.keys.format.bytes) + i);
    after_previous();
    if (threadIdx.x < kKeys)
        at.rows[threadIdx.x] = begin + threadIdx.x < end ? keys.row(begin + threadIdx.x, a.keys.format.bytes) : nullptr;
    for (int head = warp; head < n_heads && a.q_eps > 0; head += kWarps)
        norm_query(a, t, q + (t * a.n_heads + head0 + head) * c, at.q + head * (c + kPad));
    const int first_plain = a.q_eps > 0 ? n_heads : 0;  // heads that are only copied, or not there
    for (int i = first_plain * c / 8 + threadIdx.x; i < kTile * kM * c / 8; i += kThreads) {
        const int head = i / (c / 8), column = i % (c / 8) * 8;
        *reinterpret_cast<uint4*>(at.q + head * (c + kPad) + column) =
            head < n_heads ? *reinterpret_cast<const uint4*>(q + (t * a.n_heads + head0 + head) * c + column) : uint4{};
    }
    __syncthreads();
    if (a.n_splits > 1 && !at.rows[0]) return;  // nor does `combine` look

    float top[2 * kM], z[2 * kM] = {}, sum[kM][kTiles][4] = {};
#pragma unroll
    for (int i = 0; i < 2 * kM; ++i) top[i] = -INFINITY;
    float* kept = a.scores ? a.scores + (blockIdx.z * static_cast<int64_t>(a.n_heads) + head0) * a.n_columns : nullptr;
    int side = 0;
    for (int j0 = begin; j0 < end && at.rows[side * kKeys]; j0 += kKeys, side ^= 1) {
        const std::byte* const* rows = at.rows + side * kKeys;
        stage_keys<kKeys>(a.keys.format, rows, at.keys);
        if (threadIdx.x < kKeys) {  // the next chunk's
            const int j = j0 + kKeys + threadIdx.x;
            at.rows[(side ^ 1) * kKeys + threadIdx.x] = j < end ? keys.row(j, a.keys.format.bytes) : nullptr;
        }
        __syncthreads();
        score_keys<kM, kKeys>(at, c);
        __syncthreads();
        soften<kM, kKeys>(at, rows, a.scale, top, z, kept ? kept + j0 : nullptr, a.n_columns, n_heads,
                          static_cast<int>(min(int64_t{kKeys}, a.n_columns - j0)));
        __syncthreads();
        add_values<kM, kTiles, kKeys>(at, c, sum);
        __syncthreads();
    }

    const bool is_partial = a.n_splits > 1;
    const int64_t first =
        (blockIdx.z * static_cast<int64_t>(a.n_splits) + blockIdx.x) * a.n_heads + head0;  // of partials
#pragma unroll
    for (int i = 0; i < 2 * kM; ++i) {
        const int head = warp + i * kWarps;
        if (lane != 0 || head >= n_heads) continue;
        if (is_partial) {
            a.partial_stats[first + head] = {top[i], z[i]};
            continue;
        }
        z[i] += a.sinks.data ? expf(element(a.sinks, 0, head0 + head) - top[i]) : 0.0f;
        at.factors[head] = z[i];
        if (a.stats) a.stats[t * a.n_heads + head0 + head] = {top[i], z[i]};
    }
    __syncthreads();
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int i = 0; i < kTiles; ++i) {
#pragma unroll
            for (int below = 0; below < 2; ++below) {
                const int head = m * kTile + lane / 4 + below * 8, column = (warp * kTiles + i) * 8 + lane % 4 * 2;
                if (head >= n_heads || column >= c) continue;
                const float x = sum[m][i][2 * below], y = sum[m][i][2 * below + 1];
                if (is_partial) {
                    *reinterpret_cast<float2*>(a.partials + (first + head) * c + column) = {x, y};
                } else {
                    write_pair(a, t, column, x / at.factors[head], y / at.factors[head],
                               out + (t * a.n_heads + head0 + head) * c);
                }
            }
        }
    }
}

template <int kM, int kTiles, int kKeys>
void launch(Ctx& ctx, const Attention& a, int64_t n_tokens, const bf16* q, bf16* out) {
    const size_t bytes = Pieces<kKeys>(nullptr, a.keys.format.c, kTile * kM).bytes;
    const auto kernel = attend_heads<kM, kTiles, kKeys>;
    allow_shared(ctx, kernel, bytes);
    const dim3 grid(a.n_splits, ceil_div(a.n_heads, kTile * kM), static_cast<unsigned>(n_tokens));
    kernel<<<grid, kThreads, bytes, ctx.cuda->stream()>>>(a, q, out);
    check_launch(ctx, "attend on tensor cores");
}

template <int kTiles>
void launch_heads(Ctx& ctx, const Attention& a, int64_t n_tokens, const bf16* q, bf16* out) {
    // Few tokens: more blocks. Many: the keys are unpacked for as many heads as registers hold.
    if (a.chunk == kFewTensorChunk)
        launch<1, kTiles, kFewTensorChunk>(ctx, a, n_tokens, q, out);
    else if (a.n_heads <= kTile)
        launch<1, kTiles, kTensorChunk>(ctx, a, n_tokens, q, out);
    else if (a.n_heads <= 2 * kTile)
        launch<2, kTiles, kTensorChunk>(ctx, a, n_tokens, q, out);
    else
        launch<4, kTiles, kTensorChunk>(ctx, a, n_tokens, q, out);
}

}  // namespace

bool has_tensor_kernel(const Attention& a) {
    const RowFormat& f = a.keys.format;
    return f.is_packed && f.c % 16 == 0 && f.rope % 8 == 0 && f.c <= 512;
}

void attend_by_tensor_cores(Ctx& ctx, const Attention& a, int64_t n_tokens, const bf16* q, bf16* out) {
    const int per_warp = (a.keys.format.c / 8 + kWarps - 1) / kWarps;  // tiles of 8 columns
    if (per_warp == 1)
        launch_heads<1>(ctx, a, n_tokens, q, out);
    else if (per_warp == 2)
        launch_heads<2>(ctx, a, n_tokens, q, out);
    else if (per_warp <= 4)
        launch_heads<4>(ctx, a, n_tokens, q, out);
    else
        launch_heads<8>(ctx, a, n_tokens, q, out);
}

}  // namespace vitrine::cuda
