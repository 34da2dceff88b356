// Checks of what the views drew. Every expected number comes from the vectors or is computed here, never from the
// panels' code.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <set>

#include "engine/model/kv_cache.h"
#include "tests/viz/truth.h"

namespace vitrine::viz::test {
namespace {

// FP32 engine against FP32 and FP64 references. Largest differences measured over flashlike, prolike and the seedling;
// each tolerance is ten times that or less.
//   index score 5.2e-6 (relative above 1), affinity 1.2e-6, weight 4.8e-7, share 2.5e-7, inner weight 2.6e-7,
//   sums 1.2e-7, mixing matrix 1.2e-6, post 2.4e-6, singular value and row sum 5.4e-7, gain 7.0e-7, probability 3.6e-7,
//   entropy 1.7e-6
constexpr double kScore = 5e-5, kAffinity = 1e-5, kWeight = 4e-6, kShare = 2e-6, kInner = 2e-6, kSum = 8e-7,
                 kMixing = 1e-5, kSigma = 3e-6, kGain = 4e-6, kProbability = 3e-6, kEntropy = 1e-5;

class Report {
  public:
    Violations list;
    std::string where;
    void near(const std::string& what, const std::optional<double>& got, double want, double tolerance) {
        if (!got) return fail(what + " is not drawn");
        if (!(std::abs(*got - want) <= tolerance))
            fail(what + " is " + std::to_string(*got) + ", expected " + std::to_string(want));
    }
    void is_true(bool ok, const std::string& what) {
        if (!ok) fail(what);
    }
    void fail(const std::string& what) { list.push_back(where + ": " + what); }
};

std::string at(int64_t t, int layer) {
    return "token " + std::to_string(t) + ", layer " + std::to_string(layer);
}

void point(Stage& stage, const std::string& view, const Snapshot& s, int64_t t, int layer) {
    stage.cursor.token = {1, t};
    stage.cursor.layer = layer;
    stage.draw(view, s);
}

std::set<int> chosen_of(const vitrine::test::Array& a, int64_t t) {
    std::set<int> s;
    for (int64_t i = 0; i < a.width(); ++i)
        if (a.at(t, i) >= 0) s.insert(static_cast<int>(a.at(t, i)));
    return s;
}

double affinity(double logit) {
    return std::sqrt(std::max(logit, 0.0) + std::log1p(std::exp(-std::abs(logit))));
}

// The K experts of the highest affinity, lowest index first on ties; empty when the gap at the K-th is too small to
// tell.
std::set<int> best_by_affinity(const std::vector<double>& a, size_t k) {
    std::vector<int> order(a.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int x, int y) { return a[x] > a[y]; });
    if (k < a.size() && a[order[k - 1]] - a[order[k]] <= 1e-5) return {};
    return {order.begin(), order.begin() + static_cast<std::ptrdiff_t>(k)};
}

void check_hash_row(Report& r, const Stage& stage, size_t k) {
    for (size_t i = 0; i < k; ++i)
        for (const char* column : {"bias", "score", "margin"})
            r.is_true(!stage.number("routing/why/rank/" + std::to_string(i) + "/" + column),
                      std::string("a hash layer shows a ") + column);
    r.is_true(stage.numbers("routing/why/without_bias/").empty(), "a hash layer tells a choice without the bias");
    r.is_true(stage.text("routing/why/sentence").find("token id table") != std::string::npos,
              "the sentence does not name the token id table");
}

void check_learned_row(Report& r, const Stage& stage, const ModelRun& truth, int layer, const std::vector<double>& a,
                       size_t k) {
    for (size_t i = 0; i < k; ++i) {
        const std::string row = "routing/why/rank/" + std::to_string(i) + "/";
        const auto expert = static_cast<size_t>(stage.number(row + "expert").value_or(0));
        const double bias = truth.bias.at(layer).at(expert);
        r.near(row + "bias", stage.number(row + "bias"), bias, 0);
        r.near(row + "affinity", stage.number(row + "affinity"), a.at(expert), kAffinity);
        r.near(row + "score", stage.number(row + "score"), a.at(expert) + bias, kAffinity);
        r.is_true(stage.number(row + "margin").value_or(-1) >= 0,
                  row + "margin is negative: a better expert was left out");
    }
    const std::string last = "routing/why/rank/" + std::to_string(k - 1) + "/margin";
    r.near(last, stage.number(last), stage.number("routing/why/recorded_margin").value_or(NAN), 1e-6);
    const std::set<int> want = best_by_affinity(a, k);
    std::set<int> got;
    for (const auto& [i, expert] : stage.numbers("routing/why/without_bias/")) got.insert(static_cast<int>(expert));
    r.is_true(want.empty() || got == want, "the choice without the bias is another");
}

}  // namespace

