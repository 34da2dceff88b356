// Rendering, step by step as in v4-spec 8.3.
#include "engine/text/chat.h"

#include <algorithm>
#include <utility>

#include "engine/base/utf8.h"
#include "engine/text/json_fields.h"
#include "engine/text/protocol.h"
#include "engine/text/tokenizer.h"

namespace vitrine::text {
namespace {

constexpr const char* kRoleNames[] = {"system", "developer", "user", "assistant", "tool", "latest_reminder"};
constexpr const char* kSegmentNames[] = {"BOS",       "effort prefix", "system",      "tools",    "response format",
                                         "role tag",  "user",          "tool result", "reminder", "think tag",
                                         "reasoning", "answer",        "tool call",   "EOS",      "task"};
constexpr std::string_view kTasks[] = {"action", "query", "authority", "domain", "title", "read_url"};
constexpr std::string_view kToolResultStart = "<tool_result>", kToolResultEnd = "</tool_result>";
constexpr std::string_view kResponseFormat =
    "## Response Format:\n\nYou MUST strictly adhere to the following schema to reply:\n";

[[noreturn]] void refuse_message(size_t index, const std::string& what, const std::string& value,
                                 const std::string& expected) {
    refuse("", "message " + std::to_string(index) + what, value, expected);
}

// A user message's ordered pieces after merging; each knows the message it came from.
struct Block {
    bool is_tool_result = false;
    std::string text, call_id;
    size_t source = 0;
};

// A message after merging: tool messages have become blocks of a user item.
struct Item {
    Role role;
    const Message* message;  // the first one merged into this item
    size_t source;           // its index in the caller's list
    std::vector<Block> blocks;
    std::string task;
    bool drops_reasoning = false;
};

bool has_format(const Message& m) {  // what Python takes for false means none
    const Json& f = m.response_format;
    if (f.is_object() || f.is_array()) return f.size() > 0;
    if (f.is_bool()) return f.as_bool();
    if (f.is_string()) return !f.as_string().empty();
    return !f.is_null() && !(f == Json(0));
}

std::string joined_parts(const Message& m) {
    if (m.parts.empty()) return m.content;
    std::string s;
    for (size_t i = 0; i < m.parts.size(); ++i) {
        if (i) s += "\n\n";
        s += m.parts[i].type == "text" ? m.parts[i].text : "[Unsupported " + m.parts[i].type + "]";
    }
    return s;
}

void check(const Message& m, size_t index) {
    const bool may_have_tools = m.role == Role::system || m.role == Role::developer;
    if (!may_have_tools && !m.tools.empty())
        refuse_message(index, ".tools", "",
                       std::string("expected none on a ") + role_name(m.role) + " message: put them on system");
    if (!may_have_tools && has_format(m))
        refuse_message(index, ".response_format", "",
                       std::string("expected none on a ") + role_name(m.role) + " message");
    if (m.role == Role::developer && m.content.empty()) refuse_message(index, ".content", "", "expected text");
    if (m.role != Role::user && m.role != Role::tool && !m.parts.empty())
        refuse_message(index, ".parts", "", "expected content as one text");
    if (m.role != Role::assistant && (!m.tool_calls.empty() || !m.reasoning.empty()))
        refuse_message(index, ".role", role_name(m.role), "expected assistant, as it has reasoning or tool calls");
    if (!m.task.empty() && std::find(std::begin(kTasks), std::end(kTasks), m.task) == std::end(kTasks))
        refuse_message(index, ".task", m.task, "expected action, query, authority, domain, title or read_url");
    if (m.role == Role::tool && !m.task.empty())
        refuse_message(index, ".task", m.task, "expected none on a tool message");
}

// Step 1. A tool result joins any user item before it; a user's text joins it unless it carries a task.
std::vector<Item> merged(const std::vector<Message>& messages, size_t from, size_t to) {
    std::vector<Item> items;
    for (size_t i = from; i < to; ++i) {
        const Message& m = messages[i];
        check(m, i);
        const bool is_tool = m.role == Role::tool;
        if (!is_tool && m.role != Role::user) {
            items.push_back({m.role, &m, i, {}, m.task});
            continue;
        }
        const Block block{is_tool, joined_parts(m), m.tool_call_id, i};
        const bool joins = !items.empty() && items.back().role == Role::user && (is_tool || items.back().task.empty());
        if (!joins) {
            items.push_back({Role::user, &m, i, {block}, m.task});
            continue;
        }
        if (!m.task.empty())
            refuse_message(i, ".task", m.task, "expected none: this message is merged into the user message before it");
        items.back().blocks.push_back(block);
    }
    return items;
}

// Step 2. Results take the order of the latest assistant's calls; unknown ids count as its first call. Texts keep their
// places.
void sort_tool_results(std::vector<Item>& items) {
    std::map<std::string, size_t> order;
    for (Item& item : items) {
        if (item.role == Role::assistant && !item.message->tool_calls.empty()) {
            order.clear();
            const auto& calls = item.message->tool_calls;
            for (size_t k = 0; k < calls.size(); ++k)
                if (!calls[k].id.empty()) order[calls[k].id] = k;
        }
        std::vector<Block> results;
        for (const Block& b : item.blocks)
            if (b.is_tool_result) results.push_back(b);
        if (results.size() < 2 || order.empty()) continue;
        const auto place = [&](const Block& b) {
            const auto it = order.find(b.call_id);
            return it == order.end() ? size_t{0} : it->second;
        };
        std::stable_sort(results.begin(), results.end(),
                         [&](const Block& a, const Block& b) { return place(a) < place(b); });
        size_t next = 0;
        for (Block& b : item.blocks)
            if (b.is_tool_result) b = results[next++];
    }
}

// Index of the last user or developer item, -1 when there is none.
int64_t last_question(const std::vector<Item>& items) {
    for (size_t i = items.size(); i-- > 0;)
        if (items[i].role == Role::user || items[i].role == Role::developer) return static_cast<int64_t>(i);
    return -1;
}

// Step 5. Before the last question: no reasoning, no developer items.
std::vector<Item> without_old_thinking(const std::vector<Item>& items) {
    const int64_t u = last_question(items);
    std::vector<Item> kept;
    for (size_t i = 0; i < items.size(); ++i) {
        const bool is_old = static_cast<int64_t>(i) < u;
        if (is_old && items[i].role == Role::developer) continue;
        kept.push_back(items[i]);
        kept.back().drops_reasoning = is_old;
    }
    return kept;
}

class Renderer {
  public:
    Renderer(const RenderOptions& options, const ChatFormat& format) : o_(options), format_(format) {}

