// The chat format of DeepSeek-V4: a list of messages to the exact text and token ids that the model was trained on.
//
// Source: v4-spec section 8, which describes DeepSeek's published encoder. As there, the text is rendered first and
// tokenized as a whole, so the name of a control token inside a message's content becomes that token: a prompt may hold
// what its author typed, and hiding it would make our ids differ from the reference's. It is made visible instead:
// Prompt::typed_controls.
//
// Deviations, where the reference would lose something silently or stop on an assertion: tools and response_format
// outside system and developer messages, a task on a user message that is merged into the one before, tool calls whose
// arguments are JSON but no object, and empty developer messages are Error(bad_input) naming the message. Arguments
// with duplicate keys, NaN or numbers beyond 64-bit integers and doubles count as "not valid JSON" (one parameter
// called `arguments`).
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/config/sampling.h"
#include "engine/base/json.h"

namespace vitrine::text {

class Tokenizer;

enum class Role : uint8_t { system, developer, user, assistant, tool, latest_reminder };
const char* role_name(Role r);
Role role_from_name(std::string_view name);  // Error(bad_input) listing the names

struct ToolCall {
    std::string id, name;
    std::string arguments;  // JSON text of an object; anything else is passed on as one parameter
};

// A part of a message whose content is a list: type "text", or another type, which is rendered as "[Unsupported TYPE]".
struct ContentPart {
    std::string type = "text", text;
};

struct Message {
    Role role = Role::user;
    std::string content;
    std::vector<ContentPart> parts;    // user and tool: used instead of `content` when not empty
    std::string reasoning;             // assistant
    std::vector<ToolCall> tool_calls;  // assistant
    std::string tool_call_id;          // tool
    std::vector<Json> tools;           // system, developer: OpenAI tools, or their "function" objects alone
    Json response_format;              // system, developer: a JSON schema; null: none
    std::string task;                  // "", action, query, authority, domain, title, read_url
    bool wo_eos = false;               // assistant: no end token, to be continued
};

// What differs between checkpoints of one format: the text that each effort puts in front.
struct ChatFormat {
    std::string source;  // where this comes from, for messages: "…/chat.json" or "DeepSeek-V4 preview"
    std::map<std::string, std::string> effort_prefix;  // by effort name; "" means no text

    std::string why_not(Mode mode) const;  // "" when the mode can be rendered, else a sentence
};
ChatFormat preview_chat_format();       // high: none; max: the max text
ChatFormat release_0731_chat_format();  // low: none; high: the max text; max: a newer text that is not included
// chat.json of the folder if there is one (keys format = "deepseek_v4", effort_prefix, note; others are errors), else
// by the release that config.json shows: three or more compress_ratios beyond the layers mean 0731 or later (v4-spec
// 12).
ChatFormat load_chat_format(const std::string& folder);

struct RenderOptions {
    bool is_thinking = false;
    std::string effort;         // "" or a key of effort_prefix; ignored unless thinking
    bool drop_thinking = true;  // forget the reasoning of earlier turns; a conversation with tools keeps it always
    bool add_bos = true;
    size_t n_context =
        0;  // the first messages are context that was rendered before: they count, but are not emitted, nor is BOS

    static RenderOptions for_mode(Mode mode);
};

enum class SegmentKind : uint8_t {
    bos,
    effort_prefix,
    system,
    tools,
    response_format,
    role_tag,
    user,
    tool_result,
    reminder,
    think_tag,
    reasoning,
    answer,
    tool_call,
    eos,
    task
};
const char* segment_name(SegmentKind k);

// A stretch of the prompt of one kind and origin. A token that reaches over a border belongs to the segment where it
// begins.
struct Segment {
    SegmentKind kind;
    int32_t message = -1;                   // index into the list given, -1: none
    bool is_template = false;               // written by the format, not by a message's author
    size_t begin = 0, end = 0;              // bytes of Prompt::text
    size_t token_begin = 0, token_end = 0;  // indices into Prompt::ids
};

struct Prompt {
    std::string text;               // valid UTF-8
    std::vector<Segment> segments;  // cover the text in order
    std::vector<int32_t> ids;
    std::vector<size_t> token_begin;     // byte where each token begins; one entry more than ids
    std::vector<size_t> typed_controls;  // indices of added tokens that came from a message's own text
    bool ends_thinking = false;          // the answer starts inside <think>
};

// The text and its segments (ids empty). Error(bad_input) naming the message.
Prompt render(const std::vector<Message>& messages, const RenderOptions& options, const ChatFormat& format);
// The same with ids and token places.
Prompt encode_chat(const std::vector<Message>& messages, const RenderOptions& options, const ChatFormat& format,
                   const Tokenizer& tokenizer);

// The reasoning of message `index` is part of the rendered text (step 6 of v4-spec 8.3).
bool is_reasoning_kept(const std::vector<Message>& messages, size_t index, const RenderOptions& options);

}  // namespace vitrine::text
