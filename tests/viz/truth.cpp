// What the views must say: running the models, and changing records on purpose.
#include "tests/viz/truth.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "engine/engine.h"

namespace vitrine::viz::test {

ModelRun run_ids(const std::string& folder, const std::vector<int32_t>& ids) {
    ModelRun r;
    const auto engine = Engine::load(folder, {});
    engine->watch().set(base_probes() | probe_bit(kIndexScores) | probe_bit(kSharesHead) | probe_bit(kEntryMassHead));
    auto trace = std::make_shared<Trace>();
    auto session = engine->new_session();
    session->record_to(trace, 1);
    session->append(ids);
    r.model = std::make_shared<ModelInfo>(engine->info());
    Snapshot& s = r.snapshot;
    s.model = r.model;
    s.trace = trace;
    s.cache = session->cache_report();
    s.timeline.branch = 1;
    const auto n = static_cast<int64_t>(ids.size());
    for (int64_t t = 0; t < n; ++t) {
        const Phase phase = t < n / 3 ? Phase::prompt : t < 2 * n / 3 ? Phase::thinking : Phase::answer;
        s.timeline.tokens.push_back(
            {.id = ids[t], .phase = phase, .ref = {1, t}, .text = "w" + std::to_string(ids[t]) + " "});
    }
    return r;
}

ModelRun run_golden(const std::string& name) {
    using vitrine::test::golden_path, vitrine::test::load_arrays;
    const bool is_seedling = name == "seedling";
    const std::string folder =
        is_seedling ? std::string(VITRINE_SOURCE_DIR) + "/assets/models/seedling" : golden_path(name);
    auto vectors = load_arrays(golden_path("exact_extra/" + name + ".safetensors"));
    if (!is_seedling) vectors.merge(load_arrays(golden_path(name + "/golden.safetensors")));
    ModelRun r = run_ids(folder, vitrine::test::int_list(vectors.at("input_ids")));
    r.vectors = std::move(vectors);
    r.bias.resize(static_cast<size_t>(r.model->config.n_layers()));
    for (const auto& file : std::filesystem::directory_iterator(folder)) {
        const std::string base = file.path().filename().string();
        if (!base.starts_with("model") || !base.ends_with(".safetensors")) continue;
        for (const auto& [key, array] : load_arrays(file.path().string()))
            for (size_t l = 0; l < r.bias.size(); ++l)
                if (key.ends_with("layers." + std::to_string(l) + ".ffn.gate.bias")) r.bias[l] = array.values;
    }
    return r;
}

Snapshot changed(const Snapshot& s, const ModelInfo& model, const Change& change) {
    Snapshot out = s;
    auto trace = std::make_shared<Trace>();
    for (const TokenInfo& token : s.timeline.tokens) {
        const auto record = s.trace->get(token.ref.branch, token.ref.position);
        RecordBuilder builder;
        builder.begin(1);
        for (int layer = TokenRecord::kNoLayer; layer < model.config.n_layers(); ++layer)
            for (int p = 0; p < kProbeCount; ++p) {
                const auto probe = static_cast<Probe>(p);
                if (!record->has(probe, layer)) continue;
                const auto floats = record->floats(probe, layer);
                const auto ints = record->ints(probe, layer);
                const bool is_int = probe_info(probe).is_int;
                std::vector<float> values(floats.data.begin(), floats.data.end());
                if (is_int) values.assign(ints.data.begin(), ints.data.end());
                change(token.ref.position, layer, probe, values);
                const std::vector<int32_t> whole(values.begin(), values.end());
                if (is_int)
                    builder.put(0, probe, layer, whole.data(), ints.rows, ints.cols);
                else
                    builder.put(0, probe, layer, values.data(), floats.rows, floats.cols);
            }
        trace->put(token.ref.branch, token.ref.position, builder.finish(0));
    }
    out.trace = trace;
    return out;
}

std::string listed(const Violations& v) {
    std::string s = std::to_string(v.size()) + " violations";
    for (size_t i = 0; i < std::min<size_t>(10, v.size()); ++i) s += "\n  " + v[i];
    return s;
}

std::vector<int64_t> sample_tokens(const ModelRun& r) {
    const int64_t n = r.n_tokens(), w = r.model->config.sliding_window;
    std::set<int64_t> s = {0, 2, 3, 4, 7, w - 1, w, n - 1};
    for (const LayerConfig& l : r.model->config.layers)
        if (l.ratio > 0) s.insert({l.ratio - 1, l.ratio, 2 * l.ratio - 1});
    for (int64_t t = 11; t < n; t += 29) s.insert(t);
    std::erase_if(s, [n](int64_t t) { return t < 0 || t >= n; });
    return {s.begin(), s.end()};
}

}  // namespace vitrine::viz::test
