// A plausible snapshot without an engine: what views and the window's frame are tested and looked at with.
#pragma once
#include <memory>
#include <vector>

#include "viz/snapshot.h"

namespace vitrine::viz::fake {

struct Shape {
    int n_layers = 8, n_experts = 16, n_chosen = 2, n_heads = 8, n_streams = 4;
    int hidden = 256, window = 32, index_topk = 32, hca_ratio = 32, n_hash = 2, n_next = 12;
    int64_t n_tokens = 400;       // in the timeline
    int64_t n_recorded = 400;     // the newest ones have records
    bool has_chinese = true;
};
Shape typical();                  // the seedling's
Shape huge();                     // 61 layers x 384 experts x 1,048,576 tokens; records of the newest 64

std::shared_ptr<const ModelInfo> model_info(const Shape& s);
// Every base probe of one token, internally consistent: weights and shares sum to 1, mixing matrices are doubly stochastic,
// chosen entries are the k best index scores. Deterministic in (shape, position).
std::shared_ptr<const TokenRecord> record(const Shape& s, int64_t position);
CacheReport cache_report(const Shape& s);
// The three modes on one question, Think Max still being written when `is_running`.
std::shared_ptr<const Comparison> comparison(const Shape& s, bool is_running = false);
// A whole snapshot: model, conversation with thinking and siblings, timeline, trace, cache, times, meters, conversation list.
Snapshot snapshot(const Shape& s);
// A snapshot with a model and nothing said yet; and one with nothing at all is `Snapshot{}`.
Snapshot empty_conversation(const Shape& s);

// Records what was asked for.
class Sink : public CommandSink {
  public:
    bool send(Command c) override {
        commands.push_back(std::move(c));
        return !is_full;
    }
    void cancel() override { ++n_cancelled; }
    void set_watch(ProbeSet probes) override { watched = probes; }
    bool send_lab(LabCommand c) override {
        lab.push_back(std::move(c));
        return !is_full;
    }
    template <class T>
    const T* last_lab() const {
        for (auto c = lab.rbegin(); c != lab.rend(); ++c)
            if (const T* found = std::get_if<T>(&*c)) return found;
        return nullptr;
    }
    template <class T>
    const T* last() const {
        return commands.empty() ? nullptr : std::get_if<T>(&commands.back());
    }
    std::vector<Command> commands;
    std::vector<LabCommand> lab;
    int n_cancelled = 0;
    ProbeSet watched = 0;
    bool is_full = false;
};

}  // namespace vitrine::viz::fake