Violations check_routing(Stage& stage, const ModelRun& truth, const Snapshot& shown,
                         const std::vector<int64_t>& tokens) {
    Report r;
    const ModelConfig& c = truth.model->config;
    for (int layer = 0; layer < c.n_layers(); ++layer)
        for (const int64_t t : tokens) {
            point(stage, "Routing", shown, t, layer);
            r.where = at(t, layer);
            const auto& ids = truth.at(layer, "mlp.hook_router_indices");
            const auto& weights = truth.at(layer, "mlp.hook_router_weights");
            const auto& logits = truth.at(layer, "mlp.hook_router_logits");
            const auto k = static_cast<size_t>(ids.width());
            std::set<int> drawn;
            for (size_t i = 0; i < k; ++i) {
                const std::string row = "routing/why/rank/" + std::to_string(i) + "/";
                const int expert = static_cast<int>(stage.number(row + "expert").value_or(-1));
                drawn.insert(expert);
                for (size_t j = 0; j < k; ++j)
                    if (static_cast<int>(ids.at(t, j)) == expert)
                        r.near(row + "weight", stage.number(row + "weight"), weights.at(t, j), kWeight);
            }
            r.is_true(drawn == chosen_of(ids, t), "other experts are drawn than were chosen");
            r.is_true(!stage.is_drawn("routing/why/rank/" + std::to_string(k) + "/expert"),
                      "too many experts are drawn");
            std::vector<double> a;
            for (int64_t e = 0; e < logits.width(); ++e) a.push_back(affinity(logits.at(t, e)));
            if (c.layers[layer].is_hash_routed)
                check_hash_row(r, stage, k);
            else if (drawn == chosen_of(ids, t))
                check_learned_row(r, stage, truth, layer, a, k);
        }
    return r.list;
}

Violations check_loads(Stage& stage, const ModelRun& truth, const Snapshot& shown) {
    Report r;
    const ModelConfig& c = truth.model->config;
    const char* spans[] = {"prompt", "thinking", "answer", "all"};
    for (int span = 0; span < 4; ++span) {
        point(stage, "Routing", shown, truth.n_tokens() - 1, 0);
        stage.click("Routing", shown, std::string("routing/span/") + spans[span]);
        for (int layer = 0; layer < c.n_layers(); ++layer) {
            point(stage, "Routing", shown, truth.n_tokens() - 1, layer);
            r.where = std::string(spans[span]) + ", layer " + std::to_string(layer);
            const auto& ids = truth.at(layer, "mlp.hook_router_indices");
            std::map<int64_t, double> want;
            for (int e = 0; e < c.n_experts; ++e) want[e] = 0;
            int64_t n = 0;
            for (int64_t t = 0; t < truth.n_tokens(); ++t) {
                if (span < 3 && static_cast<int>(shown.timeline.tokens[t].phase) != span) continue;
                ++n;
                for (int64_t i = 0; i < ids.width(); ++i) ++want[static_cast<int64_t>(ids.at(t, i))];
            }
            const auto got = stage.numbers("routing/load/expert/");
            r.is_true(got == want, "loads differ from the count of choices");
            double sum = 0;
            for (const auto& [e, count] : got) sum += count;
            r.is_true(sum == static_cast<double>(n * ids.width()), "loads do not sum to tokens times chosen experts");
            r.near("tokens", stage.number("routing/load/tokens"), static_cast<double>(n), 0);
            double highest = 0, dead = 0;
            for (const auto& [e, count] : want) highest = std::max(highest, count), dead += count == 0;
            r.near("MaxVio", stage.number("routing/load/maxvio"),
                   highest * c.n_experts / (static_cast<double>(n * ids.width())) - 1, 1e-12);
            r.near("never chosen", stage.number("routing/load/dead"), dead, 0);
        }
    }
    return r.list;
}

