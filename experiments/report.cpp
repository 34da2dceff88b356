// Verdicts in words and tables.
#include "experiments/report.h"

#include <algorithm>

#include "engine/base/error.h"
#include "engine/base/reader.h"

namespace vitrine::lab {
namespace {

size_t columns(const std::string& s) {  // continuation bytes of UTF-8 take no column
    return static_cast<size_t>(std::count_if(s.begin(), s.end(), [](unsigned char c) { return (c & 0xC0) != 0x80; }));
}

std::string padded(const std::string& s, size_t width, bool to_the_right) {
    const std::string space(width > columns(s) ? width - columns(s) : 0, ' ');
    return to_the_right ? space + s : s + space;
}

// An empty cell, or one that begins with a number, be it finite or not.
bool is_number(const std::string& cell) {
    const std::string word = cell.substr(0, cell.find(' '));
    return cell.empty() || word == "nan" || word == "inf" || word == "failed" || word == "diverged" ||
           std::string("0123456789.+-").find(cell[0]) != std::string::npos;
}

bool is_numeric(const LabTable& t, size_t column) {
    return std::all_of(t.rows.begin(), t.rows.end(),
                       [&](const auto& row) { return column >= row.size() || is_number(row[column]); });
}

std::string cell_text(const std::string& cell) {  // a bar would end the cell: "|cos|"
    std::string s;
    for (const char c : cell) s += c == '|' ? "\\|" : std::string(1, c);
    return " " + s + " |";
}

std::string outcome_line(const LabVerdict& v) {
    return std::string(lab_outcome_name(v.outcome)) + ": " + v.sentence;
}

}  // namespace

std::string to_text(const LabVerdict& v) {
    std::string out;
    for (const LabTable& t : v.tables) {
        out += t.title + "\n";
        std::vector<size_t> widths;
        for (const std::string& c : t.columns) widths.push_back(columns(c));
        for (const auto& row : t.rows)
            for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], columns(row[i]));
        const auto line = [&](const std::vector<std::string>& row) {
            std::string s = " ";
            for (size_t i = 0; i < row.size(); ++i)
                s += (i > 0 ? "  " : " ") + padded(row[i], widths[i], is_numeric(t, i));
            out += s.substr(0, s.find_last_not_of(' ') + 1) + "\n";
        };
        line(t.columns);
        for (const auto& row : t.rows) line(row);
        out += "\n";
    }
    return out + outcome_line(v) + "\n";
}

std::string claim_text(const LabInfo& info) {
    std::string out;
    if (!info.claim.empty()) out += "The claim: " + info.claim + "\n";
    if (!info.literature.empty()) out += "What is known: " + info.literature + "\n";
    return out;
}

std::string to_markdown(const LabVerdict& v) {
    std::string out = "**" + std::string(lab_outcome_name(v.outcome)) + ".** " + v.sentence + "\n";
    for (const LabTable& t : v.tables) {
        out += "\n" + t.title + "\n\n|";
        for (const std::string& c : t.columns) out += cell_text(c);
        out += "\n|";
        for (size_t i = 0; i < t.columns.size(); ++i) out += is_numeric(t, i) ? "---:|" : "---|";
        out += "\n";
        for (const auto& row : t.rows) {
            out += "|";
            for (const std::string& cell : row) out += cell_text(cell);
            out += "\n";
        }
    }
    return out;
}

std::string with_result(const std::string& readme, const std::string& result, const std::string& file) {
    const std::string begin = "<!-- result -->\n", end = "<!-- end of result -->";
    const size_t from = readme.find(begin), to = from == std::string::npos ? from : readme.find(end, from);
    if (to == std::string::npos)
        throw_if_any(
            {{file, "result", "", "expected the lines " + begin.substr(0, begin.size() - 1) + " and " + end, ""}});
    return readme.substr(0, from + begin.size()) + result + readme.substr(to);
}

void update_readme(const std::string& file, const std::string& result) {
    write_file_atomic(file, with_result(read_file(file, 16 << 20), result, file));
}

}  // namespace vitrine::lab
