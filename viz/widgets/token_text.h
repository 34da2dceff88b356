// Tokens as flowing text, each with a tint, an outline, an underline or a bracket: prompt view, attention's text map. Long
// texts are laid out a slice per frame and only visible lines are drawn, so a million tokens cost what a screenful costs.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/telemetry/chat.h"
#include "viz/theme.h"

namespace vitrine::viz::ui {

struct TokenStyle {
    ImU32 ink = 0;                  // 0: text, or readable on `fill`
    ImU32 fill = 0, outline = 0, underline = 0;
    bool joins_left = false, joins_right = false;  // fill and outline go on into the neighbour: one box around several tokens
    ImU32 bracket = 0;              // a line above the token ...
    bool is_bracket_begin = false, is_bracket_end = false;  // ... with a tick where the bracket begins and ends
};

struct TokenTextSpec {
    const char* id = "tokens";      // registry: "id/<index>" with the token's text, for visible tokens
    std::span<const TokenInfo> tokens;
    uint64_t version = 0;           // other than last frame: lay out again (appending needs no new version)
    std::function<TokenStyle(int64_t)> style;
    std::function<void(int64_t)> hover;  // the tooltip's content
    int64_t selected = -1;          // outlined in the accent
    bool follows_selected = true;   // scrolls when `selected` changes
    float height = 0;               // 0: what is left
};
struct TokenTextResult {
    int64_t hovered = -1, clicked = -1;
};

class TokenText {
  public:
    TokenTextResult draw(const TokenTextSpec& spec);

  private:
    void lay_out(const TokenTextSpec& spec, float width);
    float token_width(const TokenInfo& t, float room) const;
    std::vector<int64_t> line_begin_;  // first token of each line
    int64_t n_laid_out_ = 0;
    float x_ = 0, width_ = 0, font_size_ = 0;
    uint64_t version_ = 0;
    int64_t last_selected_ = -1;
    bool wants_scroll_ = false;
};

}  // namespace vitrine::viz::ui
