// Parsing of model output and its streaming counterpart.
#include "engine/text/chat_output.h"

#include <algorithm>
#include <optional>

#include "engine/base/error.h"
#include "engine/text/protocol.h"
#include "engine/text/tokenizer.h"

namespace vitrine::text {
namespace {

const std::string kOpenDsml = "<" + std::string(kDsml);    // what every opening tag of the tool format starts with
const std::string kCloseDsml = "</" + std::string(kDsml);  // and every closing tag
const std::string kToolsStart = "\n\n" + kOpenDsml + "tool_calls";
const std::string kBeforeTools = "\n\n" + kOpenDsml;

[[noreturn]] void malformed(const std::string& what, std::string_view found) {
    throw Error(ErrorKind::bad_input, Issue{"", "model output", std::string(found), what, ""}.to_string());
}

std::string quoted(std::string_view s) {
    return Json(s).dump();
}

// A JSON object text from parameters: strings quoted, others verbatim.
class Arguments {
  public:
    void add(const std::string& name, std::string_view value, bool is_string) {
        if (std::find(names_.begin(), names_.end(), name) != names_.end())
            malformed("a parameter is given twice; expected distinct names", name);
        text_ += (names_.empty() ? "" : ", ") + quoted(name) + ": " + (is_string ? quoted(value) : std::string(value));
        names_.push_back(name);
    }
    std::string json() const { return "{" + text_ + "}"; }

  private:
    std::vector<std::string> names_;
    std::string text_;
};

// A cursor that reads up to the first of several marks.
class Cursor {
  public:
    explicit Cursor(std::string_view text) : text_(text) {}
    // The text before the mark that comes first, and which it is (-1: none, then all the rest).
    std::pair<std::string_view, int> until(std::initializer_list<std::string_view> marks) {
        size_t best = std::string_view::npos;
        int which = -1, k = 0;
        size_t length = 0;
        for (std::string_view m : marks) {
            const size_t at = text_.find(m, at_);
            if (at < best) best = at, which = k, length = m.size();
            ++k;
        }
        const std::string_view before = text_.substr(at_, best == std::string_view::npos ? best : best - at_);
        at_ = which < 0 ? text_.size() : best + length;
        return {before, which};
    }
    bool is_at_end() const { return at_ == text_.size(); }
    std::string_view rest() const { return text_.substr(at_); }

