// Numbers as workings write them.
#include "experiments/curriculum/numbers.h"

#include <algorithm>

namespace vitrine::curriculum {

int64_t drawn_number(Draws& draw, int n_digits) {
    int64_t power = 1;
    for (int i = 1; i < n_digits; ++i) power *= 10;
    const int64_t lowest = n_digits == 1 ? 0 : power;
    return lowest + static_cast<int64_t>(draw.below(static_cast<uint64_t>(10 * power - lowest)));
}

std::string reversed(int64_t n, int n_digits) {
    std::string s = std::to_string(n);
    std::reverse(s.begin(), s.end());
    if (static_cast<int>(s.size()) < n_digits) s.append(static_cast<size_t>(n_digits) - s.size(), '0');
    return "~" + s;
}

std::string nines(int64_t n) {
    const std::string digits = std::to_string(n);
    int sum = 0;
    std::string s;
    for (char c : digits) {
        sum += c - '0';
        s += (s.empty() ? "" : "+") + std::string(1, c);
    }
    if (digits.size() > 1) s += "=" + std::to_string(sum);
    return s + "→" + std::to_string(sum % 9);
}

int other_digit(Draws& draw, int digit) {
    return (digit + 1 + static_cast<int>(draw.below(9))) % 10;
}

}  // namespace vitrine::curriculum
