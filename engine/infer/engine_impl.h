// What an Engine and a Session are made of (private to engine/infer).
#pragma once
#include <deque>
#include <functional>
#include <memory>

#include "engine/engine.h"
#include "engine/infer/gpu_runner.h"
#include "engine/model/v4.h"
#include "engine/ops/ctx.h"
#include "engine/ops/moe/expert_ranks.h"
#include "engine/text/chat.h"
#include "engine/text/tokenizer.h"

namespace vitrine {

struct Engine::Impl {
    explicit Impl(int n_threads) : pool(n_threads) {}
    std::string folder;
    ModelConfig config;
    ModelWeights weights;
    Numerics numerics = Numerics::exact;
    int64_t max_context = 0;
    Interventions edits;              // none: no layers
    int active_experts = 0;           // EngineOptions
    std::vector<RoundedWeights> rounded;
    ModelInfo info;
    std::shared_ptr<const text::Tokenizer> tokenizer;
    text::ChatFormat chat_format;
    Watch watch;
    OpTimes times;
    Pool pool;
    Arena arena;
    std::unique_ptr<ExpertRanks> ranks;  // null: all experts are here
    std::shared_ptr<GpuRunner> gpu;   // null: the CPU
    // What is left to do for the last token's record, of whichever session: done beside the next pass, or when it is asked for.
    // On a CPU that has no sink the pool has it (Pool::beside).
    std::function<void()> late_record;
    void finish_late_record();
};

// Guesses that were fed with the last token and may still turn out right, in order; `next` is the first that is open.
struct PendingDrafts {
    size_t next = 0;
    std::vector<int32_t> ids;
    std::vector<std::vector<float>> logits;                      // after each
    std::vector<std::shared_ptr<const TokenRecord>> records;     // null: nothing is recorded
};

struct Session::Impl {
    Impl(Engine::Impl& e, bool drafts) : engine(e), numerics(e.numerics), gpu(e.gpu), can_draft(drafts), cache(empty_cache()) {}
    SequenceCache empty_cache() const;
    Engine::Impl& engine;
    Numerics numerics;
    std::shared_ptr<GpuRunner> gpu;            // where it runs, for good
    bool can_draft;
    SequenceCache cache;
    std::vector<int32_t> tokens;
    std::vector<float> logits;                 // after the last token; empty: must be recomputed
    std::deque<SequenceCache::State> states;   // kept, ascending by length
    std::deque<std::vector<float>> state_logits;  // logits at each kept state
    std::shared_ptr<Trace> trace;
    RecordBuilder builders[2];                 // of the pass in progress, and of the one before where records lag
    int last_builder = 0;
    uint64_t branch = 0;
    ProbeSink* sink = nullptr;
    bool records_lag = false;
    PendingDrafts pending;
    DraftCounts draft_counts;

    // One chunk, of which the first n_sure ids (-1: all) are tokens, the rest guesses.
    void feed(std::span<const int32_t> ids, std::stop_token stop, int64_t n_sure = -1);
    bool take_pending(int32_t id);
    void drop_pending();
    // n guesses of what follows `id`, which is to come after the session's tokens.
    std::vector<int32_t> guess(int32_t id, int64_t n, std::stop_token stop);
    Tensor run_drafter(std::span<const int32_t> next, int64_t position, Pass pass, std::stop_token stop);
    void require_room(std::span<const int32_t> ids) const;
    void keep_state();
    uint64_t states_bytes() const;
    void feed_quietly(std::span<const int32_t> ids, std::stop_token stop);
    void restore_at_most(int64_t n);
    void go_back_to(int64_t n, std::stop_token stop);
    void need_logits();
};

// A pass wherever the sessions of the batch run; logits [rows, V] on the host, until the next pass or the arena's scope ends.
// Finishes what is late of the pass before, on a GPU while this one runs. `watched`: as `later` of GpuRunner::run.
Tensor run_pass(Engine::Impl& engine, GpuRunner* gpu, Ctx& ctx, const Batch& batch, LogitRows rows, Pass pass = Pass::forward,
                GpuRunner::Watched* watched = nullptr);

}  // namespace vitrine
