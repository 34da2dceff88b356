// Statistics of what a training step's probes collected.
#include "engine/train/internals.h"

#include <algorithm>
#include <cmath>

#include "engine/telemetry/derive_streams.h"
#include "engine/train/routing_stats.h"
#include "engine/train/trainer.h"

namespace vitrine {
namespace {

// Singular and eigenvalues, and the streams' ranks, cost more than the rest together: some tokens, evenly spaced, stand
// for all.
constexpr size_t kStreamStride = 16, kShapeTokens = 32;

struct Spread {
    double rms = 0, far = 0;  // far: share that lies more than six standard deviations from the mean
    double kurtosis = 0;      // mean(m^2) / mean(m)^2 over channels with mean square m, as experts' (engine/ops/training.h)
};
Spread spread_of(std::span<const float> values, size_t n_channels) {
    const auto n = static_cast<double>(values.size());
    double sum = 0, squares = 0, n_far = 0;
    for (const double v : values) sum += v, squares += v * v;
    const double mean = sum / n, variance = squares / n - mean * mean;
    for (const double v : values) n_far += (v - mean) * (v - mean) > 36 * variance;
    std::vector<double> power(n_channels);
    for (size_t i = 0; i < values.size(); ++i) power[i % n_channels] += static_cast<double>(values[i]) * values[i];
    double sum_of_squares = 0;
    for (const double m : power) sum_of_squares += m * m;
    const double kurtosis = squares > 0 ? static_cast<double>(n_channels) * sum_of_squares / (squares * squares) : 1;
    return {std::sqrt(squares / n), n_far / n, kurtosis};
}

const char* site_name(size_t s, const char* attn, const char* mlp) {
    return s % 2 ? mlp : attn;
}

}  // namespace

ProbeSet InternalsSink::wanted() const {
    return probe_bit(kAttnHcComb) | probe_bit(kMlpHcComb) | probe_bit(kStreams) | probe_bit(kRouterMargin) |
           probe_bit(kRouterScores) | probe_bit(kRouterIndices);
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
    add_router_scores(c, by_layer, out);
    Mean share, lift, switches, repeats, domain, token, given, null;
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
        share.add(pairs.share), lift.add(pairs.lift), switches.add(rate), repeats.add(repeat_rate(choices, sample_of));
        domain.add(i.domain), token.add(i.token), given.add(i.domain_given_token), null.add(i.null);
    }
    if (share.n == 0) return;
    out.add("experts.together", share.max), out.add("experts.lift", lift.max),
        out.add("router.switch_rate", switches.mean());
    out.add("router.repeat_first", repeats.mean());
    if (!has_domains) return;
    out.add("router.information.domain", domain.mean()), out.add("router.information.token", token.mean());
    out.add("router.information.domain_given_token", given.mean()), out.add("router.information.null", null.mean());
}

void InternalsSink::add_router_scores(const ModelConfig& c, bool by_layer, ScalarList& out) const {
    Mean entropy, margin;
    for (const auto& [layer, scores] : scores_) {
        const auto l = static_cast<size_t>(layer);
        if (l >= c.layers.size() || c.layers[l].is_hash_routed || l >= choices_.by_layer.size()) continue;
        const auto k = static_cast<int64_t>(choices_.by_layer[l].size()) / choices_.n_tokens;
        const RouterConfidence r = router_confidence(scores, c.n_experts, k);
        entropy.add(r.entropy);
        if (by_layer) out.add(layer_name(layer, "router.entropy"), r.entropy);
        if (k < c.n_experts) margin.add(r.margin);
    }
    if (entropy.n > 0) out.add("router.entropy", entropy.mean());
    if (margin.n > 0) out.add("router.margin.affinity", margin.mean());
}

void InternalsSink::put(int token, Probe p, int layer, const float* data, int rows, int cols) {
    if (p == kRouterMargin) return margins_[layer].push_back(*data);
    if (p == kRouterScores) {
        std::vector<float>& all = scores_[layer];
        all.insert(all.end(), data, data + cols);
        return;
    }
    const auto t = static_cast<size_t>(token);
    if (p == kStreams) {
        Streams& s = streams_[layer];
        s.n_channels = static_cast<size_t>(rows) * static_cast<size_t>(cols);
        for (size_t i = 0; i < s.n_channels; ++i) s.peak = larger(s.peak, std::abs(static_cast<double>(data[i])));
        if (t % kStreamStride != 0) return;
        std::vector<float>& all = s.values;
        all.insert(all.end(), data, data + rows * cols);
        if (rows < 2) return;
        const StreamUse use = stream_use({data, static_cast<size_t>(rows) * static_cast<size_t>(cols)}, rows);
        return s.norm.add(use.norm), s.cosine.add(use.cosine), s.rank.add(use.rank);
    }
    if (p != kAttnHcComb && p != kMlpHcComb) return;
    Site& site = sites_[2 * layer + (p == kMlpHcComb)];
    site.n = rows;
    site.combs.insert(site.combs.end(), data, data + rows * cols);
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
    add_streams(n_layers, by_layer, out);
    std::vector<const Site*> trunk;
    for (const auto& [at, site] : sites_)
        if (at < 2 * n_layers) trunk.push_back(&site);
    if (trunk.empty()) return;
    add_gains(trunk, by_layer, out);
    add_shapes(trunk, by_layer, out);
}

