// Which rows go to which expert, for training: choices regrouped by expert in three passes over chunks of them, the same bits each
// time, and lists of the tiles and pieces that there are.
#include "engine/ops/moe/train.cuh"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kPerWarp = 128, kPerChunk = kWarps * kPerWarp;  // choices
constexpr int kMaxGroups = 1025;

// A block per chunk: counts [chunks, E].
__global__ void count_chunks(const int32_t* chosen, int64_t n_choices, int n_experts, int32_t* counts) {
    after_previous();
    extern __shared__ int32_t n_of[];
    for (int e = threadIdx.x; e < n_experts; e += kThreads) n_of[e] = 0;
    __syncthreads();
    const int64_t begin = static_cast<int64_t>(blockIdx.x) * kPerChunk;
    for (int64_t i = begin + threadIdx.x; i < begin + kPerChunk && i < n_choices; i += kThreads)
        if (chosen[i] >= 0) atomicAdd(&n_of[chosen[i]], 1);  // whole numbers: any order gives the same
    __syncthreads();
    for (int e = threadIdx.x; e < n_experts; e += kThreads) counts[static_cast<int64_t>(blockIdx.x) * n_experts + e] = n_of[e];
}

// A warp per expert: its counts become those of the chunks before; totals [E].
__global__ void add_up_chunks(int n_chunks, int n_experts, int32_t* counts, int32_t* totals) {
    after_previous();
    const int e = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarp, lane = threadIdx.x % kWarp;
    if (e >= n_experts) return;
    int before = 0;
    for (int c0 = 0; c0 < n_chunks; c0 += kWarp) {
        const int c = c0 + lane, mine = c < n_chunks ? counts[static_cast<int64_t>(c) * n_experts + e] : 0;
        int up_to = mine;
        for (int i = 1; i < kWarp; i *= 2) {
            const int other = __shfl_up_sync(~0u, up_to, i);
            if (lane >= i) up_to += other;
        }
        if (c < n_chunks) counts[static_cast<int64_t>(c) * n_experts + e] = before + up_to - mine;
        before += __shfl_sync(~0u, up_to, kWarp - 1);
    }
    if (lane == 0) totals[e] = before;
}

// A group without rows has a piece too: its gradient may have to be made zero.
__device__ int pieces_of(int n_rows) { return max(1, (n_rows + kRowsOfPiece - 1) / kRowsOfPiece); }

// One block: where groups begin, and the lists of tiles and pieces.
__global__ void place_groups(TapePlan p, const int32_t* totals) {
    after_previous();
    __shared__ int32_t n_of[kMaxGroups], first_slot[kMaxGroups], first_tile[kMaxGroups], first_piece[kMaxGroups],
        first_part[kMaxGroups];
    for (int g = threadIdx.x; g < p.n_groups; g += kThreads)
        n_of[g] = g < p.n_routed ? totals[g] : static_cast<int32_t>(p.n_tokens);
    __syncthreads();
    if (threadIdx.x == 0) {
        int32_t slot = 0, tile = 0, piece = 0, part = 0;
        for (int g = 0; g < p.n_groups; ++g) {
            if (g == p.n_routed) slot = static_cast<int32_t>(p.n_tokens * p.k);
            const int n_pieces = pieces_of(n_of[g]);
            first_slot[g] = slot, first_tile[g] = tile, first_piece[g] = piece, first_part[g] = part;
            slot += n_of[g], tile += (n_of[g] + kRowsOfTile - 1) / kRowsOfTile, piece += n_pieces,
                part += n_pieces > 1 ? n_pieces : 0;
        }
        *p.n_tiles = tile, *p.n_pieces = piece;
    }
    __syncthreads();
    for (int g = 0; g < p.n_groups; ++g) {
        const int n = n_of[g], slot = first_slot[g], n_pieces = pieces_of(n);
        if (threadIdx.x == 0) p.groups[g] = {slot, n, first_part[g], n_pieces > 1 ? n_pieces : 0};
        for (int i = threadIdx.x; i * kRowsOfTile < n; i += kThreads)
            p.tiles[first_tile[g] + i] = {g, slot + i * kRowsOfTile, min(kRowsOfTile, n - i * kRowsOfTile)};
        for (int i = threadIdx.x; i < n_pieces; i += kThreads)
            p.pieces[first_piece[g] + i] = {g, slot + i * kRowsOfPiece, min(kRowsOfPiece, n - i * kRowsOfPiece),
                                            n_pieces > 1 ? first_part[g] + i : -1};
    }
}

