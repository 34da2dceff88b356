// Taking model output apart: strict, tolerant, streamed; whole UTF-8 from any cut of the bytes.
#include <gtest/gtest.h>

#include "engine/base/display_text.h"
#include "engine/text/chat_output.h"
#include "engine/text/protocol.h"
#include "engine/text/tokenizer.h"
#include "tests/text/sample_text.h"

namespace vitrine::text {
namespace {

const std::string kE(kEos), kN(kThinkEnd), kD(kDsml);

std::string tag(const std::string& name) {
    return "<" + kD + name;
}
std::string end_tag(const std::string& name) {
    return "</" + kD + name + ">";
}
std::string parameter(const std::string& name, bool is_string, const std::string& value) {
    return tag("parameter name=\"") + name + "\" string=\"" + (is_string ? "true" : "false") + "\">" + value +
           end_tag("parameter") + "\n";
}
std::string call(const std::string& name, const std::string& parameters) {
    return tag("invoke name=\"") + name + "\">\n" + (parameters.empty() ? "\n" : parameters) + end_tag("invoke") + "\n";
}
std::string block(const std::string& calls) {
    return "\n\n" + tag("tool_calls>\n") + calls + end_tag("tool_calls");
}

std::string refusal(const std::string& text, bool starts_thinking = false) {
    try {
        parse_output_strictly(text, starts_thinking);
    } catch (const Error& e) {
        return e.what();
    }
    return "accepted";
}

TEST(StrictParser, ReasoningContentAndCalls) {
    const auto out = parse_output_strictly(
        "so" + kN + "Let me look." +
            block(call("f", parameter("q", true, "a \"b\"\n<c>") + parameter("n", false, "[1, 2]")) + call("g", "")) +
            kE,
        true);
    EXPECT_EQ(out.reasoning, "so");
    EXPECT_EQ(out.content, "Let me look.");
    EXPECT_TRUE(out.has_end);
    ASSERT_EQ(out.tool_calls.size(), 2u);
    EXPECT_EQ(out.tool_calls[0].name, "f");
    EXPECT_EQ(out.tool_calls[0].arguments, R"({"q": "a \"b\"\n<c>", "n": [1, 2]})");
    EXPECT_EQ(out.tool_calls[1].name, "g");
    EXPECT_EQ(out.tool_calls[1].arguments, "{}");
    EXPECT_EQ(parse_output_strictly("4" + kE, false).content, "4");
}

TEST(StrictParser, RenderedCallsComeBack) {
    Message m;
    m.role = Role::assistant;
    m.content = "C";
    m.tool_calls = {{"", "f", R"({"a": "x\ny", "b": {"c": [1, 2.5, null]}, "": "é"})"}, {"", "g", "{}"}};
    const auto format = preview_chat_format();
    const std::string text = render({m}, RenderOptions::for_mode(Mode::non_think), format).text.substr(kBos.size());
    const auto out = parse_output_strictly(text, false);
    ASSERT_EQ(out.tool_calls.size(), 2u);
    for (int k = 0; k < 2; ++k) EXPECT_EQ(out.tool_calls[k].arguments, m.tool_calls[k].arguments);
    const auto tolerant = parse_output(text, false);
    ASSERT_EQ(tolerant.tool_calls.size(), 2u);
    for (int k = 0; k < 2; ++k) EXPECT_EQ(tolerant.tool_calls[k].arguments, m.tool_calls[k].arguments);
    EXPECT_TRUE(tolerant.problems.empty());
}

TEST(StrictParser, Refusals) {
    EXPECT_NE(refusal("no end").find("end-of-sentence"), std::string::npos);
    EXPECT_NE(refusal("x" + kE, true).find("</think>"), std::string::npos);
    EXPECT_NE(refusal("x" + block(call("f", "")) + kE, true).find("inside the reasoning"), std::string::npos);
    EXPECT_NE(refusal("x" + kE + "y").find("after the end"), std::string::npos);
    EXPECT_NE(refusal("a<think>b" + kE).find("control token"), std::string::npos);
    EXPECT_NE(refusal(block(call("f", parameter("a", true, "1") + parameter("a", true, "2"))) + kE).find("twice"),
              std::string::npos);
    EXPECT_NE(refusal(block(call("f", parameter("a", true, "1") + "\n")) + kE).find("line feed"), std::string::npos);
    EXPECT_NE(
        refusal(block(call("f", tag("parameter name=\"a\" string=\"maybe\">1") + end_tag("parameter") + "\n")) + kE)
            .find("string="),
        std::string::npos);
    EXPECT_NE(refusal(block(call("f", "")) + "more" + kE).find("between the tool calls"), std::string::npos);
    EXPECT_NE(refusal("\n\n" + tag("tool_calls>\n") + call("f", "")).find("not closed"), std::string::npos);
    EXPECT_EQ(refusal(block(call("f", ""))), "accepted");  // a missing end is allowed behind tool calls
}

TEST(TolerantParser, CutsAtTheFirstMarkerAndKeepsWhatIsWhole) {
    auto out = parse_output("thinking on", true);
    EXPECT_EQ(out.reasoning, "thinking on");
    EXPECT_EQ(out.content, "");
    EXPECT_EQ(out.problems.size(), 1u);
    out = parse_output("r" + kN + "half an ans", true);
    EXPECT_EQ(out.content, "half an ans");
    EXPECT_FALSE(out.has_end);
    EXPECT_TRUE(out.problems.empty());
    out = parse_output("A " + tag("tool_calls>") + call("f", parameter("a", false, "1")) + tag("invoke name=\"g\">\n") +
                           tag("parameter na"),
                       false);
    EXPECT_EQ(out.content, "A ");
    ASSERT_EQ(out.tool_calls.size(), 1u);
    EXPECT_EQ(out.tool_calls[0].arguments, "{\"a\": 1}");
    EXPECT_EQ(out.problems.size(), 2u);  // a call cut off, a block not closed
    out = parse_output("x" + block(call("f", "")), true);
    EXPECT_EQ(out.reasoning, "x");
    EXPECT_EQ(out.tool_calls.size(), 1u);
}

// Every output, streamed in three ways of cutting it into tokens, equals the parse of the whole.
TEST(Splitter, StreamEqualsWhole) {
    const auto tokenizer = Tokenizer::load(test::text_file("v4_tokenizer.json"));
    const int32_t eos = tokenizer->need_id(kEos);
    const std::vector<std::string> outputs = {
        "reason" + kN + "answer" + kE,
        "reason\n\n" + kN + "\n\nanswer\n\n",
        "</thin</think>< <｜ <｜DSM \n\n<｜DSML and so on",
        "r" + kN + "text\n\n\n" + block(call("f", parameter("a", true, "你好😀"))) + kE,
        "r" + block(call("f", "")),
        "",
        kE,
        "\n",
        "\n\n<",
        "😀 " + kN + " é " + tag("x") + kN,
        "no end \n\n"};
    for (const std::string& text : outputs)
        for (bool starts_thinking : {false, true})
            for (int cut = 0; cut < 2; ++cut) {
                std::vector<int32_t> ids;
                if (cut == 0) ids = tokenizer->encode(text);
                const std::string body = text.substr(0, text.find(kE));
                for (size_t i = 0; cut == 1 && i < body.size(); ++i) {  // one token per byte
                    for (int32_t id = 0; id < tokenizer->n_ids(); ++id)
                        if (tokenizer->token_bytes(id) == std::string_view(body).substr(i, 1)) {
                            ids.push_back(id);
                            break;
                        }
                }
                OutputSplitter splitter(*tokenizer, starts_thinking, {eos});
                std::string reasoning, content, tools;
                bool has_end = false;
                const auto take = [&](const OutputSplitter::Step& s) {
                    for (const std::string* piece : {&s.reasoning, &s.content, &s.tool_text})
                        EXPECT_TRUE(is_valid_utf8(*piece));
                    reasoning += s.reasoning, content += s.content, tools += s.tool_text;
                    has_end = has_end || s.is_end;
                };
                for (int32_t id : ids) take(splitter.push(id));
                if (!has_end) take(splitter.finish());
                const ParsedOutput whole = parse_output(body, starts_thinking);
                EXPECT_EQ(reasoning, whole.reasoning) << escaped(text);
                EXPECT_EQ(content, whole.content) << escaped(text);
                EXPECT_EQ(tools.empty(), body.find("<" + kD) == std::string::npos) << escaped(text);
            }
}

TEST(Splitter, PhasesAndRelabelling) {
    const auto tokenizer = Tokenizer::load(test::text_file("v4_tokenizer.json"));
    const int32_t eos = tokenizer->need_id(kEos), dsml = tokenizer->need_id(kDsml);
    OutputSplitter s(*tokenizer, true, {eos});
    const auto push = [&](const std::string& text) {
        const auto ids = tokenizer->encode(text);
        EXPECT_EQ(ids.size(), 1u) << text;
        return s.push(ids[0]);
    };
    EXPECT_EQ(push("a").phase, Phase::thinking);
    auto step = push(kN);
    EXPECT_EQ(step.phase, Phase::thinking);  // the closing tag belongs to the thinking
    EXPECT_EQ(s.phase(), Phase::answer);
    step = push("b");
    EXPECT_EQ(step.phase, Phase::answer);
    EXPECT_EQ(step.content, "b");
    EXPECT_EQ(push("\n").content, "");  // may start a tool block
    EXPECT_EQ(push("\n").content, "");
    EXPECT_EQ(push("<").phase, Phase::answer);
    step = s.push(dsml);
    EXPECT_EQ(step.phase, Phase::tool_call);
    EXPECT_EQ(step.n_relabelled, 3);
    EXPECT_EQ(step.content, "");
    EXPECT_EQ(step.tool_text, "\n\n<" + kD);
    EXPECT_EQ(push("x").phase, Phase::tool_call);
    EXPECT_TRUE(s.push(eos).is_end);
}

TEST(Detokenizer, WholeCharactersFromAnyCut) {
    const test::SampleText sample;
    for (int i = 0; i < 2000; ++i) {
        const std::string bytes = sample(6 + 8 * i);  // the broken ones
        Detokenizer d;
        std::string out;
        CounterRng rng(1, i);
        for (size_t at = 0, k = 0; at < bytes.size(); ++k) {
            const size_t n = std::min<size_t>(rng.bits(k) % 4, bytes.size() - at);
            const std::string piece = d.push(std::string_view(bytes).substr(at, n));
            ASSERT_TRUE(is_valid_utf8(piece));
            ASSERT_LE(d.held().size(), 3u);
            out += piece;
            at += n;
        }
        out += d.finish();
        ASSERT_EQ(out, repaired_utf8(bytes)) << i;
    }
}

// Python's errors="replace" on sequences that break in each way (computed with CPython).
TEST(Utf8, MaximalSubparts) {
    const std::string r = "\uFFFD";
    EXPECT_EQ(repaired_utf8("a\xF0\x9F\x98z"), "a" + r + "z");
    EXPECT_EQ(repaired_utf8("\xED\xA0\x80"), r + r + r);
    EXPECT_EQ(repaired_utf8("\xC0\xAF"), r + r);
    EXPECT_EQ(repaired_utf8("\xF4\x90\x80\x80"), r + r + r + r);
    EXPECT_EQ(repaired_utf8("\xE2\x82"), r);
    EXPECT_EQ(repaired_utf8("\xE2\xE2\x82\xAC"), r + "€");
    EXPECT_EQ(repaired_utf8("\x80\xFF"), r + r);
    EXPECT_EQ(repaired_utf8("\xF0\x90\x8D\x88"), "\U00010348");
}

TEST(DisplayText, TagsWhatCannotOrShouldNotBeDrawn) {
    EXPECT_EQ(display_text("hi 😀 你好\n\tx"), "hi <U+1F600> 你好\n\tx");
    EXPECT_EQ(display_text("a\u202Eb\u200Bc\uFEFF"), "a<U+202E>b<U+200B>c<U+FEFF>");
    EXPECT_EQ(display_text("\x1B[31m\x7F\u0085"), "<U+001B>[31m<U+007F><U+0085>");
    EXPECT_EQ(display_text("a\r\nb\rc"), "a\nb<U+000D>c");
    EXPECT_EQ(display_text(std::string("\0", 1)), "<U+0000>");
    EXPECT_EQ(display_text("\xF0\x9F"), "\uFFFD");
    std::string zalgo = "z";
    for (int i = 0; i < 100; ++i) zalgo += "\u0301";
    EXPECT_EQ(display_text(zalgo), "z\u0301\u0301\u0301\u0301<+96 marks>");
    EXPECT_EQ(display_line("a\nb\tc"), "a\\nb\\tc");
}

}  // namespace
}  // namespace vitrine::text
