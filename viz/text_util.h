// UTF-8 for drawing: code points, characters that no font here can draw, eliding, wrapping.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace vitrine::viz {

// The code point at byte `i`, which moves past it. Invalid bytes give U+FFFD, one byte each.
unsigned next_code_point(std::string_view utf8, size_t& i);
// That no font here has this code point: `displayable` tags it from now on. Any thread.
void set_undrawable(unsigned code_point);
// Code points that can't be drawn as "<U+1F600>" (all above U+FFFF, and what was told so), controls other than newline and tab
// as \xNN, invalid bytes as U+FFFD.
std::string displayable(std::string_view utf8);
// One line of a token's text: newline as ↵, tab as →, space kept; displayable.
std::string token_label(std::string_view utf8);
// Case-insensitive for ASCII; an empty needle is found.
bool contains_folded(std::string_view text, std::string_view needle);

namespace ui {
// `text` cut with "…" so that it is at most `width` wide in the current font.
std::string elide(std::string_view text, float width);
}  // namespace ui

}  // namespace vitrine::viz
