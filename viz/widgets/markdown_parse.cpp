// Markdown into blocks.
#include <algorithm>

#include "viz/widgets/markdown.h"

namespace vitrine::viz::ui::markdown {
namespace {

std::string_view trimmed(std::string_view s) {
    while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
    while (!s.empty() && (s.back() == ' ' || s.back() == '\t' || s.back() == '\r')) s.remove_suffix(1);
    return s;
}

size_t indent_of(std::string_view line) {
    const size_t at = line.find_first_not_of(' ');
    return at == std::string_view::npos ? 0 : at;
}

// "- words", "3. words": the length of the marker with its space; 0: no item.
size_t marker_length(std::string_view s) {
    if (s.size() > 1 && (s[0] == '-' || s[0] == '*' || s[0] == '+') && s[1] == ' ') return 2;
    size_t i = 0;
    while (i < s.size() && s[i] >= '0' && s[i] <= '9') ++i;
    return i > 0 && i < 4 && i + 1 < s.size() && (s[i] == '.' || s[i] == ')') && s[i + 1] == ' ' ? i + 2 : 0;
}

bool is_rule(std::string_view s) {
    return s.size() >= 3 &&
           (s.find_first_not_of('-') == std::string_view::npos || s.find_first_not_of('*') == std::string_view::npos ||
            s.find_first_not_of('_') == std::string_view::npos);
}

// "| a | b |" by its bars; one inside `code` or after a backslash is text.
std::vector<std::string> cells_of(std::string_view line) {
    line = trimmed(line);
    if (!line.empty() && line.front() == '|') line.remove_prefix(1);
    if (!line.empty() && line.back() == '|') line.remove_suffix(1);
    std::vector<std::string> out(1);
    bool is_code = false;
    for (size_t i = 0; i < line.size(); ++i) {
        if (line[i] == '\\' && i + 1 < line.size() && line[i + 1] == '|') {
            out.back() += line[++i];
            continue;
        }
        if (line[i] == '`') is_code = !is_code;
        if (line[i] == '|' && !is_code)
            out.emplace_back();
        else
            out.back() += line[i];
    }
    return out;
}

// "|---:|:---|": which columns stand right; empty: no such line.
std::vector<bool> alignment_of(std::string_view line) {
    std::vector<bool> out;
    if (line.find('-') == std::string_view::npos || line.find('|') == std::string_view::npos) return out;
    for (const std::string& cell : cells_of(line)) {
        const std::string_view c = trimmed(cell);
        if (c.empty() || c.find_first_not_of(":-") != std::string_view::npos) return {};
        out.push_back(c.back() == ':' && c.front() != ':');
    }
    return out;
}

class Parser {
  public:
    explicit Parser(std::string_view text) {
        while (!text.empty()) {
            const size_t end = std::min(text.find('\n'), text.size());
            lines_.push_back(text.substr(0, end));
            text.remove_prefix(std::min(end + 1, text.size()));
        }
    }

    std::vector<Block> blocks() {
        while (at_ < lines_.size()) {
            const std::string_view line = lines_[at_], s = trimmed(line);
            if (s.starts_with("<!--"))
                skip_comment();
            else if (s.empty())
                ++at_;
            else if (s.starts_with("```"))
                fenced();
            else if (indent_of(line) >= 4 && !is_in_list())
                indented();
            else if (size_t level = heading_level(s); level > 0)
                add(Block::Kind::heading).spans = parse_spans(trimmed(s.substr(level))),
                out_.back().level = static_cast<int>(level), ++at_;
            else if (is_rule(s))
                add(Block::Kind::rule), ++at_;
            else if (at_ + 1 < lines_.size() && s.find('|') != std::string_view::npos &&
                     !alignment_of(lines_[at_ + 1]).empty())
                table();
            else
                words();
        }
        return std::move(out_);
    }

