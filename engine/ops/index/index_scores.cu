// Index scores on the GPU: a thread per key and all heads of a token; packed keys are summed in exact integers.
#include <type_traits>

#include "engine/ops/index/index.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kTile = 128;  // threads of a block, and its keys
constexpr int kFewTokens = 16, kFewGroups = 4;  // few tokens: more blocks of fewer keys

// Four FP4 codes (the lower 16 bits) as bytes 12 + 2 * value, which are never negative.
__device__ inline uint32_t unsigned_bytes(uint32_t codes) {
    uint32_t positive, negative, sign;
    const uint32_t magnitudes = codes & 0x7777u;
    asm("prmt.b32 %0, 0x0f0e0d0c, 0x18141210, %1;" : "=r"(positive) : "r"(magnitudes));
    asm("prmt.b32 %0, 0x090a0b0c, 0x00040608, %1;" : "=r"(negative) : "r"(magnitudes));
    asm("prmt.b32 %0, 0x80808080, 0x80808080, %1;"
        : "=r"(sign)
        : "r"(codes & 0xffffu));  // 0xff where negative, else 0x80
    return (positive & ~sign) | (negative & sign);
}
__device__ inline int dot4(uint32_t key, uint32_t query, int sum) {
    int result;
    asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(key), "r"(query), "r"(sum));
    return result;
}

// kGroups threads share a key, each with its heads, whose terms are added in the order of the heads. Shared memory: the token's
// words, blocks and weights, the block's packed keys, and with groups the terms [H, keys].
template <int kBlocks, int kGroups>
__global__ void __launch_bounds__(kTile) score_packed(const IndexScores s) {
    constexpr int kKeys = kTile / kGroups;
    extern __shared__ __align__(16) uint32_t shared[];
    const int64_t t = s.t0 + blockIdx.y;
    const int n = s.visible(t), s0 = static_cast<int>(blockIdx.x) * kKeys, n_keys = min(kKeys, n - s0);
    const bool is_idle = n_keys <= 0 || (n <= s.k && !s.is_watched);
    const int row_bytes = static_cast<int>(s.format.bytes), n_words = s.n_heads * kBlocks * 8,
              n_blocks = s.n_heads * kBlocks;
    uint32_t *words = shared, *tile = words + n_words + 2 * n_blocks + (s.n_heads + 3) / 4 * 4;
    auto* blocks = reinterpret_cast<QueryBlock*>(words + n_words);
    auto* weights = reinterpret_cast<float*>(blocks + n_blocks);
    // Keys were there before the kernel before this one, which made the queries. Tiles start at multiples of 4 bytes.
    const std::byte* from = s.views[s.tokens[t].sequence].index_keys + static_cast<int64_t>(s0) * row_bytes;
    const int n_bytes = is_idle ? 0 : n_keys * row_bytes;
    for (int i = threadIdx.x; i < n_bytes / 4; i += kTile) tile[i] = reinterpret_cast<const uint32_t*>(from)[i];
    for (int i = n_bytes / 4 * 4 + threadIdx.x; i < n_bytes; i += kTile)
        reinterpret_cast<uint8_t*>(tile)[i] = reinterpret_cast<const uint8_t*>(from)[i];
    after_previous();
    if (is_idle) return;
    for (int i = threadIdx.x; i < n_words; i += kTile) words[i] = s.words[t * n_words + i];
    for (int i = threadIdx.x; i < n_blocks; i += kTile) blocks[i] = s.blocks[t * n_blocks + i];
    for (int i = threadIdx.x; i < s.n_heads; i += kTile) weights[i] = s.weights[t * s.n_heads + i];
    __syncthreads();
    const int group = static_cast<int>(threadIdx.x) / kKeys, at = static_cast<int>(threadIdx.x) % kKeys;
    auto* terms = reinterpret_cast<float*>(tile + (kKeys * row_bytes + 3) / 4);
    if (kGroups == 1 && at >= n_keys) return;

    const auto* key = reinterpret_cast<const uint8_t*>(tile) + at * row_bytes;  // beyond n_keys: anything
    const int n_codes = (s.format.c + 1) / 2;  // bytes
    uint32_t values[kBlocks * 8];
    float scale[kBlocks];
    if constexpr (kBlocks == 4) {  // 128 dims: rows are whole words
#pragma unroll
        for (int i = 0; i < kBlocks * 4; ++i) {
            const uint32_t codes = reinterpret_cast<const uint32_t*>(key)[i];
            values[2 * i] = unsigned_bytes(codes), values[2 * i + 1] = unsigned_bytes(codes >> 16);
        }
    } else {
#pragma unroll
        for (int i = 0; i < kBlocks * 8; ++i) {
            const uint32_t low = 2 * i < n_codes ? key[2 * i] : 0, high = 2 * i + 1 < n_codes ? key[2 * i + 1] : 0;
            values[i] = unsigned_bytes(low | high << 8);
        }
    }
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) scale[b] = 0.5f * cpu::e8m0_to_f32(key[n_codes + b]);
    float sum = 0;
    for (int h = group; h < s.n_heads; h += kGroups) {
        float dot = 0;
#pragma unroll
        for (int b = 0; b < kBlocks; ++b) {
            const auto* q = reinterpret_cast<const uint4*>(words + (h * kBlocks + b) * 8);
            const uint4 q0 = q[0], q1 = q[1];
            const QueryBlock of = blocks[h * kBlocks + b];
            int d = of.offset;
            d = dot4(values[b * 8 + 0], q0.x, d), d = dot4(values[b * 8 + 1], q0.y, d);
            d = dot4(values[b * 8 + 2], q0.z, d), d = dot4(values[b * 8 + 3], q0.w, d);
            d = dot4(values[b * 8 + 4], q1.x, d), d = dot4(values[b * 8 + 5], q1.y, d);
            d = dot4(values[b * 8 + 6], q1.z, d), d = dot4(values[b * 8 + 7], q1.w, d);
            dot = fmaf(static_cast<float>(d), scale[b] * of.unit, dot);
        }
        const float term = round_bf16(weights[h] * fmaxf(0.0f, round_bf16(dot)));
        if constexpr (kGroups == 1) sum += term;
        else terms[h * kKeys + at] = term;
    }
    if constexpr (kGroups > 1) {
        __syncthreads();
        if (group > 0 || at >= n_keys) return;
        for (int h = 0; h < s.n_heads; ++h) sum += terms[h * kKeys + at];
    }
    s.scores[blockIdx.y * s.n_columns + s0 + at] = round_bf16(sum);
}

