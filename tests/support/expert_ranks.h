// What a model says when its experts are spread over ranks, which are threads here, and alone: logits, probes, drafts,
// answers.
#pragma once
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <tuple>
#include <vector>

#include "engine/engine.h"
#include "tests/support/thread_ranks.h"

namespace vitrine::test {

// Every value that was published, by token, probe and layer.
class AllProbes : public ProbeSink {
  public:
    std::map<std::tuple<int, int, int>, std::vector<double>> values;
    std::stop_source stop;
    int stop_at_layer = -1;  // asks for it when this layer publishes something
    void put(int token, Probe p, int layer, const float* data, int rows, int cols) override {
        keep(token, p, layer, data, rows * cols);
    }
    void put(int token, Probe p, int layer, const int32_t* data, int rows, int cols) override {
        keep(token, p, layer, data, rows * cols);
    }

  private:
    template <class T>
    void keep(int token, Probe p, int layer, const T* data, int n) {
        if (layer >= 0 && layer == stop_at_layer) stop.request_stop();
        values[{token, p, layer}] = std::vector<double>(data, data + n);
    }
};

struct Heard {
    std::vector<std::vector<float>> logits;
    AllProbes probes;
    std::vector<std::vector<int32_t>> answers;
};

inline Heard listen(Engine& engine, const std::vector<int32_t>& ids) {
    Heard h;
    const auto add = [&](Session& s) { h.logits.emplace_back(s.logits().begin(), s.logits().end()); };
    const bool can_draft = engine.config().n_mtp_layers > 0;
    const auto session = engine.new_session(can_draft);
    session->publish_to(&h.probes);
    engine.watch().set((ProbeSet{1} << kProbeCount) - 1);
    session->append(ids), add(*session);
    for (int i = 0; i < 4; ++i) {
        const int32_t id = ids[static_cast<size_t>(i) % ids.size()];
        session->append({&id, 1}), add(*session);
    }
    engine.watch().set(kNoProbes);
    session->publish_to(nullptr);
    for (int i = 0; i < 4 && can_draft; ++i) session->append_drafting(ids[static_cast<size_t>(i)], 2), add(*session);
    const auto fork = session->fork();
    fork->rewind(3), fork->append(ids), add(*fork);
    h.answers = engine.continue_greedily({{ids, 6}, {{ids[0]}, 6}, {{ids[1], ids[0]}, 6}}, 3);
    return h;
}

// Rank r on gpus[r], kCpu: on the CPU.
inline Heard listen_to_ranks(const std::string& folder, EngineOptions options, const std::vector<int>& gpus,
                             const std::vector<int32_t>& ids) {
    Heard h;
    ThreadRanks(static_cast<int>(gpus.size())).run([&](Communicator& ranks) {
        EngineOptions o = options;
        o.ranks = &ranks, o.gpu = gpus[static_cast<size_t>(ranks.rank())], o.n_threads = 1;
        if (ranks.rank() > 0) return Engine::serve_experts(folder, o);
        h = listen(*Engine::load(folder, o), ids);
    });
    return h;
}

}  // namespace vitrine::test
