// Scalars of a training step.
#include "engine/train/metrics.h"

#include <algorithm>
#include <cmath>

#include "engine/ops/linear/matmul.h"
#include "engine/telemetry/derive.h"
#include "engine/train/optimizer.h"
#include "engine/train/routing_stats.h"
#include "engine/train/trainer.h"

namespace vitrine {
namespace {

std::string layer_name(int layer, const char* what) { return "layers." + std::to_string(layer) + "." + what; }

struct Mean {
    double sum = 0, max = -HUGE_VAL;
    int64_t n = 0;
    void add(double v) { sum += v, max = std::max(max, v), ++n; }
    double mean() const { return n ? sum / static_cast<double>(n) : 0; }
};

void add_loads(const TrainingStep& s, bool by_layer, ScalarList& out) {
    Mean violation, entropy;
    int64_t n_dead = 0, n_experts = 0;
    for (size_t l = 0; l < s.loads.size(); ++l) {
        if (s.loads[l].chosen.empty()) continue;
        std::vector<int64_t> counts;
        for (double n : s.loads[l].chosen) counts.push_back(static_cast<int64_t>(n));
        const LoadStats stats = load_stats(counts);
        const double share = stats.max_entropy > 0 ? stats.entropy / stats.max_entropy : 1;
        violation.add(stats.max_violation), entropy.add(share), n_dead += stats.n_dead;
        n_experts += static_cast<int64_t>(counts.size());
        if (!by_layer) continue;
        const int layer = static_cast<int>(l);
        out.add(layer_name(layer, "max_vio"), stats.max_violation);
        out.add(layer_name(layer, "load_entropy"), share);
        out.add(layer_name(layer, "dead_experts"), stats.n_dead);
    }
    if (violation.n == 0) return;
    out.add("max_vio", violation.mean()), out.add("max_vio.max", violation.max);
    out.add("load_entropy", entropy.mean()), out.add("dead_experts", static_cast<double>(n_dead));
    out.add("dead_share", static_cast<double>(n_dead) / static_cast<double>(n_experts));
}

}  // namespace

void ScalarList::add(const std::string& name, double value) { out_.push_back({name, value}); }

void add_training_step(const TrainingStep& s, bool by_layer, ScalarList& out) {
    add_loads(s, by_layer, out);
    std::map<std::string, Mean> losses;
    for (const AuxiliaryLoss& l : s.losses) {
        losses[l.name].add(l.value);
        if (by_layer) out.add(layer_name(l.layer, ("loss." + std::string(l.name)).c_str()), l.value);
    }
    for (const auto& [name, mean] : losses) out.add("loss." + name, mean.mean());
    Mean logit, entropy, window, entries, sink, recall;
    for (const AttentionStats& a : s.attention) {
        logit.add(a.max_logit), entropy.add(a.entropy), window.add(a.window), entries.add(a.entries), sink.add(a.sink);
        if (by_layer) out.add(layer_name(a.layer, "attention.max_logit"), a.max_logit);
        if (by_layer) out.add(layer_name(a.layer, "attention.entropy"), a.entropy);
        if (by_layer) out.add(layer_name(a.layer, "attention.entries"), a.entries);
        if (by_layer) out.add(layer_name(a.layer, "attention.sink"), a.sink);
    }
    if (logit.n > 0) {
        out.add("attention.max_logit", logit.max), out.add("attention.entropy", entropy.mean());
        out.add("attention.window", window.mean()), out.add("attention.entries", entries.mean());
        out.add("attention.sink", sink.mean());
    }
    Mean peak, clipped, kurtosis, alignment;
    for (const ExpertStats& e : s.experts) {
        peak.add(e.peak), clipped.add(e.clipped), kurtosis.add(e.kurtosis);
        alignment.add(e.alignment);
        if (by_layer) out.add(layer_name(e.layer, "experts.peak"), e.peak);
        if (by_layer) out.add(layer_name(e.layer, "experts.kurtosis"), e.kurtosis);
    }
    if (peak.n > 0) {
        out.add("experts.peak", peak.max), out.add("experts.clipped", clipped.mean());
        out.add("experts.kurtosis", kurtosis.mean()), out.add("experts.alignment", alignment.mean());
    }
    Mean pooling, dynamic;
    for (const CompressorStats& c : s.compressors) {
        pooling.add(c.entropy);
        if (by_layer) out.add(layer_name(c.layer, "compressor.entropy"), c.entropy);
    }
    if (pooling.n > 0) out.add("compressor.entropy", pooling.mean());
    for (const HyperStats& h : s.hypers) dynamic.add(h.dynamic);
    if (dynamic.n > 0) out.add("hyper.dynamic", dynamic.mean());
    auto share = [&](const char* name, const cpu::RoundingCount& c) {
        if (c.n > 0) out.add(name, static_cast<double>(c.saturated) / static_cast<double>(c.n));
    };
    share("fp8.saturated.weights", s.rounding.weights), share("fp8.saturated.activations", s.rounding.activations);
    share("fp8.saturated.cache", s.rounding.cache);
    for (const IndexerStats& i : s.indexers) {
        if (std::isnan(i.recall)) continue;
        recall.add(i.recall);
        if (by_layer) out.add(layer_name(i.layer, "indexer.recall"), i.recall);
    }
    if (recall.n > 0) out.add("indexer.recall", recall.mean());
}

void add_updates(const Masters& masters, const std::vector<UpdateSums>& sums, const std::vector<double>& squares, int n_layers,
                 bool by_layer, ScalarList& out) {
    std::map<std::string, UpdateSums> groups;
    std::map<int, double> gradient_squares;
    for (size_t i = 0; i < sums.size(); ++i) {
        const Leaf& leaf = masters.leaves()[i];
        gradient_squares[layer_of(leaf.name, n_layers)] += squares[i];
        if (sums[i].count == 0) continue;
        UpdateSums& g = groups[weight_group(leaf)];
        g.weight += sums[i].weight, g.update += sums[i].update, g.surprise += sums[i].surprise, g.count += sums[i].count;
    }
    for (const auto& [name, g] : groups) {
        const auto n = static_cast<double>(g.count);
        if (g.weight > 0) out.add("update_ratio." + name, std::sqrt(g.update / g.weight));
        out.add("weight_rms." + name, std::sqrt(g.weight / n));
        if (g.surprise > 0) out.add("surprise." + name, std::sqrt(g.surprise / n));
    }
    if (!by_layer) return;
    for (const auto& [layer, square] : gradient_squares)
        if (layer >= 0) out.add(layer_name(layer, "grad_norm"), std::sqrt(square));
}

void add_spectral(Ctx& ctx, const Masters& masters, ScalarList& out) {
    constexpr int kIterations = 12;
    const auto& leaves = masters.leaves();
    std::vector<double> sigma(leaves.size());
    ctx.pool.parallel_for(static_cast<int64_t>(leaves.size()), 1, [&](int64_t i0, int64_t i1) {
        for (int64_t i = i0; i < i1; ++i) {
            const Tensor& w = leaves[static_cast<size_t>(i)].param->master;
            if (w.shape.rank != 2) continue;
            with_real(w.dtype, [&](auto real) {
                using T = decltype(real);
                const int64_t n = w.dim(0), m = w.dim(1);
                std::vector<double> v(static_cast<size_t>(m)), u(static_cast<size_t>(n));
                for (int64_t j = 0; j < m; ++j) v[static_cast<size_t>(j)] = 1 + 0.5 * std::sin(static_cast<double>(j + 1));
                for (int k = 0; k < kIterations; ++k) {
                    double norm = 0;
                    for (double x : v) norm += x * x;
                    if (norm == 0) break;
                    norm = std::sqrt(norm);
                    for (double& x : v) x /= norm;
                    double square = 0;
                    for (int64_t r = 0; r < n; ++r) {
                        double s = 0;
                        for (int64_t j = 0; j < m; ++j) s += static_cast<double>(w.row<T>(r)[j]) * v[static_cast<size_t>(j)];
                        u[static_cast<size_t>(r)] = s, square += s * s;
                    }
                    sigma[static_cast<size_t>(i)] = std::sqrt(square);
                    std::fill(v.begin(), v.end(), 0.0);
                    for (int64_t r = 0; r < n; ++r)
                        for (int64_t j = 0; j < m; ++j)
                            v[static_cast<size_t>(j)] += static_cast<double>(w.row<T>(r)[j]) * u[static_cast<size_t>(r)];
                }
            });
        }
    });
    std::map<std::string, double> largest;
    for (size_t i = 0; i < leaves.size(); ++i)
        if (double& most = largest[weight_group(leaves[i])]; sigma[i] > most) most = sigma[i];
    for (const auto& [group, s] : largest)
        if (s > 0) out.add("spectral." + group, s);
}

ProbeSet InternalsSink::wanted() const {
    return probe_bit(kAttnHcComb) | probe_bit(kMlpHcComb) | probe_bit(kRouterMargin) | probe_bit(kRouterIndices);
}

void InternalsSink::put(int token, Probe p, int layer, const int32_t* data, int rows, int cols) {
    if (p == kRouterIndices) keep_choice(choices_, token, layer, {data, static_cast<size_t>(rows * cols)});
}

void InternalsSink::add_routing(const ModelConfig& c, const TrainBatch& batch, bool has_domains, bool by_layer,
                                ScalarList& out) const {
    if (c.n_experts < 2) return;
    std::vector<int32_t> domain_of, sample_of;
    for (size_t s = 0; s < batch.samples.size(); ++s)
        for (int64_t t = batch.samples[s].begin; t < batch.samples[s].end; ++t)
            domain_of.push_back(batch.samples[s].domain), sample_of.push_back(static_cast<int32_t>(s));
    Mean share, lift, switches, domain, token, given, null;
    for (int l = 0; l < c.n_layers() && static_cast<size_t>(l) < choices_.by_layer.size(); ++l) {
        const std::vector<int32_t>& ids = choices_.by_layer[static_cast<size_t>(l)];
        if (ids.empty()) continue;
        const Choices choices{ids, static_cast<int64_t>(ids.size()) / choices_.n_tokens, c.n_experts};
        const CoActivation pairs = co_activation(choices);
        const double rate = switch_rate(choices, sample_of);
        RoutingInformation i;
        if (has_domains) i = routing_information(choices, domain_of, batch.tokens, static_cast<uint64_t>(l));
        if (by_layer) {
            out.add(layer_name(l, "experts.together"), pairs.share), out.add(layer_name(l, "experts.lift"), pairs.lift);
            out.add(layer_name(l, "router.switch_rate"), rate);
            if (has_domains) out.add(layer_name(l, "router.information.domain_given_token"), i.domain_given_token);
        }
        if (c.layers[static_cast<size_t>(l)].is_hash_routed) continue;  // its choice is the token's alone
        share.add(pairs.share), lift.add(pairs.lift), switches.add(rate);
        domain.add(i.domain), token.add(i.token), given.add(i.domain_given_token), null.add(i.null);
    }
    if (share.n == 0) return;
    out.add("experts.together", share.max), out.add("experts.lift", lift.max), out.add("router.switch_rate", switches.mean());
    if (!has_domains) return;
    out.add("router.information.domain", domain.mean()), out.add("router.information.token", token.mean());
    out.add("router.information.domain_given_token", given.mean()), out.add("router.information.null", null.mean());
}

void InternalsSink::put(int token, Probe p, int layer, const float* data, int rows, int cols) {
    if (p == kRouterMargin) return margins_[layer].push_back(*data);
    if (p != kAttnHcComb && p != kMlpHcComb) return;
    Site& site = sites_[2 * layer + (p == kMlpHcComb)];
    site.n = rows;
    if (site.by_token.size() <= static_cast<size_t>(token)) site.by_token.resize(static_cast<size_t>(token) + 1);
    site.by_token[static_cast<size_t>(token)].assign(data, data + rows * cols);
}

void InternalsSink::add(int n_layers, bool by_layer, ScalarList& out) const {
    Mean margin;
    for (const auto& [layer, values] : margins_) {
        Mean here;
        for (double v : values)
            if (std::isfinite(v)) here.add(v), margin.add(v);
        if (by_layer) out.add(layer_name(layer, "router.margin"), here.mean());
    }
    if (margin.n > 0) out.add("router.margin", margin.mean());
    std::vector<const Site*> trunk;
    for (const auto& [at, site] : sites_)
        if (at < 2 * n_layers) trunk.push_back(&site);
    if (trunk.empty()) return;
    Mean forward, backward, row_error, column_error, second;
    std::vector<Mean> sites(trunk.size());
    const int n = trunk[0]->n;
    for (size_t t = 0; t < trunk[0]->by_token.size(); ++t) {
        std::vector<std::span<const float>> combs;
        for (const Site* s : trunk)
            if (t < s->by_token.size() && !s->by_token[t].empty()) combs.emplace_back(s->by_token[t]);
        if (combs.size() != trunk.size()) continue;
        const std::vector<Gain> gains = composite_gain(combs, n);
        forward.add(gains.back().forward), backward.add(gains.back().backward);
        for (size_t s = 0; s < combs.size(); ++s) sites[s].add(composite_gain({combs[s]}, n).back().forward);
        if (t % 16 != 0) continue;  // singular values cost more than the rest together
        for (const auto& comb : combs) {
            const MixingStats m = mixing_stats(comb, n);
            row_error.add(m.row_error), column_error.add(m.column_error), second.add(m.sigma2);
        }
    }
    if (forward.n == 0) return;
    out.add("hyper.gain.max", forward.max), out.add("hyper.gain.mean", forward.mean());
    out.add("hyper.gain_backward.max", backward.max), out.add("hyper.gain_backward.mean", backward.mean());
    out.add("hyper.row_error", row_error.max), out.add("hyper.column_error", column_error.max);
    out.add("hyper.sigma2", second.mean());
    if (!by_layer) return;
    for (size_t s = 0; s < sites.size(); ++s)
        out.add(layer_name(static_cast<int>(s / 2), s % 2 ? "hyper.mlp.gain" : "hyper.attn.gain"), sites[s].max);
}

}  // namespace vitrine
