// Statistics of routing: pairs, changes, information.
#include "engine/train/routing_stats.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <utility>

#include "engine/base/rng.h"

namespace vitrine {
namespace {

// I(E; label) in bits over the choices of the tokens in `rows`, times their number of choices.
double information_sum(const Choices& c, std::span<const int64_t> rows, std::span<const int32_t> label_of) {
    std::map<int32_t, std::vector<double>> joint;
    std::vector<double> experts(static_cast<size_t>(c.n_experts));
    double n = 0;
    for (const int64_t t : rows) {
        std::vector<double>& row = joint[label_of[static_cast<size_t>(t)]];
        row.resize(experts.size());
        for (int64_t j = 0; j < c.k; ++j)
            if (const int32_t e = c.ids[static_cast<size_t>(t * c.k + j)]; e >= 0)
                row[static_cast<size_t>(e)] += 1, experts[static_cast<size_t>(e)] += 1, n += 1;
    }
    double sum = 0;
    for (const auto& [label, row] : joint) {
        double n_label = 0;
        for (const double x : row) n_label += x;
        for (size_t e = 0; e < row.size(); ++e)
            if (row[e] > 0) sum += row[e] * std::log2(row[e] * n / (n_label * experts[e]));
    }
    return sum;
}

int64_t count_choices(const Choices& c) {
    return std::count_if(c.ids.begin(), c.ids.end(), [](int32_t e) { return e >= 0; });
}

}  // namespace

RowsById rows_by_id(std::span<const int32_t> token_of) {
    RowsById rows;
    for (size_t t = 0; t < token_of.size(); ++t) rows[token_of[t]].push_back(static_cast<int64_t>(t));
    return rows;
}

double conditional_information(const Choices& c, const RowsById& by_id, std::span<const int32_t> label_of) {
    double sum = 0;
    for (const auto& [id, rows] : by_id) sum += information_sum(c, rows, label_of);
    const auto n = static_cast<double>(count_choices(c));
    return n > 0 ? sum / n : 0;
}

std::vector<int32_t> shuffled_within(const RowsById& by_id, std::span<const int32_t> label_of, const CounterRng& rng) {
    std::vector<int32_t> shuffled(label_of.begin(), label_of.end());
    uint64_t at = 0;
    for (const auto& [id, rows] : by_id)  // Fisher and Yates among the rows of one token id
        for (size_t i = rows.size(); i > 1; --i)
            std::swap(shuffled[static_cast<size_t>(rows[i - 1])],
                      shuffled[static_cast<size_t>(rows[rng.bits(at++) % i])]);
    return shuffled;
}

CoActivation co_activation(const Choices& c) {
    const auto n = static_cast<size_t>(c.n_experts);
    std::vector<double> alone(n), pair(n * n);
    for (int64_t t = 0; t < c.n_tokens(); ++t)
        for (int64_t a = 0; a < c.k; ++a) {
            const int32_t i = c.ids[static_cast<size_t>(t * c.k + a)];
            if (i < 0) continue;
            alone[static_cast<size_t>(i)] += 1;
            for (int64_t b = 0; b < c.k; ++b)
                if (const int32_t j = c.ids[static_cast<size_t>(t * c.k + b)]; a != b && j >= 0)
                    pair[static_cast<size_t>(i) * n + static_cast<size_t>(j)] += 1;
        }
    CoActivation most;
    const auto n_tokens = static_cast<double>(c.n_tokens());
    for (size_t i = 0; i < n; ++i)
        for (size_t j = 0; j < n; ++j) {
            const double both = pair[i * n + j], expected = alone[i] * alone[j] / n_tokens;
            if (alone[i] >= CoActivation::kLeastPairs) most.share = std::max(most.share, both / alone[i]);
            if (i != j && expected >= CoActivation::kLeastPairs) most.lift = std::max(most.lift, both / expected);
        }
    return most;
}

double switch_rate(const Choices& c, std::span<const int32_t> sample_of) {
    int64_t n = 0, n_new = 0;
    for (int64_t t = 1; t < c.n_tokens(); ++t) {
        if (sample_of[static_cast<size_t>(t)] != sample_of[static_cast<size_t>(t - 1)]) continue;
        const auto before = c.ids.subspan(static_cast<size_t>((t - 1) * c.k), static_cast<size_t>(c.k));
        for (const int32_t e : c.ids.subspan(static_cast<size_t>(t * c.k), static_cast<size_t>(c.k)))
            if (e >= 0) ++n, n_new += std::find(before.begin(), before.end(), e) == before.end();
    }
    return n ? static_cast<double>(n_new) / static_cast<double>(n) : 0;
}

double repeat_rate(const Choices& c, std::span<const int32_t> sample_of) {
    int64_t n = 0, n_same = 0;
    for (int64_t t = 1; t < c.n_tokens(); ++t) {
        if (sample_of[static_cast<size_t>(t)] != sample_of[static_cast<size_t>(t - 1)]) continue;
        const int32_t before = c.ids[static_cast<size_t>((t - 1) * c.k)], first = c.ids[static_cast<size_t>(t * c.k)];
        if (before >= 0 && first >= 0) ++n, n_same += before == first;
    }
    return n ? static_cast<double>(n_same) / static_cast<double>(n) : 0;
}

LoadShape load_shape(std::span<const double> counts) {
    const auto n = static_cast<double>(counts.size());
    std::vector<double> sorted(counts.begin(), counts.end());
    std::sort(sorted.begin(), sorted.end());
    double sum = 0, squares = 0, ranked = 0, entropy = 0;
    for (size_t i = 0; i < sorted.size(); ++i)
        sum += sorted[i], squares += sorted[i] * sorted[i], ranked += static_cast<double>(i + 1) * sorted[i];
    LoadShape s;
    if (!(sum > 0)) return s;
    const double mean = sum / n;
    for (const double x : sorted) {
        if (x > 0) entropy -= x / sum * std::log(x / sum);
        s.n_starving += x < 0.1 * mean;
    }
    s.least = sorted[0] / mean, s.cv2 = squares / n / (mean * mean) - 1, s.gini = 2 * ranked / (n * sum) - (n + 1) / n;
    s.effective = std::exp(entropy);
    return s;
}

double overflow(std::span<const double> counts, double factor) {
    double sum = 0, dropped = 0;
    for (const double x : counts) sum += x;
    for (const double x : counts) dropped += std::max(0.0, x - factor * sum / static_cast<double>(counts.size()));
    return sum > 0 ? dropped / sum : 0;
}

RouterConfidence router_confidence(std::span<const float> scores, int n_experts, int64_t k) {
    const auto width = static_cast<size_t>(n_experts), n_tokens = scores.size() / width, last = static_cast<size_t>(k);
    RouterConfidence r;
    std::vector<float> sorted;
    for (size_t t = 0; t < n_tokens; ++t) {
        const auto row = scores.subspan(t * width, width);
        double sum = 0, entropy = 0;
        for (const float s : row) sum += s;
        for (const float s : row)
            if (s > 0) entropy -= s / sum * std::log(s / sum);
        r.entropy += entropy / std::log(n_experts) / static_cast<double>(n_tokens);
        if (k < 1 || last >= width) continue;
        sorted.assign(row.begin(), row.end());
        std::sort(sorted.begin(), sorted.end(), std::greater<>());
        r.margin += (static_cast<double>(sorted[last - 1]) - sorted[last]) / static_cast<double>(n_tokens);
    }
    return r;
}

RoutingInformation routing_information(const Choices& c, std::span<const int32_t> domain_of, std::span<const int32_t> token_of,
                                       uint64_t seed) {
    std::vector<int64_t> all(static_cast<size_t>(c.n_tokens()));
    std::iota(all.begin(), all.end(), 0);
    const RowsById by_id = rows_by_id(token_of);
    const auto n_choices = static_cast<double>(count_choices(c));
    RoutingInformation out;
    if (n_choices == 0) return out;
    out.domain = information_sum(c, all, domain_of) / n_choices;
    out.token = information_sum(c, all, token_of) / n_choices;
    out.domain_given_token = conditional_information(c, by_id, domain_of);
    for (int s = 0; s < RoutingInformation::kShuffles; ++s) {
        const CounterRng rng(seed, static_cast<uint64_t>(s));
        out.null +=
            conditional_information(c, by_id, shuffled_within(by_id, domain_of, rng)) / RoutingInformation::kShuffles;
    }
    return out;
}

}  // namespace vitrine
