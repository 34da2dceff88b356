// What watching costs.
#include "app/watching.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "engine/base/error.h"
#include "engine/ops/ctx.h"

namespace vitrine {

WatchingCost summarize(std::vector<double> p) {
    WatchingCost c;
    c.n_pairs = static_cast<int>(p.size());
    if (p.empty()) return c;
    std::sort(p.begin(), p.end());
    const int n = c.n_pairs;
    c.percent = n % 2 ? p[n / 2] : (p[n / 2 - 1] + p[n / 2]) / 2;
    // The largest k with P(Binomial(n, 1/2) < k) <= 2.5 %: the k-th smallest and k-th largest enclose the median with
    // 95 %.
    double below = 0, term = std::pow(0.5, n);
    int k = 0;
    while (k < n && below + term <= 0.025) {
        below += term;
        term *= static_cast<double>(n - k) / (k + 1);
        ++k;
    }
    c.low = p[std::max(k - 1, 0)];
    c.high = p[n - std::max(k, 1)];
    return c;
}

WatchingMeter::WatchingMeter(Engine& engine, std::span<const int32_t> context, int span_tokens, ProbeSet probes)
    : engine_(engine),
      session_(engine.new_session()),
      trace_(std::make_shared<Trace>(size_t{16} << 20)),
      probes_(probes) {
    VITRINE_ASSERT(!context.empty() && span_tokens > 0);
    session_->append(context);
    base_ = session_->length();
    for (int i = 0; i < span_tokens; ++i) span_.push_back(context[i % context.size()]);
}

double WatchingMeter::span_ms(bool is_watched) {
    const ProbeSet before = engine_.watch().get();
    engine_.watch().set(is_watched ? probes_ : kNoProbes);
    engine_.op_times().is_on = is_watched;  // as it is while an answer is generated
    session_->record_to(is_watched ? trace_ : nullptr, 1);
    session_->rewind(base_);
    session_->let_records_lag(true);  // as an answer does
    const auto start = std::chrono::steady_clock::now();
    for (const int32_t& id : span_) session_->append({&id, 1});
    session_->let_records_lag(false);
    const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    session_->record_to(nullptr, 0);
    engine_.op_times().is_on = false;
    engine_.watch().set(before);
    return ms;
}

void WatchingMeter::measure_pair() {
    const bool watched_first = percents_.size() % 2 == 1;
    const double first = span_ms(watched_first), second = span_ms(!watched_first);
    const double watched = watched_first ? first : second, unwatched = watched_first ? second : first;
    percents_.push_back((watched / unwatched - 1) * 100);
}

}  // namespace vitrine
