// What an Engine and a Session are made of (private to engine/infer).
#pragma once
#include <deque>
#include <memory>

#include "engine/engine.h"
#include "engine/infer/gpu_runner.h"
#include "engine/model/v4.h"
#include "engine/ops/ctx.h"
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
    ModelInfo info;
    std::shared_ptr<const text::Tokenizer> tokenizer;
    text::ChatFormat chat_format;
    Watch watch;
    OpTimes times;
    Pool pool;
    Arena arena;
    std::shared_ptr<GpuRunner> gpu;   // null: the CPU
};

struct Session::Impl {
    explicit Impl(Engine::Impl& e) : engine(e), numerics(e.numerics), gpu(e.gpu), cache(empty_cache()) {}
    SequenceCache empty_cache() const;
    Engine::Impl& engine;
    Numerics numerics;
    std::shared_ptr<GpuRunner> gpu;            // where it runs, for good
    SequenceCache cache;
    std::vector<int32_t> tokens;
    std::vector<float> logits;                 // after the last token; empty: must be recomputed
    std::deque<SequenceCache::State> states;   // kept, ascending by length
    std::deque<std::vector<float>> state_logits;  // logits at each kept state
    std::shared_ptr<Trace> trace;
    uint64_t branch = 0;
    ProbeSink* sink = nullptr;

    void feed(std::span<const int32_t> ids, std::stop_token stop);  // one chunk
    void keep_state();
    uint64_t states_bytes() const;
    void feed_quietly(std::span<const int32_t> ids, std::stop_token stop);
    void restore_at_most(int64_t n);
    void go_back_to(int64_t n, std::stop_token stop);
    void need_logits();
};

}  // namespace vitrine
