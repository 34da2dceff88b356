// Tables: one style for all, numbers right-aligned in mono, rows that can be selected, virtual rows, CSV on right
// click.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "viz/theme.h"

namespace vitrine::viz::ui {

struct Column {
    const char* title;
    float width = 0;         // [design px]; 0: shares what is left
    bool is_number = false;  // right-aligned
    const char* help = "";   // on hover of the header
    bool keeps_end = false;  // too long: cut at the front, as for names that differ at their end
    float weight = 1;        // of what is left, among those that share it
};

// One cell. `number` is what the registry and the copy menu get; NaN: the text is.
struct Cell {
    std::string text;
    double number = 0;
    bool has_number = false;
    ImU32 color = 0;  // 0: text; a dot in this colour is drawn before the text when is_dot
    bool is_dot = false;
    Cell() = default;
    Cell(std::string t, ImU32 c = 0) : text(std::move(t)), color(c) {}  // NOLINT: implicit on purpose
    Cell(const char* t) : text(t) {}                                    // NOLINT
    static Cell value(double v, const char* unit = "");                 // three digits
    static Cell count(int64_t v);
    static Cell bytes(uint64_t v);
    static Cell dotted(ImU32 c, std::string t);
};

struct TableSpec {
    const char* id = "table";  // registry: "id/row/column title"
    std::span<const Column> columns;
    int n_rows = 0;
    std::function<Cell(int row, int column)> cell;  // asked for visible rows only
    std::function<std::string(int row)> row_name;   // for the registry; default the row's index
    int selected = -1;                              // marked with the accent
    float height = 0;                               // 0: as tall as its rows; < 0: what is left
    bool wraps = false;                             // texts take as many lines as they need; for few rows
    std::function<void(int row)> hover;             // the row's tooltip
};
struct TableResult {
    int hovered = -1, clicked = -1;
};
TableResult table(const TableSpec& spec);

}  // namespace vitrine::viz::ui