    Prompt run(const std::vector<Message>& messages) {
        if (o_.n_context > messages.size())
            refuse("", "n_context", std::to_string(o_.n_context), "expected at most the number of messages");
        std::vector<Item> context = merged(messages, 0, o_.n_context);
        items_ = context;
        for (Item& item : merged(messages, o_.n_context, messages.size())) items_.push_back(std::move(item));
        sort_tool_results(items_);
        // Step 4: with tools anywhere, reasoning stays.
        const bool has_tools =
            std::any_of(items_.begin(), items_.end(), [](const Item& i) { return !i.message->tools.empty(); });
        drops_ = o_.drop_thinking && !has_tools;
        size_t first = context.size();
        if (o_.is_thinking && drops_) {
            items_ = without_old_thinking(items_);
            first = without_old_thinking(context).size();
        }
        u_ = last_question(items_);
        if (o_.add_bos && o_.n_context == 0) add(SegmentKind::bos, kBos);
        for (size_t i = first; i < items_.size(); ++i) {
            at_ = static_cast<int32_t>(items_[i].source);
            if (i == 0) add_effort_prefix();
            add_item(i);
            add_transition(i);
        }
        return std::move(p_);
    }

    bool keeps_reasoning(size_t i) const {
        const bool follows_task = i > 0 && !items_[i - 1].task.empty();
        return o_.is_thinking && !follows_task && (!drops_ || static_cast<int64_t>(i) > u_);
    }
    const std::vector<Item>& items() const { return items_; }

  private:
    void add(SegmentKind kind, std::string_view text, bool is_template = true) {
        const std::string repaired = repaired_utf8(text);
        const size_t begin = p_.text.size();
        p_.text += repaired;
        if (!p_.segments.empty()) {
            Segment& last = p_.segments.back();
            if (last.kind == kind && last.message == at_ && last.is_template == is_template) {
                last.end = p_.text.size();
                return;
            }
        }
        if (!repaired.empty()) p_.segments.push_back({kind, at_, is_template, begin, p_.text.size()});
    }
    void add_own(SegmentKind kind, std::string_view text) { add(kind, text, false); }

