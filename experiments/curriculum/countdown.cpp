// Countdown: drawing tries, and reading expressions.
#include "experiments/curriculum/countdown.h"

#include <algorithm>

namespace vitrine::curriculum {
namespace {

struct Part {
    int64_t value;
    std::string text;
    bool is_sum;  // needs brackets inside a product
};

// expression = term {(+|-) term}; term = factor {(*|/) factor}; factor = number | ( expression ).
class Parser {
  public:
    Parser(std::string_view s, std::vector<int64_t>& used) : s_(s), used_(used) {}
    bool whole(int64_t& value) { return expression(value, 0) && at_ == s_.size(); }

  private:
    bool take(char c) { return at_ < s_.size() && s_[at_] == c && ++at_; }
    bool expression(int64_t& value, int depth) {
        constexpr int kDeepest = 16;
        if (depth > kDeepest || !term(value, depth)) return false;
        for (;;) {
            int64_t other = 0;
            if (take('+')) {
                if (!term(other, depth)) return false;
                value += other;
            } else if (take('-')) {
                if (!term(other, depth)) return false;
                value -= other;
            } else {
                return true;
            }
        }
    }
    bool term(int64_t& value, int depth) {
        if (!factor(value, depth)) return false;
        for (;;) {
            int64_t other = 0;
            if (take('*')) {
                if (!factor(other, depth) || std::abs(value) > kLargest || std::abs(other) > kLargest) return false;
                value *= other;
            } else if (take('/')) {
                if (!factor(other, depth) || other == 0 || value % other) return false;
                value /= other;
            } else {
                return true;
            }
        }
    }
    bool factor(int64_t& value, int depth) {
        if (take('(')) return expression(value, depth + 1) && take(')');
        const size_t begin = at_;
        value = 0;
        while (at_ < s_.size() && s_[at_] >= '0' && s_[at_] <= '9' && at_ - begin < 6)
            value = value * 10 + (s_[at_++] - '0');
        if (at_ == begin) return false;
        used_.push_back(value);
        return true;
    }
    static constexpr int64_t kLargest = 1000000000;
    std::string_view s_;
    std::vector<int64_t>& used_;
    size_t at_ = 0;
};

}  // namespace

CountdownTry drawn_try(Draws& draw, const std::vector<int64_t>& numbers) {
    std::vector<Part> parts;
    for (int64_t n : numbers) parts.push_back({n, std::to_string(n), false});
    CountdownTry t;
    while (parts.size() > 1) {
        draw.shuffle(parts);
        Part a = parts[parts.size() - 2], b = parts.back();
        if (a.value < b.value) std::swap(a, b);
        char sign = "++--**/"[draw.below(7)];
        if (sign == '/' && (b.value == 0 || a.value % b.value)) sign = '+';
        const int64_t value = sign == '+'   ? a.value + b.value
                              : sign == '-' ? a.value - b.value
                              : sign == '*' ? a.value * b.value
                                            : a.value / b.value;
        t.steps.push_back(std::to_string(a.value) + sign + std::to_string(b.value) + "=" + std::to_string(value));
        const bool is_sum = sign == '+' || sign == '-';
        const auto bracketed = [&](const Part& p, bool right) {
            const bool needs = (!is_sum && p.is_sum) || (right && sign == '-' && p.is_sum) ||
                               (right && sign == '/' && p.text.size() > std::to_string(p.value).size());
            return needs ? "(" + p.text + ")" : p.text;
        };
        Part made{value, bracketed(a, false) + sign + bracketed(b, true), is_sum};
        parts.resize(parts.size() - 2);
        parts.push_back(std::move(made));
    }
    t.expression = parts[0].text, t.value = parts[0].value;
    return t;
}

bool evaluate(std::string_view expression, int64_t& value, std::vector<int64_t>& used) {
    used.clear();
    return Parser(expression, used).whole(value);
}

}  // namespace vitrine::curriculum
