// Muon: momentum, made orthogonal by Newton-Schulz iterations, for matrices (v4-spec 10.2; Jordan et al. 2024).
#pragma once
#include <span>

#include "engine/ops/adamw/adamw.h"

namespace vitrine {

struct Muon {
    double lr, momentum, weight_decay;
    double scale = 0.18;         // RMS of the update at lr 1
    int n_steps = 10;            // the last two with the contracting polynomial
    double gradient_scale = 1;   // clipping
};

struct MuonMatrix {              // one logically independent matrix [n, m], f32 or f64; weight and momentum are overwritten
    Tensor weight, gradient, momentum;
};

// M <- mu M + G; U <- NS(mu M + G); W <- W (1 - lr decay) - lr scale sqrt(max(n, m)) U.
// Small matrices are worked on side by side, large ones one after the other; which is which depends on shapes alone.
std::vector<UpdateSums> muon(Ctx& ctx, const Muon& a, std::span<const MuonMatrix> matrices);

// The GPU's twin, for f32 in its memory (ctx.cuda is set); waits for the sums. Products are TF32 where BF16 ones are allowed.
namespace cuda {
std::vector<UpdateSums> muon(Ctx& ctx, const Muon& a, std::span<const MuonMatrix> matrices);
}  // namespace cuda

// Coefficients of the steps: the first grow small singular values fast and end in about [0.68, 1.2], the last contract to 1.
inline constexpr double kNewtonSchulzFast[3] = {3.4445, -4.7750, 2.0315}, kNewtonSchulzFinal[3] = {2, -1.5, 0.5};
inline constexpr int kNewtonSchulzFinalSteps = 2;

// y [n, m] <- y / |y|_F, then `n_fast` times a y + b (y y^T) y + c (y y^T)^2 y with (3.4445, -4.7750, 2.0315), then
// `n_final` times with (2, -1.5, 0.5). Tall matrices are turned, so that y y^T is the small one. Zero stays zero.
template <class T>
void newton_schulz(T* y, int64_t n, int64_t m, int n_fast, int n_final);

}  // namespace vitrine