    void add_effort_prefix() {
        if (!o_.is_thinking || o_.effort.empty()) return;
        const auto it = format_.effort_prefix.find(o_.effort);
        if (it == format_.effort_prefix.end()) {
            std::string known;
            for (const auto& [name, text] : format_.effort_prefix) known += (known.empty() ? "" : ", ") + name;
            refuse(format_.source, "effort", o_.effort, "expected one of: " + known);
        }
        const int32_t at = std::exchange(at_, -1);
        add(SegmentKind::effort_prefix, it->second);
        at_ = at;
    }

    void add_tools_and_format(const Message& m) {
        if (!m.tools.empty()) {
            const std::string_view block = tools_block_text();
            static constexpr std::string_view kMark = "{SCHEMAS}";
            const size_t mark = block.find(kMark);
            add(SegmentKind::tools, "\n\n");
            add(SegmentKind::tools, block.substr(0, mark));
            for (size_t k = 0; k < m.tools.size(); ++k) {
                const Json* function = m.tools[k].find("function");
                add_own(SegmentKind::tools, (k ? "\n" : "") + (function ? *function : m.tools[k]).dump());
            }
            add(SegmentKind::tools, block.substr(mark + kMark.size()));
        }
        if (has_format(m)) {
            add(SegmentKind::response_format, "\n\n");
            add(SegmentKind::response_format, kResponseFormat);
            add_own(SegmentKind::response_format, m.response_format.dump());
        }
    }

    void add_user(const Item& item) {
        add(SegmentKind::role_tag, kUser);
        for (size_t k = 0; k < item.blocks.size(); ++k) {
            const Block& b = item.blocks[k];
            at_ = static_cast<int32_t>(b.source);
            if (k) add(b.is_tool_result ? SegmentKind::tool_result : SegmentKind::user, "\n\n");
            if (!b.is_tool_result) {
                add_own(SegmentKind::user, b.text);
                continue;
            }
            add(SegmentKind::tool_result, kToolResultStart);
            add_own(SegmentKind::tool_result, b.text);
            add(SegmentKind::tool_result, kToolResultEnd);
        }
    }

    void add_tool_calls(const std::vector<ToolCall>& calls) {
        const auto open = [](std::string_view name) { return "<" + std::string(kDsml) + std::string(name); };
        const auto close = [](std::string_view name) { return "</" + std::string(kDsml) + std::string(name) + ">"; };
        constexpr auto kKind = SegmentKind::tool_call;
        add(kKind, "\n\n" + open("tool_calls") + ">\n");
        for (size_t k = 0; k < calls.size(); ++k) {
            add(kKind, (k ? "\n" : "") + open("invoke name=\""));
            add_own(kKind, calls[k].name);
            add(kKind, "\">\n");
            bool is_first = true;
            for (const auto& [name, value] : arguments_of(calls[k])) {
                add(kKind, (is_first ? "" : "\n") + open("parameter name=\""));
                is_first = false;
                add_own(kKind, name);
                add(kKind, value.is_string() ? "\" string=\"true\">" : "\" string=\"false\">");
                add_own(kKind, value.is_string() ? value.as_string() : value.dump());
                add(kKind, close("parameter"));
            }
            add(kKind, "\n" + close("invoke"));
        }
        add(kKind, "\n" + close("tool_calls"));
    }

    Json::Object arguments_of(const ToolCall& call) const {
        Json parsed;
        try {
            JsonLimits limits;
            limits.max_bytes = size_t{64} << 20;
            limits.max_depth = 128;
            parsed = Json::parse(call.arguments, "arguments", limits);
        } catch (const Error&) {  // not JSON: passed on as it is (v4-spec 8.4)
            return {{"arguments", Json(call.arguments)}};
        }
        if (!parsed.is_object())
            refuse_message(static_cast<size_t>(at_), ".tool_calls." + call.name + ".arguments", parsed.type_name(),
                           "expected a JSON object");
        return parsed.members();
    }

