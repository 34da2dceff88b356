// What the kernels of the mixture of experts share: the experts of a layer, slots, tiles, SwiGLU.
//
// A slot is one row of one expert. Few rows: token t's choice j is slot t K + j. Many rows: slots are grouped by expert, by token
// within one. In both, the shared expert's slots are T K + t.
#pragma once
#include "engine/model/weights.h"
#include "engine/ops/linear/packed.cuh"
#include "engine/ops/router/router.h"

namespace vitrine::cuda {

// One matrix of every expert: they lie at equal distances.
struct Experts {
    cpu::PackedMatrix first;
    int64_t data_stride = 0, scale_stride = 0;  // bytes
    __device__ cpu::PackedMatrix at(int expert) const {
        cpu::PackedMatrix w = first;
        w.data = static_cast<const std::byte*>(w.data) + expert * data_stride;
        if (w.scale) w.scale = static_cast<const std::byte*>(w.scale) + expert * scale_stride;
        return w;
    }
};
inline Experts one_expert(const Param& p) { return {p.view, 0, 0}; }
inline Experts all_experts(const std::vector<ExpertWeights>& experts, const Param ExpertWeights::*matrix) {
    const auto address = [](const void* p) { return static_cast<const std::byte*>(p); };
    const cpu::PackedMatrix& first = (experts[0].*matrix).view;
    Experts e{first, 0, 0};
    for (size_t i = 1; i < experts.size(); ++i) {
        const cpu::PackedMatrix& v = (experts[i].*matrix).view;
        const auto n = static_cast<int64_t>(i), data = address(v.data) - address(first.data),
                   scale = address(v.scale) - address(first.scale);
        if (i == 1) e.data_stride = data, e.scale_stride = scale;
        VITRINE_ASSERT(data == n * e.data_stride && scale == n * e.scale_stride && v.dtype == first.dtype &&
                       v.scale_dtype == first.scale_dtype && v.out == first.out && v.in == first.in);
    }
    return e;
}

// The slots of one kind of expert: the routed ones, or the shared one (chosen and weights null).
struct Kind {
    Experts w1, w2, w3;
    const int32_t* chosen;
    const float* weights;
    int64_t per_token, slot0, n_slots;
};

// What every stage is given.
struct Job {
    Ctx& ctx;
    Tensor x;                   // [T, D]
    bool is_quantised;          // x has yet to pass through FP8
    int64_t width;              // of h's rows
    float limit;
    std::vector<Kind> kinds;
    int64_t n_slots;
};

// Both kinds' hidden rows through FP8 where w2's format asks for it (`reference`), in place.
void quantise_hidden(const Job& job, const Tensor& h);

inline bool is_packed(const cpu::PackedMatrix& w) { return w.dtype == DType::f8_e4m3 || w.dtype == DType::fp4_e2m1; }

// Rows of one expert, at most as many as a tile of the product has.
struct Tile {
    int32_t expert, slot, n_rows;
};

// Many rows: which slot holds what.
struct Plan {
    int32_t* slot_of = nullptr;   // [T, K] slot of a choice, -1: none
    int32_t* token_of = nullptr;  // [slots] row of x
    float* weight_of = nullptr;   // [slots]
    Tile* tiles = nullptr;        // of the routed experts
    int32_t* n_tiles = nullptr;
    int64_t n_slots = 0;          // T K, and T more with a shared expert
    unsigned max_tiles = 0;
};
// Tiles of experts [first, first + n_here) of n_experts alone, as numbers from 0 on: the others are elsewhere.
Plan make_plan(Ctx& ctx, const Routing& r, int64_t n_experts, int first, int n_here, bool has_shared, int tile_rows);
// The choices among experts [first, first + n_here), as numbers from 0 on; -1: elsewhere, or none.
Routing choices_here(Ctx& ctx, const Routing& r, int first, int n_here);

// Products of one kind of expert over its tiles, on FP32 lanes: y[slot] = W x[row of the slot], for any format.
struct Grouped {
    Experts w;
    const Tile* tiles;              // null: rows [slot0, slot0 + n_rows) belong to the one expert there is
    const int32_t *n_tiles, *row_of;  // row_of null: row `slot` of x
    int64_t slot0, n_rows, ldx, ldy;
    unsigned max_tiles;
};
void multiply_grouped(Ctx& ctx, const Grouped& g, const Tensor& x, const Tensor& y);

// The same on tensor cores, for weights and rows that takes_tensor_cores; tile_rows: 64 or 128. Up: h = SwiGLU of w1 and w3.
bool takes_tensor_cores(const Job& job);
void multiply_up(const Ctx& ctx, const Grouped& w1, const Experts& w3, const float* weight_of, float limit, int tile_rows,
                 const Tensor& x, const Tensor& h);
void multiply_down(const Ctx& ctx, const Grouped& w2, int tile_rows, const Tensor& h, const Tensor& y);

// Few rows: fills `rows` [slots, D] (f32), which are summed after that. On tensor cores: fills y [T, D], and `rows` when it is not
// null.
void few_rows(const Job& job, const Tensor& rows);
bool takes_few_rows(const Job& job);  // on tensor cores
void few_rows_on_tensor_cores(const Job& job, float* rows, const Tensor& y);

constexpr int kMaxChosen = 64;  // experts of a token
constexpr int kTileRows = 64;  // of multiply_grouped

// weight silu(min(gate, limit)) clamp(up, +-limit), in the order of the CPU's twin.
__device__ inline float swiglu(float gate, float up, float limit, float weight) {
    const float g = gate > limit ? limit : gate, u = up > limit ? limit : up < -limit ? -limit : up;  // NaN stays
    const float silu = g * (expf(fminf(g, 0.0f)) / (1.0f + expf(-fabsf(g))));
    return weight * silu * u;
}

}  // namespace vitrine::cuda
