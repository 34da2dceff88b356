// Conditional information with its null, paired differences, means.
#include "experiments/inner/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/base/error.h"
#include "experiments/curriculum/draws.h"

namespace vitrine::inner {
namespace {

// Two-sided 95 % of Student's t.
double student(int degrees) {
    static const double table[] = {0,     12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                                   2.201, 2.179,  2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086};
    if (degrees < 1) return 0;
    return degrees <= 20 ? table[degrees] : 1.96 + 2.4 / degrees;  // within 0.003 of the table beyond 20
}

// Occurrences of one token id after the other.
struct Groups {
    std::vector<int32_t> order;
    std::vector<size_t> begin;  // of each group in `order`, and the end
};
Groups by_token(const Occurrences& o) {
    Groups g;
    g.order.resize(o.size());
    std::iota(g.order.begin(), g.order.end(), 0);
    std::stable_sort(g.order.begin(), g.order.end(), [&](int32_t a, int32_t b) {
        return o.token[static_cast<size_t>(a)] < o.token[static_cast<size_t>(b)];
    });
    for (size_t i = 0; i < g.order.size(); ++i)
        if (i == 0 || o.token[static_cast<size_t>(g.order[i])] != o.token[static_cast<size_t>(g.order[i - 1])])
            g.begin.push_back(i);
    g.begin.push_back(g.order.size());
    return g;
}

double information_of(const Occurrences& o, const Groups& g, const std::vector<int32_t>& domain) {
    const auto nd = static_cast<size_t>(o.n_domains), ne = static_cast<size_t>(o.n_experts);
    std::vector<double> joint(nd * ne), of_expert(ne), of_domain(nd);
    double sum = 0, total = 0;
    for (size_t i = 0; i + 1 < g.begin.size(); ++i) {
        std::fill(joint.begin(), joint.end(), 0.0), std::fill(of_expert.begin(), of_expert.end(), 0.0);
        std::fill(of_domain.begin(), of_domain.end(), 0.0);
        double n = 0;
        for (size_t at = g.begin[i]; at < g.begin[i + 1]; ++at) {
            const auto t = static_cast<size_t>(g.order[at]), d = static_cast<size_t>(domain[t]);
            for (size_t j = t * static_cast<size_t>(o.k); j < (t + 1) * static_cast<size_t>(o.k); ++j) {
                if (o.experts[j] < 0) continue;
                const auto e = static_cast<size_t>(o.experts[j]);
                ++joint[e * nd + d], ++of_expert[e], ++of_domain[d], ++n;
            }
        }
        total += n;
        for (size_t e = 0; e < ne; ++e)
            for (size_t d = 0; d < nd && of_expert[e] > 0; ++d)
                if (const double c = joint[e * nd + d]; c > 0)
                    sum += c * std::log2(c * n / (of_expert[e] * of_domain[d]));
    }
    return total > 0 ? sum / total : 0;
}

Information with_null(const Occurrences& o, int n_shuffles, uint64_t seed) {
    const Groups g = by_token(o);
    Information i;
    i.plug_in = information_of(o, g, o.domain);
    std::vector<int32_t> shuffled = o.domain;
    for (int r = 0; r < n_shuffles; ++r) {
        curriculum::Draws draw(CounterRng(seed, static_cast<uint64_t>(r)));
        for (size_t j = 0; j + 1 < g.begin.size(); ++j)
            for (size_t n = g.begin[j + 1] - g.begin[j]; n > 1; --n)
                std::swap(shuffled[static_cast<size_t>(g.order[g.begin[j] + n - 1])],
                          shuffled[static_cast<size_t>(g.order[g.begin[j] + draw.below(n)])]);
        const double null = information_of(o, g, shuffled);
        i.null_mean += null / n_shuffles, i.null_highest = std::max(i.null_highest, null);
    }
    return i;
}

Occurrences without_tenth(const Occurrences& o, int tenth) {
    Occurrences left{o.n_domains, o.n_experts, o.k, {}, {}, {}, {}};
    for (size_t t = 0; t < o.size(); ++t) {
        if (o.sample[t] % 10 == tenth) continue;
        left.token.push_back(o.token[t]), left.domain.push_back(o.domain[t]), left.sample.push_back(o.sample[t]);
        const auto first = o.experts.begin() + static_cast<std::ptrdiff_t>(t) * o.k;
        left.experts.insert(left.experts.end(), first, first + o.k);
    }
    return left;
}

}  // namespace

double conditional_information(const Occurrences& o, const std::vector<int32_t>& domain) {
    return information_of(o, by_token(o), domain);
}

Information information(const Occurrences& o, int n_shuffles, uint64_t seed) {
    Information all = with_null(o, n_shuffles, seed);
    std::vector<double> left_out;
    for (int tenth = 0; tenth < 10; ++tenth)
        left_out.push_back(with_null(without_tenth(o, tenth), std::max(1, n_shuffles / 4), seed).corrected());
    const double mean = std::accumulate(left_out.begin(), left_out.end(), 0.0) / 10;
    double variance = 0;
    for (double x : left_out) variance += 0.9 * (x - mean) * (x - mean);
    const double half = student(9) * std::sqrt(variance);
    all.interval = {all.corrected() - half, all.corrected() + half};
    return all;
}

Interval Paired::interval() const {
    if (n == 0) return {-1, 1};
    const double p1 = first(), p2 = second(), d = p1 - p2;
    const Interval i1 = curriculum::wilson(both + only_first, n), i2 = curriculum::wilson(both + only_second, n);
    const double neither = n - both - only_first - only_second;
    const double margins =
        double(both + only_first) * (n - both - only_first) * double(both + only_second) * (n - both - only_second);
    double phi = 0;
    if (margins > 0) {
        const double cross = both * neither - double(only_first) * only_second;
        phi = (cross > 0 ? std::max(cross - n / 2.0, 0.0) : cross) / std::sqrt(margins);
    }
    const auto distance = [phi](double a, double b) {
        return std::sqrt(std::max(0.0, a * a - 2 * phi * a * b + b * b));
    };
    return {d - distance(p1 - i1.lowest, i2.highest - p2), d + distance(i1.highest - p1, p2 - i2.lowest)};
}

Mean mean_of(const std::vector<double>& values) {
    Mean m;
    m.n = static_cast<int>(values.size());
    if (values.empty()) return m;
    m.value = std::accumulate(values.begin(), values.end(), 0.0) / m.n;
    double variance = 0;
    for (double x : values) variance += (x - m.value) * (x - m.value);
    const double half = m.n > 1 ? student(m.n - 1) * std::sqrt(variance / (m.n - 1) / m.n) : 0;
    m.interval = {m.value - half, m.value + half};
    return m;
}

Mean ratio_of_sums(const std::vector<double>& above, const std::vector<double>& below) {
    VITRINE_ASSERT(above.size() == below.size());
    constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
    const double sum = std::accumulate(below.begin(), below.end(), 0.0);
    if (sum == 0) return {static_cast<int>(below.size()), kNaN, {kNaN, kNaN}};
    const double ratio = std::accumulate(above.begin(), above.end(), 0.0) / sum;
    std::vector<double> scores;  // whose mean is 0 and whose spread is the ratio's
    for (size_t i = 0; i < above.size(); ++i)
        scores.push_back((above[i] - ratio * below[i]) * static_cast<double>(above.size()) / sum);
    Mean m = mean_of(scores);
    m.value += ratio, m.interval.lowest += ratio, m.interval.highest += ratio;
    return m;
}

double max_violation(const std::vector<double>& loads) {
    const double sum = std::accumulate(loads.begin(), loads.end(), 0.0);
    if (sum <= 0) return 0;
    return *std::max_element(loads.begin(), loads.end()) * static_cast<double>(loads.size()) / sum - 1;
}

}  // namespace vitrine::inner
