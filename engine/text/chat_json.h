// Messages as JSON, in the form of OpenAI's chat API with the keys of DeepSeek's encoder (v4-spec 8.3).
#pragma once
#include <string>
#include <vector>

#include "engine/base/json.h"
#include "engine/text/chat.h"

namespace vitrine::text {

// A list of messages, or {"messages": [...], "tools": [...]}: then the tools go to the first message, as in the encoder's own
// tests. Keys of a message: role, content (text, null, or a list of parts), reasoning_content, tool_calls, tool_call_id, tools,
// response_format, task, wo_eos. A tool call is {"id", "type": "function", "function": {"name", "arguments"}}, arguments a JSON
// text or an object. Error(bad_input) naming `file`, key, value and place, for unknown keys too.
std::vector<Message> messages_from_json(const Json& j, const std::string& file);

// [{"type": "function", "function": {"name", "arguments": JSON text}}]: what a model called, in the same form.
Json tool_calls_to_json(const std::vector<ToolCall>& calls);

}  // namespace vitrine::text
