// A figure as SVG.
#include <algorithm>
#include <cstdio>

#include "viz/text_util.h"
#include "viz/widgets/figure.h"

namespace vitrine::viz::ui {
namespace {

std::string number(double v) {
    char b[32];
    std::snprintf(b, sizeof b, "%.3f", v);
    std::string s = b;
    while (s.back() == '0') s.pop_back();
    if (s.back() == '.') s.pop_back();
    return s == "-0" ? "0" : s;
}

// XML 1.0 knows no controls other than tab and newline; displayable() has taken them out.
std::string escaped_xml(std::string_view s) {
    std::string out;
    for (const char c : displayable(s)) {
        switch (c) {
            case '&':
                out += "&amp;";
                break;
            case '<':
                out += "&lt;";
                break;
            case '>':
                out += "&gt;";
                break;
            case '"':
                out += "&quot;";
                break;
            default:
                out += c;
        }
    }
    return out;
}

// fill="#rrggbb" and its opacity when it is not 1.
std::string paint(const char* what, ImU32 c) {
    char b[96];
    std::snprintf(b, sizeof b, "%s=\"#%02x%02x%02x\"", what, c & 255, (c >> 8) & 255, (c >> 16) & 255);
    std::string out = b;
    if (const unsigned alpha = c >> 24; alpha != 255)
        out += std::string(" ") + what + "-opacity=\"" + number(alpha / 255.0) + "\"";
    return out;
}

std::string path_of(const std::vector<ImVec2>& points, bool is_closed) {
    std::string d;
    for (size_t i = 0; i < points.size(); ++i) d += (i ? " L" : "M") + number(points[i].x) + " " + number(points[i].y);
    return is_closed ? d + " Z" : d;
}

std::string box(ImVec2 a, ImVec2 b) {
    return "x=\"" + number(a.x) + "\" y=\"" + number(a.y) + "\" width=\"" + number(std::max(0.0f, b.x - a.x)) +
           "\" height=\"" + number(std::max(0.0f, b.y - a.y)) + "\"";
}

std::string series_of(const Shape& s) {
    return s.text.empty() ? "" : " data-series=\"" + escaped_xml(s.text) + "\"";
}

// Runs of one colour become one rectangle.
void add_cells(const Shape& s, std::string& out) {
    const ImVec2 a = s.points[0], b = s.points[1];
    const float w = (b.x - a.x) / static_cast<float>(std::max(1, s.cols)),
                h = (b.y - a.y) / static_cast<float>(std::max(1, s.rows));
    out += "<g shape-rendering=\"crispEdges\">\n";
    for (int r = 0; r < s.rows; ++r)
        for (int c = 0; c < s.cols;) {
            const uint32_t color = s.cells[static_cast<size_t>(r) * s.cols + c];
            int end = c + 1;
            while (end < s.cols && s.cells[static_cast<size_t>(r) * s.cols + end] == color) ++end;
            if (color >> 24) {
                const float y = a.y + h * static_cast<float>(r);
                out += "<rect " +
                       box({a.x + w * static_cast<float>(c), y}, {a.x + w * static_cast<float>(end), y + h}) + " " +
                       paint("fill", color) + "/>\n";
            }
            c = end;
        }
    out += "</g>\n";
}

void add_shape(const Shape& s, std::string& out) {
    const std::string clip = s.clip >= 0 ? " clip-path=\"url(#c" + std::to_string(s.clip) + ")\"" : "";
    const std::string stroke =
        " fill=\"none\" " + paint("stroke", s.color) + " stroke-width=\"" + number(s.width) + "\"";
    const std::string round = s.rounding > 0 ? " rx=\"" + number(s.rounding) + "\"" : "";
    switch (s.kind) {
        case Shape::Kind::line:
            out += "<path d=\"" + path_of(s.points, false) + "\"" + stroke + " stroke-linejoin=\"round\"" +
                   (s.dash > 0 ? " stroke-dasharray=\"" + number(s.dash) + "\"" : "") + series_of(s) + clip + "/>\n";
            break;
        case Shape::Kind::area:
            out +=
                "<path d=\"" + path_of(s.points, true) + "\" " + paint("fill", s.color) + series_of(s) + clip + "/>\n";
            break;
        case Shape::Kind::rect:
            out += "<rect " + box(s.points[0], s.points[1]) + round + stroke + clip + "/>\n";
            break;
        case Shape::Kind::rect_filled:
            out += "<rect " + box(s.points[0], s.points[1]) + round + " " + paint("fill", s.color) + clip + "/>\n";
            break;
        case Shape::Kind::circle:
            out += "<circle cx=\"" + number(s.points[0].x) + "\" cy=\"" + number(s.points[0].y) + "\" r=\"" +
                   number(s.width) + "\" " + paint("fill", s.color) + clip + "/>\n";
            break;
        case Shape::Kind::text:
            // Dear ImGui's font size spans ascent to descent: 1.32 em of JetBrains Mono, 1.21 em of Inter; the base
            // line lies about four fifths down.
            out += "<text x=\"" + number(s.points[0].x) + "\" y=\"" + number(s.points[0].y + s.width * 0.78f) +
                   "\" font-size=\"" + number(s.width / (s.is_mono ? 1.32f : 1.21f)) + "\" font-family=\"" +
                   (s.is_mono ? "'JetBrains Mono', 'Noto Sans CJK SC', monospace"
                              : "Inter, 'Noto Sans CJK SC', sans-serif") +
                   "\" " + paint("fill", s.color) + clip + " xml:space=\"preserve\">" + escaped_xml(s.text) +
                   "</text>\n";
            break;
        case Shape::Kind::cells:
            add_cells(s, out);
            break;
    }
}

}  // namespace

std::string to_svg(const Figure& f) {
    const std::string size = number(f.width) + "\" height=\"" + number(f.height);
    std::string out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" +
                      size + "\" viewBox=\"0 0 " + number(f.width) + " " + number(f.height) + "\">\n<title>" +
                      escaped_xml(f.title) + "</title>\n";
    if (!f.clips.empty()) {
        out += "<defs>\n";
        for (size_t i = 0; i < f.clips.size(); ++i)
            out += "<clipPath id=\"c" + std::to_string(i) + "\"><rect " + box(f.clips[i].min, f.clips[i].max) +
                   "/></clipPath>\n";
        out += "</defs>\n";
    }
    out += "<rect width=\"" + size + "\" " + paint("fill", f.background) + "/>\n";
    for (const Shape& s : f.shapes) add_shape(s, out);
    return out + "</svg>\n";
}

}  // namespace vitrine::viz::ui
