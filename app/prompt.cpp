// From the path through a conversation to the exact tokens the model reads.
#include "app/prompt.h"

#include <algorithm>

#include "engine/base/display_text.h"
#include "engine/base/error.h"
#include "engine/text/chat.h"
#include "engine/text/tokenizer.h"

namespace vitrine {
namespace {

std::vector<text::Message> messages_of(const ConversationTree& tree, const std::vector<int64_t>& path,
                                       std::vector<int64_t>& turns) {
    std::vector<text::Message> messages;
    if (!tree.system.empty()) {
        messages.push_back({.role = text::Role::system, .content = tree.system});
        turns.push_back(0);
    }
    for (int64_t id : path) {
        const Turn& t = tree.at(id).turn;
        text::Message m;
        m.role = text::role_from_name(t.role);
        m.content = t.content;
        m.reasoning = t.reasoning;
        messages.push_back(std::move(m));
        turns.push_back(id);
    }
    return messages;
}

Phase phase_of(text::SegmentKind kind) {
    switch (kind) {
        case text::SegmentKind::reasoning:
            return Phase::thinking;
        case text::SegmentKind::answer:
            return Phase::answer;
        case text::SegmentKind::tool_call:
            return Phase::tool_call;
        default:
            return Phase::prompt;
    }
}

std::vector<TokenInfo> token_infos(const text::Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
    std::vector<TokenInfo> out(ids.size());
    for (size_t i = 0; i < ids.size(); ++i) {
        out[i].id = ids[i];
        out[i].text = display_text(tokenizer.token_bytes(ids[i]));
        out[i].is_special = tokenizer.is_added(ids[i]);
    }
    return out;
}

}  // namespace

const text::Tokenizer& need_tokenizer(const Engine& engine) {
    if (const text::Tokenizer* t = engine.tokenizer()) return *t;
    throw Error(ErrorKind::bad_input,
                escaped(engine.info().folder, 512) +
                    "/tokenizer.json: not there: without it the model can't read text (dump --tokens works)");
}

std::vector<int32_t> RenderedPrompt::ids() const {
    std::vector<int32_t> out;
    out.reserve(tokens.size());
    for (const TokenInfo& t : tokens) out.push_back(t.id);
    return out;
}

RenderedPrompt render_prompt(const Engine& engine, const ConversationTree& tree, int64_t last, Mode mode) {
    const text::Tokenizer& tokenizer = need_tokenizer(engine);
    const std::string why_not = engine.chat_format().why_not(mode);
    if (!why_not.empty()) throw Error(ErrorKind::bad_input, std::string(mode_title(mode)) + ": " + why_not);
    std::vector<int64_t> turns;
    const std::vector<text::Message> messages = messages_of(tree, tree.path_to(last), turns);
    const text::Prompt p =
        text::encode_chat(messages, text::RenderOptions::for_mode(mode), engine.chat_format(), tokenizer);
    RenderedPrompt out;
    out.text = p.text;
    out.tokens = token_infos(tokenizer, p.ids);
    for (const text::Segment& s : p.segments) {
        const int64_t turn = s.message < 0 ? 0 : turns[s.message];
        out.segments.push_back({text::segment_name(s.kind), static_cast<int64_t>(s.token_begin),
                                static_cast<int64_t>(s.token_end), s.is_template ? 0 : turn});
        for (size_t i = s.token_begin; i < s.token_end; ++i) {
            out.tokens[i].phase = phase_of(s.kind);
            out.tokens[i].is_special = s.is_template;
        }
    }
    return out;
}

RenderedPrompt render_plain(const Engine& engine, const std::string& text) {
    const text::Tokenizer& tokenizer = need_tokenizer(engine);
    const int64_t n_bos = engine.config().bos_id >= 0;
    std::vector<int32_t> ids(static_cast<size_t>(n_bos), engine.config().bos_id);
    const std::vector<int32_t> rest = tokenizer.encode(text);
    ids.insert(ids.end(), rest.begin(), rest.end());
    const auto n = static_cast<int64_t>(ids.size());
    std::vector<PromptSegment> segments;
    if (n_bos) segments.push_back({"BOS", 0, 1, 0});
    segments.push_back({"text", n_bos, n, 0});
    return {text, token_infos(tokenizer, ids), std::move(segments)};
}

std::string explain_reuse(const std::vector<TokenInfo>& before, int64_t n_before, const RenderedPrompt& now,
                          int64_t n_reused) {
    if (n_before == 0) return "Nothing was in the cache yet, so the whole prompt is read.";
    const auto n = static_cast<int64_t>(now.tokens.size());
    if (n_reused == n_before) return "All that was in the cache is still in the context: only what is new is read.";
    if (n_reused == n - 1 && n <= n_before)
        return "The whole prompt was in the cache: only its last token is read again, for what comes after it.";
    const auto segment = std::find_if(now.segments.begin(), now.segments.end(),
                                      [&](const PromptSegment& s) { return s.begin <= n_reused && n_reused < s.end; });
    const std::string what = segment == now.segments.end() ? "" : segment->what;
    const auto at = static_cast<size_t>(n_reused);
    const std::string from = "From token " + std::to_string(n_reused) + " on the context differs: ";
    const std::string rest = " What follows is read again.";
    const bool was_thinking =
        (at < before.size() && before[at].phase == Phase::thinking) ||
        (at + 1 < before.size() && before[at + 1].phase == Phase::thinking);  // at its opening tag
    if (was_thinking && n_reused < n - 1 && what != text::segment_name(text::SegmentKind::reasoning))
        return from + "the thinking of an earlier answer is not part of it any more." + rest;
    if (what == text::segment_name(text::SegmentKind::effort_prefix) || n_reused <= 1)
        return from +
               (what == text::segment_name(text::SegmentKind::effort_prefix)
                    ? "this mode puts a text in front of everything."
                    : "its beginning changed (mode, system text or conversation).") +
               rest;
    if (what == text::segment_name(text::SegmentKind::system)) return from + "the system text changed." + rest;
    if (what == text::segment_name(text::SegmentKind::think_tag))
        return from + "this mode opens the answer differently." + rest;
    return from + "a message was edited, or another version of it is chosen." + rest;
}

}  // namespace vitrine
