// Scalars of a training step.
#include "engine/train/metrics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "engine/ops/linear/matmul.h"
#include "engine/telemetry/derive.h"
#include "engine/train/optimizer.h"
#include "engine/train/representation.h"
#include "engine/train/routing_stats.h"
#include "engine/train/trainer.h"

namespace vitrine {
namespace {

// How loads lie, for whoever asked for more than MaxVio, entropy and dead experts.
void add_load_shapes(const TrainingStep& s, const std::vector<bool>& is_counted, ScalarList& out) {
    Mean least, cv2, gini, effective, mass, over_1, over_125, over_2;
    int64_t n_starving = 0;
    for (size_t l = 0; l < s.loads.size(); ++l) {
        const std::vector<double>&counts = s.loads[l].chosen, &gates = s.loads[l].affinity;
        if (counts.empty()) continue;
        const LoadShape shape = load_shape(counts);
        const int layer = static_cast<int>(l);
        out.add(layer_name(layer, "load.effective"), shape.effective);
        out.add(layer_name(layer, "overflow.1.25"), overflow(counts, 1.25));
        if (!is_counted[l]) continue;
        least.add(-shape.least), cv2.add(shape.cv2), gini.add(shape.gini), effective.add(shape.effective);
        over_1.add(overflow(counts, 1)), over_125.add(overflow(counts, 1.25)), over_2.add(overflow(counts, 2));
        n_starving += shape.n_starving;
        double sum = 0;
        for (const double p : gates) sum += p;
        if (sum > 0)
            mass.add(*std::max_element(gates.begin(), gates.end()) * static_cast<double>(gates.size()) / sum - 1);
    }
    if (cv2.n == 0) return;
    out.add("load.min", -least.max), out.add("load.cv2", cv2.mean()), out.add("load.gini", gini.mean());
    out.add("load.effective", effective.mean()), out.add("load.starving", static_cast<double>(n_starving));
    if (mass.n > 0) out.add("gate_mass.max_vio", mass.mean());
    out.add("overflow.1", over_1.mean()), out.add("overflow.1.25", over_125.mean()),
        out.add("overflow.2", over_2.mean());
}

// What sub-layers and experts add to the sums they are part of; experts on the same tokens; tokens behind an entry.
void add_contributions(const TrainingStep& s, bool by_layer, ScalarList& out) {
    Mean attn, attn_cosine, mlp, mlp_cosine, routed, routed_cosine, shared;
    for (size_t i = 0; i < s.writes.size(); ++i) {
        const WriteStats& w = s.writes[i];
        const bool is_mlp = i > 0 && s.writes[i - 1].layer == w.layer;
        (is_mlp ? mlp : attn).add(w.share), (is_mlp ? mlp_cosine : attn_cosine).add(w.cosine);
        if (by_layer) out.add(layer_name(w.layer, is_mlp ? "contribution.mlp" : "contribution.attn"), w.share);
    }
    if (attn.n > 0) out.add("contribution.attn", attn.mean()), out.add("contribution.attn.cosine", attn_cosine.mean());
    if (mlp.n > 0) out.add("contribution.mlp", mlp.mean()), out.add("contribution.mlp.cosine", mlp_cosine.mean());
    for (const ExpertStats& e : s.experts) {
        routed.add(e.contribution), routed_cosine.add(e.cosine);
        if (!std::isnan(e.shared)) shared.add(e.shared);
        if (by_layer) out.add(layer_name(e.layer, "experts.contribution"), e.contribution);
    }
    if (routed.n > 0) out.add("experts.contribution", routed.mean());
    if (routed.n > 0) out.add("experts.contribution.cosine", routed_cosine.mean());
    if (shared.n > 0) out.add("experts.contribution.shared", shared.mean());
}

void add_representations(const TrainingStep& s, bool by_layer, ScalarList& out) {
    Mean cosine, most, cka, r2;
    for (const ExpertOutputs& e : s.expert_outputs) {
        const Redundancy r = expert_redundancy(e.values, e.n_experts, e.n_tokens);
        cosine.add(r.cosine), most.add(r.most);
        if (by_layer) out.add(layer_name(e.layer, "experts.redundancy"), r.cosine);
        if (std::isnan(r.cka)) continue;
        cka.add(r.cka);
        if (by_layer) out.add(layer_name(e.layer, "experts.cka"), r.cka);
    }
    if (cosine.n > 0) out.add("experts.redundancy", cosine.mean()), out.add("experts.redundancy.max", most.max);
    if (cka.n > 0) out.add("experts.cka", cka.mean());
    for (const CompressorStats& c : s.compressors) {
        const double value = linear_probe_r2(c.entries, c.tokens, c.n_entries);
        if (std::isnan(value)) continue;
        r2.add(value);
        if (by_layer) out.add(layer_name(c.layer, "compressor.r2"), value);
    }
    if (r2.n > 0) out.add("compressor.r2", r2.mean());
}

// Streams in what sites read and where they write.
void add_streams_used(const TrainingStep& s, bool by_layer, ScalarList& out) {
    Mean dynamic, read, written;
    for (size_t i = 0; i < s.hypers.size(); ++i) {
        const HyperStats& h = s.hypers[i];
        const bool is_mlp = i > 0 && s.hypers[i - 1].layer == h.layer;
        dynamic.add(h.dynamic);
        if (h.reads.empty()) continue;
        read.add(*std::max_element(h.reads.begin(), h.reads.end()));
        written.add(*std::max_element(h.writes.begin(), h.writes.end()));
        for (size_t n = 0; n < h.reads.size() && by_layer; ++n) {
            const std::string site = is_mlp ? "hyper.mlp." : "hyper.attn.", stream = "." + std::to_string(n);
            out.add(layer_name(h.layer, site + "read" + stream), h.reads[n]);
            out.add(layer_name(h.layer, site + "write" + stream), h.writes[n]);
        }
    }
    if (dynamic.n > 0) out.add("hyper.dynamic", dynamic.mean());
    if (read.n > 0) out.add("hyper.read.most", read.mean()), out.add("hyper.write.most", written.mean());
}

// Exponents e of block scales 2^e: least, median (the lower one), most, and the share of blocks at each in between.
void add_block_scales(const std::string& name, const std::array<int64_t, 256>& blocks, ScalarList& out) {
    constexpr int kBias = 127;
    int64_t n = 0, below = 0;
    int least = -1, most = 0, median = -1;
    for (int code = 0; code < 256; ++code) {
        if (blocks[static_cast<size_t>(code)] == 0) continue;
        n += blocks[static_cast<size_t>(code)], most = code;
        if (least < 0) least = code;
    }
    if (n == 0) return;
    for (int code = least; code <= most; ++code) {
        const int64_t here = blocks[static_cast<size_t>(code)];
        below += here;
        if (median < 0 && 2 * below >= n) median = code;
        out.add(name + ".at." + std::to_string(code - kBias), static_cast<double>(here) / static_cast<double>(n));
    }
    out.add(name + ".least", least - kBias), out.add(name + ".median", median - kBias),
        out.add(name + ".most", most - kBias);
}

void add_rounding(const RoundingCounts& counts, ScalarList& out) {
    const auto share = [&](const std::string& format, const char* name, const cpu::RoundingCount& c) {
        if (c.n == 0) return;
        out.add(format + ".saturated." + name, static_cast<double>(c.saturated) / static_cast<double>(c.n));
        out.add(format + ".underflow." + name, static_cast<double>(c.flushed) / static_cast<double>(c.n));
        add_block_scales(format + ".scale." + name, c.scales, out);
    };
    share("fp8", "weights", counts.weights), share("fp8", "activations", counts.activations);
    share("fp8", "cache", counts.cache);
    share("fp4", "experts", counts.fp4_experts), share("fp4", "index", counts.fp4_index);
}

void add_indexers(const TrainingStep& s, bool by_layer, ScalarList& out) {
    Mean recall, mass, overlap, coverage, rank, ndcg, least;
    for (const IndexerStats& i : s.indexers) {
        if (std::isnan(i.recall)) continue;
        recall.add(i.recall), mass.add(i.mass), overlap.add(i.overlap), coverage.add(i.coverage);
        rank.add(i.rank), ndcg.add(i.ndcg);
        for (const double r : i.by_head) least.add(-r);
        if (!by_layer) continue;
        out.add(layer_name(i.layer, "indexer.recall"), i.recall);
        out.add(layer_name(i.layer, "indexer.rank_correlation"), i.rank),
            out.add(layer_name(i.layer, "indexer.ndcg"), i.ndcg);
        for (size_t h = 0; h < i.by_head.size(); ++h)
            out.add(layer_name(i.layer, "indexer.recall.head." + std::to_string(h)), i.by_head[h]);
    }
    if (recall.n == 0) return;
    out.add("indexer.recall", recall.mean()), out.add("indexer.mass_recall", mass.mean());
    out.add("indexer.overlap", overlap.mean()), out.add("indexer.coverage", coverage.mean());
    out.add("indexer.rank_correlation", rank.mean()), out.add("indexer.ndcg", ndcg.mean());
    if (least.n > 0) out.add("indexer.recall.least", -least.max);
}

// max_vio, load_entropy and dead experts of one layer.
struct LayerLoads {
    double violation, entropy;
    int n_dead;
};
LayerLoads layer_loads(const std::vector<double>& chosen) {
    const std::vector<int64_t> counts(chosen.begin(), chosen.end());
    const LoadStats stats = load_stats(counts);
    return {stats.max_violation, stats.max_entropy > 0 ? stats.entropy / stats.max_entropy : 1, stats.n_dead};
}

void add_step_loads(const TrainingStep& s, const ModelConfig& c, const StepDetail& detail, ScalarList& out) {
    std::vector<std::vector<double>> chosen;
    for (const LayerLoad& l : s.loads) chosen.push_back(l.chosen);
    std::vector<bool> is_counted = balanced_layers(c);
    is_counted.resize(std::max(is_counted.size(), chosen.size()), true);
    add_loads(chosen, is_counted, "", out);
    if (!detail.by_layer) return;
    std::vector<bool> is_hashed(is_counted.size());
    for (size_t l = 0; l < c.layers.size(); ++l) is_hashed[l] = c.layers[l].is_hash_routed && !is_counted[l];
    add_loads(chosen, is_hashed, "hash.", out);
    for (size_t l = 0; l < chosen.size(); ++l) {
        if (chosen[l].empty()) continue;
        const LayerLoads loads = layer_loads(chosen[l]);
        const int layer = static_cast<int>(l);
        out.add(layer_name(layer, "max_vio"), loads.violation), out.add(layer_name(layer, "load_entropy"), loads.entropy);
        out.add(layer_name(layer, "dead_experts"), loads.n_dead);
        const double sum = std::accumulate(chosen[l].begin(), chosen[l].end(), 0.0);
        for (size_t e = 0; e < chosen[l].size() && detail.has_shares && sum > 0; ++e)
            out.add(layer_name(layer, "load.share." + std::to_string(e)), chosen[l][e] / sum);
    }
    add_load_shapes(s, is_counted, out);
}

}  // namespace

std::string layer_name(int layer, const std::string& what) {
    return "layers." + std::to_string(layer) + "." + what;
}

void ScalarList::add(const std::string& name, double value) { out_.push_back({name, value}); }

std::vector<bool> balanced_layers(const ModelConfig& c) {
    std::vector<bool> is_counted;
    for (const LayerConfig& l : c.layers) is_counted.push_back(!l.is_hash_routed);
    const bool is_any = std::find(is_counted.begin(), is_counted.end(), true) != is_counted.end();
    if (!is_any) is_counted.assign(is_counted.size(), true);
    is_counted.resize(is_counted.size() + static_cast<size_t>(c.n_mtp_layers), is_any);
    return is_counted;
}

void add_loads(const std::vector<std::vector<double>>& chosen, const std::vector<bool>& is_counted, const std::string& prefix,
               ScalarList& out) {
    Mean violation, entropy;
    int64_t n_dead = 0, n_experts = 0;
    for (size_t l = 0; l < chosen.size(); ++l) {
        if (chosen[l].empty() || !is_counted[l]) continue;
        const LayerLoads loads = layer_loads(chosen[l]);
        violation.add(loads.violation), entropy.add(loads.entropy);
        n_dead += loads.n_dead, n_experts += static_cast<int64_t>(chosen[l].size());
    }
    if (violation.n == 0) return;
    out.add(prefix + "max_vio", violation.mean()), out.add(prefix + "max_vio.max", violation.max);
    out.add(prefix + "load_entropy", entropy.mean()), out.add(prefix + "dead_experts", static_cast<double>(n_dead));
    out.add(prefix + "dead_share", static_cast<double>(n_dead) / static_cast<double>(n_experts));
}

void add_training_step(const TrainingStep& s, const ModelConfig& c, const StepDetail& detail, ScalarList& out) {
    const bool by_layer = detail.by_layer;
    add_step_loads(s, c, detail, out);
    std::map<std::string, Mean> losses;
    for (const AuxiliaryLoss& l : s.losses) {
        // Of weight 0: measured, no part of the loss.
        const std::string name = (l.weight == 0 ? "" : "loss.") + std::string(l.name);
        losses[name].add(l.value);
        if (by_layer) out.add(layer_name(l.layer, name), l.value);
    }
    for (const auto& [name, mean] : losses) out.add(name, mean.mean());
    add_contributions(s, by_layer, out);
    add_representations(s, by_layer, out);
    Mean logit, entropy, window, entries, sink, reach;
    for (const AttentionStats& a : s.attention) {
        logit.add(a.max_logit), entropy.add(a.entropy), window.add(a.window), entries.add(a.entries), sink.add(a.sink);
        if (by_layer) out.add(layer_name(a.layer, "attention.max_logit"), a.max_logit);
        if (by_layer) out.add(layer_name(a.layer, "attention.entropy"), a.entropy);
        if (by_layer) out.add(layer_name(a.layer, "attention.entries"), a.entries);
        if (by_layer) out.add(layer_name(a.layer, "attention.sink"), a.sink);
        if (by_layer) out.add(layer_name(a.layer, "attention.effective_context"), a.reach);
        reach.add(a.reach);
    }
    if (logit.n > 0) {
        out.add("attention.max_logit", logit.max), out.add("attention.entropy", entropy.mean());
        out.add("attention.window", window.mean()), out.add("attention.entries", entries.mean());
        out.add("attention.sink", sink.mean()), out.add("attention.effective_context", reach.mean());
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
    Mean pooling, position;
    for (const CompressorStats& e : s.compressors) {
        pooling.add(e.entropy), position.add(e.position);
        if (by_layer) out.add(layer_name(e.layer, "compressor.entropy"), e.entropy);
        if (by_layer) out.add(layer_name(e.layer, "compressor.position"), e.position);
    }
    if (pooling.n > 0) out.add("compressor.entropy", pooling.mean()), out.add("compressor.position", position.mean());
    add_streams_used(s, by_layer, out);
    add_rounding(s.rounding, out);
    add_indexers(s, by_layer, out);
}

void add_updates(const Masters& masters, const std::vector<UpdateSums>& sums, const std::vector<double>& squares, int n_layers,
                 bool by_layer, ScalarList& out) {
    std::map<std::string, UpdateSums> groups;
    std::map<int, UpdateSums> layers;
    std::map<int, double> gradient_squares;
    for (size_t i = 0; i < sums.size(); ++i) {
        const Leaf& leaf = masters.leaves()[i];
        const int layer = layer_of(leaf.name, n_layers);
        gradient_squares[layer] += squares[i];
        layers[layer].weight += sums[i].weight, layers[layer].update += sums[i].update;
        if (sums[i].count == 0) continue;
        UpdateSums& g = groups[weight_group(leaf)];
        g.weight += sums[i].weight, g.update += sums[i].update, g.surprise += sums[i].surprise, g.count += sums[i].count;
    }
    for (const auto& [name, g] : groups) {
        const auto n = static_cast<double>(g.count);
        if (g.weight > 0) out.add("update_ratio." + name, std::sqrt(g.update / g.weight));
        out.add("update_rms." + name, std::sqrt(g.update / n)), out.add("weight_rms." + name, std::sqrt(g.weight / n));
        if (g.surprise > 0) out.add("surprise." + name, std::sqrt(g.surprise / n));
    }
    if (!by_layer) return;
    for (const auto& [layer, square] : gradient_squares)
        if (layer >= 0) out.add(layer_name(layer, "grad_norm"), std::sqrt(square));
    for (const auto& [layer, sum] : layers)
        if (layer >= 0 && sum.weight > 0)
            out.add(layer_name(layer, "update_ratio"), std::sqrt(sum.update / sum.weight));
}

void add_muon_rms(const Masters& masters, const std::vector<UpdateSums>& sums, double ideal, bool by_group, ScalarList& out) {
    std::map<std::string, UpdateSums> groups;
    UpdateSums all;
    const auto& leaves = masters.leaves();
    for (size_t i = 0; i < sums.size(); ++i) {
        if (moved_by(leaves[i], OptimizerKind::muon) != MovedBy::muon || sums[i].count == 0) continue;
        for (UpdateSums* to : {&all, &groups[weight_group(leaves[i])]})
            to->update += sums[i].update, to->count += sums[i].count;
    }
    if (all.count == 0 || !(ideal > 0)) return;
    const auto ratio = [&](const UpdateSums& u) { return std::sqrt(u.update / static_cast<double>(u.count)) / ideal; };
    out.add("muon.rms_ratio", ratio(all));
    for (const auto& [name, sum] : groups)
        if (by_group) out.add("muon.rms_ratio." + name, ratio(sum));
}

namespace {

// Largest singular value of a [n, m] by power iteration.
template <class T>
double largest_singular_value(const T* a, int64_t n, int64_t m) {
    constexpr int kIterations = 12;
    std::vector<double> v(static_cast<size_t>(m)), u(static_cast<size_t>(n));
    for (size_t j = 0; j < v.size(); ++j) v[j] = 1 + 0.5 * std::sin(static_cast<double>(j + 1));
    double sigma = 0;
    for (int k = 0; k < kIterations; ++k) {
        double norm = 0;
        for (double x : v) norm += x * x;
        if (norm == 0) break;
        norm = std::sqrt(norm);
        for (double& x : v) x /= norm;
        double square = 0;
        for (int64_t r = 0; r < n; ++r) {
            double s = 0;
            for (int64_t j = 0; j < m; ++j) s += static_cast<double>(a[r * m + j]) * v[static_cast<size_t>(j)];
            u[static_cast<size_t>(r)] = s, square += s * s;
        }
        sigma = std::sqrt(square);
        std::fill(v.begin(), v.end(), 0.0);
        for (int64_t r = 0; r < n; ++r)
            for (int64_t j = 0; j < m; ++j)
                v[static_cast<size_t>(j)] += static_cast<double>(a[r * m + j]) * u[static_cast<size_t>(r)];
    }
    return sigma;
}

// What a layer's matrices could make of a signal on their own: 1 + the product along its value path, times the same of its
// experts (the largest of the routed ones, and the shared one).
struct LayerProduct {
    double attention = 1;
    std::map<std::string, double> experts;  // w2 times w3, by what comes before those names
    double of() const {
        double routed = 0, shared = 0;
        for (const auto& [name, product] : experts) {
            const bool is_shared = name.find(".shared_experts") != std::string::npos;
            (is_shared ? shared : routed) = std::max(is_shared ? shared : routed, product);
        }
        return (1 + attention) * (1 + routed + shared);
    }
};

}  // namespace

void add_spectral(Ctx& ctx, const Masters& masters, int n_layers, ScalarList& out) {
    const auto& leaves = masters.leaves();
    std::vector<double> sigma(leaves.size());  // of a stack of matrices: of the one that has most
    ctx.pool.parallel_for(static_cast<int64_t>(leaves.size()), 1, [&](int64_t i0, int64_t i1) {
        for (int64_t i = i0; i < i1; ++i) {
            const Leaf& leaf = leaves[static_cast<size_t>(i)];
            const Tensor& w = leaf.param->master;
            if (w.shape.rank != 2) continue;
            const int64_t n = w.dim(0) / leaf.n_matrices;
            with_real(w.dtype, [&](auto real) {
                for (int k = 0; k < leaf.n_matrices; ++k)
                    sigma[static_cast<size_t>(i)] = std::max(sigma[static_cast<size_t>(i)],
                                                             largest_singular_value(w.row<decltype(real)>(k * n), n, w.dim(1)));
            });
        }
    });
    std::map<std::string, double> largest;
    std::map<int, LayerProduct> products;
    for (size_t i = 0; i < leaves.size(); ++i) {
        if (double& most = largest[weight_group(leaves[i])]; sigma[i] > most) most = sigma[i];
        const std::string& name = leaves[i].name;
        const int layer = layer_of(name, n_layers);
        if (layer < 0 || layer >= n_layers) continue;
        for (const char* part : {".attn.wo_b.weight", ".attn.wo_a.weight", ".attn.wkv.weight", ".attn.wv.weight",
                                 ".attn.wkv_a.weight", ".attn.wv_b.weight"})
            if (name.ends_with(part)) products[layer].attention *= sigma[i];
        for (const char* part : {".w2.weight", ".w3.weight"})
            if (name.ends_with(part)) {
                auto& experts = products[layer].experts;
                const auto at = experts.emplace(name.substr(0, name.size() - 9), 1).first;
                at->second *= sigma[i];
            }
    }
    for (const auto& [group, s] : largest)
        if (s > 0) out.add("spectral." + group, s);
    double decades = 0;
    for (const auto& [layer, product] : products) {
        out.add(layer_name(layer, "spectral.product"), product.of());
        decades += std::log10(product.of());
    }
    if (!products.empty()) out.add("spectral.product", decades);
}

}  // namespace vitrine