  private:
    Block& add(Block::Kind kind) {
        out_.emplace_back().kind = kind;
        return out_.back();
    }
    bool is_in_list() const { return !out_.empty() && out_.back().kind == Block::Kind::item; }
    static size_t heading_level(std::string_view s) {
        const size_t n = std::min(s.find_first_not_of('#'), s.size());
        return n > 0 && n <= 6 && n < s.size() && s[n] == ' ' ? n : 0;
    }
    void skip_comment() {
        while (at_ < lines_.size() && lines_[at_].find("-->") == std::string_view::npos) ++at_;
        ++at_;
    }
    void fenced() {
        Block& b = add(Block::Kind::code);
        for (++at_; at_ < lines_.size() && !trimmed(lines_[at_]).starts_with("```"); ++at_)
            b.code += std::string(lines_[at_]) + "\n";
        ++at_;
    }
    void indented() {
        Block& b = add(Block::Kind::code);
        for (; at_ < lines_.size() && indent_of(lines_[at_]) >= 4; ++at_)
            b.code += std::string(lines_[at_].substr(4)) + "\n";
    }
    void table() {
        Block& b = add(Block::Kind::table);
        b.is_right = alignment_of(lines_[at_ + 1]);
        for (bool is_head = true; at_ < lines_.size() && lines_[at_].find('|') != std::string_view::npos; ++at_) {
            std::vector<Spans> row;
            for (const std::string& cell : cells_of(lines_[at_])) row.push_back(parse_spans(trimmed(cell)));
            row.resize(b.is_right.size());
            b.rows.push_back(std::move(row));
            if (is_head) ++at_;  // the line of alignments
            is_head = false;
        }
    }
    // A paragraph or a list item, up to an empty line or something else that begins.
    void words() {
        const std::string_view first = trimmed(lines_[at_]);
        const size_t n = marker_length(first);
        Block& b = add(n ? Block::Kind::item : Block::Kind::paragraph);
        if (n) {
            b.level = static_cast<int>(indent_of(lines_[at_]) / 2);
            b.marker = n == 2 ? "\xE2\x80\xA2" : std::string(first.substr(0, n - 1));
        }
        std::string joined(first.substr(n));
        for (++at_; at_ < lines_.size(); ++at_) {
            const std::string_view s = trimmed(lines_[at_]);
            if (s.empty() || marker_length(s) || heading_level(s) || s[0] == '|' || s.starts_with("```") ||
                s.starts_with("<!--"))
                break;
            joined += ' ';
            joined += s;
        }
        b.spans = parse_spans(joined);
    }

    std::vector<std::string_view> lines_;
    size_t at_ = 0;
    std::vector<Block> out_;
};

}  // namespace

Spans parse_spans(std::string_view line) {
    Spans out;
    std::string text;
    const auto flush = [&] {
        if (!text.empty()) out.push_back({Style::plain, std::move(text), ""});
        text.clear();
    };
    for (size_t i = 0; i < line.size();) {
        const char c = line[i];
        if (c == '\\' && i + 1 < line.size() &&
            std::string_view("\\`*_[]|#-").find(line[i + 1]) != std::string_view::npos) {
            text += line[i + 1], i += 2;
            continue;
        }
        const bool is_bold = line.substr(i, 2) == "**";
        const std::string_view mark = c == '`' ? "`" : is_bold ? "**" : "";
        if (!mark.empty()) {
            const size_t end = line.find(mark, i + mark.size());
            if (end != std::string_view::npos && end > i + mark.size()) {
                flush();
                out.push_back({is_bold ? Style::bold : Style::code,
                               std::string(line.substr(i + mark.size(), end - i - mark.size())), ""});
                i = end + mark.size();
                continue;
            }
        }
        if (c == '[') {
            const size_t middle = line.find("](", i), end = line.find(')', middle == line.npos ? i : middle);
            if (middle != line.npos && end != line.npos && line.substr(i + 1, middle - i - 1).find('[') == line.npos) {
                flush();
                out.push_back({Style::link, std::string(line.substr(i + 1, middle - i - 1)),
                               std::string(line.substr(middle + 2, end - middle - 2))});
                i = end + 1;
                continue;
            }
        }
        text += c, ++i;
    }
    flush();
    return out;
}

std::vector<Block> parse(std::string_view text) {
    return Parser(text).blocks();
}

std::string plain(const Spans& spans) {
    std::string out;
    for (const Span& s : spans) out += s.text;
    return out;
}

}  // namespace vitrine::viz::ui::markdown
