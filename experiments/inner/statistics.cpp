// Conditional information with its null, means.
#include "experiments/inner/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/base/error.h"
#include "engine/base/rng.h"
#include "engine/train/routing_stats.h"

namespace vitrine::inner {
namespace {

// Two-sided 95 % of Student's t.
double student(int degrees) {
    static const double table[] = {0,     12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                                   2.201, 2.179,  2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086};
    if (degrees < 1) return 0;
    return degrees <= 20 ? table[degrees] : 1.96 + 2.4 / degrees;  // within 0.003 of the table beyond 20
}

Information with_null(const Occurrences& o, int n_shuffles, uint64_t seed) {
    const Choices choices{o.experts, o.k, o.n_experts};
    const RowsById rows = rows_by_id(o.token);
    Information i;
    i.plug_in = conditional_information(choices, rows, o.domain);
    for (int r = 0; r < n_shuffles; ++r) {
        const CounterRng rng(seed, static_cast<uint64_t>(r));
        const double null = conditional_information(choices, rows, shuffled_within(rows, o.domain, rng));
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
