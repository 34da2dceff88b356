// Messages as JSON: every key, and one message for what is wrong.
#include "engine/text/chat_json.h"

#include <gtest/gtest.h>

#include "engine/base/error.h"
#include "engine/text/chat_output.h"
#include "engine/text/protocol.h"

namespace vitrine::text {
namespace {

std::vector<Message> read(const std::string& text) { return messages_from_json(Json::parse(text, "m.json"), "m.json"); }

std::string refusal(const std::string& text) {
    try {
        read(text);
    } catch (const Error& e) {
        EXPECT_EQ(e.kind(), ErrorKind::bad_input);
        return e.what();
    }
    return "accepted";
}

TEST(ChatJson, EveryKey) {
    const std::vector<Message> m = read(R"([
        {"role": "system", "content": "S", "tools": [{"type": "function", "function": {"name": "f"}}], "response_format": {"a": 1}},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}], "task": "action"},
        {"role": "assistant", "content": null, "reasoning_content": "R", "wo_eos": true, "tool_calls": [
            {"id": "7", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}},
            {"function": {"name": "g", "arguments": {"y": [1, 2.0]}}}, {"function": {"name": "h"}}]},
        {"role": "tool", "tool_call_id": "7", "content": "T"}, {"role": "latest_reminder", "content": "L"},
        {"role": "developer", "content": "D"}])");
    ASSERT_EQ(m.size(), 6u);
    EXPECT_EQ(m[0].tools.size(), 1u);
    EXPECT_EQ(m[0].response_format.dump(), "{\"a\": 1}");
    ASSERT_EQ(m[1].parts.size(), 2u);
    EXPECT_EQ(m[1].parts[1].type, "image");
    EXPECT_EQ(m[1].task, "action");
    EXPECT_EQ(m[2].reasoning, "R");
    EXPECT_TRUE(m[2].wo_eos);
    ASSERT_EQ(m[2].tool_calls.size(), 3u);
    EXPECT_EQ(m[2].tool_calls[0].id, "7");
    EXPECT_EQ(m[2].tool_calls[0].arguments, "{\"x\": 1}");
    EXPECT_EQ(m[2].tool_calls[1].arguments, "{\"y\": [1, 2.0]}");
    EXPECT_EQ(m[2].tool_calls[2].arguments, "{}");
    EXPECT_EQ(m[3].tool_call_id, "7");
    EXPECT_EQ(m[5].role, Role::developer);
}

TEST(ChatJson, ToolsBesideTheMessagesBelongToTheFirst) {
    const std::vector<Message> m =
        read(R"({"tools": [{"name": "f"}, {"name": "g"}], "messages": [{"role": "system", "content": ""}, {"role": "user"}]})");
    EXPECT_EQ(m[0].tools.size(), 2u);
    EXPECT_TRUE(m[1].tools.empty());
}

TEST(ChatJson, WhatIsWrong) {
    const std::pair<const char*, const char*> cases[] = {
        {"{}", "m.json: an object (line 1, column 1): expected messages"},
        {"[]", "expected a list of messages"},
        {"{\"messages\": 3}", "m.json: messages = 3 (line 1, column 14): expected a list of messages"},
        {"{\"message\": []}", "unknown key; did you mean \"messages\"?"},
        {"[3]", "m.json: [0] = 3 (line 1, column 2): expected an object"},
        {"[{\"content\": \"x\"}]", "[0].role = an object (line 1, column 2): expected a role"},
        {"[{\"role\": \"bot\"}]", "[0].role = \"bot\" (line 1, column 11): expected system, developer"},
        {"[{\"role\": \"user\", \"contents\": \"\"}]",
         "[0].contents = \"\" (line 1, column 31): unknown key; did you mean \"content\"?"},
        {"[{\"role\": \"user\", \"content\": 3}]", "[0].content = 3"},
        {"[{\"role\": \"user\", \"content\": [3]}]", "[0].content[0] = 3"},
        {"[{\"role\": \"assistant\", \"tool_calls\": [{}]}]",
         "[0].tool_calls[0] = an object (line 1, column 39): expected a function"},
        {"[{\"role\": \"assistant\", \"tool_calls\": [{\"function\": {}}]}]", "expected a name"},
        {"[{\"role\": \"assistant\", \"wo_eos\": 1}]", "[0].wo_eos = 1"},
        {"{\"tools\": [3], \"messages\": [{\"role\": \"system\"}]}", "tools[0] = 3"},
    };
    for (const auto& [text, part] : cases) EXPECT_NE(refusal(text).find(part), std::string::npos) << text << "\n" << refusal(text);
}

TEST(ChatJson, AFormatThatPythonTakesForFalseIsNone) {
    for (const char* none : {"null", "{}", "[]", "\"\"", "false", "0", "0.0"}) {
        const std::string text = R"([{"role": "system", "content": "S", "response_format": )" + std::string(none) + "}]";
        EXPECT_EQ(render(read(text), RenderOptions::for_mode(Mode::non_think), preview_chat_format()).text, std::string(kBos) + "S")
            << none;
    }
}

// Python keeps such an integer, a double would not: the arguments are passed on as they are.
TEST(ChatJson, ArgumentsWithAnIntegerBeyond64Bits) {
    Message m;
    m.role = Role::assistant;
    m.tool_calls = {{"", "f", "{\"n\": 18446744073709551616}"}};
    const std::string text = render({m}, RenderOptions::for_mode(Mode::non_think), preview_chat_format()).text;
    EXPECT_NE(text.find("parameter name=\"arguments\" string=\"true\">{\"n\": 18446744073709551616}<"), std::string::npos) << text;
}

// What a model wrote, as the API gives it.
TEST(ChatJson, ToolCalls) {
    const std::string d = "<" + std::string(kDsml), e = "</" + std::string(kDsml);
    const ParsedOutput said = parse_output("Let me see.\n\n" + d + "tool_calls>\n" + d + "invoke name=\"f\">\n" + d +
                                               "parameter name=\"q\" string=\"true\">x" + e + "parameter>\n" + e + "invoke>\n" +
                                               e + "tool_calls>",
                                           false);
    EXPECT_EQ(said.content, "Let me see.");
    EXPECT_TRUE(said.problems.empty());
    EXPECT_EQ(tool_calls_to_json(said.tool_calls).dump(),
              R"([{"type": "function", "function": {"name": "f", "arguments": "{\"q\": \"x\"}"}}])");
}

}  // namespace
}  // namespace vitrine::text