void InternalsSink::add_streams(int n_layers, bool by_layer, ScalarList& out) const {
    Mean cosine, rank, rms, far, peak, kurtosis;
    for (const auto& [layer, s] : streams_) {
        if (by_layer) out.add(layer_name(layer, "activations.peak"), s.peak);
        if (layer < n_layers) peak.add(s.peak);
        if (s.values.empty()) continue;
        const Spread spread = spread_of(s.values, s.n_channels);
        if (by_layer) out.add(layer_name(layer, "activations.kurtosis"), spread.kurtosis);
        if (layer < n_layers) kurtosis.add(spread.kurtosis);
        if (by_layer) out.add(layer_name(layer, "activations.rms"), spread.rms);
        if (by_layer) out.add(layer_name(layer, "activations.beyond_6_sigma"), spread.far);
        if (layer < n_layers) rms.add(spread.rms), far.add(spread.far);
        if (s.norm.n == 0) continue;  // one stream
        if (by_layer) out.add(layer_name(layer, "streams.norm"), s.norm.mean());
        if (by_layer) out.add(layer_name(layer, "streams.cosine"), s.cosine.mean());
        if (by_layer) out.add(layer_name(layer, "streams.rank"), s.rank.mean());
        if (layer < n_layers) cosine.add(s.cosine.mean()), rank.add(s.rank.mean());
    }
    if (cosine.n > 0) out.add("streams.cosine", cosine.mean()), out.add("streams.rank", rank.mean());
    if (peak.n > 0) out.add("activations.peak", peak.max);
    if (kurtosis.n > 0) out.add("activations.kurtosis", kurtosis.mean());
    if (rms.n > 0) out.add("activations.rms", rms.mean()), out.add("activations.beyond_6_sigma", far.mean());
}

void InternalsSink::add_gains(const std::vector<const Site*>& trunk, bool by_layer, ScalarList& out) const {
    std::vector<std::span<const float>> combs;
    for (const Site* s : trunk) combs.emplace_back(s->combs);
    const std::vector<SiteGain> sites = gains_over_tokens(combs, trunk[0]->n);
    const SiteGain& whole = sites.back();
    double row_error = 0, column_error = 0;
    for (const SiteGain& s : sites)
        row_error = larger(row_error, s.row_error), column_error = larger(column_error, s.column_error);
    out.add("hyper.gain.max", whole.max.forward), out.add("hyper.gain.mean", whole.mean.forward);
    out.add("hyper.gain_backward.max", whole.max.backward), out.add("hyper.gain_backward.mean", whole.mean.backward);
    out.add("hyper.attenuation", whole.max.min_column), out.add("hyper.max_log_column", whole.max.max_log_column);
    out.add("hyper.gain.of_mean", whole.of_mean.forward),
        out.add("hyper.gain_backward.of_mean", whole.of_mean.backward);
    out.add("hyper.attenuation.of_mean", whole.of_mean.min_column);
    out.add("hyper.row_error", row_error), out.add("hyper.column_error", column_error);
    if (!by_layer) return;
    for (size_t s = 0; s < sites.size(); ++s) {
        const int layer = static_cast<int>(s / 2);
        const std::string site = site_name(s, "hyper.attn.gain", "hyper.mlp.gain");
        out.add(layer_name(layer, site), sites[s].alone_max.forward);
        out.add(layer_name(layer, site + ".mean"), sites[s].alone_mean.forward);
        out.add(layer_name(layer, site + "_backward"), sites[s].alone_max.backward);
        out.add(layer_name(layer, site + "_backward.mean"), sites[s].alone_mean.backward);
        if (s % 2 == 0) continue;
        out.add(layer_name(layer, "hyper.gain.max"), sites[s].max.forward);
        out.add(layer_name(layer, "hyper.gain.mean"), sites[s].mean.forward);
        out.add(layer_name(layer, "hyper.gain.of_mean"), sites[s].of_mean.forward);
        out.add(layer_name(layer, "hyper.gain_backward.max"), sites[s].max.backward);
        out.add(layer_name(layer, "hyper.gain_backward.mean"), sites[s].mean.backward);
        out.add(layer_name(layer, "hyper.gain_backward.of_mean"), sites[s].of_mean.backward);
    }
}

void InternalsSink::add_shapes(const std::vector<const Site*>& trunk, bool by_layer, ScalarList& out) const {
    Mean least, sigma2, second, entropy, identity, uniform, permutation;
    const int n = trunk[0]->n;
    if (n < 2) return;
    for (size_t s = 0; s < trunk.size(); ++s) {
        Mean here;
        const size_t nn = static_cast<size_t>(n) * static_cast<size_t>(n), n_tokens = trunk[s]->combs.size() / nn;
        for (size_t t = 0; t < n_tokens; t += std::max<size_t>(1, n_tokens / kShapeTokens)) {
            const auto comb = std::span<const float>(trunk[s]->combs).subspan(t * nn, nn);
            const MixingShape shape = mixing_shape(comb, n);
            const MixingStats stats = mixing_stats(comb, n);
            least.add(shape.sigma_min), sigma2.add(stats.sigma2);
            second.add(shape.lambda2), entropy.add(shape.entropy / std::log2(n));
            identity.add(stats.distance_identity), uniform.add(stats.distance_uniform);
            if (std::isnan(shape.distance_permutation)) continue;  // more streams than permutations can be tried for
            permutation.add(shape.distance_permutation), here.add(shape.distance_permutation);
        }
        if (by_layer && here.n > 0)
            out.add(layer_name(static_cast<int>(s / 2),
                               site_name(s, "hyper.attn.distance.permutation", "hyper.mlp.distance.permutation")),
                    here.mean());
    }
    if (least.n == 0) return;
    out.add("hyper.sigma_min", least.mean()), out.add("hyper.sigma2", sigma2.mean());
    out.add("hyper.lambda2", second.mean()), out.add("hyper.entropy", entropy.mean());
    out.add("hyper.distance.identity", identity.mean()), out.add("hyper.distance.uniform", uniform.mean());
    if (permutation.n > 0) out.add("hyper.distance.permutation", permutation.mean());
}

}  // namespace vitrine
