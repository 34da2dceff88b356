// The choice of entries on the GPU: a block per token finds the k-th best score digit by digit and writes the chosen in
// order.
#include <algorithm>

#include "engine/ops/index/index.cuh"
#include "engine/ops/order.h"

namespace vitrine::cuda {
namespace {

constexpr int kDigits = 256, kMaxWarps = 32, kAtATime = 4;  // loads of a thread in flight

struct Shared {
    int counts[kDigits *
               kWarp];  // of every digit, a column per lane: no two lanes of a warp meet. Later: keys of the chosen
    int totals[kDigits];
    int above[kMaxWarps], equal[kMaxWarps];  // of each warp's part of the scores
    unsigned best_left_out[kMaxWarps];
    unsigned prefix;  // upper bits of the k-th best key
    int missing;      // how many of the keys that have it are chosen
};

__device__ inline float score_of(unsigned key) {
    return __uint_as_float(key & 0x80000000u ? key ^ 0x80000000u : ~key);
}

// Finds the digit in which the rank `missing` from the top falls; by warp 0.
__device__ void pick_digit(Shared& s) {
    const int lane = threadIdx.x;  // owns digits 255 - 8 lane and the 7 below
    int sum = 0;
    for (int i = 0; i < 8; ++i) sum += s.totals[kDigits - 1 - 8 * lane - i];
    int up_to = sum;
    for (int i = 1; i < kWarp; i *= 2) {
        const int other = __shfl_up_sync(~0u, up_to, i);
        if (lane >= i) up_to += other;
    }
    int missing = s.missing - (up_to - sum);
    const bool is_mine = missing > 0 && missing <= sum;
    __syncwarp();
    if (!is_mine) return;
    int digit = kDigits - 1 - 8 * lane;
    while (missing > s.totals[digit]) missing -= s.totals[digit--];
    s.prefix = s.prefix << 8 | static_cast<unsigned>(digit);
    s.missing = missing;
}

// f(i, key) for i from `begin + first` in steps of `step`, four scores loaded at a time; key 0 and i >= end beyond the
// end.
template <class F>
__device__ inline void over_keys(const float* scores, int begin, int end, int first, int step, F f) {
    for (int i = begin; i < end; i += kAtATime * step) {
        float score[kAtATime];
#pragma unroll
        for (int j = 0; j < kAtATime; ++j) score[j] = i + j * step + first < end ? scores[i + j * step + first] : 0.0f;
#pragma unroll
        for (int j = 0; j < kAtATime; ++j) f(i + j * step + first, order_key(score[j]));
    }
}

// The upper n_digits * 8 bits of the k-th best key to s.prefix, k < n.
template <int kThreads>
__device__ void find_threshold(Shared& s, const float* scores, int n, int k, int n_digits) {
    const int lane = threadIdx.x % kWarp;
    if (threadIdx.x == 0) s.prefix = 0, s.missing = k;
    for (int digit = 0; digit < n_digits; ++digit) {
        const int shift = 24 - 8 * digit;
        for (int i = threadIdx.x; i < kDigits * kWarp; i += kThreads) s.counts[i] = 0;
        __syncthreads();
        const unsigned prefix = s.prefix;
        over_keys(scores, 0, n, threadIdx.x, kThreads, [&](int i, unsigned key) {
            if (i < n && (digit == 0 || key >> (shift + 8) == prefix))
                atomicAdd(&s.counts[(key >> shift & 255u) * kWarp + lane], 1);
        });
        __syncthreads();
        if (threadIdx.x < kDigits) {
            int total = 0;
            for (int i = 0; i < kWarp; ++i) total += s.counts[threadIdx.x * kWarp + (i + lane) % kWarp];
            s.totals[threadIdx.x] = total;
        }
        __syncthreads();
        if (threadIdx.x < kWarp) pick_digit(s);
        __syncthreads();
    }
}

// The chosen ones of scores to `chosen`, ascending: keys above the threshold, and the first `missing` that equal it.
// Every warp counts its part, then writes it. Leaves each warp's best key that was left out.
template <int kThreads>
__device__ void write_chosen(Shared& s, const float* scores, int n, int shift, int32_t* chosen) {
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    const int part = (n + kThreads - 1) / kThreads * kWarp, begin = min(n, warp * part), end = min(n, begin + part);
    const unsigned threshold = s.prefix, below = (1u << lane) - 1;
    int n_above = 0, n_equal = 0;
    over_keys(scores, begin, end, lane, kWarp, [&](int i, unsigned key) {
        n_above += __popc(__ballot_sync(~0u, i < end && key >> shift > threshold));
        n_equal += __popc(__ballot_sync(~0u, i < end && key >> shift == threshold));
    });
    if (lane == 0) s.above[warp] = n_above, s.equal[warp] = n_equal;
    __syncthreads();
    n_above = n_equal = 0;
    for (int w = 0; w < warp; ++w) n_above += s.above[w], n_equal += s.equal[w];
    unsigned left_out = 0;
    over_keys(scores, begin, end, lane, kWarp, [&](int i, unsigned key) {
        const bool is_above = i < end && key >> shift > threshold, is_equal = i < end && key >> shift == threshold;
        const unsigned above = __ballot_sync(~0u, is_above), equal = __ballot_sync(~0u, is_equal);
        const int before = n_equal + __popc(equal & below);
        if (is_above || (is_equal && before < s.missing))
            chosen[n_above + __popc(above & below) + min(before, s.missing)] = i;
        else if (i < end)
            left_out = max(left_out, key);
        n_above += __popc(above), n_equal += __popc(equal);
    });
    left_out = __reduce_max_sync(~0u, left_out);
    if (lane == 0) s.best_left_out[warp] = left_out;
}

// Places of the m chosen in order of their scores, by counting who is better.
template <int kThreads>
__device__ void rank(Shared& s, const float* scores, const int32_t* chosen, int m, int k, int32_t* ranked,
                     int32_t* places, float* ranked_scores) {
    auto* keys = reinterpret_cast<unsigned*>(s.counts);
    for (int i = threadIdx.x; i < m; i += kThreads) keys[i] = order_key(scores[chosen[i]]);
    __syncthreads();
    for (int i = threadIdx.x; i < k; i += kThreads) {
        int place = i;
        if (i < m) {
            place = 0;
            for (int j = 0; j < m; ++j) place += keys[j] > keys[i] || (keys[j] == keys[i] && j < i);
        }
        ranked[place] = i < m ? chosen[i] : -1;
        ranked_scores[place] = i < m ? scores[chosen[i]] : -INFINITY;
        places[i] = place;
    }
}

// One block per token.
template <int kThreads>
__global__ void __launch_bounds__(kThreads) choose(const IndexScores in, IndexChoice to, int n_digits) {
    after_previous();
    __shared__ Shared s;
    const int64_t t = in.t0 + blockIdx.x;
    const int n = in.visible(t), k = in.k, m = min(n, k);
    const float* scores = in.scores + blockIdx.x * in.n_columns;
    int32_t* chosen = to.chosen + t * k;
    for (int i = m + threadIdx.x; i < k; i += kThreads) chosen[i] = -1;
    unsigned left_out = 0;
    if (n <= k) {
        for (int i = threadIdx.x; i < n; i += kThreads) chosen[i] = i;
    } else {
        find_threshold<kThreads>(s, scores, n, k, n_digits);
        write_chosen<kThreads>(s, scores, n, 32 - 8 * n_digits, chosen);
    }
    __syncthreads();
    if (!to.ranked) return;
    for (int w = 0; w < kThreads / kWarp && n > k; ++w) left_out = max(left_out, s.best_left_out[w]);
    rank<kThreads>(s, scores, chosen, m, k, to.ranked + t * k, to.places + t * k, to.ranked_scores + t * k);
    __syncthreads();
    if (threadIdx.x == 0) {
        to.cut[2 * t] = m > 0 ? to.ranked_scores[t * k + m - 1] : -INFINITY;
        to.cut[2 * t + 1] = n > k ? score_of(left_out) : -INFINITY;
    }
}

}  // namespace

void index_choose(Ctx& ctx, const IndexScores& s, const IndexChoice& to, int64_t n_tokens) {
    VITRINE_ASSERT(s.k <= kDigits * kWarp);
    // The reference's scores are BF16: two digits tell them apart. The choice is the same whatever the number of
    // threads.
    const bool is_few = n_tokens <= 16;
    const auto kernel = is_few ? choose<1024> : choose<256>;
    kernel<<<static_cast<unsigned>(n_tokens), is_few ? 1024 : 256, 0, ctx.cuda->stream()>>>(s, to,
                                                                                            ctx.is_reference() ? 2 : 4);
    check_launch(ctx, "choice of entries");
}

}  // namespace vitrine::cuda
