// Distances between the expert loads of phases and modes, and what of them is chance.
#include "engine/telemetry/comparison.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>

#include "engine/base/rng.h"

namespace vitrine {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

// In whole numbers up to the last step: equal loads are exactly 0 apart. Sums stay below 2^31 (tokens x chosen
// experts).
double distance_of(const int64_t* a, const int64_t* b, int n) {
    const int64_t sum_a = std::accumulate(a, a + n, int64_t{0}), sum_b = std::accumulate(b, b + n, int64_t{0});
    if (sum_a <= 0 || sum_b <= 0) return kNone;
    int64_t d = 0;
    for (int e = 0; e < n; ++e) d += std::abs(a[e] * sum_b - b[e] * sum_a);
    return static_cast<double>(d) / (2.0 * static_cast<double>(sum_a) * static_cast<double>(sum_b));
}

// The tokens of both phases in one pile, dealt into two hands of the same sizes again and again: a token keeps all its
// choices, in all layers. dealt[shuffle][L].
std::vector<double> deal(const Comparison& c, const PhaseMeasure& a, const PhaseMeasure& b, uint64_t stream) {
    const int n_a = a.n_counted, n = n_a + b.n_counted, width = c.n_layers * c.n_chosen;
    const auto choices = [&](int token) {
        return token < n_a ? a.choices.data() + static_cast<size_t>(token) * width
                           : b.choices.data() + static_cast<size_t>(token - n_a) * width;
    };
    std::vector<int> pile(static_cast<size_t>(n));
    std::iota(pile.begin(), pile.end(), 0);
    std::vector<int64_t> hand(a.loads.size()), rest(a.loads.size());
    std::vector<double> dealt;
    const CounterRng rng(2026, stream);
    uint64_t counter = 0;
    for (int shuffle = 0; shuffle < kShuffles; ++shuffle) {
        std::fill(hand.begin(), hand.end(), 0);
        for (int i = 0; i < n_a; ++i) {
            const auto j = i + static_cast<int>(rng.bits(counter++) % static_cast<uint64_t>(n - i));
            std::swap(pile[i], pile[j]);
            const int16_t* chosen = choices(pile[i]);
            for (int k = 0; k < width; ++k)
                if (chosen[k] >= 0) ++hand[static_cast<size_t>(k / c.n_chosen) * c.n_experts + chosen[k]];
        }
        for (size_t i = 0; i < rest.size(); ++i) rest[i] = a.loads[i] + b.loads[i] - hand[i];
        for (int layer = 0; layer < c.n_layers; ++layer) {
            const size_t at = static_cast<size_t>(layer) * c.n_experts;
            dealt.push_back(distance_of(&hand[at], &rest[at], c.n_experts));
        }
    }
    return dealt;
}

void measure_pair(Comparison& c, int pair) {
    const PhaseMeasure &a = c.at(kPhasePairs[pair].a), &b = c.at(kPhasePairs[pair].b);
    if (a.n_counted == 0 || b.n_counted == 0) return;
    const bool can_deal = a.n_counted <= PhaseMeasure::kMaxKept && b.n_counted <= PhaseMeasure::kMaxKept;
    const std::vector<double> dealt = can_deal ? deal(c, a, b, static_cast<uint64_t>(pair)) : std::vector<double>();
    std::vector<double> column;
    for (int layer = 0; layer < c.n_layers; ++layer) {
        LoadDistance& d = c.distances[static_cast<size_t>(pair) * c.n_layers + layer];
        const size_t at = static_cast<size_t>(layer) * c.n_experts;
        d.distance = distance_of(&a.loads[at], &b.loads[at], c.n_experts);
        if (!can_deal || !d.is_known()) continue;
        column.clear();
        for (int s = 0; s < kShuffles; ++s) column.push_back(dealt[static_cast<size_t>(s) * c.n_layers + layer]);
        std::sort(column.begin(), column.end());
        d.chance = std::accumulate(column.begin(), column.end(), 0.0) / kShuffles;
        d.chance_95 = column[kShuffles * 95 / 100 - 1];
    }
}

}  // namespace

std::string pair_name(const PhasePair& p) {
    if (p.a.mode == p.b.mode)
        return std::string(mode_title(p.a.mode)) + ": " + phase_name(p.a.phase) + ", " + phase_name(p.b.phase);
    return std::string(phase_name(p.a.phase)) + ": " + mode_title(p.a.mode) + ", " + mode_title(p.b.mode);
}

uint64_t PhaseMeasure::n_filled() const {
    return std::accumulate(filled.begin(), filled.end(), uint64_t{0});
}

int64_t PhaseMeasure::n_entries() const {
    int64_t n = 0;
    for (const LayerCacheBytes& l : cache.layers) n += l.n_entries;
    return n;
}

double Comparison::mean_distance(int pair) const {
    double sum = 0;
    int n = 0;
    for (int layer = 0; layer < n_layers && !distances.empty(); ++layer)
        if (const LoadDistance& d = distance(pair, layer); d.is_known()) sum += d.distance, ++n;
    return n ? sum / n : kNone;
}

bool Comparison::is_finished() const {
    return std::all_of(modes.begin(), modes.end(), [](const ModeAnswer& m) {
        return m.state == ModeAnswer::State::done || m.state == ModeAnswer::State::failed;
    });
}

std::vector<int64_t> layer_loads(const PhaseMeasure& m, int layer, int n_experts) {
    const size_t at = static_cast<size_t>(layer) * n_experts, n = static_cast<size_t>(n_experts);
    if (layer < 0 || m.n_counted == 0 || at + n > m.loads.size()) return {};
    return {m.loads.begin() + static_cast<std::ptrdiff_t>(at), m.loads.begin() + static_cast<std::ptrdiff_t>(at + n)};
}

double total_variation(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
    return a.size() != b.size() ? kNone : distance_of(a.data(), b.data(), static_cast<int>(a.size()));
}

void measure_distances(Comparison& c) {
    c.distances.assign(static_cast<size_t>(kPhasePairCount) * c.n_layers, {});
    for (int pair = 0; pair < kPhasePairCount; ++pair) measure_pair(c, pair);
}

}  // namespace vitrine
