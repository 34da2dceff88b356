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
    int n_drafts = 0;                  // guesses per forward pass, up to kMaxDrafts: the same tokens in less time. Above 0 the
                                       // session must have been made to draft
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

struct ManyOptions {
    int n_together = 16;               // sequences in one forward pass; a new one joins when one ends
    // Every answer has the bits that `generate` gives it alone. Off: the fastest kernels for so many rows.
    bool is_batch_invariant = true;
};
// Answers prompts side by side, each in a session of its own, without records. Prompts are read one by one when they join.
// results[i] is that of requests[i]; `done` (may be null) is told as each one ends. Cancelled: every answer that had not ended is
// "stopped". Error as `generate`, for the first request that can't be.
std::vector<GenerateResult> generate_many(Engine& engine, std::span<const GenerateRequest> requests, const ManyOptions& options,
                                          const std::function<void(size_t, const GenerateResult&)>& done = {},
                                          std::stop_token stop = {});

}  // namespace vitrine
