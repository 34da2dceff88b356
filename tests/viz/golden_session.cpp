// A finished conversation made of the reference vectors.
#include "tests/viz/golden_session.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "engine/base/error.h"
#include "engine/model/config.h"
#include "engine/telemetry/derive.h"
#include "engine/weights/checkpoint.h"

namespace vitrine::viz::test {
namespace {

constexpr float kMinusInf = -std::numeric_limits<float>::infinity();

std::string source(const std::string& path) { return std::string(VITRINE_SOURCE_DIR "/tests/golden/") + path; }

// One token's record in the making: every float array passes `change` first.
struct Writer {
    RecordBuilder builder;
    int64_t position;
    const Change& change;
    void put(Probe p, int layer, std::vector<float> v, int rows = 1) {
        if (change) change(position, layer, p, v);
        const int n = static_cast<int>(v.size());
        if (probe_info(p).is_int) {
            const std::vector<int32_t> ints(v.begin(), v.end());
            builder.put(0, p, layer, ints.data(), rows, n / rows);
        } else {
            builder.put(0, p, layer, v.data(), rows, n / rows);
        }
    }
};

std::vector<float> copied(std::span<const float> s) { return {s.begin(), s.end()}; }

void put_mixing(Writer& w, const Vectors& v, int layer, int n) {
    const int64_t t = w.position;
    w.put(kAttnHcComb, layer, copied(v.at(layer, "attn_hc.hook_comb").row(t)), n);
    w.put(kMlpHcComb, layer, copied(v.at(layer, "mlp_hc.hook_comb").row(t)), n);
    w.put(kAttnHcPost, layer, copied(v.at(layer, "attn_hc.hook_post").row(t)));
    w.put(kMlpHcPost, layer, copied(v.at(layer, "mlp_hc.hook_post").row(t)));
    const auto streams = v.at(layer, "hook_out").row(t);
    const int width = static_cast<int>(streams.size()) / n;
    std::vector<float> norms(n), cosines(static_cast<size_t>(n) * n);
    const auto dot = [&](int a, int b) {
        double sum = 0;
        for (int i = 0; i < width; ++i) sum += double{streams[a * width + i]} * streams[b * width + i];
        return sum;
    };
    for (int a = 0; a < n; ++a) norms[a] = static_cast<float>(std::sqrt(dot(a, a)));
    for (int a = 0; a < n; ++a)
        for (int b = 0; b < n; ++b) cosines[a * n + b] = static_cast<float>(dot(a, b) / std::sqrt(dot(a, a) * dot(b, b)));
    w.put(kStreamNorms, layer, norms);
    w.put(kStreamSimilarity, layer, cosines, n);
}

// The vectors do not order the chosen experts; the record does, best first, but keeps the table's order of hash layers.
void put_router(Writer& w, const Vectors& v, const ModelInfo& model, int layer) {
    const auto logits = v.at(layer, "mlp.hook_router_logits").row(w.position);
    std::vector<float> affinity(logits.size()), selection;
    for (size_t e = 0; e < logits.size(); ++e) {
        const double z = logits[e];
        affinity[e] = static_cast<float>(std::sqrt(std::max(z, 0.0) + std::log1p(std::exp(-std::abs(z)))));
    }
    const auto ids = v.at(layer, "mlp.hook_router_indices").int_row(w.position);
    const auto weights = v.at(layer, "mlp.hook_router_weights").row(w.position);
    std::vector<int> order(ids.size());
    std::iota(order.begin(), order.end(), 0);
    selection = affinity;
    if (!model.router_bias[layer].empty()) {
        for (size_t e = 0; e < selection.size(); ++e) selection[e] += model.router_bias[layer][e];
        std::sort(order.begin(), order.end(), [&](int a, int b) { return selection[ids[a]] > selection[ids[b]]; });
        float left_out = kMinusInf;
        for (int e = 0; e < static_cast<int>(selection.size()); ++e)
            if (std::find(ids.begin(), ids.end(), e) == ids.end()) left_out = std::max(left_out, selection[e]);
        w.put(kRouterMargin, layer, {selection[ids[order.back()]] - left_out});
    }
    std::vector<float> chosen, chosen_weights;
    for (const int i : order) chosen.push_back(static_cast<float>(ids[i])), chosen_weights.push_back(weights[i]);
    w.put(kRouterScores, layer, affinity);
    w.put(kRouterIndices, layer, chosen);
    w.put(kRouterWeights, layer, chosen_weights);
}

void put_picks(Writer& w, const Vectors& v, int layer, int64_t n_entries) {
    const auto picks = v.at(layer, "attn.indexer.hook_topk").int_row(w.position);
    const auto scores = v.at(layer, "attn.indexer.hook_scores").row(w.position);
    std::vector<int> chosen;
    for (const int32_t e : picks)
        if (e >= 0) chosen.push_back(e);
    std::sort(chosen.begin(), chosen.end(), [&](int a, int b) { return scores[a] > scores[b]; });
    float left_out = kMinusInf;
    for (int64_t e = 0; e < n_entries; ++e)
        if (std::find(chosen.begin(), chosen.end(), e) == chosen.end()) left_out = std::max(left_out, scores[e]);
    std::vector<float> ids(picks.size(), -1), chosen_scores(picks.size(), kMinusInf);
    for (size_t i = 0; i < chosen.size(); ++i) ids[i] = static_cast<float>(chosen[i]), chosen_scores[i] = scores[chosen[i]];
    w.put(kIndexTopk, layer, ids);
    w.put(kIndexTopkScores, layer, chosen_scores);
    if (!chosen.empty()) w.put(kIndexCut, layer, {scores[chosen.back()], left_out});
    w.put(kIndexScores, layer, copied(scores.first(static_cast<size_t>(n_entries))));
}

void put_attention(Writer& w, const Vectors& v, const ModelInfo& model, int layer) {
    const LayerConfig config = model.config.layers[layer];
    const int64_t t = w.position, n_entries = config.ratio ? (t + 1) / config.ratio : 0;
    const auto shares = v.at(layer, "attn.hook_shares").row(t);
    w.put(kShares, layer, copied(shares));
    w.put(kSharesHead, layer, copied(v.at(layer, "attn.hook_shares_head").row(t)), model.config.n_heads);
    const auto n_window = std::min<int64_t>(t + 1, model.config.sliding_window);
    w.put(kWindowMass, layer, std::vector<float>(n_window, shares[0] / static_cast<float>(n_window)));
    if (config.ratio == 0) return;
    if (config.kind() == LayerKind::csa) put_picks(w, v, layer, n_entries);
    const int64_t n = config.kind() == LayerKind::csa ? std::min<int64_t>(n_entries, model.config.index_topk) : n_entries;
    const int64_t slots = config.kind() == LayerKind::csa ? model.config.index_topk : n;
    std::vector<float> mass(slots, 0);
    for (int64_t i = 0; i < n; ++i) mass[i] = shares[1] / static_cast<float>(n);
    w.put(kEntryMass, layer, mass);
    if ((t + 1) % config.ratio == 0)
        w.put(kEntryWeights, layer, copied(v.at(layer, "attn.compressor.hook_weights").row(t / config.ratio)));
}

void put_next(Writer& w, const Vectors& v) {
    const auto logits = v.at("logits").row(w.position);
    const double highest = *std::max_element(logits.begin(), logits.end());
    double z = 0, entropy = 0;
    for (const float l : logits) z += std::exp(l - highest);
    std::vector<float> ids, probabilities;
    for (const float l : logits) {
        const double p = std::exp(l - highest) / z;
        entropy -= p > 0 ? p * std::log(p) : 0;
    }
    for (const int id : top_indices(logits, 10)) {
        ids.push_back(static_cast<float>(id));
        probabilities.push_back(static_cast<float>(std::exp(logits[id] - highest) / z));
    }
    w.put(kNextIds, TokenRecord::kNoLayer, ids);
    w.put(kNextProbs, TokenRecord::kNoLayer, probabilities);
    w.put(kNextEntropy, TokenRecord::kNoLayer, {static_cast<float>(entropy)});
}

void read_bias(ModelInfo& model, const std::string& folder) {
    model.router_bias.resize(model.config.n_layers());
    for (const auto& [name, tensor] : read_folder(folder))
        for (int layer = 0; layer < model.config.n_layers(); ++layer) {
            const std::string end = "layers." + std::to_string(layer) + ".ffn.gate.bias";
            const std::string other = "layers." + std::to_string(layer) + ".mlp.gate.e_score_correction_bias";
            if (!name.ends_with("." + end) && name != end && !name.ends_with(other)) continue;
            const auto* data = reinterpret_cast<const float*>(tensor.data);
            model.router_bias[layer].assign(data, data + tensor.shape.at(0));
        }
}

}  // namespace

std::span<const float> Array::row(int64_t t) const {
    const size_t n = f.size() / static_cast<size_t>(shape.at(0));
    return std::span(f).subspan(static_cast<size_t>(t) * n, n);
}

std::span<const int32_t> Array::int_row(int64_t t) const {
    const size_t n = i.size() / static_cast<size_t>(shape.at(0));
    return std::span(i).subspan(static_cast<size_t>(t) * n, n);
}

void Vectors::read(const std::string& path) {
    for (const RawTensor& raw : read_safetensors(path)) {
        Array a{.shape = raw.shape};
        if (raw.dtype == DType::f32) {
            a.f.resize(raw.bytes / 4);
            std::memcpy(a.f.data(), raw.data, raw.bytes);
        } else if (raw.dtype == DType::i32) {
            a.i.resize(raw.bytes / 4);
            std::memcpy(a.i.data(), raw.data, raw.bytes);
        } else {
            throw Error(ErrorKind::bad_input, path + ": " + raw.name + ": F32 or I32 expected");
        }
        arrays[raw.name] = std::move(a);
    }
}

const Array& Vectors::at(const std::string& name) const {
    const auto it = arrays.find(name);
    if (it == arrays.end()) throw Error(ErrorKind::bad_input, "no reference vector " + name);
    return it->second;
}

const Array& Vectors::at(int layer, const std::string& name) const {
    return at("blocks." + std::to_string(layer) + "." + name);
}

bool Vectors::has(int layer, const std::string& name) const {
    return arrays.count("blocks." + std::to_string(layer) + "." + name) > 0;
}

GoldenSession golden_session(const std::string& name) {
    GoldenSession g;
    g.vectors.read(source(name + "/golden.safetensors"));
    g.vectors.read(source("exact_extra/" + name + ".safetensors"));
    g.model = std::make_shared<ModelInfo>();
    g.model->name = name;
    g.model->folder = source(name);
    g.model->config = read_config(g.model->folder).config;
    read_bias(*g.model, g.model->folder);
    g.snapshot.model = g.model;
    const Array& ids = g.vectors.at("input_ids");
    g.n_tokens = static_cast<int64_t>(ids.i.size());
    Timeline& timeline = g.snapshot.timeline;
    timeline.branch = 1;
    timeline.n_prompt = g.n_tokens / 3;
    for (int64_t t = 0; t < g.n_tokens; ++t) {
        const Phase phase = t < timeline.n_prompt ? Phase::prompt : t < 2 * g.n_tokens / 3 ? Phase::thinking : Phase::answer;
        timeline.tokens.push_back(
            {.id = ids.i[t], .phase = phase, .ref = {1, t}, .text = "w" + std::to_string(ids.i[t]) + " "});
    }
    record_vectors(g, nullptr);
    return g;
}

void record_vectors(GoldenSession& g, const Change& change) {
    auto trace = std::make_shared<Trace>();
    for (int64_t t = 0; t < g.n_tokens; ++t) {
        Writer w{.position = t, .change = change};
        w.builder.begin(1);
        for (int layer = 0; layer < g.model->config.n_layers(); ++layer) {
            put_mixing(w, g.vectors, layer, g.model->config.hc_mult);
            put_attention(w, g.vectors, *g.model, layer);
            put_router(w, g.vectors, *g.model, layer);
        }
        put_next(w, g.vectors);
        trace->put(1, t, w.builder.finish(0));
    }
    g.snapshot.trace = trace;
    ++g.snapshot.version;
}

}  // namespace vitrine::viz::test
