// Numbers as the window writes them.
#include "viz/widgets/number.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace vitrine::viz::ui {

std::string format_number(double v, int digits) {
    if (std::isnan(v)) return "n/a";
    if (std::isinf(v)) return v > 0 ? "\xE2\x88\x9E" : "-\xE2\x88\x9E";
    if (v == 0) return "0";
    char buffer[48];
    const double size = std::fabs(v);
    if (size >= 1e6 || size < 1e-4) {
        std::snprintf(buffer, sizeof buffer, "%.*e", digits - 1, v);
        // 1.23e-07 -> 1.23e-7
        std::string s = buffer;
        const size_t e = s.find('e') + 2;
        while (e + 1 < s.size() && s[e] == '0') s.erase(e, 1);
        if (s[e - 1] == '+') s.erase(e - 1, 1);
        return s;
    }
    if (size >= 1000 - 0.5) return format_count(std::llround(v));
    std::snprintf(buffer, sizeof buffer, "%.*e", digits - 1, size);  // rounded first, so 9.996 becomes 10.0
    const int exponent = std::atoi(std::string(buffer).substr(std::string(buffer).find('e') + 1).c_str());
    const int decimals = digits - 1 - exponent;
    std::snprintf(buffer, sizeof buffer, "%.*f", decimals > 0 ? decimals : 0, v);
    return buffer;
}

std::string format_count(int64_t n) {
    std::string s = std::to_string(n);
    for (int i = static_cast<int>(s.size()) - 3; i > (n < 0 ? 1 : 0); i -= 3) s.insert(static_cast<size_t>(i), ",");
    return s;
}

std::string format_bytes(uint64_t bytes) {
    const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = static_cast<double>(bytes);
    int u = 0;
    while (v >= 1024 && u < 4) v /= 1024, ++u;
    return (u == 0 ? std::to_string(bytes) : v >= 999.5 ? format_count(std::llround(v)) : format_number(v)) + " " + units[u];
}

namespace {

// The fewest decimals that give the number, at most `most`.
int decimals_of(double v, int most) {
    int d = 0;
    for (double scale = 1; d < most && std::fabs(v * scale - std::round(v * scale)) > 1e-6 * std::fabs(v * scale);
         scale *= 10)
        ++d;
    return d;
}

std::string format_tick(double v, int decimals) {
    if (v == 0) return "0";
    char buffer[48];
    if (const double size = std::fabs(v); size >= 1e7 || size < 1e-4) {
        std::snprintf(buffer, sizeof buffer, "%.3g", v);
        std::string s = buffer;  // 1e-07 -> 1e-7
        if (const size_t e = s.find('e'); e != std::string::npos) {
            if (s[e + 1] == '+') s.erase(e + 1, 1);
            const size_t digits = e + (s[e + 1] == '-' ? 2 : 1);
            while (digits + 1 < s.size() && s[digits] == '0') s.erase(digits, 1);
        }
        return s;
    }
    if (decimals == 0) return format_count(std::llround(v));
    std::snprintf(buffer, sizeof buffer, "%.*f", decimals, v);
    return buffer;
}

}  // namespace

std::vector<std::string> format_ticks(std::span<const double> ticks, bool is_log) {
    int most = 0;
    double largest = 0;
    for (const double v : ticks) largest = std::max(largest, std::fabs(v));
    for (const double v : ticks)
        if (std::fabs(v) > largest * 1e-9) most = std::max(most, decimals_of(v, 8));
    std::vector<std::string> out;
    for (const double v : ticks) out.push_back(format_tick(v, is_log ? decimals_of(v, 8) : most));
    return out;
}

std::string format_bound(double v) {
    return v == std::floor(v) && std::fabs(v) < 1e7 ? format_count(std::llround(v)) : format_number(v);
}

std::string format_percent(double fraction) { return format_number(fraction * 100) + " %"; }

std::string exact_number(double v) {
    char b[40];
    return std::string(b, std::to_chars(b, b + sizeof b, v).ptr);
}

std::string exact_number(float v) {
    char b[40];
    return std::string(b, std::to_chars(b, b + sizeof b, v).ptr);
}

std::string full_precision(double v) {
    char buffer[40];
    std::snprintf(buffer, sizeof buffer, "%.9g", v);
    return buffer;
}

}  // namespace vitrine::viz::ui
