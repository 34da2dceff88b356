// Tokens and choices regrouped by expert on the GPU. Every pass walks the choices in order, so a plan has the same bits each time.
#include "engine/ops/moe/experts.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 1024, kWarps = kThreads / kWarp, kMaxExperts = 1024;

// As many threads as a block may have: the rounds below follow each other.
// Calls f(i, n) for each choice i of `expert` with its number n among them, in order; returns how many there are.
template <class F>
__device__ int for_choices(const int32_t* chosen, int64_t n_choices, int expert, F&& f) {
    __shared__ int in_warp[kWarps];
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    int before = 0;
    for (int64_t base = 0; base < n_choices; base += kThreads) {
        const int64_t i = base + threadIdx.x;
        const bool is_mine = i < n_choices && chosen[i] == expert;
        const unsigned votes = __ballot_sync(~0u, is_mine);
        if (lane == 0) in_warp[warp] = __popc(votes);
        __syncthreads();
        int n = before + __popc(votes & ((1u << lane) - 1));
        for (int w = 0; w < kWarps; ++w) {
            if (w < warp) n += in_warp[w];
            before += in_warp[w];
        }
        if (is_mine) f(i, n);
        __syncthreads();
    }
    return before;
}

__global__ void count_choices(const int32_t* chosen, int64_t n_choices, int32_t* counts) {
    after_previous();
    const int n = for_choices(chosen, n_choices, static_cast<int>(blockIdx.x), [](int64_t, int) {});
    if (threadIdx.x == 0) counts[blockIdx.x] = n;
}

// One thread: there are at most some hundreds of experts.
__global__ void place_experts(const int32_t* counts, int n_experts, int first, int n_here, int tile_rows,
                              int32_t* starts, Tile* tiles, int32_t* n_tiles) {
    after_previous();
    const auto is_here = [&](int e) { return e >= first && e < first + n_here; };
    __shared__ int32_t first_tile[kMaxExperts], first_slot[kMaxExperts], n_of[kMaxExperts];
    for (int e = threadIdx.x; e < n_experts; e += blockDim.x) n_of[e] = counts[e];
    __syncthreads();
    if (threadIdx.x == 0) {
        int32_t slot = 0, tile = 0;
        for (int e = 0; e < n_experts; ++e) {
            first_slot[e] = slot, first_tile[e] = tile;
            slot += n_of[e];
            if (is_here(e)) tile += (n_of[e] + tile_rows - 1) / tile_rows;
        }
        *n_tiles = tile;
    }
    __syncthreads();
    for (int e = threadIdx.x; e < n_experts; e += blockDim.x) {
        starts[e] = first_slot[e];
        for (int r = 0, i = first_tile[e]; is_here(e) && r < n_of[e]; r += tile_rows, ++i)
            tiles[i] = {e - first, first_slot[e] + r, min(tile_rows, n_of[e] - r)};
    }
}

__global__ void place_choices(const int32_t* chosen, const float* weights, int64_t n_choices, int k, const int32_t* starts,
                              int32_t* slot_of, int32_t* token_of, float* weight_of) {
    after_previous();
    const int expert = static_cast<int>(blockIdx.x), start = starts[expert];
    for_choices(chosen, n_choices, expert, [&](int64_t i, int n) {
        slot_of[i] = start + n;
        token_of[start + n] = static_cast<int32_t>(i / k);
        weight_of[start + n] = weights[i];
    });
}

// Choices that are none, and the shared expert's slots.
__global__ void place_rest(const int32_t* chosen, int64_t n_choices, int64_t n_shared, int32_t* slot_of, int32_t* token_of,
                           float* weight_of) {
    after_previous();
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < n_choices && chosen[i] < 0) slot_of[i] = -1;
    if (i < n_shared) token_of[n_choices + i] = static_cast<int32_t>(i), weight_of[n_choices + i] = 1;
}

__global__ void keep_choices(const int32_t* chosen, int64_t n_choices, int first, int n_here, int32_t* here) {
    after_previous();
    const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= n_choices) return;
    const int32_t e = chosen[i] - first;
    here[i] = e >= 0 && e < n_here ? e : -1;
}

}  // namespace

Routing choices_here(Ctx& ctx, const Routing& r, int first, int n_here) {
    const Routing here{ctx.arena.make(DType::i32, r.indices_TK.shape), r.weights_TK};
    const int64_t n = r.indices_TK.count();
    keep_choices<<<ceil_div(n, kThreads), kThreads, 0, ctx.cuda->stream()>>>(r.indices_TK.as<int32_t>(), n, first,
                                                                             n_here, here.indices_TK.as<int32_t>());
    check_launch(ctx, "finding the experts that are here");
    return here;
}

Plan make_plan(Ctx& ctx, const Routing& r, int64_t n_experts, int first, int n_here, bool has_shared, int tile_rows) {
    const int64_t n_tokens = r.indices_TK.dim(0), k = r.indices_TK.dim(1), n_choices = n_tokens * k;
    VITRINE_ASSERT(n_experts <= kMaxExperts);
    const auto i32 = [&](int64_t n) { return ctx.arena.make(DType::i32, {n}).as<int32_t>(); };
    Plan p;
    p.n_slots = n_choices + (has_shared ? n_tokens : 0);
    p.max_tiles = ceil_div(n_choices, tile_rows) + static_cast<unsigned>(n_experts);
    p.slot_of = i32(n_choices), p.token_of = i32(p.n_slots), p.n_tiles = i32(1);
    p.weight_of = ctx.arena.make(DType::f32, {p.n_slots}).f32();
    p.tiles = static_cast<Tile*>(ctx.arena.bytes(p.max_tiles * sizeof(Tile)));
    int32_t *counts = i32(n_experts), *starts = i32(n_experts);
    const int32_t* chosen = r.indices_TK.as<int32_t>();
    const auto n_blocks = static_cast<unsigned>(n_experts);
    const auto stream = ctx.cuda->stream();
    count_choices<<<n_blocks, kThreads, 0, stream>>>(chosen, n_choices, counts);
    place_experts<<<1, kThreads, 0, stream>>>(counts, static_cast<int>(n_experts), first, n_here, tile_rows, starts,
                                              p.tiles, p.n_tiles);
    place_choices<<<n_blocks, kThreads, 0, stream>>>(chosen, r.weights_TK.f32(), n_choices, static_cast<int>(k), starts, p.slot_of,
                                                     p.token_of, p.weight_of);
    place_rest<<<ceil_div(n_choices + n_tokens, kThreads), kThreads, 0, stream>>>(chosen, n_choices, p.n_slots - n_choices,
                                                                                  p.slot_of, p.token_of, p.weight_of);
    check_launch(ctx, "grouping tokens by expert");
    return p;
}

}  // namespace vitrine::cuda
