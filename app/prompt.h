// From the path through a conversation to the exact tokens the model reads.
#pragma once
#include <string>
#include <vector>

#include "app/conversation.h"
#include "engine/engine.h"

namespace vitrine {

namespace text {
class Tokenizer;
}

struct RenderedPrompt {
    std::string text;               // exactly as rendered
    std::vector<TokenInfo> tokens;  // ids, phases (thinking and answers of earlier turns too) and displayable text
    std::vector<PromptSegment> segments;  // with the turns they come from
    std::vector<int32_t> ids() const;
};

// The model's; Error(bad_input) when it has none.
const text::Tokenizer& need_tokenizer(const Engine& engine);
// Renders the turns from the first to `last` (a user's or tool's turn), ready for an answer. Error(bad_input) when the
// model has no tokenizer.
RenderedPrompt render_prompt(const Engine& engine, const ConversationTree& tree, int64_t last, Mode mode);
// A text as it is, after the begin-of-sentence token: no roles, no mode.
RenderedPrompt render_plain(const Engine& engine, const std::string& text);

// Why positions from n_reused on are read again, in a sentence. `before`: the timeline the session holds.
std::string explain_reuse(const std::vector<TokenInfo>& before, int64_t n_before, const RenderedPrompt& now,
                          int64_t n_reused);

}  // namespace vitrine