namespace {

void check_csa(Report& r, const Stage& stage, const ModelRun& truth, int64_t t, int layer) {
    const std::set<int> want = chosen_of(truth.at(layer, "attn.indexer.hook_topk"), t);
    const auto& scores = truth.at(layer, "attn.indexer.hook_scores");
    std::set<int> outlined, in_bars;
    double lowest = INFINITY, mass = 0;
    for (const auto& [e, m] : stage.numbers("attention/outlined/")) outlined.insert(static_cast<int>(e)), mass += m;
    for (const auto& [e, score] : stage.numbers("attention/score/chosen/")) {
        in_bars.insert(static_cast<int>(e));
        lowest = std::min(lowest, score);
        r.near("score of entry " + std::to_string(e), score, scores.at(t, e),
               kScore * std::max(1.0, std::abs(scores.at(t, e))));
    }
    r.is_true(outlined == want, "the outlined entries are not the chosen ones");
    r.is_true(in_bars == want, "the bars' chosen entries are not the chosen ones");
    const auto cut = stage.number("attention/cut"), left_out = stage.number("attention/left_out");
    if (want.empty()) return;
    r.near("CSA mass of all outlined entries", mass,
           stage.number("attention/shares/" + std::to_string(layer) + "/CSA").value_or(NAN), kSum);
    r.is_true(cut && lowest >= *cut, "the lowest chosen score is below the cut");
    const auto n_visible = static_cast<size_t>((t + 1) / 4);
    r.is_true(left_out.has_value() == (want.size() < n_visible),
              "entries were left out and the best of them is not told, or the reverse");
    if (left_out && cut) r.is_true(*cut >= *left_out, "the cut is below the best score left out");
    for (const auto& [e, score] : stage.numbers("attention/score/left/")) {
        r.is_true(cut && score <= *cut, "an entry left out scores above the cut");
        r.near("score of entry " + std::to_string(e), score, scores.at(t, e),
               kScore * std::max(1.0, std::abs(scores.at(t, e))));
    }
}

void check_hca(Report& r, const Stage& stage, int64_t t, int layer, int ratio) {
    const auto blocks = stage.numbers("attention/blocks/");
    r.is_true(static_cast<int64_t>(blocks.size()) == (t + 1) / ratio, "the number of HCA blocks is not floor((t+1)/r)");
    double mass = 0;
    for (const auto& [e, m] : blocks) mass += m;
    if (!blocks.empty())
        r.near("HCA mass of all blocks", mass,
               stage.number("attention/shares/" + std::to_string(layer) + "/HCA").value_or(NAN), kSum);
}

}  // namespace

Violations check_attention(Stage& stage, const ModelRun& truth, const Snapshot& shown,
                           const std::vector<int64_t>& tokens) {
    Report r;
    const ModelConfig& c = truth.model->config;
    stage.cursor.entry = -1;
    for (const int64_t t : tokens)
        for (int layer = 0; layer < c.n_layers(); ++layer) {
            point(stage, "Attention", shown, t, layer);
            r.where = at(t, layer);
            const LayerConfig& l = c.layers[layer];
            const std::string share = "attention/shares/" + std::to_string(layer) + "/";
            const std::string compressed = share + (l.kind() == LayerKind::hca ? "HCA" : "CSA");
            const auto& want = truth.at(layer, "attn.hook_shares");
            double sum = 0;
            int i = 0;
            for (const std::string& name : {share + "window", compressed, share + "sink"}) {
                r.near(name, stage.number(name), want.at(t, i++), kShare);
                sum += stage.number(name).value_or(NAN);
            }
            r.near("sum of shares", sum, 1, kSum);
            r.near("visible entries", stage.number("attention/n_entries"),
                   l.ratio ? static_cast<double>((t + 1) / l.ratio) : 0, 0);
            if (l.kind() == LayerKind::csa) check_csa(r, stage, truth, t, layer);
            if (l.kind() == LayerKind::hca) check_hca(r, stage, t, layer, l.ratio);
        }
    return r.list;
}

