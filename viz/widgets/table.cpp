// The table widget.
#include "viz/widgets/table.h"

#include <imgui_internal.h>

#include <algorithm>

#include "viz/imgui_compat.h"
#include "viz/text_util.h"
#include "viz/widgets/basic.h"
#include "viz/widgets/export.h"

namespace vitrine::viz::ui {
namespace {

constexpr int kMaxCsvRows = 100000;

std::string copy_text(const Cell& c) {
    return c.has_number ? full_precision(c.number) : c.text;
}

std::string row_text(const TableSpec& s, int row, char separator) {
    std::string out;
    for (size_t c = 0; c < s.columns.size(); ++c) {
        if (c) out += separator;
        const std::string field = copy_text(s.cell(row, static_cast<int>(c)));
        out += separator == ',' ? csv_field(field) : field;
    }
    return out;
}

std::string to_csv(const TableSpec& s) {
    std::string out;
    for (size_t c = 0; c < s.columns.size(); ++c) out += (c ? "," : "") + csv_field(s.columns[c].title);
    out += '\n';
    for (int r = 0; r < std::min(s.n_rows, kMaxCsvRows); ++r) out += row_text(s, r, ',') + '\n';
    return out;
}

// ASCII names only: tensors, files.
std::string elide_front(const std::string& s, float width) {
    if (ImGui::CalcTextSize(s.c_str()).x <= width) return s;
    for (size_t i = 1; i < s.size(); ++i) {
        const std::string shown = "\xE2\x80\xA6" + s.substr(i);
        if (ImGui::CalcTextSize(shown.c_str()).x <= width) return shown;
    }
    return elide(s, width);
}

void text_in(float room, bool wraps, const std::string& s) {
    if (wraps) ImGui::PushTextWrapPos(ImGui::GetCursorPosX() + room);
    ui::plain(s.c_str());
    if (wraps) ImGui::PopTextWrapPos();
}

// Of a row whose texts wrap; leaves the cursor in its first cell.
float wrapped_height(const TableSpec& s, int row) {
    float height = 0;
    for (int c = static_cast<int>(s.columns.size()) - 1; c >= 0; --c) {
        ImGui::TableSetColumnIndex(c);
        const float room = ImGui::GetContentRegionAvail().x;
        height = std::max(height, ImGui::CalcTextSize(s.cell(row, c).text.c_str(), nullptr, false, room).y);
    }
    return height;
}

// The column that the mouse is in; the gap between two belongs to the left one.
int column_under_mouse(int n_columns) {
    const ImGuiTable* t = ImGui::GetCurrentTable();
    int column = 0;
    for (int c = 1; t && c < n_columns; ++c)
        if (ImGui::GetIO().MousePos.x >= t->Columns[c].MinX) column = c;
    return column;
}

void draw_header(const TableSpec& s) {
    FontScope small(Font::small);
    Color dim(theme().text_dim);
    ImGui::TableNextRow(ImGuiTableRowFlags_Headers);
    for (size_t i = 0; i < s.columns.size(); ++i) {
        const Column& c = s.columns[i];
        if (!ImGui::TableSetColumnIndex(static_cast<int>(i))) continue;
        const float room = ImGui::GetContentRegionAvail().x;
        const std::string shown = s.wraps ? c.title : elide(c.title, room);
        if (c.is_number)
            ImGui::SetCursorPosX(ImGui::GetCursorPosX() + std::max(0.0f, room - ImGui::CalcTextSize(shown.c_str()).x));
        text_in(room, s.wraps, shown);
        note_text(c.title);
        if (*c.help)
            tooltip(c.help);
        else if (shown != c.title)
            tooltip(c.title);
    }
}

float fitting_width(const std::string& s) {
    FontScope mono(Font::mono);
    return ImGui::CalcTextSize(s.c_str()).x;
}

void draw_cell(const TableSpec& s, int row, int column) {
    const Column& c = s.columns[static_cast<size_t>(column)];
    const Cell cell = s.cell(row, column);
    const float room = ImGui::GetContentRegionAvail().x;
    const bool is_mono = c.is_number || cell.has_number;
    FontScope font(!is_mono ? Font::body : room < fitting_width(cell.text) ? Font::mono_small : Font::mono);
    if (cell.is_dot) {
        dot(cell.color, 4);
        ImGui::SameLine(0, px(6));
    }
    const float left = ImGui::GetContentRegionAvail().x;
    const std::string shown = s.wraps ? cell.text : c.keeps_end ? elide_front(cell.text, left) : elide(cell.text, left);
    if (c.is_number)
        ImGui::SetCursorPosX(ImGui::GetCursorPosX() + std::max(0.0f, left - ImGui::CalcTextSize(shown.c_str()).x));
    ImGui::PushStyleColor(ImGuiCol_Text, cell.color && !cell.is_dot ? cell.color : theme().text);
    text_in(left, s.wraps, shown);
    ImGui::PopStyleColor();
    if (registry_is_on()) {
        const std::string name =
            std::string(s.id) + "/" + (s.row_name ? s.row_name(row) : std::to_string(row)) + "/" + c.title;
        mark(name, cell.text);
        if (cell.has_number) value(name, cell.number);
    }
    if (shown != cell.text || (cell.has_number && !s.hover))
        tooltip(cell.has_number ? full_precision(cell.number) : cell.text);
}

// A table as a picture: all its columns as wide as on the screen, the first rows.
void draw_figure(const TableSpec& s, Canvas canvas, ImVec2 at, const std::vector<float>& lefts, float right, float& bottom) {
    constexpr int kMostRows = 100;
    FontScope small(Font::mono_small);
    const float row = ImGui::GetTextLineHeight() + px(6);
    const auto line = [&](const std::function<std::string(int)>& text_of, ImU32 color) {
        for (size_t c = 0; c < s.columns.size(); ++c) {
            const float end = (c + 1 < lefts.size() ? lefts[c + 1] : right) - px(14);
            const std::string shown = elide(text_of(static_cast<int>(c)), end - lefts[c]);
            const float x = s.columns[c].is_number ? end - ImGui::CalcTextSize(shown.c_str()).x : lefts[c];
            canvas.text({x, bottom + px(3)}, color, shown);
        }
        bottom += row;
        canvas.line({at.x, bottom}, {right, bottom}, theme().border);
    };
    bottom = at.y;
    line([&](int c) { return std::string(s.columns[static_cast<size_t>(c)].title); }, theme().text_dim);
    for (int r = 0; r < std::min(s.n_rows, kMostRows); ++r)
        line([&](int c) { return s.cell(r, c).text; }, theme().text);
    if (s.n_rows > kMostRows) {
        canvas.text({at.x, bottom + px(3)}, theme().text_dim, "\xE2\x80\xA6 " + format_count(s.n_rows - kMostRows) + " more");
        bottom += row;
    }
}

}  // namespace

Cell Cell::value(double v, const char* unit) {
    Cell c(format_number(v) + (*unit ? std::string(" ") + unit : ""));
    c.number = v, c.has_number = true;
    return c;
}
Cell Cell::count(int64_t v) {
    Cell c(format_count(v));
    c.number = static_cast<double>(v), c.has_number = true;
    return c;
}
Cell Cell::bytes(uint64_t v) {
    Cell c(format_bytes(v));
    c.number = static_cast<double>(v), c.has_number = true;
    return c;
}
Cell Cell::dotted(ImU32 color, std::string t) {
    Cell c(std::move(t), color);
    c.is_dot = true;
    return c;
}

TableResult table(const TableSpec& s) {
    TableResult out;
    ImGuiTableFlags flags =
        ImGuiTableFlags_BordersInnerH | ImGuiTableFlags_NoSavedSettings | ImGuiTableFlags_SizingStretchProp;
    if (s.height != 0) flags |= ImGuiTableFlags_ScrollY;
    const ImVec2 origin = ImGui::GetCursorScreenPos();
    const float room = ImGui::GetContentRegionAvail().x;
    const float table_height = s.height < 0 ? ImGui::GetContentRegionAvail().y : s.height;
    if (!ImGui::BeginTable(s.id, static_cast<int>(s.columns.size()), flags, {0, table_height})) return out;
    Recording recording(s.id, origin, room);  // before the menu that asks for it: the next frame has what stands above a picture
    for (const Column& c : s.columns)
        ImGui::TableSetupColumn(c.title,
                                c.width > 0 ? ImGuiTableColumnFlags_WidthFixed : ImGuiTableColumnFlags_WidthStretch,
                                c.width > 0 ? px(c.width) : c.weight);
    ImGui::TableSetupScrollFreeze(0, 1);
    draw_header(s);
    const auto n_columns = static_cast<int>(s.columns.size());
    const auto draw_row = [&](int row) {
        ImGui::TableNextRow();
        const float height = s.wraps ? wrapped_height(s, row) : 0;
        ImGui::TableSetColumnIndex(0);
        ImGui::PushID(row);
        if (ImGui::Selectable("##row", false,
                              ImGuiSelectableFlags_SpanAllColumns | ImGuiSelectableFlags_AllowItemOverlap, {0, height}))
            out.clicked = row;
        if (ImGui::IsItemHovered()) {
            out.hovered = row;
            if (s.hover) begin_tooltip(), s.hover(row), end_tooltip();
        }
        const std::string under = out.hovered == row ? copy_text(s.cell(row, column_under_mouse(n_columns))) : "";
        copy_menu("copy", {under, out.hovered == row ? row_text(s, row, '\t') : "", [&] { return to_csv(s); }, s.id, {}});
        if (row == s.selected) {
            const ImVec2 a = ImGui::GetItemRectMin(), b = ImGui::GetItemRectMax();
            ImGui::TableSetBgColor(ImGuiTableBgTarget_RowBg0, with_alpha(theme().hovered, 0.8f));
            ImGui::GetWindowDrawList()->AddRectFilled({a.x, a.y}, {a.x + px(3), b.y}, theme().accent);
        }
        ImGui::SameLine(0, 0);
        for (int c = 0; c < static_cast<int>(s.columns.size()); ++c) {
            if (c) ImGui::TableSetColumnIndex(c);
            draw_cell(s, row, c);
        }
        ImGui::PopID();
    };
    for (int row = 0; s.wraps && row < s.n_rows; ++row) draw_row(row);
    ImGuiListClipper clipper;
    clipper.Begin(s.wraps ? 0 : s.n_rows);
    while (clipper.Step())
        for (int row = clipper.DisplayStart; row < clipper.DisplayEnd; ++row) draw_row(row);
    std::vector<float> lefts;
    const ImGuiTable* drawn = ImGui::GetCurrentTable();
    for (int c = 0; c < n_columns; ++c) lefts.push_back(drawn->Columns[c].WorkMinX);
    ImGui::EndTable();
    if (recording.is_on()) {
        float bottom = origin.y;
        draw_figure(s, recording.canvas(nullptr), origin, lefts, origin.x + room, bottom);
        // The cells may point to what lives for this frame only: made now.
        recording.finish(bottom, [&] { return [csv = to_csv(s)] { return csv; }; });
    }
    return out;
}

}  // namespace vitrine::viz::ui
