// Countdown: searching, and reading expressions.
#include "experiments/curriculum/countdown.h"

#include <algorithm>
#include <cstdlib>
#include <set>

#include "engine/base/error.h"

namespace vitrine::curriculum {
namespace {

constexpr char kSigns[] = {'+', '-', '*', '/'};
constexpr size_t kMostNumbers = 6;

struct Part {
    int64_t value;
    std::string text;
    bool is_sum;  // needs brackets inside a product
};

// The larger first; false where the sign has no whole result.
bool combined(int64_t x, int64_t y, char sign, int64_t& made) {
    const int64_t a = std::max(x, y), b = std::min(x, y);
    if (sign == '/' && (b == 0 || a % b)) return false;
    made = sign == '+' ? a + b : sign == '-' ? a - b : sign == '*' ? a * b : a / b;
    return true;
}
bool combine(const Part& x, const Part& y, char sign, Part& made, std::string& step) {
    if (!combined(x.value, y.value, sign, made.value)) return false;
    const Part &a = x.value < y.value ? y : x, &b = x.value < y.value ? x : y;
    made.is_sum = sign == '+' || sign == '-';
    const auto bracketed = [&](const Part& p, bool right) {
        const bool needs = (!made.is_sum && p.is_sum) || (right && sign == '-' && p.is_sum) ||
                           (right && sign == '/' && p.text.size() > std::to_string(p.value).size());
        return needs ? "(" + p.text + ")" : p.text;
    };
    made.text = bracketed(a, false) + sign + bracketed(b, true);
    step = std::to_string(a.value) + sign + std::to_string(b.value) + "=" + std::to_string(made.value);
    return true;
}

std::vector<Part> parts_of(const std::vector<int64_t>& numbers) {
    std::vector<Part> parts;
    for (int64_t n : numbers) parts.push_back({n, std::to_string(n), false});
    return parts;
}

// `parts` without i and j, what was made of them in front.
std::vector<Part> replaced(const std::vector<Part>& parts, size_t i, size_t j, Part made) {
    std::vector<Part> rest{std::move(made)};
    for (size_t k = 0; k < parts.size(); ++k)
        if (k != i && k != j) rest.push_back(parts[k]);
    return rest;
}

// A pair and a sign, by their places.
struct Choice {
    size_t i, j;
    char sign;
};

// The value nearest to the target that all of these make, and the choices that lead to it; the first of equals.
// By numbers alone: this runs a thousand times for an exercise.
int64_t nearest(const int64_t* numbers, size_t n, int64_t target, Choice* choices) {
    if (n == 1) return numbers[0];
    int64_t best = 0;
    bool has_one = false;
    for (size_t i = 0; i < n; ++i)
        for (size_t j = i + 1; j < n; ++j)
            for (char sign : kSigns) {
                int64_t rest[kMostNumbers];
                if (!combined(numbers[i], numbers[j], sign, rest[0])) continue;
                size_t n_rest = 1;
                for (size_t k = 0; k < n; ++k)
                    if (k != i && k != j) rest[n_rest++] = numbers[k];
                Choice further[kMostNumbers];
                const int64_t value = nearest(rest, n_rest, target, further);
                if (has_one && std::abs(value - target) >= std::abs(best - target)) continue;
                best = value, has_one = true;
                choices[0] = {i, j, sign};
                std::copy_n(further, n - 2, choices + 1);
                if (best == target) return best;
            }
    return best;
}

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

int64_t drawn_target(Draws& draw, const std::vector<int64_t>& numbers) {
    std::vector<Part> parts = parts_of(numbers);
    while (parts.size() > 1) {
        draw.shuffle(parts);
        Part made{};
        std::string step;
        if (combine(parts[0], parts[1], "++--**/"[draw.below(7)], made, step)) parts = replaced(parts, 0, 1, made);
    }
    return parts[0].value;
}

std::vector<CountdownTry> search(const std::vector<int64_t>& numbers, int64_t target) {
    VITRINE_ASSERT(numbers.size() >= 2 && numbers.size() <= kMostNumbers);
    std::vector<CountdownTry> tries;
    std::set<std::string> begun;  // equal numbers begin alike
    for (size_t i = 0; i < numbers.size(); ++i)
        for (size_t j = i + 1; j < numbers.size(); ++j)
            for (char sign : kSigns) {
                std::vector<Part> parts = parts_of(numbers);
                Part made{};
                CountdownTry t{{""}, "", 0};
                if (!combine(parts[i], parts[j], sign, made, t.steps[0]) || !begun.insert(t.steps[0]).second) continue;
                parts = replaced(parts, i, j, made);
                std::vector<int64_t> values;
                for (const Part& p : parts) values.push_back(p.value);
                Choice choices[kMostNumbers];
                t.value = nearest(values.data(), values.size(), target, choices);
                for (size_t k = 0; parts.size() > 1; ++k) {
                    const Choice& c = choices[k];
                    combine(parts[c.i], parts[c.j], c.sign, made, t.steps.emplace_back());
                    parts = replaced(parts, c.i, c.j, made);
                }
                t.expression = parts[0].text;
                tries.push_back(std::move(t));
                if (tries.back().value == target) return tries;
            }
    return tries;
}

bool evaluate(std::string_view expression, int64_t& value, std::vector<int64_t>& used) {
    used.clear();
    return Parser(expression, used).whole(value);
}

}  // namespace vitrine::curriculum
