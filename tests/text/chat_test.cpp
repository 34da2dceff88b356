// Rendering by v4-spec 8.3: its examples and every rule; the seedling's golden prompts; the protocol texts byte by
// byte.
#include "engine/text/chat.h"

#include <gtest/gtest.h>

#include "engine/base/reader.h"
#include "engine/text/protocol.h"
#include "engine/text/tokenizer.h"
#include "tests/text/sample_text.h"
#include "tests/text/sha256.h"

namespace vitrine::text {
namespace {

const std::string kFolder = std::string(VITRINE_SOURCE_DIR) + "/assets/models/seedling";
const std::string kB(kBos), kE(kEos), kU(kUser), kA(kAssistant), kT(kThinkStart), kN(kThinkEnd);

Message says(Role role, std::string content) {
    Message m;
    m.role = role;
    m.content = std::move(content);
    return m;
}
Message user(std::string content) {
    return says(Role::user, std::move(content));
}
Message thought(std::string reasoning, std::string content) {
    Message m = says(Role::assistant, std::move(content));
    m.reasoning = std::move(reasoning);
    return m;
}
Message result(std::string id, std::string content) {
    Message m = says(Role::tool, std::move(content));
    m.tool_call_id = std::move(id);
    return m;
}
Message with_task(Message m, std::string task) {
    m.task = std::move(task);
    return m;
}
Message calls(std::vector<ToolCall> list, std::string reasoning = "") {
    Message m = thought(std::move(reasoning), "");
    m.tool_calls = std::move(list);
    return m;
}
Message with_tools(Message m, const char* json) {
    m.tools.push_back(Json::parse(json, "test"));
    return m;
}

std::string chat(const std::vector<Message>& m) {
    return render(m, RenderOptions::for_mode(Mode::non_think), preview_chat_format()).text;
}
std::string think(const std::vector<Message>& m) {
    return render(m, RenderOptions::for_mode(Mode::high), preview_chat_format()).text;
}

std::string refusal(const std::vector<Message>& m) {
    try {
        chat(m);
    } catch (const Error& e) {
        EXPECT_EQ(e.kind(), ErrorKind::bad_input);
        return e.what();
    }
    return "accepted";
}

TEST(Protocol, TextsHaveTheirBytes) {
    EXPECT_EQ(test::sha256_hex("abc"),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");  // FIPS 180-4's example
    EXPECT_EQ(effort_max_text().size(), 476u);
    EXPECT_EQ(test::sha256_hex(effort_max_text()), "f7a24f3b3050d4a83781e9b755b316aae2ec1d9dc87562541d90bcb04d7350f7");
    Message system = with_tools(says(Role::system, ""), R"({"type": "function", "function": {"name":"X"}})");
    const std::string text = chat({system});
    const std::string block = text.substr(kB.size() + 2);
    EXPECT_EQ(text.substr(0, kB.size() + 2), kB + "\n\n");
    EXPECT_EQ(block.size(), 1002u);
    EXPECT_EQ(test::sha256_hex(block), "4e897650ffbcb5affbed500fdb96ee01f58665e6dcf580a885641679d413e868");
}

TEST(Chat, ExamplesOfTheSpecification) {
    EXPECT_EQ(chat({user("A"), thought("", "B"), user("C")}), kB + kU + "A" + kA + kN + "B" + kE + kU + "C" + kA + kN);
    EXPECT_EQ(think({user("A"), thought("", "B"), user("C")}), kB + kU + "A" + kA + kN + "B" + kE + kU + "C" + kA + kT);
    EXPECT_EQ(chat({user("A"), user("B")}), kB + kU + "A\n\nB" + kA + kN);
}

TEST(Chat, SystemHasNoTag) {
    EXPECT_EQ(chat({says(Role::system, "S"), user("A")}), kB + "S" + kU + "A" + kA + kN);
}

TEST(Chat, MaxTextComesFirstOnce) {
    const auto o = RenderOptions::for_mode(Mode::max);
    const std::string max(effort_max_text());
    const std::vector<Message> m = {says(Role::system, "S"), user("A")};
    EXPECT_EQ(render(m, o, preview_chat_format()).text, kB + max + "S" + kU + "A" + kA + kT);
    EXPECT_EQ(render({user("A"), thought("R", "B"), user("C")}, o, preview_chat_format()).text,
              kB + max + kU + "A" + kA + kN + "B" + kE + kU + "C" + kA + kT);
}

TEST(Chat, OldReasoningIsDroppedAndNewKept) {
    const std::vector<Message> m = {user("A"), thought("R1", "B"), user("C"), thought("R2", "D")};
    EXPECT_EQ(think(m), kB + kU + "A" + kA + kN + "B" + kE + kU + "C" + kA + kT + "R2" + kN + "D" + kE);
    EXPECT_EQ(chat(m), kB + kU + "A" + kA + kN + "B" + kE + kU + "C" + kA + kN + "D" + kE);
    auto keep = RenderOptions::for_mode(Mode::high);
    keep.drop_thinking = false;
    EXPECT_EQ(render(m, keep, preview_chat_format()).text,
              kB + kU + "A" + kA + kT + "R1" + kN + "B" + kE + kU + "C" + kA + kT + "R2" + kN + "D" + kE);
    EXPECT_FALSE(is_reasoning_kept(m, 1, RenderOptions::for_mode(Mode::high)));
    EXPECT_TRUE(is_reasoning_kept(m, 3, RenderOptions::for_mode(Mode::high)));
    EXPECT_TRUE(is_reasoning_kept(m, 1, keep));
    EXPECT_FALSE(is_reasoning_kept(m, 3, RenderOptions::for_mode(Mode::non_think)));
}

TEST(Chat, ToolsKeepReasoning) {
    const Message system = with_tools(says(Role::system, "S"), R"({"name": "f"})");
    const std::string text = think({system, user("A"), thought("R1", "B"), user("C")});
    const std::string tail = kU + "A" + kA + kT + "R1" + kN + "B" + kE + kU + "C" + kA + kT;
    ASSERT_GT(text.size(), tail.size());
    EXPECT_EQ(text.substr(text.size() - tail.size()), tail);
    EXPECT_EQ(text.substr(0, kB.size() + 11), kB + "S\n\n## Tools");
}

TEST(Chat, OldDeveloperMessagesAreDroppedInThinkingOnly) {
    const std::vector<Message> m = {says(Role::developer, "D"), thought("", "B"), user("C")};
    EXPECT_EQ(think(m), kB + "B" + kE + kU + "C" + kA + kT);
    EXPECT_EQ(chat(m), kB + kU + "D" + kA + kN + "B" + kE + kU + "C" + kA + kN);
    EXPECT_EQ(think({says(Role::developer, "D")}), kB + kU + "D" + kA + kT);
}

TEST(Chat, ResponseFormatFollowsTools) {
    Message system = with_tools(says(Role::system, "S"), R"({"name": "f"})");
    system.response_format = Json::parse(R"({"type":"object","n":1.0,"é":[1,2]})", "test");
    const std::string text = chat({system});
    const std::string tail =
        "tool calls.\n\n\n## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n"
        "{\"type\": \"object\", \"n\": 1.0, \"é\": [1, 2]}";
    EXPECT_EQ(text.substr(text.size() - tail.size()), tail);
}

TEST(Chat, ToolResultsMergeAndTakeTheOrderOfCalls) {
    const Message two = calls({{"a", "f", "{}"}, {"b", "g", "{}"}});
    const auto tail = [&](std::vector<Message> after) {
        std::vector<Message> m = {user("Q"), two};
        m.insert(m.end(), after.begin(), after.end());
        const std::string head = chat({user("Q"), two}), all = chat(m);
        EXPECT_EQ(all.substr(0, head.size()), head);
        return all.substr(head.size());
    };
    const auto r = [](const std::string& s) { return "<tool_result>" + s + "</tool_result>"; };
    EXPECT_EQ(tail({result("b", "2"), result("a", "1")}), kU + r("1") + "\n\n" + r("2") + kA + kN);
    EXPECT_EQ(tail({result("b", "2"), result("a", "1"), user("T")}), kU + r("1") + "\n\n" + r("2") + "\n\nT" + kA + kN);
    EXPECT_EQ(tail({result("b", "2"), user("T"), result("a", "1")}), kU + r("1") + "\n\nT\n\n" + r("2") + kA + kN);
    // an unknown id counts as the first call and keeps its place among equals
    EXPECT_EQ(tail({result("b", "2"), result("?", "0"), result("a", "1")}),
              kU + r("0") + "\n\n" + r("1") + "\n\n" + r("2") + kA + kN);
}

TEST(Chat, UserAfterATaskIsNotMerged) {
    const Message first = with_task(user("A"), "title");
    EXPECT_EQ(chat({first, user("B")}), kB + kU + "A" + kU + "B" + kA + kN);
    EXPECT_EQ(chat({first, result("", "R")}),
              kB + kU + "A\n\n<tool_result>R</tool_result><｜title｜>");  // a result joins it all the same
}

TEST(Chat, ListContent) {
    Message m = user("ignored");
    m.parts = {{"text", "A"}, {"image_url", ""}, {"text", "B"}};
    EXPECT_EQ(chat({m}), kB + kU + "A\n\n[Unsupported image_url]\n\nB" + kA + kN);
    m.role = Role::tool;
    EXPECT_EQ(chat({m}), kB + kU + "<tool_result>A\n\n[Unsupported image_url]\n\nB</tool_result>" + kA + kN);
}

TEST(Chat, Tasks) {
    EXPECT_EQ(chat({with_task(user("A"), "query")}), kB + kU + "A<｜query｜>");
    EXPECT_EQ(chat({with_task(user("A"), "read_url")}), kB + kU + "A<｜read_url｜>");
    EXPECT_EQ(chat({with_task(user("A"), "action")}), kB + kU + "A" + kA + kN + "<｜action｜>");
    EXPECT_EQ(think({with_task(user("A"), "action")}), kB + kU + "A" + kA + kT + "<｜action｜>");
    EXPECT_EQ(chat({user("A"), with_task(thought("", "B"), "title")}),
              kB + kU + "A" + kA + kN + "B" + kE + "<｜title｜>");
    // the answer to a task has no thinking part
    EXPECT_EQ(think({with_task(user("A"), "action"), thought("R", "Search")}),
              kB + kU + "A" + kA + kT + "<｜action｜>Search" + kE);
}

TEST(Chat, LatestReminder) {
    const Message r = says(Role::latest_reminder, "R");
    EXPECT_EQ(chat({r, user("A")}), kB + "<｜latest_reminder｜>R" + kU + "A" + kA + kN);
    EXPECT_EQ(chat({user("A"), r}), kB + kU + "A" + kA + kN + "<｜latest_reminder｜>R");  // the quirk of v4-spec 8.3
}

TEST(Chat, ContinuedAnswer) {
    Message m = thought("R", "B");
    m.wo_eos = true;
    EXPECT_EQ(think({user("A"), m}), kB + kU + "A" + kA + kT + "R" + kN + "B");
}

TEST(Chat, ContextIsCountedButNotEmitted) {
    RenderOptions o = RenderOptions::for_mode(Mode::max);
    o.n_context = 2;
    const std::vector<Message> m = {user("A"), thought("R", "B"), user("C")};
    EXPECT_EQ(render(m, o, preview_chat_format()).text, kU + "C" + kA + kT);
}

TEST(Chat, ToolCallsInDsml) {
    const ToolCall search{
        "1", "search",
        R"({"q": "a \"b\" <c>", "n": 2.50, "deep": {"k":[true,null,"é"]}, "big": 12345678901234567890})"};
    const std::string d(kDsml);
    EXPECT_EQ(chat({user("A"), calls({search, {"2", "now", "{}"}})}),
              kB + kU + "A" + kA + kN + "\n\n<" + d + "tool_calls>\n<" + d + "invoke name=\"search\">\n<" + d +
                  "parameter name=\"q\" string=\"true\">a \"b\" <c></" + d + "parameter>\n<" + d +
                  "parameter name=\"n\" string=\"false\">2.5</" + d + "parameter>\n<" + d +
                  "parameter name=\"deep\" string=\"false\">{\"k\": [true, null, \"é\"]}</" + d + "parameter>\n<" + d +
                  "parameter name=\"big\" string=\"false\">12345678901234567890</" + d + "parameter>\n</" + d +
                  "invoke>\n<" + d + "invoke name=\"now\">\n\n</" + d + "invoke>\n</" + d + "tool_calls>" + kE);
    const std::string bad = chat({user("A"), calls({{"1", "f", "not json"}})});
    EXPECT_NE(bad.find("parameter name=\"arguments\" string=\"true\">not json</"), std::string::npos);
}

TEST(Chat, RefusalsNameTheMessage) {
    EXPECT_NE(refusal({user("A"), with_tools(user("B"), "{}")}).find("message 1.tools"), std::string::npos);
    EXPECT_NE(refusal({with_task(user("A"), "sing")}).find("sing"), std::string::npos);
    EXPECT_NE(refusal({user("A"), with_task(user("B"), "title")}).find("message 1.task"), std::string::npos);
    EXPECT_NE(refusal({user("A"), calls({{"1", "f", "[1]"}})}).find("expected a JSON object"), std::string::npos);
    EXPECT_NE(refusal({says(Role::developer, "")}).find("message 0.content"), std::string::npos);
    Message m = user("A");
    m.reasoning = "R";
    EXPECT_NE(refusal({m}).find("message 0.role"), std::string::npos);
    EXPECT_THROW(role_from_name("robot"), Error);
    EXPECT_EQ(role_from_name("latest_reminder"), Role::latest_reminder);
}

TEST(ChatFormat, ByRelease) {
    EXPECT_EQ(preview_chat_format().why_not(Mode::max), "");
    EXPECT_EQ(release_0731_chat_format().why_not(Mode::high), "");
    EXPECT_NE(release_0731_chat_format().why_not(Mode::max).find("effort_prefix.max"), std::string::npos);
    const auto max = RenderOptions::for_mode(Mode::max), high = RenderOptions::for_mode(Mode::high);
    EXPECT_THROW(render({user("A")}, max, release_0731_chat_format()), Error);
    EXPECT_EQ(render({user("A")}, high, release_0731_chat_format()).text,
              kB + std::string(effort_max_text()) + kU + "A" + kA + kT);
    RenderOptions low = high;
    low.effort = "low";
    EXPECT_EQ(render({user("A")}, low, release_0731_chat_format()).text, kB + kU + "A" + kA + kT);
    EXPECT_THROW(render({user("A")}, low, preview_chat_format()), Error);
    EXPECT_NE(load_chat_format(kFolder).source.find("chat.json"), std::string::npos);
    // a release without chat.json, told by its config
    const std::string dir = std::string(VITRINE_SOURCE_DIR) + "/tests/golden/official";
    EXPECT_EQ(load_chat_format(dir).source, "DeepSeek-V4 preview");
}

TEST(Seedling, GoldenPrompts) {
    const auto tokenizer = Tokenizer::load(kFolder + "/tokenizer.json");
    const ChatFormat format = load_chat_format(kFolder);
    const std::string path = std::string(VITRINE_SOURCE_DIR) + "/tests/golden/seedling_greedy.json";
    const Json golden = Json::parse(read_file(path, 1 << 20), path);
    ASSERT_EQ(golden.size(), 15u);
    for (const Json& g : golden.items()) {
        const std::string& name = g.at("mode").as_string();
        const Mode mode = name == "max" ? Mode::max : name == "high" ? Mode::high : Mode::non_think;
        ASSERT_EQ(mode_name(mode), name);
        const Prompt p =
            encode_chat({user(g.at("user").as_string())}, RenderOptions::for_mode(mode), format, *tokenizer);
        std::vector<int32_t> expected;
        for (const Json& id : g.at("prompt_ids").items()) expected.push_back(static_cast<int32_t>(id.as_int()));
        EXPECT_EQ(p.ids, expected) << g.at("user").as_string() << " " << name;
        EXPECT_EQ(p.ends_thinking, mode != Mode::non_think);
        EXPECT_TRUE(p.typed_controls.empty());
    }
}

TEST(Prompt, SegmentsCoverTheTextAndTokens) {
    const auto tokenizer = Tokenizer::load(test::text_file("v4_tokenizer.json"));
    Message system = with_tools(says(Role::system, "Be brief. "), R"({"name": "f"})");
    const std::vector<Message> m = {system, user("你好 <｜User｜>\xF0\x9F"),
                                    calls({{"a", "f", R"({"x": "</think>"})"}}, "think"), result("a", "r"),
                                    user("and?")};
    const Prompt p = encode_chat(m, RenderOptions::for_mode(Mode::max), preview_chat_format(), *tokenizer);
    EXPECT_EQ(p.text, repaired_utf8(p.text));
    EXPECT_EQ(p.ids, tokenizer->encode(p.text));
    size_t byte = 0, token = 0;
    for (const Segment& s : p.segments) {
        EXPECT_EQ(s.begin, byte) << segment_name(s.kind);
        EXPECT_EQ(s.token_begin, token) << segment_name(s.kind);
        EXPECT_GT(s.end, s.begin);
        byte = s.end;
        token = s.token_end;
    }
    EXPECT_EQ(byte, p.text.size());
    EXPECT_EQ(token, p.ids.size());
    ASSERT_EQ(p.typed_controls.size(), 2u);  // the user's tag and the argument's
    EXPECT_EQ(p.ids[p.typed_controls[0]], tokenizer->need_id(kUser));
    EXPECT_EQ(p.ids[p.typed_controls[1]], tokenizer->need_id(kThinkEnd));
    const auto of = [&](SegmentKind kind, bool is_template) {
        std::string s;
        for (const Segment& g : p.segments)
            if (g.kind == kind && g.is_template == is_template) s += p.text.substr(g.begin, g.end - g.begin) + "|";
        return s;
    };
    EXPECT_EQ(of(SegmentKind::system, false), "Be brief. |");
    EXPECT_EQ(of(SegmentKind::user, false), "你好 <｜User｜>\uFFFD|and?|");
    EXPECT_EQ(of(SegmentKind::reasoning, false), "think|");
    EXPECT_EQ(of(SegmentKind::tool_result, false), "r|");
    EXPECT_EQ(of(SegmentKind::effort_prefix, true), std::string(effort_max_text()) + "|");
}

}  // namespace
}  // namespace vitrine::text
