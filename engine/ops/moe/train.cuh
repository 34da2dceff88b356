// What the kernels of the mixture of experts share on the tape of a GPU.
//
// Groups are the routed experts 0 .. E - 1 and, if there is one, the shared expert E. A slot is one row of one group: those of the
// routed experts lie in [0, T K), by expert, by token within one; the shared expert's are T K + t. Nothing on the host knows how
// many slots a group has: grids are for the largest number of tiles, and lists made on the GPU say which there are.
#pragma once
#include "engine/ops/moe/experts.cuh"

namespace vitrine::cuda {

// One kind of matrix of every group.
template <class T>
struct Stack {
    T *routed, *shared;
    int64_t stride;  // elements from one routed expert to the next
    int n_routed;
    __device__ T* of(int group) const { return group < n_routed ? routed + group * stride : shared; }
};
// An extent that the shared expert may have of its own.
struct Extent {
    int routed, shared, n_routed;
    __device__ int of(int group) const { return group < n_routed ? routed : shared; }
    int largest() const { return routed > shared ? routed : shared; }
};

constexpr int kRowsOfTile = 256;      // slots of a group per tile of a product
constexpr int kRowsOfPiece = 2048;    // slots of a group per piece of a weight's gradient

// A group's slots; with several pieces, its weights' gradients are sums of n_parts parts, from first_part on.
struct GroupSlots {
    int32_t slot, n_rows, first_part, n_parts;
};
// Slots of a group; part < 0: straight into the gradient.
struct Piece {
    int32_t group, slot, n_rows, part;
};

struct TapePlan {
    int32_t *slot_of, *token_of;  // [T, K] -1: none; [slots] row of x
    float* weight_of;             // [slots] 1 for the shared expert
    GroupSlots* groups;           // [groups]
    Tile* tiles;
    Piece* pieces;
    int32_t *n_tiles, *n_pieces;
    int64_t n_tokens, n_slots;
    int k, n_groups, n_routed;
    unsigned max_tiles, max_pieces, max_parts;
};
TapePlan make_tape_plan(Ctx& ctx, const Routing& r, int n_experts, bool has_shared);

// ---- plain FP32 products
// y [slots, n_out] (ldy) = or += x [row, n_in] (ldx) W^T, W [n_out, n_in]; turned: x W, W [n_in, n_out]. row_of null: row = slot.
struct PlainRows {
    Extent n_out, n_in;
    const float* x;
    const int32_t* row_of;
    float* y;
    int64_t ldx, ldy;
    bool accumulates;
};
void multiply_plain(Ctx& ctx, const TapePlan& plan, const PlainRows& p, const Stack<const float>& w, bool turned);
// One kind of matrices' gradients; `routed` null: nobody wants them.
struct GradientStack {
    Stack<float> to;
    bool accumulates;  // false: the memory holds nothing, every element is written
};
// dW [n_out, n_in] (+)= sum over a group's slots of a [., n_out]^T b [., n_in].
struct PlainGradient {
    Extent n_out, n_in;
    const float *a, *b;
    const int32_t *row_of_a, *row_of_b;
    int64_t lda, ldb;
};
void gradient_plain(Ctx& ctx, const TapePlan& plan, const PlainGradient& p, const GradientStack& dw);

// ---- products on tensor cores, of BF16; all extents are multiples of 8
struct TensorJob {
    TapePlan plan;
    int d;
    Extent width;
    int ld;                          // columns of h; gate and up lie in rows of 2 ld, up from ld on
    float limit;
    Stack<const bf16> w1, w2, w3;
    const bf16* x;                   // [T, D] as the experts see it
};
// g, u [slots, 2 ld] and h [slots, ld] from x.
void up_on_tensor_cores(Ctx& ctx, const TensorJob& job, bf16* gu, bf16* h);
// y [slots, D] from h.
void down_on_tensor_cores(Ctx& ctx, const TensorJob& job, const bf16* h, float* y);
// From dy [T, D] and g, u: their gradients [slots, 2 ld], h once more, and the weights' gradients in parts of kColumnsOfPart
// columns: [parts, slots].
constexpr int kColumnsOfPart = 128;
void down_backward_on_tensor_cores(Ctx& ctx, const TensorJob& job, const bf16* dy, const bf16* gu, bf16* dgu, bf16* h,
                                   float* dweights);
// dx [slots, D] from the gradients of g and u.
void up_backward_on_tensor_cores(Ctx& ctx, const TensorJob& job, const bf16* dgu, float* dx);
// The gradients of the weights.
struct WeightGradients {
    GradientStack w1, w2, w3;
};
void gradients_on_tensor_cores(Ctx& ctx, const TensorJob& job, const bf16* dy, const bf16* dgu, const bf16* h,
                               const WeightGradients& dw);

// ---- one value
// From q, the gradient of h without its weight: h, the gradients of gate and up (0 where they were clamped); returns
// that of weight.
__device__ inline float swiglu_backward(float gate, float up, float q, float limit, float weight, float& h, float& dgate,
                                        float& dup) {
    const float g = gate > limit ? limit : gate, u = up > limit ? limit : up < -limit ? -limit : up;
    const float sigma = 1 / (1 + expf(-g)), silu = g * sigma, d = weight * q;
    h = weight * silu * u;
    dgate = gate <= limit ? d * u * sigma * (1 + g * (1 - sigma)) : 0;
    dup = up == u ? d * silu : 0;
    return q * silu * u;
}

}  // namespace vitrine::cuda
