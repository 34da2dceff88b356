// What a model wrote, taken apart: reasoning, answer, tool calls (v4-spec 8.4), whole or while it streams.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/telemetry/chat.h"
#include "engine/text/chat.h"
#include "engine/text/detokenizer.h"

namespace vitrine::text {

struct ParsedOutput {
    std::string reasoning, content;
    std::vector<ToolCall> tool_calls;   // ids empty: the model gives none
    bool has_end = false;               // the end-of-sentence token was there
    std::vector<std::string> problems;  // tolerant parsing only: what was not as the format says
};

// `text` is the decoded output with special tokens by name. `starts_thinking`: the prompt ended in <think>.
// Strict, as the reference: Error(bad_input) on a missing </think>, a missing end token (but after tool calls), tools
// inside the reasoning, malformed or repeated parameters, anything behind the end, control tokens inside reasoning or
// content. Deviation: a tool-call block that is cut off before its closing tag is an error, where the reference may
// accept the last call.
ParsedOutput parse_output_strictly(std::string_view text, bool starts_thinking);
// Never throws: reasoning and content end at the first tool-call marker or end token; what is complete among the calls
// is kept.
ParsedOutput parse_output(std::string_view text, bool starts_thinking);

// Splits a streamed answer. Text that may turn out to be the start of a marker is held back, so a tag is never shown as
// text; all deltas joined equal parse_output's reasoning and content of the whole. One answer, one thread; the
// tokenizer must outlive it.
class OutputSplitter {
  public:
    struct Step {
        Phase phase = Phase::answer;  // of this token: thinking (with its closing tag), answer, tool_call
        int n_relabelled = 0;         // so many tokens right before this one belong to tool_call after all
        bool is_end = false;          // the end-of-sentence token; nothing should follow
        std::string reasoning, content, tool_text;  // whole UTF-8 to append
    };
    OutputSplitter(const Tokenizer& tokenizer, bool starts_thinking, std::vector<int32_t> end_ids);
    Step push(int32_t id);
    Step finish();  // what was held back, when generation stops without an end token
    Phase phase() const { return phase_; }

  private:
    void release(Step& step, bool is_last);
    void emit(Step& step, size_t n_bytes);

    const Tokenizer& tokenizer_;
    std::vector<int32_t> end_ids_;
    Phase phase_;
    Detokenizer detokenizer_;
    std::string pending_;               // text not yet emitted
    size_t n_emitted_ = 0;              // bytes before pending_
    std::vector<size_t> token_starts_;  // where tokens that lie in pending_ begin, in bytes of the whole text
};

}  // namespace vitrine::text