// Shared memory: kTile keys of d + 1 floats, then q [H, d] and the weights.
__global__ void score_floats(const IndexScores s) {
    after_previous();
    extern __shared__ float tile_of_floats[];
    const int64_t t = s.t0 + blockIdx.y;
    const int n = s.visible(t), s0 = static_cast<int>(blockIdx.x) * kTile, n_keys = min(kTile, n - s0), d = s.format.c;
    if (n_keys <= 0 || (n <= s.k && !s.is_watched)) return;
    float *q = tile_of_floats + kTile * (d + 1), *weights = q + s.n_heads * d;
    for (int i = threadIdx.x; i < s.n_heads * d; i += kTile) q[i] = s.q[t * s.n_heads * d + i];
    for (int i = threadIdx.x; i < s.n_heads; i += kTile) weights[i] = s.weights[t * s.n_heads + i];
    const auto* from =
        reinterpret_cast<const float*>(s.views[s.tokens[t].sequence].index_keys) + static_cast<int64_t>(s0) * d;
    for (int i = threadIdx.x; i < n_keys * d; i += kTile) tile_of_floats[i / d * (d + 1) + i % d] = from[i];
    __syncthreads();
    if (static_cast<int>(threadIdx.x) >= n_keys) return;
    const float* key = tile_of_floats + threadIdx.x * (d + 1);
    float sum = 0;
    for (int h = 0; h < s.n_heads; ++h) {
        float dot = 0;
        for (int i = 0; i < d; ++i) dot = fmaf(q[h * d + i], key[i], dot);
        sum += weights[h] * fmaxf(0.0f, dot);
    }
    s.scores[blockIdx.y * s.n_columns + s0 + threadIdx.x] = sum;
}

}  // namespace

void index_scores(Ctx& ctx, const IndexScores& s, int64_t n_tokens) {
    const int d = s.format.c, n_blocks = (d + 31) / 32;
    VITRINE_ASSERT(!s.format.is_packed || d == 128 || d <= 64);  // a power of two
    const int groups = s.format.is_packed && n_tokens <= kFewTokens ? kFewGroups : 1, n_keys = kTile / groups;
    const dim3 grid(ceil_div(s.n_columns, n_keys), static_cast<unsigned>(n_tokens));
    const auto launch = [&](auto kernel, size_t bytes) {
        allow_shared(ctx, kernel, bytes);
        kernel<<<grid, kTile, bytes, ctx.cuda->stream()>>>(s);
        check_launch(ctx, "index scores");
    };
    if (!s.format.is_packed) return launch(score_floats, (kTile * (d + 1) + s.n_heads * (d + 1)) * sizeof(float));
    const size_t bytes = (s.n_heads * n_blocks * 10 + (s.n_heads + 3) / 4 * 4) * 4 + (n_keys * s.format.bytes + 3) / 4 * 4 +
                         (groups > 1 ? s.n_heads * n_keys * sizeof(float) : 0);
    const auto launch_for = [&](auto blocks) {
        constexpr int kBlocks = decltype(blocks)::value;
        launch(groups > 1 ? score_packed<kBlocks, kFewGroups> : score_packed<kBlocks, 1>, bytes);
    };
    if (n_blocks == 1) launch_for(std::integral_constant<int, 1>{});
    else if (n_blocks == 2) launch_for(std::integral_constant<int, 2>{});
    else launch_for(std::integral_constant<int, 4>{});
}

}  // namespace vitrine::cuda
