// Markdown as READMEs use it: headings, paragraphs with bold, code and links, lists, tables, code blocks, rules. HTML
// comments are left out; anything else stays as it is written. Parsed and laid out once for a text and a width.
#pragma once
#include <imgui.h>

#include <string>
#include <string_view>
#include <vector>

#include "viz/fonts.h"

namespace vitrine::viz::ui {

namespace markdown {

enum class Style { plain, bold, code, link };
struct Span {
    Style style = Style::plain;
    std::string text, address;  // address: of a link
};
using Spans = std::vector<Span>;

struct Block {
    enum class Kind { heading, paragraph, item, code, table, rule } kind = Kind::paragraph;
    int level = 0;                            // of a heading, from 1; of a list item, its depth from 0
    std::string marker;                       // of a list item: "•" or "3."
    Spans spans;                              // of a heading, paragraph, item
    std::string code;                         // of a code block, lines ended by \n
    std::vector<std::vector<Spans>> rows;     // of a table; the first one is its head
    std::vector<bool> is_right;               // by column
};

Spans parse_spans(std::string_view line);
std::vector<Block> parse(std::string_view text);
std::string plain(const Spans& spans);

}  // namespace markdown

class Markdown {
  public:
    // At the cursor, as wide as what is left. Registry: "id/<block>" with the block's plain text; table cells as
    // "id/<block>/<row>/<column>".
    void draw(std::string_view text, const char* id);

  private:
    struct Piece {  // words in one font at one place
        ImVec2 at;
        Font font;
        markdown::Style style;
        std::string text, address;
        ImVec2 size;
    };
    struct Mark {
        ImVec2 min, max;
        std::string name, text;
    };
    struct Lines {  // of a paragraph: its pieces from (0, 0)
        std::vector<Piece> pieces;
        float width = 0, height = 0;
    };
    void lay_out(std::string_view text, float width);
    void lay_out_block(const markdown::Block& b, const std::string& name, float width);
    void lay_out_table(const markdown::Block& b, const std::string& name, float width);
    void lay_out_code(const markdown::Block& b, float width);
    void put(const Lines& lines, ImVec2 at);
    static Lines flow(const markdown::Spans& spans, float width, Font font, Font bold);

    std::string text_;
    float width_ = 0, font_size_ = 0, y_ = 0;
    std::vector<Piece> pieces_;
    std::vector<Mark> marks_;
    struct Shape {
        ImVec2 min, max;
        bool is_filled;
    };
    std::vector<Shape> shapes_;
};

}  // namespace vitrine::viz::ui
