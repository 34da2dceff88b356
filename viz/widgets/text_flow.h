// Running text, wrapped between words and between Chinese characters, that knows which byte lies under the mouse and
// can mark byte ranges. Lines are kept; text that only grows is laid out from its last line on.
#pragma once
#include <imgui.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vitrine::viz::ui {

struct TextMark {
    size_t begin = 0, end = 0;  // bytes
    ImU32 fill = 0, outline = 0;
};

// The text with a line's end wherever a line that may be `width` wide ends, in the current font. Numbers stay whole.
std::string wrapped(std::string_view text, float width);

class TextFlow {
  public:
    // `version` other than last time: the beginning of the text changed. Draws at the cursor, `width` wide, in the
    // current font and colour; only visible lines, and no more than the first `most_lines`. Returns the byte under the
    // mouse or -1.
    int64_t draw(std::string_view text, uint64_t version, float width, std::span<const TextMark> marks,
                 int64_t most_lines = INT64_MAX);
    float height() const;  // of all lines of the last layout
    int64_t n_lines(std::string_view text, uint64_t version, float width);
    // What draw shows of the text that was laid out last.
    std::string_view first_lines(std::string_view text, int64_t n) const;

  private:
    void lay_out(std::string_view text, uint64_t version, float width);
    std::vector<size_t> line_begin_;
    size_t n_bytes_ = 0;
    uint64_t version_ = 0;
    float width_ = 0, font_size_ = 0, line_height_ = 0;
};

}  // namespace vitrine::viz::ui
