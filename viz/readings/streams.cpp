// What a token's record says about the residual streams.
#include "viz/readings/streams.h"

#include <algorithm>

#include "viz/widgets/number.h"

namespace vitrine::viz {
namespace {

// Combs of a record in the order they act; empty when a site is missing, because a product with a hole is another map.
std::vector<std::span<const float>> all_combs(const TokenRecord& record, int n_layers, size_t size) {
    std::vector<std::span<const float>> combs;
    for (int layer = 0; layer < n_layers; ++layer)
        for (const Probe p : {kAttnHcComb, kMlpHcComb}) {
            const auto c = record.floats(p, layer);
            if (c.data.size() != size) return {};
            combs.push_back(c.data);
        }
    return combs;
}

std::vector<float> copied(ProbeView<float> v) {
    return {v.data.begin(), v.data.end()};
}

}  // namespace

std::string MixingSite::name() const {
    return "layer " + std::to_string(layer) + (is_mlp ? ", MLP" : ", attention");
}

const MixingSite* StreamsReading::find(int layer, bool is_mlp) const {
    const auto it = std::find_if(sites.begin(), sites.end(),
                                 [=](const MixingSite& s) { return s.layer == layer && s.is_mlp == is_mlp; });
    return it == sites.end() ? nullptr : &*it;
}

StreamsReading read_streams(const TokenRecord& record, const ModelInfo& model) {
    StreamsReading r;
    r.n = model.config.hc_mult;
    const size_t size = static_cast<size_t>(r.n) * r.n;
    for (int layer = 0; layer < model.config.n_layers(); ++layer)
        for (const bool is_mlp : {false, true}) {
            const auto comb = record.floats(is_mlp ? kMlpHcComb : kAttnHcComb, layer);
            if (size == 0 || comb.data.size() != size) continue;
            MixingSite site{.layer = layer, .is_mlp = is_mlp, .comb = copied(comb)};
            site.pre = copied(record.floats(is_mlp ? kMlpHcPre : kAttnHcPre, layer));
            site.post = copied(record.floats(is_mlp ? kMlpHcPost : kAttnHcPost, layer));
            site.stats = mixing_stats(site.comb, r.n);
            r.sites.push_back(std::move(site));
        }
    const auto combs = all_combs(record, model.config.n_layers(), size);
    r.is_complete = !combs.empty();
    if (r.is_complete) {
        const std::vector<Gain> gains = composite_gain(combs, r.n);
        for (size_t i = 0; i < r.sites.size(); ++i) r.sites[i].gain = gains[i];
    }
    for (size_t i = 0; i < r.sites.size(); ++i)
        if (r.fastest < 0 || r.sites[i].stats.sigma2 < r.sites[r.fastest].stats.sigma2) r.fastest = static_cast<int>(i);
    return r;
}

std::string mixing_sentence(const StreamsReading& r) {
    if (r.fastest < 0) return {};
    const MixingSite& s = r.sites[r.fastest];
    return "Layer " + std::to_string(s.layer) + " mixes the streams fastest, at its " +
           (s.is_mlp ? "MLP" : "attention") + " site: \xcf\x83\xe2\x82\x82 = " + ui::format_number(s.stats.sigma2) +
           ", so at most " + ui::format_percent(s.stats.sigma2) + " of what tells the streams apart passes through.";
}

bool GainMeter::update(const Timeline& timeline, const Trace* trace, const ModelInfo& model) {
    if (model_ != &model) walk_.restart();
    model_ = &model;
    const int n = model.config.hc_mult, n_layers = model.config.n_layers();
    const auto reset = [&] {
        n_tokens_ = 0;
        sum_.assign(static_cast<size_t>(2) * n_layers, Gain{0, 0});
        max_ = sum_;
    };
    const auto visit = [&](int64_t, const TokenInfo&, const TokenRecord& record) {
        const auto combs = all_combs(record, n_layers, static_cast<size_t>(n) * n);
        if (combs.empty()) return;
        const std::vector<Gain> gains = composite_gain(combs, n);
        ++n_tokens_;
        for (size_t i = 0; i < gains.size(); ++i) {
            sum_[i].forward += gains[i].forward, sum_[i].backward += gains[i].backward;
            max_[i].forward = std::max(max_[i].forward, gains[i].forward);
            max_[i].backward = std::max(max_[i].backward, gains[i].backward);
        }
    };
    constexpr int64_t kBudget = 8000;  // mixing sites a frame, about 2 ms
    return walk_.advance(timeline, trace, kBudget, std::max(1, 2 * n_layers), reset, visit);
}

std::vector<Gain> GainMeter::mean() const {
    std::vector<Gain> m(sum_);
    for (Gain& g : m) {
        const auto n = static_cast<double>(std::max<int64_t>(1, n_tokens_));
        g.forward /= n, g.backward /= n;
    }
    return m;
}

}  // namespace vitrine::viz
