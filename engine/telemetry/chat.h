// A conversation as the window shows it: turns, tokens and where their records lie. Plain data, immutable once published.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/config/sampling.h"

namespace vitrine {

enum class Phase : uint8_t { prompt, thinking, answer, tool_call };
const char* phase_name(Phase p);

// Where a token's record lies in the Trace. A generation that changes earlier tokens gets a new branch.
struct TokenRef {
    uint64_t branch = 0;
    int64_t position = -1;
    friend bool operator==(const TokenRef&, const TokenRef&) = default;
};

struct TokenInfo {
    int32_t id = -1;
    Phase phase = Phase::prompt;
    bool is_special = false;   // from the template
    TokenRef ref;
    float probability = -1;    // of this token when it was drawn, temperature 1; -1: was not drawn (prompt)
    float entropy = -1;        // of the distribution it was drawn from [nat]
    std::string text;          // its bytes, displayable (display_text); partial UTF-8 shows as \xNN
};

struct TurnStats {
    int n_prompt = 0, n_reused = 0, n_thinking = 0, n_answer = 0;
    double prefill_ms = 0, decode_ms = 0, tokens_per_s = 0, first_token_ms = 0;
    int n_passes = 0, n_drafted = 0, n_accepted = 0;  // forward passes of decoding, guessed tokens in them, right guesses
    std::string stop_reason;   // "end of text", "length", "stop string", "stopped", "error: ..."
};

// One message. Turns form a tree (editing and regenerating make siblings); a Conversation shows one path through it.
struct Turn {
    int64_t id = 0, parent = 0;          // 0: no parent
    std::string role;                    // system, user, assistant, tool
    std::string content, reasoning;      // whole UTF-8
    Mode mode = Mode::non_think;
    Sampling sampling;
    TurnStats stats;
    std::vector<TokenInfo> tokens;       // of an assistant's turn, thinking included
    int sibling = 0, n_siblings = 1;     // this is sibling number `sibling` of `n_siblings`
    bool is_complete = true;
    bool is_reasoning_in_context = true;
    std::string model, numerics;         // an answer's: the folder of the model that gave it, "exact" or "reference"; "": not known
};

// The session's timeline: the rendered prompt and what was generated after it.
struct PromptSegment {                   // a span of the rendered prompt, for the prompt view
    std::string what;                    // "BOS", "effort prefix", "user", "reasoning", ...
    int64_t begin = 0, end = 0;          // token positions
    int64_t turn = 0;                    // 0: from the template
};

struct Timeline {
    uint64_t branch = 0;
    std::vector<TokenInfo> tokens;
    std::vector<PromptSegment> segments;
    std::string prompt_text;             // exactly as rendered
    int64_t n_prompt = 0, n_reused = 0;  // positions [0, n_reused) were in the cache already
    std::string reuse_reason;            // why the rest was read again
};

struct Conversation {
    int64_t id = 0;
    std::string title, system;
    std::vector<Turn> path;
    bool is_recorded = false;            // reopened from disk: its records are what was recorded then
};

struct ConversationSummary {
    int64_t id = 0;
    std::string title, when, snippet;
    int n_turns = 0;
};

}  // namespace vitrine
