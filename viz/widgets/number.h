// Numbers as the window writes them: three significant digits with a unit, full precision on hover and copy.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace vitrine::viz::ui {

std::string format_number(double v, int digits = 3);  // "0.0412", "412", "1.23e-7", "-3.21", "12,345"
std::string format_count(int64_t n);                  // "1,048,576"
std::string format_bytes(uint64_t bytes);             // "512 B", "3.10 MiB"
// Labels of an axis' ticks: no more decimals than tell them apart, the same ones on all of a linear axis.
std::vector<std::string> format_ticks(std::span<const double> ticks, bool is_log = false);
std::string format_bound(double v);                   // an end of a scale: whole numbers in full
std::string format_percent(double fraction);          // 0.0183 -> "1.83 %"
std::string full_precision(double v);                 // %.9g
std::string exact_number(double v);                   // shortest that reads back as the same bits: for CSV
std::string exact_number(float v);

}  // namespace vitrine::viz::ui
