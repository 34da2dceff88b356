// A message's text and which bytes each token made.
#include <algorithm>

#include "viz/shell/chat_pane.h"
#include "viz/text_util.h"
#include "viz/widgets/basic.h"

namespace vitrine::viz {
namespace {

// The bytes that a token's displayable text stands for: "\xE6\x9C" is two bytes, anything else is itself.
std::string bytes_of(const std::string& s) {
    const auto hex = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
    std::string out;
    for (size_t i = 0; i < s.size();) {
        if (i + 3 < s.size() && s[i] == '\\' && s[i + 1] == 'x' && hex(s[i + 2]) >= 0 && hex(s[i + 3]) >= 0) {
            out += static_cast<char>(hex(s[i + 2]) * 16 + hex(s[i + 3]));
            i += 4;
        } else {
            out += s[i++];
        }
    }
    return out;
}

// A token that holds a part of a character shows as U+FFFD, one for each piece; 0 when it is anything else.
size_t pieces_of_character(const std::string& s) {
    constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
    size_t n = 0;
    for (size_t i = 0; i < s.size(); i += kReplacement.size(), ++n)
        if (s.compare(i, kReplacement.size(), kReplacement) != 0) return 0;
    return n;
}
bool is_continued(const std::string& raw, size_t at, size_t n) {
    if (at + n > raw.size()) return false;
    return std::all_of(raw.begin() + static_cast<ptrdiff_t>(at), raw.begin() + static_cast<ptrdiff_t>(at + n),
                       [](char c) { return (static_cast<unsigned char>(c) & 0x80) != 0; });
}

void token_tooltip(const TokenInfo& t) {
    ui::Tooltip box;
    {
        ui::FontScope mono(Font::mono);
        ui::plain(token_label(t.text).c_str());
    }
    ui::FontScope small(Font::small);
    ui::Color dim(theme().text_dim);
    ui::plainf("id %d \xC2\xB7 position %lld \xC2\xB7 %s", t.id, static_cast<long long>(t.ref.position),
                phase_name(t.phase));
    if (t.probability >= 0)
        ui::plainf("probability %s \xC2\xB7 entropy %s nat", ui::format_number(t.probability).c_str(),
                    ui::format_number(t.entropy).c_str());
}

}  // namespace

void TokenizedText::update(const std::string& raw, const std::vector<TokenInfo>& tokens, bool is_thinking,
                           uint64_t version) {
    if (version == version_ && raw.size() == n_raw_ && tokens.size() == n_tokens_) return;
    if (version != version_) spans_.clear(), n_tokens_ = 0;
    version_ = version, n_raw_ = raw.size();
    shown_ = displayable(raw);
    align(raw, tokens, is_thinking);
    n_tokens_ = tokens.size();
}

// Walks text and tokens together. A token that does not match (template tokens, cut stop strings) gets no range.
void TokenizedText::align(const std::string& raw, const std::vector<TokenInfo>& tokens, bool is_thinking) {
    spans_.clear();
    if (shown_.size() != raw.size()) return;  // characters were replaced: offsets would lie
    size_t at = 0;
    for (size_t i = 0; i < tokens.size() && at < raw.size(); ++i) {
        const TokenInfo& t = tokens[i];
        if ((t.phase == Phase::thinking) != is_thinking || t.is_special || t.text.empty()) continue;
        if (const size_t n = pieces_of_character(t.text); n > 0 && is_continued(raw, at, n)) {
            spans_.push_back({at, at + n, i});
            at += n;
            continue;
        }
        const std::string bytes = raw.compare(at, t.text.size(), t.text) == 0 ? t.text : bytes_of(t.text);
        if (raw.compare(at, bytes.size(), bytes) != 0) {
            const size_t found = bytes.size() > 1 ? raw.find(bytes, at) : std::string::npos;
            if (found == std::string::npos || found > at + 16) continue;
            at = found;
        }
        spans_.push_back({at, at + bytes.size(), i});
        at += bytes.size();
    }
}

void TokenizedText::draw(Desk& desk, const std::vector<TokenInfo>& tokens, float width, const char* name,
                         int64_t most_lines) {
    std::vector<ui::TextMark> marks;
    const auto mark = [&](TokenRef ref, ImU32 fill, ImU32 outline) {
        if (ref.position < 0 || spans_.empty() || tokens.empty()) return;
        const int64_t index = ref.position - tokens.front().ref.position;
        if (index < 0 || index >= static_cast<int64_t>(tokens.size()) ||
            !(tokens[static_cast<size_t>(index)].ref == ref))
            return;
        const auto it = std::lower_bound(spans_.begin(), spans_.end(), static_cast<size_t>(index),
                                         [](const Span& s, size_t i) { return s.token < i; });
        if (it != spans_.end() && it->token == static_cast<size_t>(index))
            marks.push_back({it->begin, it->end, fill, outline});
    };
    if (!(desk.shown == desk.cursor.token)) mark(desk.shown, theme().hovered, 0);
    mark(desk.cursor.token, with_alpha(theme().accent, 0.16f), theme().accent);
    const int64_t byte = flow_.draw(shown_, version_, width, marks, most_lines);
    ui::mark(name, std::string(flow_.first_lines(shown_, most_lines)));
    if (byte < 0) return;
    const auto it = std::upper_bound(spans_.begin(), spans_.end(), static_cast<size_t>(byte),
                                     [](size_t b, const Span& s) { return b < s.end; });
    if (it == spans_.end() || static_cast<size_t>(byte) < it->begin || it->token >= tokens.size()) return;
    const TokenInfo& t = tokens[it->token];
    desk.cursor.hover = t.ref;
    token_tooltip(t);
    if (ImGui::IsMouseClicked(ImGuiMouseButton_Left)) desk.select(t.ref);
}

}  // namespace vitrine::viz