// One head at a time. Where the vectors have no heads, the mean of what was drawn must be the mean's vector.
Violations check_heads(Stage& stage, const ModelRun& truth, const Snapshot& shown, const std::vector<int64_t>& tokens) {
    Report r;
    const ModelConfig& c = truth.model->config;
    for (const int64_t t : tokens) {
        std::vector<std::array<double, 3>> mean(static_cast<size_t>(c.n_layers()), {0, 0, 0});
        for (int head = 0; head < c.n_heads; ++head) {
            stage.cursor.head = head;
            point(stage, "Attention", shown, t, 0);
            for (int layer = 0; layer < c.n_layers(); ++layer) {
                r.where = at(t, layer) + ", head " + std::to_string(head);
                const std::string share = "attention/shares/" + std::to_string(layer) + "/";
                const bool is_hca = c.layers[layer].kind() == LayerKind::hca;
                const auto want = truth.vectors.find("blocks." + std::to_string(layer) + ".attn.hook_shares_head");
                double sum = 0;
                int i = 0;
                for (const std::string& name : {share + "window", share + (is_hca ? "HCA" : "CSA"), share + "sink"}) {
                    const double drawn = stage.number(name).value_or(NAN);
                    if (want != truth.vectors.end()) r.near(name, drawn, want->second.at(t, head * 3 + i), kShare);
                    mean[static_cast<size_t>(layer)][static_cast<size_t>(i++)] += drawn / c.n_heads;
                    sum += drawn;
                }
                r.near("sum of shares", sum, 1, kSum);
            }
        }
        for (int layer = 0; layer < c.n_layers(); ++layer)
            for (int i = 0; i < 3; ++i)
                r.near("mean over heads of layer " + std::to_string(layer),
                       mean[static_cast<size_t>(layer)][static_cast<size_t>(i)],
                       truth.at(layer, "attn.hook_shares").at(t, i), kShare);
    }
    stage.cursor.head = -1;
    return r.list;
}

Violations check_entries(Stage& stage, const ModelRun& truth, const Snapshot& shown) {
    Report r;
    const ModelConfig& c = truth.model->config;
    const int64_t t = truth.n_tokens() - 1;
    for (int layer = 0; layer < c.n_layers(); ++layer) {
        const LayerConfig& l = c.layers[layer];
        if (l.ratio == 0) continue;
        const bool is_csa = l.kind() == LayerKind::csa;
        const auto& weights = truth.at(layer, "attn.compressor.hook_weights");
        for (int64_t e = 0; e < (t + 1) / l.ratio; ++e) {
            stage.cursor.entry = static_cast<int>(e);
            point(stage, "Attention", shown, t, layer);
            r.where = "entry " + std::to_string(e) + ", layer " + std::to_string(layer);
            const double begin = static_cast<double>(e * l.ratio);
            r.near("first own token", stage.number("attention/entry/own_begin"), begin, 0);
            r.near("end of own tokens", stage.number("attention/entry/own_end"), begin + l.ratio, 0);
            const double before = is_csa && e > 0 ? begin - 4 : begin;
            r.near("first overlapped token", stage.number("attention/entry/overlapped_begin"), before, 0);
            r.near("end of overlapped tokens", stage.number("attention/entry/overlapped_end"), begin, 0);
            const auto pool = stage.numbers("attention/entry/pool/");
            r.is_true(static_cast<int64_t>(pool.size()) == (is_csa ? 8 : l.ratio), "wrong number of inner weights");
            double sum = 0;
            for (const auto& [i, w] : pool) {
                sum += w;
                if (i < weights.width()) r.near("inner weight " + std::to_string(i), w, weights.at(e, i), kInner);
            }
            r.near("sum of inner weights", sum, 1, kSum);
            r.is_true(stage.text("attention/entry/sentence")
                              .find("Entry " + std::to_string(e) + " (tokens " + std::to_string(e * l.ratio) + "-" +
                                    std::to_string((e + 1) * l.ratio - 1) + ")") == 0,
                      "the sentence names other tokens");
        }
    }
    stage.cursor.entry = -1;
    return r.list;
}