  private:
    std::string_view text_;
    size_t at_ = 0;
};

bool take_prefix(std::string_view& s, std::string_view prefix) {
    if (s.substr(0, prefix.size()) != prefix) return false;
    s.remove_prefix(prefix.size());
    return true;
}
bool take_suffix(std::string_view& s, std::string_view suffix) {
    if (s.size() < suffix.size() || s.substr(s.size() - suffix.size()) != suffix) return false;
    s.remove_suffix(suffix.size());
    return true;
}

struct Parameter {
    std::string name;
    std::string_view value;
    bool is_string = false;
};

// ` name="K" string="true|false">VALUE<` with the shortest possible name.
std::optional<Parameter> parameter_of(std::string_view s) {
    if (!take_prefix(s, " name=\"") || !take_suffix(s, "<")) return std::nullopt;
    const size_t if_true = s.find("\" string=\"true\">"), if_false = s.find("\" string=\"false\">");
    const bool is_string = if_true < if_false;
    const size_t end = std::min(if_true, if_false);
    if (end == std::string_view::npos) return std::nullopt;
    const size_t value = end + std::string_view("\" string=\"").size() + (is_string ? 4 : 5) + 2;
    return Parameter{std::string(s.substr(0, end)), s.substr(value), is_string};
}

// `name="N">` and a line feed; a call without parameters has one more, from the empty list between the tags.
std::optional<std::string> call_name(std::string_view s) {
    while (!s.empty() && (s[0] == ' ' || s[0] == '\n' || s[0] == '\t' || s[0] == '\r')) s.remove_prefix(1);
    if (!take_prefix(s, "name=\"")) return std::nullopt;
    if (!take_suffix(s, "\">\n\n") && !take_suffix(s, "\">\n")) return std::nullopt;
    return std::string(s);
}

void expect_line_end(std::string_view found) {
    if (found != ">\n") malformed("between elements of tool calls: expected \">\" and a line feed", found);
}

std::vector<ToolCall> strict_calls(Cursor& c) {
    const std::string invoke = kOpenDsml + "invoke", parameter = kOpenDsml + "parameter";
    const std::string end_call = kCloseDsml + "invoke", end_all = kCloseDsml + "tool_calls>",
                      end_parameter = "/" + std::string(kDsml) + "parameter";
    std::vector<ToolCall> calls;
    for (;;) {
        const auto [between, which] = c.until({invoke, end_all});
        expect_line_end(between);
        if (which < 0) malformed("the tool calls are not closed", between);
        if (which == 1) return calls;
        auto [head, next] = c.until({parameter, end_call});
        const auto name = call_name(head);
        if (!name) malformed("expected name=\"...\"> and a line feed", head);
        Arguments arguments;
        while (next == 0) {
            const auto [body, closed] = c.until({end_parameter});
            const auto p = closed < 0 ? std::nullopt : parameter_of(body);
            if (!p) malformed("expected a parameter with name, string=\"true|false\" and a closing tag", body);
            arguments.add(p->name, p->value, p->is_string);
            std::string_view after;
            std::tie(after, next) = c.until({parameter, end_call});
            expect_line_end(after);
        }
        if (next < 0) malformed("a tool call is not closed", head);
        calls.push_back({"", *name, arguments.json()});
    }
}

// The calls that are complete, read without caring for white space between tags.
std::vector<ToolCall> tolerant_calls(std::string_view text, std::vector<std::string>& problems) {
    const std::string invoke = kOpenDsml + "invoke", parameter = kOpenDsml + "parameter";
    const std::string end_call = kCloseDsml + "invoke", end_parameter = "/" + std::string(kDsml) + "parameter";
    std::vector<ToolCall> calls;
    Cursor c(text);
    while (c.until({invoke}).second == 0) {
        auto [head, next] = c.until({parameter, end_call});
        while (!head.empty() && static_cast<unsigned char>(head.back()) <= ' ') head.remove_suffix(1);
        const auto name = call_name(std::string(head) + "\n");
        Arguments arguments;
        bool is_whole = name.has_value();
        while (next == 0) {
            const auto [body, closed] = c.until({end_parameter});
            const auto p = closed < 0 ? std::nullopt : parameter_of(body);
            is_whole = is_whole && p;
            try {
                if (p) arguments.add(p->name, p->value, p->is_string);
            } catch (const Error& e) {
                problems.push_back(e.what());
            }
            next = c.until({parameter, end_call}).second;
        }
        if (is_whole && next == 1)
            calls.push_back({"", *name, arguments.json()});
        else
            problems.push_back("a tool call is malformed or cut off: " + escaped(head));
    }
    if (text.find(kCloseDsml + "tool_calls>") == std::string_view::npos)
        problems.push_back("the tool calls are not closed");
    return calls;
}

}  // namespace

ParsedOutput parse_output_strictly(std::string_view text, bool starts_thinking) {
    ParsedOutput out;
    Cursor c(text);
    if (starts_thinking) {
        const auto [reasoning, which] = c.until({kThinkEnd, kToolsStart});
        if (which != 0)
            malformed(which < 0 ? "expected </think>" : "tool calls inside the reasoning; expected </think> first", "");
        out.reasoning = reasoning;
    }
    const auto [content, which] = c.until({kEos, kToolsStart});
    out.content = content;
    if (which < 0) malformed("expected the end-of-sentence token", "");
    out.has_end = which == 0;
    if (which == 1) {
        out.tool_calls = strict_calls(c);
        const auto [rest, end] = c.until({kEos});
        if (!rest.empty()) malformed("expected nothing between the tool calls and the end", rest);
        out.has_end = end == 0;
    }
    if (!c.is_at_end()) malformed("expected nothing after the end", c.rest());
    for (std::string_view token : {kBos, kEos, kThinkStart, kThinkEnd, kDsml})
        for (const std::string* part : {&out.content, &out.reasoning})
            if (part->find(token) != std::string::npos) malformed("expected no control token inside the text", token);
    return out;
}

ParsedOutput parse_output(std::string_view text, bool starts_thinking) {
    ParsedOutput out;
    if (const size_t end = text.find(kEos); end != std::string_view::npos) {
        out.has_end = true;
        if (end + kEos.size() < text.size()) out.problems.push_back("text after the end-of-sentence token");
        text = text.substr(0, end);
    }
    const size_t tools = text.find(kOpenDsml);
    std::string_view said = text.substr(0, tools);
    if (tools != std::string_view::npos) {
        take_suffix(said, "\n\n");
        out.tool_calls = tolerant_calls(text.substr(tools), out.problems);
    }
    if (starts_thinking) {
        const size_t end = said.find(kThinkEnd);
        out.reasoning = said.substr(0, end);
        if (end == std::string_view::npos) {
            out.problems.push_back("the reasoning is not closed");
            return out;
        }
        said.remove_prefix(end + kThinkEnd.size());
    }
    out.content = said;
    return out;
}

OutputSplitter::OutputSplitter(const Tokenizer& tokenizer, bool starts_thinking, std::vector<int32_t> end_ids)
    : tokenizer_(tokenizer), end_ids_(std::move(end_ids)), phase_(starts_thinking ? Phase::thinking : Phase::answer) {}

// Moves n bytes of pending text into the delta of the current phase.
void OutputSplitter::emit(Step& step, size_t n_bytes) {
    std::string& to = phase_ == Phase::thinking ? step.reasoning
                      : phase_ == Phase::answer ? step.content
                                                : step.tool_text;
    to.append(pending_, 0, n_bytes);
    pending_.erase(0, n_bytes);
    n_emitted_ += n_bytes;
    token_starts_.erase(token_starts_.begin(),
                        std::lower_bound(token_starts_.begin(), token_starts_.end(), n_emitted_));
}

// Emits what is certain: up to markers, and up to a suffix that may become one (all of it when this is the last text).
void OutputSplitter::release(Step& step, bool is_last) {
    while (phase_ != Phase::tool_call) {
        const size_t think_end = phase_ == Phase::thinking ? pending_.find(kThinkEnd) : std::string::npos;
        size_t tools = pending_.find(kOpenDsml);
        if (think_end != std::string::npos && think_end < tools) {
            emit(step, think_end);
            pending_.erase(0, kThinkEnd.size());
            n_emitted_ += kThinkEnd.size();
            step.phase = phase_;
            phase_ = Phase::answer;
            continue;
        }
        if (tools == std::string::npos) break;
        if (tools >= 2 && pending_.compare(tools - 2, 2, "\n\n") == 0) tools -= 2;
        emit(step, tools);
        step.n_relabelled = std::max<int>(0, static_cast<int>(token_starts_.size()) - 1);
        step.phase = phase_ = Phase::tool_call;
    }
    size_t keep = 0;
    if (!is_last && phase_ != Phase::tool_call)
        for (std::string_view mark : {std::string_view(kBeforeTools), std::string_view(kOpenDsml), kThinkEnd}) {
            if (mark == kThinkEnd && phase_ != Phase::thinking) continue;
            for (size_t n = std::min(mark.size() - 1, pending_.size()); n > keep; --n)
                if (std::string_view(pending_).substr(pending_.size() - n) == mark.substr(0, n)) keep = n;
        }
    emit(step, pending_.size() - keep);
}

OutputSplitter::Step OutputSplitter::push(int32_t id) {
    Step step;
    step.phase = phase_;
    if (std::find(end_ids_.begin(), end_ids_.end(), id) != end_ids_.end()) {
        step = finish();
        step.is_end = true;
        return step;
    }
    token_starts_.push_back(n_emitted_ + pending_.size());
    pending_ += detokenizer_.push(tokenizer_.token_bytes(id));
    release(step, false);
    return step;
}

OutputSplitter::Step OutputSplitter::finish() {
    Step step;
    step.phase = phase_;
    pending_ += detokenizer_.finish();
    release(step, true);
    return step;
}

}  // namespace vitrine::text
