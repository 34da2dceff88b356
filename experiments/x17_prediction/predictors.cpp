// Counting tables and a ridge regression, by layer.
#include "experiments/x17_prediction/predictors.h"

#include <algorithm>
#include <cmath>

#include "engine/base/error.h"
#include "engine/base/solve.h"
#include "experiments/statistics.h"

namespace vitrine::lab {
namespace {

constexpr double kRidge = 1e-3;  // of the mean square of a feature, per token

}  // namespace

const char* predictor_name(Predictor p) {
    static constexpr const char* kNames[] = {"popularity",      "previous token", "token id",
                                             "affinity matrix", "next router",    "linear, trained"};
    return kNames[static_cast<int>(p)];
}

bool looks_below(Predictor p) {
    return p == Predictor::affinity || p == Predictor::next_router || p == Predictor::linear;
}

ExpertPredictors::ExpertPredictors(const RoutingShape& shape, RouterOf router)
    : shape_(shape), router_(std::move(router)), layers_(static_cast<size_t>(shape.n_layers)) {
    const auto e = static_cast<size_t>(shape.n_experts), f = static_cast<size_t>(shape.d) + 1;
    for (Layer& l : layers_) {
        l.used.assign(e, 0), l.by_id.assign(static_cast<size_t>(shape.vocab) * e, 0);
        l.by_below.assign(e * e, 0), l.below.assign(e, 0);
        l.xx.assign(f * f, 0), l.xy.assign(f * e, 0);
    }
}

std::span<const int32_t> ExpertPredictors::chosen(const RoutedText& text, int layer, int64_t t) const {
    const auto k = static_cast<size_t>(shape_.k);
    return {text.experts[static_cast<size_t>(layer)].data() + static_cast<size_t>(t) * k, k};
}

// The input of that layer, of length sqrt(D), and a one.
std::vector<double> ExpertPredictors::features(const RoutedText& text, int layer, int64_t t) const {
    const auto d = static_cast<size_t>(shape_.d);
    const float* x = text.inputs[static_cast<size_t>(layer)].data() + static_cast<size_t>(t) * d;
    double squares = 0;
    for (size_t i = 0; i < d; ++i) squares += static_cast<double>(x[i]) * x[i];
    const double scale = squares > 0 ? 1 / std::sqrt(squares / static_cast<double>(d)) : 0;
    std::vector<double> f(d + 1, 1);
    for (size_t i = 0; i < d; ++i) f[i] = x[i] * scale;
    return f;
}

void ExpertPredictors::fit(const RoutedText& text) {
    const auto e = static_cast<size_t>(shape_.n_experts), n_features = static_cast<size_t>(shape_.d) + 1;
    const auto n = static_cast<int64_t>(text.ids.size());
    n_fitted_ += n;
    for (int layer = 0; layer < shape_.n_layers; ++layer) {
        Layer& l = layers_[static_cast<size_t>(layer)];
        for (int64_t t = 0; t < n; ++t) {
            const auto here = chosen(text, layer, t);
            for (const int32_t x : here)
                if (x >= 0) ++l.used[x], ++l.by_id[static_cast<size_t>(text.ids[t]) * e + static_cast<size_t>(x)];
            if (layer == 0) continue;
            for (const int32_t y : chosen(text, layer - 1, t)) {
                if (y < 0) continue;
                ++l.below[y];
                for (const int32_t x : here)
                    if (x >= 0) ++l.by_below[static_cast<size_t>(y) * e + static_cast<size_t>(x)];
            }
            const std::vector<double> f = features(text, layer - 1, t);
            for (size_t i = 0; i < n_features; ++i) {
                for (size_t j = 0; j <= i; ++j) l.xx[i * n_features + j] += f[i] * f[j];
                for (const int32_t x : here)
                    if (x >= 0) l.xy[i * e + static_cast<size_t>(x)] += f[i];
            }
        }
    }
}

void ExpertPredictors::finish() {
    const auto n = static_cast<size_t>(shape_.d) + 1;
    for (size_t i = 1; i < layers_.size(); ++i) {
        Layer& l = layers_[i];
        for (size_t j = 0; j < n; ++j) l.xx[j * n + j] += kRidge * static_cast<double>(n_fitted_ + 1);
        l.w = l.xy;
        std::vector<double> a = l.xx;
        solve_positive(a, l.w, static_cast<int64_t>(n), shape_.n_experts);
        VITRINE_ASSERT(std::isfinite(l.w[0]));  // the ridge keeps the matrix positive
    }
}

std::vector<int32_t> ExpertPredictors::guess(Predictor p, const RoutedText& text, int layer, int64_t t) const {
    VITRINE_ASSERT(t >= 1 && (layer > 0 || !looks_below(p)));
    const auto e = static_cast<size_t>(shape_.n_experts);
    const Layer& l = layers_[static_cast<size_t>(layer)];
    std::vector<double> score(e, 0);
    const auto add_row = [&](const std::vector<double>& m, size_t row, double factor) {
        for (size_t x = 0; x < e; ++x) score[x] += factor * m[row * e + x];
    };
    switch (p) {
        case Predictor::popularity:
            score = l.used;
            break;
        case Predictor::previous_token: {
            const auto before = chosen(text, layer, t - 1);
            return {before.begin(), before.end()};
        }
        case Predictor::token_id:
            add_row(l.by_id, static_cast<size_t>(text.ids[t]), 1);
            // Popularity decides between ids' equals, and for ids that were never seen.
            for (size_t x = 0; x < e; ++x) score[x] += 1e-9 * l.used[x] / static_cast<double>(n_fitted_ + 1);
            break;
        case Predictor::affinity:
            for (const int32_t y : chosen(text, layer - 1, t))
                if (y >= 0 && l.below[y] > 0) add_row(l.by_below, static_cast<size_t>(y), 1 / l.below[y]);
            break;
        case Predictor::next_router: {
            const auto d = static_cast<size_t>(shape_.d);
            return router_(layer, {text.inputs[static_cast<size_t>(layer) - 1].data() + static_cast<size_t>(t) * d, d});
        }
        case Predictor::linear: {
            const std::vector<double> f = features(text, layer - 1, t);
            for (size_t i = 0; i < f.size(); ++i) add_row(l.w, i, f[i]);
            break;
        }
        case Predictor::count:
            VITRINE_ASSERT(false);
    }
    return best_indices(score, shape_.k);
}

void ExpertPredictors::judge(Predictor p, const RoutedText& text, int layer, Recall& r) const {
    for (int64_t t = 1; t < static_cast<int64_t>(text.ids.size()); ++t) {
        const auto truth = chosen(text, layer, t);
        r.sum += recall(guess(p, text, layer, t), {truth.begin(), truth.end()}), ++r.n;
    }
}

double seconds_on_demand(int n_layers, double compute, double load) {
    double sum = 0;
    for (int l = 0; l < n_layers; ++l) sum += compute + load;  // in the order of the other sum
    return sum;
}

double seconds_with_guesses(const std::vector<double>& recall, double compute, double load) {
    double sum = 0;
    for (size_t l = 0; l < recall.size(); ++l)
        sum += l == 0 ? compute + load : std::max(compute, load) + (1 - recall[l]) * load;
    return sum;
}

}  // namespace vitrine::lab