namespace {

void check_site(Report& r, const Stage& stage, const ModelRun& truth, int64_t t, int layer, bool is_mlp) {
    const std::string site = is_mlp ? "mlp_hc." : "attn_hc.";
    const int n = truth.model->config.hc_mult;
    const auto& comb = truth.at(layer, site + "hook_comb");
    const auto& sigma = truth.at(layer, site + "hook_sigma");
    for (int j = 0; j < n; ++j) {
        double row = 0, column = 0;
        for (int k = 0; k < n; ++k) {
            const std::string name = "streams/comb/" + std::to_string(j) + "/" + std::to_string(k);
            r.near(name, stage.number(name), comb.at(t, j * n + k), kMixing);
            row += comb.at(t, j * n + k), column += comb.at(t, k * n + j);
        }
        r.near("row sum " + std::to_string(j), stage.number("streams/row_sum/" + std::to_string(j)), row, kSigma);
        r.near("column sum " + std::to_string(j), stage.number("streams/column_sum/" + std::to_string(j)), column,
               kSigma);
        const auto& post = truth.at(layer, site + "hook_post");
        r.near("post " + std::to_string(j), stage.number("streams/post/" + std::to_string(j)), post.at(t, j), kMixing);
    }
    r.near("sigma1", stage.number("streams/sigma1"), sigma.at(t, 0), kSigma);
    r.near("sigma2", stage.number("streams/sigma2"), sigma.at(t, 1), kSigma);
    if (!is_mlp) return;
    r.near("forward gain", stage.number("streams/gain/selected/forward"), truth.at(layer, "hook_gain_fwd").at(t, 0),
           kGain);
    r.near("backward gain", stage.number("streams/gain/selected/backward"), truth.at(layer, "hook_gain_bwd").at(t, 0),
           kGain);
}

}  // namespace

Violations check_streams(Stage& stage, const ModelRun& truth, const Snapshot& shown,
                         const std::vector<int64_t>& tokens) {
    Report r;
    const ModelConfig& c = truth.model->config;
    for (const bool is_mlp : {false, true}) {
        point(stage, "Streams", shown, 0, 0);
        stage.click("Streams", shown, is_mlp ? "streams/site/MLP" : "streams/site/attention");
        for (const int64_t t : tokens) {
            for (int layer = 0; layer < c.n_layers(); ++layer) {
                point(stage, "Streams", shown, t, layer);
                r.where = at(t, layer) + (is_mlp ? ", MLP" : ", attention");
                check_site(r, stage, truth, t, layer, is_mlp);
            }
            double smallest = INFINITY;
            for (int layer = 0; layer < c.n_layers(); ++layer)
                for (const char* site : {"attn_hc.hook_sigma", "mlp_hc.hook_sigma"})
                    smallest = std::min(smallest, truth.at(layer, site).at(t, 1));
            r.near("smallest sigma2", stage.number("streams/fastest/sigma2"), smallest, kSigma);
        }
    }
    return r.list;
}