    void add_item(size_t i) {
        const Item& item = items_[i];
        const Message& m = *item.message;
        switch (item.role) {
            case Role::system:
                add_own(SegmentKind::system, m.content);
                add_tools_and_format(m);
                break;
            case Role::developer:
                add(SegmentKind::role_tag, kUser);
                add_own(SegmentKind::user, m.content);
                add_tools_and_format(m);
                break;
            case Role::user:
                add_user(item);
                break;
            case Role::latest_reminder:
                add(SegmentKind::role_tag, kLatestReminder);
                add_own(SegmentKind::reminder, m.content);
                break;
            case Role::assistant:
                if (keeps_reasoning(i)) {
                    if (!item.drops_reasoning) add_own(SegmentKind::reasoning, m.reasoning);
                    add(SegmentKind::think_tag, kThinkEnd);
                }
                add_own(SegmentKind::answer, m.content);
                if (!m.tool_calls.empty()) add_tool_calls(m.tool_calls);
                if (!m.wo_eos) add(SegmentKind::eos, kEos);
                break;
            case Role::tool:
                break;  // merged away
        }
    }

    // Step 7.
    void add_transition(size_t i) {
        at_ = -1;
        p_.ends_thinking = false;
        if (i + 1 < items_.size() && items_[i + 1].role != Role::assistant &&
            items_[i + 1].role != Role::latest_reminder)
            return;
        const Item& item = items_[i];
        if (!item.task.empty()) {
            if (item.task == "action") {
                add(SegmentKind::role_tag, kAssistant);
                add(SegmentKind::think_tag, o_.is_thinking ? kThinkStart : kThinkEnd);
            }
            add(SegmentKind::task, "<｜" + item.task + "｜>");
            return;
        }
        if (item.role != Role::user && item.role != Role::developer) return;
        const bool thinks = o_.is_thinking && (!drops_ || static_cast<int64_t>(i) >= u_);
        add(SegmentKind::role_tag, kAssistant);
        add(SegmentKind::think_tag, thinks ? kThinkStart : kThinkEnd);
        p_.ends_thinking = thinks;
    }

    const RenderOptions& o_;
    const ChatFormat& format_;
    std::vector<Item> items_;
    int64_t u_ = -1;
    bool drops_ = true;
    int32_t at_ = -1;  // message of the segments being added
    Prompt p_;
};

// Token ranges of segments, and the control tokens that come from a message's own words.
void place_tokens(Prompt& p, const Tokenizer& tokenizer) {
    const auto first_token_at = [&](size_t byte) {
        return static_cast<size_t>(std::lower_bound(p.token_begin.begin(), p.token_begin.end() - 1, byte) -
                                   p.token_begin.begin());
    };
    for (Segment& s : p.segments) {
        s.token_begin = first_token_at(s.begin);
        s.token_end = first_token_at(s.end);
        if (s.is_template) continue;
        for (size_t k = s.token_begin; k < s.token_end; ++k)
            if (tokenizer.is_added(p.ids[k])) p.typed_controls.push_back(k);
    }
}

}  // namespace

const char* role_name(Role r) {
    return kRoleNames[static_cast<size_t>(r)];
}
const char* segment_name(SegmentKind k) {
    return kSegmentNames[static_cast<size_t>(k)];
}

Role role_from_name(std::string_view name) {
    for (size_t k = 0; k < std::size(kRoleNames); ++k)
        if (name == kRoleNames[k]) return static_cast<Role>(k);
    refuse("", "role", std::string(name), "expected system, developer, user, assistant, tool or latest_reminder");
}

Prompt render(const std::vector<Message>& messages, const RenderOptions& options, const ChatFormat& format) {
    return Renderer(options, format).run(messages);
}

Prompt encode_chat(const std::vector<Message>& messages, const RenderOptions& options, const ChatFormat& format,
                   const Tokenizer& tokenizer) {
    Prompt p = render(messages, options, format);
    Encoding e = tokenizer.encode_with_places(p.text);
    p.ids = std::move(e.ids);
    p.token_begin = std::move(e.begin);
    place_tokens(p, tokenizer);
    return p;
}

bool is_reasoning_kept(const std::vector<Message>& messages, size_t index, const RenderOptions& options) {
    RenderOptions all = options;
    all.n_context = 0;
    all.effort.clear();
    const ChatFormat none;
    Renderer r(all, none);
    r.run(messages);
    for (size_t i = 0; i < r.items().size(); ++i)
        if (r.items()[i].source == index && r.items()[i].role == Role::assistant)
            return r.keeps_reasoning(i) && !r.items()[i].drops_reasoning;
    return false;
}

}  // namespace vitrine::text
