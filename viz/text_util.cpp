// UTF-8 for drawing.
#include "viz/text_util.h"

#include <imgui.h>

#include <array>
#include <atomic>
#include <cctype>
#include <cfloat>
#include <cstdint>
#include <cstdio>

namespace vitrine::viz {

namespace {
std::array<std::atomic<uint64_t>, 0x10000 / 64> g_undrawable{};

bool is_undrawable(unsigned c) {
    return c > 0xFFFF || (g_undrawable[c / 64].load(std::memory_order_relaxed) >> (c % 64) & 1) != 0;
}
}  // namespace

void set_undrawable(unsigned c) {
    if (c <= 0xFFFF && c >= 0x180) g_undrawable[c / 64].fetch_or(uint64_t{1} << (c % 64), std::memory_order_relaxed);
}

unsigned next_code_point(std::string_view s, size_t& i) {
    const auto byte = [&](size_t k) { return static_cast<unsigned char>(s[k]); };
    const unsigned c = byte(i++);
    if (c < 0x80) return c;
    const int n = c >= 0xF0 && c <= 0xF4 ? 3 : c >= 0xE0 && c < 0xF0 ? 2 : c >= 0xC2 && c < 0xE0 ? 1 : 0;
    if (n == 0 || i + static_cast<size_t>(n) > s.size()) return 0xFFFD;
    unsigned out = c & (0x3Fu >> n);
    for (int k = 0; k < n; ++k) {
        if ((byte(i + k) & 0xC0) != 0x80) return 0xFFFD;
        out = out << 6 | (byte(i + k) & 0x3F);
    }
    const unsigned least[] = {0, 0x80, 0x800, 0x10000};
    if (out < least[n] || out > 0x10FFFF || (out >= 0xD800 && out < 0xE000)) return 0xFFFD;
    i += static_cast<size_t>(n);
    return out;
}

std::string displayable(std::string_view s) {
    std::string out;
    out.reserve(s.size());
    char buffer[16];
    for (size_t i = 0; i < s.size();) {
        const size_t begin = i;
        const unsigned c = next_code_point(s, i);
        if (c == 0xFFFD) {
            out += "\xEF\xBF\xBD";
        } else if (is_undrawable(c)) {
            std::snprintf(buffer, sizeof buffer, "<U+%04X>", c);
            out += buffer;
        } else if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7F || (c >= 0x80 && c < 0xA0)) {
            std::snprintf(buffer, sizeof buffer, "\\x%02X", c);
            out += buffer;
        } else {
            out.append(s.substr(begin, i - begin));
        }
    }
    return out;
}

std::string token_label(std::string_view s) {
    std::string out;
    for (char c : displayable(s)) {
        if (c == '\n') out += "\xE2\x86\xB5";
        else if (c == '\t') out += "\xE2\x86\x92";
        else out += c;
    }
    return out;
}

bool contains_folded(std::string_view text, std::string_view needle) {
    if (needle.empty()) return true;
    const auto low = [](char c) { return std::tolower(static_cast<unsigned char>(c)); };
    for (size_t i = 0; i + needle.size() <= text.size(); ++i) {
        size_t k = 0;
        while (k < needle.size() && low(text[i + k]) == low(needle[k])) ++k;
        if (k == needle.size()) return true;
    }
    return false;
}

namespace ui {

std::string elide(std::string_view text, float width) {
    ImFont* font = ImGui::GetFont();
    const float size = ImGui::GetFontSize();
    const size_t line = text.find('\n');
    const std::string_view first = text.substr(0, line);
    const char *begin = first.data(), *stop = begin + first.size(), *rest = stop;
    if (line == std::string_view::npos && font->CalcTextSizeA(size, FLT_MAX, 0, begin, stop).x <= width + 0.5f)
        return std::string(first);
    const float dots = font->CalcTextSizeA(size, FLT_MAX, 0, "\xE2\x80\xA6").x;
    if (dots > width) return "";
    font->CalcTextSizeA(size, width - dots, 0, begin, stop, &rest);
    const size_t end = static_cast<size_t>(rest - begin);
    return std::string(first.substr(0, end)) + "\xE2\x80\xA6";
}

}  // namespace ui
}  // namespace vitrine::viz
