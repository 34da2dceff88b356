// Routing: what the choice of experts tells of the domain beyond the token itself, how even the loads are, and whether
// a domain suffers more than others when its experts are gone.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <set>

#include "engine/engine.h"
#include "experiments/curriculum/domains.h"
#include "experiments/inner/causal.h"
#include "experiments/inner/inner.h"
#include "experiments/inner/reading.h"
#include "experiments/inner/statistics.h"

namespace vitrine::inner {
namespace {

constexpr int kLongest = 512, kShuffles = 20;  // [tokens]; of the null
constexpr double kLeastBits = 0.15, kMostViolation = 0.5;
constexpr int kLeastExperts = 3;

std::string format(const char* pattern, double a, double b = 0, double c = 0) {
    char s[160];
    std::snprintf(s, sizeof s, pattern, a, b, c);
    return s;
}

// Choices in every layer, the same number of tokens of each domain.
std::vector<Occurrences> choices_of(Engine& engine, const std::vector<std::vector<ForcedText>>& texts, size_t n_each,
                                    const Progress& progress, std::stop_token stop) {
    const ModelConfig& c = engine.config();
    const Occurrences none{static_cast<int>(texts.size()), c.n_experts, c.n_experts_per_tok, {}, {}, {}, {}};
    std::vector<Occurrences> layers(static_cast<size_t>(c.n_layers()), none);
    int32_t sample = 0;
    for (size_t d = 0; d < texts.size(); ++d) {
        size_t n_left = n_each;
        if (progress) progress("routing: reading " + std::string(curriculum::domains()[d].name));
        for (const ForcedText& t : texts[d]) {
            const auto n = std::min(n_left, t.ids.size());
            Reader reader{probe_bit(kRouterIndices), {}, {}};
            reader.ints = [&](int position, Probe, int layer, const int32_t* experts, int k) {
                if (layer < 0 || layer >= c.n_layers() || static_cast<size_t>(position) >= n) return;
                Occurrences& o = layers[static_cast<size_t>(layer)];
                o.token.push_back(t.ids[static_cast<size_t>(position)]), o.domain.push_back(t.domain);
                o.sample.push_back(sample);
                for (int j = 0; j < o.k; ++j) o.experts.push_back(j < k ? experts[j] : -1);
            };
            read(engine, t.ids, reader, stop);
            n_left -= n, ++sample;
        }
    }
    return layers;
}

// Loads by domain [D][E], each adding up to 1.
std::vector<std::vector<double>> loads_of(const Occurrences& o) {
    std::vector<std::vector<double>> loads(static_cast<size_t>(o.n_domains),
                                           std::vector<double>(static_cast<size_t>(o.n_experts)));
    for (size_t t = 0; t < o.size(); ++t)
        for (int j = 0; j < o.k; ++j)
            if (const int32_t e = o.experts[t * static_cast<size_t>(o.k) + static_cast<size_t>(j)]; e >= 0)
                ++loads[static_cast<size_t>(o.domain[t])][static_cast<size_t>(e)];
    for (auto& of_domain : loads) {
        const double sum = std::accumulate(of_domain.begin(), of_domain.end(), 0.0);
        for (double& x : of_domain) x /= std::max(sum, 1.0);
    }
    return loads;
}

// Loads of the training mixture.
std::vector<double> mixed(const std::vector<std::vector<double>>& by_domain) {
    std::vector<double> all(by_domain[0].size());
    for (size_t d = 0; d < by_domain.size(); ++d)
        for (size_t e = 0; e < all.size(); ++e) all[e] += curriculum::domains()[d].share / 100 * by_domain[d][e];
    return all;
}

// The two experts whose load in the domain exceeds that in the others the most.
std::vector<int32_t> experts_of(const std::vector<std::vector<double>>& loads, size_t domain) {
    std::vector<double> excess = loads[domain];
    for (size_t d = 0; d < loads.size(); ++d)
        for (size_t e = 0; e < excess.size() && d != domain; ++e)
            excess[e] -= loads[d][e] / static_cast<double>(loads.size() - 1);
    std::vector<int32_t> order(excess.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
        return excess[static_cast<size_t>(a)] > excess[static_cast<size_t>(b)];
    });
    order.resize(2);
    return order;
}

struct Texts {
    std::vector<std::vector<ForcedText>> by_domain;
    size_t n_each = 0;  // tokens of the domain that has fewest
};
Texts all_texts(Engine& engine, uint64_t seed, int n_each) {
    Texts t;
    t.by_domain.resize(curriculum::domains().size());
    std::vector<size_t> n_tokens(t.by_domain.size());
    for (ForcedText& x : lab::held_out_texts(engine, n_each, kLongest, seed)) {
        const auto d = static_cast<size_t>(x.domain);
        n_tokens[d] += x.ids.size();
        t.by_domain[d].push_back(std::move(x));
    }
    t.n_each = *std::min_element(n_tokens.begin(), n_tokens.end());
    return t;
}

std::string layer_name(const ModelConfig& c, int l) {
    const LayerConfig& layer = c.layers[static_cast<size_t>(l)];
    const LayerKind kind = layer.kind();
    return std::to_string(l) +
           (kind == LayerKind::csa   ? " CSA"
            : kind == LayerKind::hca ? " HCA"
                                     : " window") +
           (layer.is_hash_routed ? ", by hash (control)" : "");
}

void add_information(const ModelConfig& c, const std::vector<Occurrences>& layers, uint64_t seed, Result& r) {
    Table t{"I(expert; domain | token) [bit]",
            {"n tokens", "plug-in", "null mean", "null most", "corrected", "lowest", "highest", "MaxVio"},
            3,
            {}};
    int n_upper = 0, n_met = 0, n_even = 0, n_routed = 0;
    double control = 0, weakest = 1e9, worst = 0;
    for (int l = 0; l < c.n_layers(); ++l) {
        const Occurrences& o = layers[static_cast<size_t>(l)];
        const Information i = information(o, kShuffles, seed);
        const double violation = max_violation(mixed(loads_of(o)));
        t.rows.push_back({layer_name(c, l),
                          {double(o.size()), i.plug_in, i.null_mean, i.null_highest, i.corrected(), i.interval.lowest,
                           i.interval.highest, violation}});
        if (c.layers[static_cast<size_t>(l)].is_hash_routed) {
            control = std::max(control, std::abs(i.plug_in));
            continue;
        }
        ++n_routed, n_even += violation < kMostViolation, worst = std::max(worst, violation);
        if (2 * l < c.n_layers()) continue;
        ++n_upper, n_met += i.corrected() >= kLeastBits, weakest = std::min(weakest, i.corrected());
    }
    r.tables.push_back(std::move(t));
    r.bars.push_back({"I(expert; domain | token) >= 0.15 bit in every layer of the upper half, null taken off",
                      format("%.0f of %.0f layers, least %.3f", n_met, n_upper, weakest), n_met == n_upper});
    r.bars.push_back({"0 bit in layers that are routed by hash (control)", format("%.2g", control), control < 1e-9});
    r.bars.push_back({"MaxVio < 0.5 in every routed layer, loads weighed by the training mixture",
                      format("%.0f of %.0f layers, most %.2f", n_even, n_routed, worst), n_even == n_routed});
}

void add_causes(Engine& engine, const std::vector<Occurrences>& layers, const Texts& texts, uint64_t seed,
                const Progress& progress, std::stop_token stop, Result& r) {
    const ModelConfig& c = engine.config();
    CausalStudy study(engine, texts.by_domain, stop);
    Table ratios{"own loss increase / others'", {}, 2, {}}, own{"own loss increase [nat/token]", {}, 4, {}},
        others{"others' loss increase, mean [nat/token]", {}, 4, {}};
    for (const curriculum::DomainInfo& d : curriculum::domains())
        ratios.columns.push_back(d.name), own.columns.push_back(d.name), others.columns.push_back(d.name);
    ratios.columns.insert(ratios.columns.end(), {"experts >= 3", "by chance"});
    int n_routed = 0, n_met = 0, fewest = 1 << 20;
    for (int l = 0; l < c.n_layers(); ++l) {
        if (c.layers[static_cast<size_t>(l)].is_hash_routed) continue;
        const auto loads = loads_of(layers[static_cast<size_t>(l)]);
        Table::Row ratio{layer_name(c, l), {}}, increase{ratio.name, {}}, of_others = increase;
        std::set<int32_t> selective;
        for (size_t d = 0; d < loads.size(); ++d) {
            if (progress)
                progress("routing: layer " + std::to_string(l) + " without the experts of " +
                         curriculum::domains()[d].name);
            const std::vector<int32_t> pair = experts_of(loads, d);
            const std::vector<Selectivity> s = study.without(l, pair, seed);
            ratio.values.push_back(s[d].ratio()), increase.values.push_back(s[d].own);
            of_others.values.push_back(s[d].others);
            if (s[d].is_selective) selective.insert(pair.begin(), pair.end());
        }
        const CounterRng rng(seed, static_cast<uint64_t>(l));
        const auto n_experts = static_cast<uint64_t>(c.n_experts);
        const auto first = rng.bits(0) % n_experts,
                   second = (first + 1 + rng.bits(1) % std::max<uint64_t>(n_experts - 1, 1)) % n_experts;
        int n_by_chance = 0;
        for (const Selectivity& x : study.without(l, {static_cast<int32_t>(first), static_cast<int32_t>(second)}, seed))
            n_by_chance += 2 * x.is_selective;
        const auto n = static_cast<int>(selective.size());
        ratio.values.insert(ratio.values.end(), {double(n), double(n_by_chance)});
        ratios.rows.push_back(std::move(ratio)), own.rows.push_back(std::move(increase));
        others.rows.push_back(std::move(of_others));
        ++n_routed, n_met += n >= kLeastExperts, fewest = std::min(fewest, n);
    }
    r.tables.push_back(std::move(ratios)), r.tables.push_back(std::move(own));
    r.tables.push_back(std::move(others));
    r.bars.push_back({"at least 3 experts of causal selectivity >= 3 in every routed layer",
                      format("%.0f of %.0f layers, fewest %.0f", n_met, n_routed, n_routed ? fewest : 0),
                      n_met == n_routed && n_routed > 0});
}

}  // namespace

Result measure_routing(Engine& engine, const Options& options, const Progress& progress, std::stop_token stop) {
    Result r;
    r.about = "n held-out samples of each domain, of at most " + std::to_string(kLongest) +
              " tokens, read as they stand, as many tokens of each as of the domain that has fewest. Null: domains "
              "shuffled among the occurrences of a token. Selectivity: the two experts whose load in a domain exceeds "
              "that in the others most are removed, and the domain's loss on n / 4 other samples rises so many times "
              "as the mean of the others'. They count where that exceeds 3 in 97.5 % of draws of the samples. By "
              "chance: what two random experts would count.";
    const Texts texts = all_texts(engine, options.seed, options.n);
    const std::vector<Occurrences> layers = choices_of(engine, texts.by_domain, texts.n_each, progress, stop);
    add_information(engine.config(), layers, options.seed, r);
    const Texts others = all_texts(engine, mix64(options.seed), std::max(4, options.n / 4));
    add_causes(engine, layers, others, options.seed, progress, stop, r);
    return r;
}

}  // namespace vitrine::inner
