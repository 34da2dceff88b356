// Momentum against gradient; singular values of momenta and updates.
#include "engine/train/update_shapes.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/ops/linear/matmul.h"
#include "engine/ops/muon/muon.h"

namespace vitrine {
namespace {

struct Products {  // of two vectors
    double ab = 0, aa = 0, bb = 0;
    void add(const Products& p) { ab += p.ab, aa += p.aa, bb += p.bb; }
};

template <class T>
Products products(const T* a, const T* b, int64_t n) {
    Products p;
    for (int64_t i = 0; i < n; ++i) {
        const auto x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
        p.ab += x * y, p.aa += x * x, p.bb += y * y;
    }
    return p;
}

struct Block {  // one logically independent matrix of a leaf
    size_t leaf;
    int64_t first;  // element
    int64_t n, m;
};

// [n, m] before what the optimizer does to it, and the direction of its step.
template <class T>
struct Directions {
    std::vector<T> momentum, update;
};

// As engine/ops/muon and engine/ops/adamw move it, from the moments after the step.
template <class T>
Directions<T> directions(const TrainConfig& c, double gradient_scale, const Masters& masters,
                         const Optimizer& optimizer, const Block& b) {
    const size_t count = static_cast<size_t>(b.n * b.m);
    const T* momentum = optimizer.momentum(b.leaf).as<T>() + b.first;
    Directions<T> d{{momentum, momentum + count}, {}};
    const Leaf& leaf = masters.leaves()[b.leaf];
    if (moved_by(leaf, optimizer.kind()) == MovedBy::muon) {
        const T* g = leaf.gradient.as<T>() + b.first;
        for (size_t i = 0; i < count; ++i)
            d.momentum[i] = static_cast<T>(c.muon_momentum) * momentum[i] + static_cast<T>(gradient_scale) * g[i];
        d.update = d.momentum;
        const auto n_steps = static_cast<int>(c.muon_steps), n_final = std::min(kNewtonSchulzFinalSteps, n_steps);
        newton_schulz(d.update.data(), b.n, b.m, n_steps - n_final, n_final);
        return d;
    }
    const T* square = optimizer.square(b.leaf).as<T>() + b.first;
    const auto t = static_cast<double>(optimizer.updates()[b.leaf]);
    const T correction = static_cast<T>(1 / std::sqrt(1 - std::pow(c.beta2, t))), eps = static_cast<T>(c.eps);
    d.update.resize(count);
    for (size_t i = 0; i < count; ++i) {
        const T below = std::sqrt(square[i]) * correction + eps;
        d.update[i] = below > 0 ? momentum[i] / below : T{0};
    }
    return d;
}

// Of a symmetric matrix [n, n] without negative ones, by the norm of its product with a unit vector.
double largest_eigenvalue(const std::vector<double>& gram, size_t n) {
    constexpr int kIterations = 200;
    std::vector<double> v(n), next(n);
    for (size_t i = 0; i < n; ++i) v[i] = 1 + 0.5 * std::sin(static_cast<double>(i + 1));
    double top = 0;
    for (int k = 0; k < kIterations; ++k) {
        double square = 0;
        for (const double x : v) square += x * x;
        if (square == 0) break;
        const double scale = 1 / std::sqrt(square), before = top;
        std::fill(next.begin(), next.end(), 0.0);
        for (size_t j = 0; j < n; ++j) {  // row j is column j
            const double x = v[j] * scale;
            for (size_t i = 0; i < n; ++i) next[i] += gram[j * n + i] * x;
        }
        square = 0;
        for (const double x : next) square += x * x;
        top = std::sqrt(square);
        v.swap(next);
        if (top - before < 1e-9 * top) break;
    }
    return top;
}

}  // namespace

std::map<std::string, double> momentum_cosines(const Masters& masters, const Optimizer& optimizer,
                                               const std::function<bool(size_t)>& is_active) {
    std::map<std::string, Products> groups;
    const auto& leaves = masters.leaves();
    for (size_t i = 0; i < leaves.size(); ++i) {
        if (leaves[i].gradient.empty() || !is_active(i)) continue;
        const Tensor &m = optimizer.momentum(i), &g = leaves[i].gradient;
        const Products p = with_real(g.dtype, [&](auto real) {
            using T = decltype(real);
            return products(m.as<T>(), g.as<T>(), g.count());
        });
        groups[""].add(p), groups[std::string(".") + weight_group(leaves[i])].add(p);
    }
    std::map<std::string, double> cosines;
    for (const auto& [group, p] : groups)
        if (p.aa > 0 && p.bb > 0) cosines["momentum.cosine" + group] = p.ab / std::sqrt(p.aa * p.bb);
    return cosines;
}

template <class T>
MatrixShape matrix_shape(const T* u, int64_t n, int64_t m) {
    const int64_t small = std::min(n, m), large = std::max(n, m);
    std::vector<T> turned;
    if (n > m) {
        turned.resize(static_cast<size_t>(n * m));
        for (int64_t i = 0; i < n; ++i)
            for (int64_t j = 0; j < m; ++j) turned[static_cast<size_t>(j * n + i)] = u[i * m + j];
        u = turned.data();
    }
    std::vector<T> product(static_cast<size_t>(small * small));
    const Matrix<T> rows = matrix(u, small, large);
    matmul_nt_serial(rows, rows, product.data(), small, false);
    const std::vector<double> gram(product.begin(), product.end());
    double trace = 0, error = 0;
    for (int64_t i = 0; i < small; ++i)
        for (int64_t j = 0; j < small; ++j) {
            const double g = gram[static_cast<size_t>(i * small + j)], off = g - (i == j);
            trace += i == j ? g : 0, error += off * off;
        }
    MatrixShape shape{std::numeric_limits<double>::quiet_NaN(), std::sqrt(error / static_cast<double>(small))};
    if (!(trace > 0)) return shape;
    // Iterations end below the largest eigenvalue where many are nearly alike, but never below their mean.
    const double top =
        std::max(largest_eigenvalue(gram, static_cast<size_t>(small)), trace / static_cast<double>(small));
    shape.stable_rank = trace / (top * static_cast<double>(small));
    return shape;
}
template MatrixShape matrix_shape<float>(const float*, int64_t, int64_t);
template MatrixShape matrix_shape<double>(const double*, int64_t, int64_t);

void add_update_shapes(Ctx& ctx, const TrainConfig& c, double gradient_scale, const Masters& masters,
                       const Optimizer& optimizer, const std::function<bool(size_t)>& is_active, ScalarList& out) {
    const auto& leaves = masters.leaves();
    std::vector<Block> blocks;
    for (size_t i = 0; i < leaves.size(); ++i) {
        const Leaf& l = leaves[i];
        if (l.role != ParamRole::matrix || l.param->shape.rank != 2 || !is_active(i)) continue;
        const int64_t n = l.gradient.dim(0) / l.n_matrices, m = l.gradient.dim(1);
        for (int k = 0; k < l.n_matrices; ++k) blocks.push_back({i, k * n * m, n, m});
    }
    std::vector<MatrixShape> momenta(blocks.size()), updates(blocks.size());
    ctx.pool.parallel_for(static_cast<int64_t>(blocks.size()), 1, [&](int64_t b0, int64_t b1) {
        for (int64_t at = b0; at < b1; ++at) {
            const auto i = static_cast<size_t>(at);
            const Block& b = blocks[i];
            with_real(leaves[b.leaf].gradient.dtype, [&](auto real) {
                const auto d = directions<decltype(real)>(c, gradient_scale, masters, optimizer, b);
                momenta[i] = matrix_shape(d.momentum.data(), b.n, b.m);
                updates[i] = matrix_shape(d.update.data(), b.n, b.m);
            });
        }
    });
    std::map<std::string, Mean> means;
    for (size_t i = 0; i < blocks.size(); ++i) {
        if (std::isnan(momenta[i].stable_rank) || std::isnan(updates[i].stable_rank)) continue;
        const Leaf& l = leaves[blocks[i].leaf];
        const std::string group = weight_group(l);
        means["stable_rank.momentum." + group].add(momenta[i].stable_rank);
        means["stable_rank.update." + group].add(updates[i].stable_rank);
        if (moved_by(l, optimizer.kind()) == MovedBy::muon)
            means["muon.orthogonality." + group].add(updates[i].orthogonality);
    }
    for (const auto& [name, mean] : means) out.add(name, mean.mean());
}

}  // namespace vitrine
