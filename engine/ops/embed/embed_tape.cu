// Embedding rows on a GPU's tape. A row's gradient is the sum over its tokens and their streams, in two ordered stages.
#include <algorithm>
#include <numeric>
#include <vector>

#include "engine/ops/embed/embed.h"
#include "engine/ops/kernel.cuh"
#include "engine/ops/trained.h"

namespace vitrine::cuda {
namespace {

constexpr int kThreads = 128, kPiece = 32;  // tokens with one id that a block adds up

// x [T, n, d]: every stream of token t starts as its row of the table. blockIdx.x: token.
template <class V>
__global__ void expand(const V* table, const int32_t* ids, int n, int d, V* x) {
    after_previous();
    const int64_t t = blockIdx.x;
    const V* row = table + static_cast<int64_t>(ids[t]) * d;
    for (int i = threadIdx.x; i < d; i += kThreads) {
        const V v = row[i];
        for (int j = 0; j < n; ++j) x[(t * n + j) * d + i] = v;
    }
}

// sums [pieces, d] over the tokens order[first[p] .. first[p + 1]) and n streams each. blockIdx.x: piece.
__global__ void add_tokens(const float* dx, const int32_t* order, const int32_t* first, int n, int d, float* sums) {
    after_previous();
    const int p = blockIdx.x, begin = first[p], end = first[p + 1];
    const int i = static_cast<int>(blockIdx.y) * kThreads + threadIdx.x;
    if (i >= d) return;
    float sum = 0;
    for (int k = begin; k < end; ++k) {
        const float* row = dx + static_cast<int64_t>(order[k]) * n * d + i;
#pragma unroll 4
        for (int j = 0; j < n; ++j) sum += row[j * d];
    }
    sums[static_cast<int64_t>(p) * d + i] = sum;
}

// dw[ids[k]] += the sums of its pieces. blockIdx.x: k, a distinct id.
__global__ void add_pieces(const float* sums, const int32_t* ids, const int32_t* first_piece, int d, float* dw) {
    after_previous();
    const int k = blockIdx.x, begin = first_piece[k], end = first_piece[k + 1];
    for (int i = threadIdx.x; i < d; i += kThreads) {
        float sum = 0;
        for (int p = begin; p < end; ++p) sum += sums[static_cast<int64_t>(p) * d + i];
        dw[static_cast<int64_t>(ids[k]) * d + i] += sum;
    }
}

// Tokens by id, cut into pieces of one id each; lists in the GPU's memory.
struct Plan {
    const int32_t *order, *first, *ids, *first_piece;
    unsigned n_pieces, n_ids;
};
Plan plan_of(Ctx& ctx, std::span<const int32_t> ids, int pad_id) {
    std::vector<int32_t> order(ids.size()), first, distinct, first_piece;
    std::iota(order.begin(), order.end(), 0);
    std::erase_if(order, [&](int32_t t) { return ids[static_cast<size_t>(t)] == pad_id; });
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return ids[a] < ids[b]; });
    for (size_t k = 0; k < order.size(); ++k) {
        const bool is_new = k == 0 || ids[order[k]] != ids[order[k - 1]];
        if (is_new) distinct.push_back(ids[order[k]]), first_piece.push_back(static_cast<int32_t>(first.size()));
        if (is_new || static_cast<int32_t>(k) - first.back() == kPiece) first.push_back(static_cast<int32_t>(k));
    }
    const auto n_pieces = static_cast<unsigned>(first.size()), n_ids = static_cast<unsigned>(distinct.size());
    first.push_back(static_cast<int32_t>(order.size())), first_piece.push_back(static_cast<int32_t>(n_pieces));
    auto& device = *ctx.cuda;
    return {device.ints(order), device.ints(first), device.ints(distinct), device.ints(first_piece), n_pieces, n_ids};
}

}  // namespace

Tensor embed_on_tape(Ctx& ctx, const Param& table_VD, std::span<const int32_t> ids, int n_streams, int pad_id) {
    const int64_t n_tokens = static_cast<int64_t>(ids.size()), d = table_VD.shape[1];
    const Tensor x_TND = ctx.arena.make(DType::f32, {n_tokens, n_streams, d}), table = trained_value(ctx, table_VD);
    if (n_tokens == 0) return x_TND;
    const auto stream = ctx.cuda->stream();
    const int32_t* list = ctx.cuda->ints(ids);
    const auto width = static_cast<int>(d);
    if (d % 4 == 0 && reinterpret_cast<uintptr_t>(table.data) % 16 == 0)
        expand<<<static_cast<unsigned>(n_tokens), kThreads, 0, stream>>>(static_cast<const float4*>(table.data), list, n_streams,
                                                                         width / 4, static_cast<float4*>(x_TND.data));
    else
        expand<<<static_cast<unsigned>(n_tokens), kThreads, 0, stream>>>(table.f32(), list, n_streams, width, x_TND.f32());
    check_launch(ctx, "embed_streams");
    if (!is_trained(ctx, table_VD) || !ctx.tape->is_recording()) return x_TND;
    const Plan plan = plan_of(ctx, ids, pad_id);
    if (plan.n_ids == 0) return x_TND;
    const Tensor master = table_VD.master;
    ctx.tape->record([=](Ctx& c) {
        if (!c.tape->has_grad(x_TND)) return;
        const Tensor dx = c.tape->grad(x_TND), dw = c.tape->grad(master), sums = c.arena.make(DType::f32, {plan.n_pieces, d});
        const dim3 grid(plan.n_pieces, ceil_div(d, kThreads));
        add_tokens<<<grid, kThreads, 0, c.cuda->stream()>>>(dx.f32(), plan.order, plan.first, n_streams, width, sums.f32());
        add_pieces<<<plan.n_ids, kThreads, 0, c.cuda->stream()>>>(sums.f32(), plan.ids, plan.first_piece, width, dw.f32());
        check_launch(c, "embed_streams, backward");
    });
    return x_TND;
}

}  // namespace vitrine::cuda
