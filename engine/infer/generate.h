// Generates an answer: prompt in, tokens out one by one, with phases and stop conditions. Used by the window and the CLI alike.
#pragma once
#include <functional>
#include <span>
#include <stop_token>
#include <string>

#include "engine/engine.h"

namespace vitrine {

struct GenerateRequest {
    std::vector<int32_t> prompt;       // the whole rendered context; its longest common prefix with the session is reused
    Sampling sampling;
    Mode mode = Mode::non_think;       // decides the first phase
    uint64_t branch = 0;               // for TokenInfo::ref
};

struct GenerateCallbacks {             // all on the engine thread; any may be empty
    std::function<void(int64_t done, int64_t total)> prefill;
    // A token and the whole-UTF-8 text that it completed, split by phase.
    std::function<void(const TokenInfo& token, const std::string& reasoning_delta, const std::string& content_delta)> token;
};

struct GenerateResult {
    std::vector<int32_t> output_ids;   // the end-of-text token included when it was drawn
    std::string reasoning, content;    // content without the stop string
    TurnStats stats;                   // stop_reason: "end of text", "length", "stop string", "context full", "stopped"
};

// A cancelled generation returns with stop_reason "stopped"; what was generated stays in the session.
GenerateResult generate(Engine& engine, Session& session, const GenerateRequest& request, const GenerateCallbacks& callbacks,
                        std::stop_token stop);

}  // namespace vitrine
