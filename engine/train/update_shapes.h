// What the optimizer's momentum and its updates look like: agreement with the gradient, ranks, Muon's orthogonality
// (docs/TRAINING.md). Of weights in the CPU's memory.
#pragma once
#include <functional>
#include <map>
#include <string>

#include "engine/train/metrics.h"
#include "engine/train/optimizer.h"

namespace vitrine {

// Before a step: cosine of the momentum that steps before left (AdamW's mean, Muon's sum) and the gradient, over all
// weights that is_active(leaf index): "momentum.cosine", and "momentum.cosine.GROUP". Empty while every momentum is 0.
std::map<std::string, double> momentum_cosines(const Masters& masters, const Optimizer& optimizer,
                                               const std::function<bool(size_t)>& is_active);

// Of one matrix u [n, m]. stable_rank: |u|_F^2 / sigma_1^2 as a share of min(n, m), 1 where all singular values are
// alike, NaN for a zero matrix; sigma_1 by at most 200 power iterations, which end up to 0.1 % below it where the
// largest are nearly alike. orthogonality: |u u^T - I|_F / sqrt(n) with n the smaller side, 0 for orthonormal rows (or
// columns), 1 for a zero matrix.
struct MatrixShape {
    double stable_rank, orthogonality;
};
template <class T>  // float, double
MatrixShape matrix_shape(const T* u, int64_t n, int64_t m);

// After a step, of matrices (role `matrix`, each logically independent one by itself; zero ones left out), means by
// group: stable_rank.momentum.GROUP (Muon: of what it makes orthogonal), stable_rank.update.GROUP (decay left out),
// muon.orthogonality.GROUP.
void add_update_shapes(Ctx& ctx, const TrainConfig& c, double gradient_scale, const Masters& masters,
                       const Optimizer& optimizer, const std::function<bool(size_t)>& is_active, ScalarList& out);

}  // namespace vitrine