namespace {

// Bytes that one layer's allocator holds of one kind: rows by the specification's formulas, as many as the cache's
// published slack asks for beyond what the next token needs; entries come in whole blocks.
uint64_t held_bytes(const ModelConfig& c, const LayerConfig& l, CacheKind kind, int64_t n, bool is_packed) {
    const auto plain = static_cast<uint64_t>(c.head_dim - c.rope_dim), key = static_cast<uint64_t>(c.index_head_dim);
    const uint64_t packed_row = (plain + 2 * static_cast<uint64_t>(c.rope_dim) + (plain + 63) / 64 + 7) / 8 * 8;
    const uint64_t row = is_packed ? packed_row : 4 * static_cast<uint64_t>(c.head_dim);
    const uint64_t key_row = is_packed ? (key + 1) / 2 + (key + 31) / 32 : 4 * key;
    const uint64_t slack = kRollbackSlack + kMaxChunk, o = l.ratio == 4 ? 2 : 1;
    const uint64_t n_entries = l.ratio ? static_cast<uint64_t>(n / l.ratio) : 0,
                   in_blocks = (n_entries + kEntriesPerBlock - 1) / kEntriesPerBlock * kEntriesPerBlock;
    switch (kind) {
        case CacheKind::window:
            return (static_cast<uint64_t>(c.sliding_window) - 1 + slack) * row;
        case CacheKind::csa_entries:
            return l.ratio == 4 ? in_blocks * row : 0;
        case CacheKind::hca_entries:
            return l.ratio != 0 && l.ratio != 4 ? in_blocks * row : 0;
        case CacheKind::index_keys:
            return l.ratio == 4 ? in_blocks * key_row : 0;
        default:
            break;
    }
    if (l.ratio == 0) return 0;
    const uint64_t rows = o * static_cast<uint64_t>(l.ratio) + slack,
                   floats = o * (static_cast<uint64_t>(c.head_dim) + (l.ratio == 4 ? key : 0));
    return rows * floats * 2 * 4;
}

}  // namespace

Violations check_next(Stage& stage, const ModelRun& truth, const Snapshot& shown, const std::vector<int64_t>& tokens) {
    Report r;
    const auto& logits = truth.vectors.at("logits");
    for (const int64_t t : tokens) {
        point(stage, "Overview", shown, t, 0);
        r.where = "token " + std::to_string(t);
        double highest = -INFINITY, z = 0, entropy = 0;
        int64_t best = 0;
        for (int64_t i = 0; i < logits.width(); ++i)
            if (logits.at(t, i) > highest) highest = logits.at(t, i), best = i;
        for (int64_t i = 0; i < logits.width(); ++i) z += std::exp(logits.at(t, i) - highest);
        for (int64_t i = 0; i < logits.width(); ++i) {
            const double p = std::exp(logits.at(t, i) - highest) / z;
            if (p > 0) entropy -= p * std::log(p);
        }
        r.near("most probable token", stage.number("overview/next/id/0"), static_cast<double>(best), 0);
        for (const auto& [i, p] : stage.numbers("overview/next/")) {
            const auto id = static_cast<int64_t>(stage.number("overview/next/id/" + std::to_string(i)).value_or(0));
            r.near("probability " + std::to_string(i), p, std::exp(logits.at(t, id) - highest) / z, kProbability);
        }
        r.near("entropy", stage.number("overview/entropy"), entropy, kEntropy);
    }
    return r.list;
}

Violations check_cache(Stage& stage, const ModelRun& truth, const Snapshot& shown) {
    Report r;
    r.where = "cache";
    point(stage, "Cache", shown, truth.n_tokens() - 1, 0);
    const ModelConfig& c = truth.model->config;
    const bool is_packed = truth.model->numerics == Numerics::reference;
    double total = 0;
    for (int k = 0; k < kCacheKinds; ++k) {
        const auto kind = static_cast<CacheKind>(k);
        uint64_t want = 0;
        for (size_t l = 0; l < c.layers.size(); ++l) {
            const uint64_t bytes = held_bytes(c, c.layers[l], kind, truth.n_tokens(), is_packed);
            r.is_true(shown.cache.layers.at(l).allocated[k] == bytes, std::string(cache_kind_name(kind)) +
                                                                          " of layer " + std::to_string(l) +
                                                                          " is not what the formula says");
            want += bytes;
        }
        const std::string row = std::string("cache/kinds/") + cache_kind_name(kind) + "/";
        r.near(row + "held now", stage.number(row + "held now"), static_cast<double>(want), 0);
        r.near(row + "formula", stage.number(row + "formula"), static_cast<double>(want), 0);
        total += static_cast<double>(want);
    }
    r.near("total", stage.number("cache/kinds/total/held now"), total, 0);
    r.near("check light", stage.number("cache/check"), 1, 0);
    return r.list;
}

}  // namespace vitrine::viz::test
