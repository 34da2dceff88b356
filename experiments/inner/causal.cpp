// Losses before and after.
#include "experiments/inner/causal.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "experiments/curriculum/draws.h"
#include "experiments/inner/intervening.h"

namespace vitrine::inner {
namespace {

constexpr int kDrawn = 400;

double mean(const std::vector<TextSum>& losses) {
    TextSum all;
    for (const TextSum& l : losses) all.sum += l.sum, all.n += l.n;
    return all.n ? all.sum / static_cast<double>(all.n) : 0;
}

// Rise of the mean loss over samples drawn anew.
double drawn_rise(const std::vector<TextSum>& before, const std::vector<TextSum>& after, curriculum::Draws& draw) {
    TextSum change;
    for (size_t s = 0; s < before.size(); ++s) {
        const size_t which = draw.below(before.size());
        change.sum += after[which].sum - before[which].sum, change.n += before[which].n;
    }
    return change.n ? change.sum / static_cast<double>(change.n) : 0;
}

}  // namespace

double Selectivity::ratio() const {
    if (own <= 0) return 0;
    return others > 0 ? own / others : std::numeric_limits<double>::infinity();
}

std::vector<Selectivity> selectivities(const std::vector<std::vector<TextSum>>& before,
                                       const std::vector<std::vector<TextSum>>& after, uint64_t seed) {
    const size_t n_domains = before.size();
    const auto others = [n_domains](const std::vector<double>& own, size_t d) {
        return (std::accumulate(own.begin(), own.end(), 0.0) - own[d]) / static_cast<double>(n_domains - 1);
    };
    std::vector<double> own(n_domains);
    for (size_t d = 0; d < n_domains; ++d) own[d] = mean(after[d]) - mean(before[d]);
    std::vector<std::vector<double>> rises(n_domains), margins(n_domains);  // [domain][draw]
    curriculum::Draws draw(CounterRng(seed, fnv1a64("selectivity")));
    for (int i = 0; i < kDrawn; ++i) {
        std::vector<double> drawn;
        for (size_t d = 0; d < n_domains; ++d) drawn.push_back(drawn_rise(before[d], after[d], draw));
        for (size_t d = 0; d < n_domains; ++d) {
            rises[d].push_back(drawn[d]);
            margins[d].push_back(drawn[d] - Selectivity::kTimes * std::max(others(drawn, d), 0.0));
        }
    }
    std::vector<Selectivity> all;
    for (size_t d = 0; d < n_domains; ++d) {
        std::sort(rises[d].begin(), rises[d].end()), std::sort(margins[d].begin(), margins[d].end());
        constexpr size_t kTail = kDrawn / 40;
        all.push_back({own[d], others(own, d), rises[d][kTail], rises[d][kDrawn - 1 - kTail], margins[d][kTail] > 0});
    }
    return all;
}

CausalStudy::CausalStudy(Engine& engine, const std::vector<std::vector<ForcedText>>& texts, std::stop_token stop)
    : engine_(engine), texts_(texts), stop_(std::move(stop)) {
    before_ = losses();
}

std::vector<std::vector<TextSum>> CausalStudy::losses() const {
    std::vector<std::vector<TextSum>> all;
    for (const std::vector<ForcedText>& of_domain : texts_) {
        all.emplace_back();
        for (const ForcedText& t : of_domain) all.back().push_back(lab::read_text(engine_, t, stop_).loss);
    }
    return all;
}

std::vector<Selectivity> CausalStudy::without(int l, const std::vector<int32_t>& experts, uint64_t seed) const {
    Interventions edits = no_change(engine_.config());
    edits.layers[static_cast<size_t>(l)].removed_experts = experts;
    const Intervening intervening(engine_, edits);
    return selectivities(before_, losses(), seed);
}

}  // namespace vitrine::inner