// A block per chunk; warps take kPerWarp choices each, in order. Shared memory: [warps, E] the next slot of each expert.
__global__ void place_slots(TapePlan p, const int32_t* chosen, const float* weights, const int32_t* counts) {
    after_previous();
    extern __shared__ int32_t next[];
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp, n_experts = p.n_routed;
    const int64_t n_choices = p.n_tokens * p.k, begin = static_cast<int64_t>(blockIdx.x) * kPerChunk + warp * kPerWarp;
    int32_t* mine = next + warp * n_experts;
    for (int e = threadIdx.x; e < kWarps * n_experts; e += kThreads) next[e] = 0;
    __syncthreads();
    for (int64_t i = begin + lane; i < begin + kPerWarp && i < n_choices; i += kWarp)
        if (chosen[i] >= 0) atomicAdd(&mine[chosen[i]], 1);
    __syncthreads();
    for (int e = threadIdx.x; e < n_experts; e += kThreads) {
        int slot = p.groups[e].slot + counts[static_cast<int64_t>(blockIdx.x) * n_experts + e];
        for (int w = 0; w < kWarps; ++w) {
            const int n = next[w * n_experts + e];
            next[w * n_experts + e] = slot;
            slot += n;
        }
    }
    __syncthreads();
    for (int64_t i0 = begin; i0 < begin + kPerWarp; i0 += kWarp) {
        const int64_t i = i0 + lane;
        const int e = i < n_choices ? chosen[i] : -1;
        const unsigned same = __match_any_sync(~0u, e);
        const int before = __popc(same & ((1u << lane) - 1));
        const int slot = e >= 0 ? mine[e] + before : -1;
        __syncwarp();
        if (e >= 0 && before == 0) mine[e] += __popc(same);
        __syncwarp();
        if (i < n_choices) p.slot_of[i] = slot;
        if (slot >= 0) p.token_of[slot] = static_cast<int32_t>(i / p.k), p.weight_of[slot] = weights[i];
    }
    const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x,
                  n_threads = static_cast<int64_t>(gridDim.x) * kThreads;
    for (int64_t t = thread; t < p.n_slots - n_choices; t += n_threads)
        p.token_of[n_choices + t] = static_cast<int32_t>(t), p.weight_of[n_choices + t] = 1;
}

}  // namespace

TapePlan make_tape_plan(Ctx& ctx, const Routing& r, int n_experts, bool has_shared) {
    TapePlan p{};
    p.n_tokens = r.indices_TK.dim(0), p.k = static_cast<int>(r.indices_TK.dim(1));
    p.n_routed = n_experts, p.n_groups = n_experts + has_shared;
    VITRINE_ASSERT(p.n_groups < kMaxGroups && p.k <= kWarp);
    const int64_t n_choices = p.n_tokens * p.k;
    p.n_slots = n_choices + (has_shared ? p.n_tokens : 0);
    VITRINE_ASSERT(p.n_slots < INT32_MAX);
    const auto n_groups = static_cast<unsigned>(p.n_groups);
    p.max_tiles = static_cast<unsigned>(p.n_slots / kRowsOfTile) + n_groups;
    p.max_pieces = static_cast<unsigned>(p.n_slots / kRowsOfPiece) + n_groups;
    p.max_parts = 2 * static_cast<unsigned>(p.n_slots / kRowsOfPiece);  // of groups with more than a piece of rows
    const auto i32 = [&](int64_t n) { return ctx.arena.make(DType::i32, {n}).as<int32_t>(); };
    p.slot_of = i32(n_choices), p.token_of = i32(p.n_slots), p.n_tiles = i32(1), p.n_pieces = i32(1);
    p.weight_of = ctx.arena.make(DType::f32, {p.n_slots}).f32();
    p.groups = static_cast<GroupSlots*>(ctx.arena.bytes(n_groups * sizeof(GroupSlots)));
    p.tiles = static_cast<Tile*>(ctx.arena.bytes(p.max_tiles * sizeof(Tile)));
    p.pieces = static_cast<Piece*>(ctx.arena.bytes(p.max_pieces * sizeof(Piece)));
    const Arena::Scope scratch(ctx.arena);
    const unsigned n_chunks = ceil_div(n_choices, kPerChunk);
    int32_t *counts = i32(static_cast<int64_t>(n_chunks) * n_experts), *totals = i32(n_experts);
    const int32_t* chosen = r.indices_TK.as<int32_t>();
    const size_t row = static_cast<size_t>(n_experts) * sizeof(int32_t);
    const auto stream = ctx.cuda->stream();
    count_chunks<<<n_chunks, kThreads, row, stream>>>(chosen, n_choices, n_experts, counts);
    add_up_chunks<<<ceil_div(n_experts, kWarps), kThreads, 0, stream>>>(static_cast<int>(n_chunks), n_experts, counts, totals);
    place_groups<<<1, kThreads, 0, stream>>>(p, totals);
    place_slots<<<n_chunks, kThreads, kWarps * row, stream>>>(p, chosen, r.weights_TK.f32(), counts);
    check_launch(ctx, "grouping tokens by expert");
    return p;
}

}  // namespace vitrine::cuda
