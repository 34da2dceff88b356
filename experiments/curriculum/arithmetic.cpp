// Domain "arithmetic": what a school teaches, worked out digit by digit from the lowest.
//
// "4+9=3c": the digit 3 and a carry, which the next step names: "3+8c=2c". "~3201" is 1023 with the lowest digit first.
#include <algorithm>

#include "experiments/curriculum/arithmetic_words.h"
#include "experiments/curriculum/domains.h"
#include "experiments/curriculum/numbers.h"
#include "experiments/curriculum/working.h"

namespace vitrine::curriculum {
namespace {

uint64_t hash(std::string_view kind, int64_t a, int64_t b) {
    return mix64(fnv1a64(kind) ^ mix64(static_cast<uint64_t>(a)) ^
                 mix64(static_cast<uint64_t>(b) + (uint64_t{1} << 62)));
}

Item item(Wish& w, const Wordings& wordings, std::string_view kind, int64_t a, int64_t b, std::string reply,
          const Working& working) {
    Item i;
    const bool is_swapped = kind == "multiply" && w.draw.chance(0.5);
    i.prompt = is_swapped ? ask(w, wordings, {text(b), text(a)}) : ask(w, wordings, {text(a), text(b)});
    i.reply = std::move(reply);
    i.high = working.high(), i.max = working.max();
    i.accepts = exactly(i.reply);
    const bool commutes = kind == "add" || kind == "multiply";
    i.problem = commutes ? hash(kind, std::min(a, b), std::max(a, b)) : hash(kind, a, b);
    return i;
}

int digit(int64_t n, int place) {
    for (; place > 0; --place) n /= 10;
    return static_cast<int>(n % 10);
}
int n_digits(int64_t n) {
    return static_cast<int>(text(n).size());
}

// One column of a + b or a - b: "3+8c=2c". Sets the carry (or borrow) for the next.
std::string column(int64_t a, int64_t b, int place, bool is_sum, bool& carry, int slip) {
    const int x = digit(a, place), y = digit(b, place);
    const int value = is_sum ? x + y + carry : x - y - carry;
    const char mark = is_sum ? 'c' : 'b';
    std::string s = text(x) + (is_sum ? "+" : "-") + text(y) + (carry ? std::string(1, mark) : "") + "=";
    carry = is_sum ? value > 9 : value < 0;
    s += text((value + 20 + slip) % 10);
    return carry ? s + mark : s;
}

// The columns of a + b or a - b (a >= b) and the result reversed. `slip_at`: that column's digit is off by `slip`,
// which nobody notices; returns the result as written.
int64_t columns(Wish& w, Working& working, int64_t a, int64_t b, bool is_sum, int slip_at, int slip) {
    const int n = n_digits(std::max(a, b));
    bool carry = false;
    std::vector<int> digits;
    for (int place = 0; place < n; ++place) {
        bool wrong_carry = carry, next = carry;
        const std::string right = column(a, b, place, is_sum, next, place == slip_at ? slip : 0);
        const std::string wrong = column(a, b, place, is_sum, wrong_carry, 1 + static_cast<int>(w.draw.below(9)));
        slip_at < 0 ? working.step(right, wrong) : working.max_step(right);
        digits.push_back(right[right.find('=') + 1] - '0');
        carry = next;
    }
    if (carry) digits.push_back(1);
    int64_t result = 0;
    for (size_t i = digits.size(); i-- > 0;) result = result * 10 + digits[i];
    const std::string low_first = reversed(result, static_cast<int>(digits.size()));
    slip_at < 0 ? working.step(low_first) : working.max_step(low_first);
    return result;
}

// By nines: a + b = sum, for a sum or, turned around, for a difference.
std::string nines_of_sum(int64_t a, int64_t b, int64_t sum) {
    const int64_t x = a % 9, y = b % 9;
    const std::string together = x + y > 8 ? "→" + text((x + y) % 9) : "";
    return nines(a) + " " + nines(b) + " " + text(x) + "+" + text(y) + "=" + text(x + y) + together + " " + nines(sum);
}

// In Think Max one working in seven has a slip that only the check finds; then everything is done again.
constexpr double kLateShare = 0.35;  // of slips

Working column_working(Wish& w, int64_t a, int64_t b, bool is_sum, const std::string& first = "") {
    Working working(w);
    if (!first.empty()) working.step(first);
    working.plan(is_sum ? "add digit by digit, lowest first." : "subtract digit by digit, lowest first.",
                 is_sum ? "从低位到高位逐位相加。" : "从低位到高位逐位相减。");
    const WorkingWords& say = words(w.language);
    const int n = n_digits(std::max(a, b));
    if (w.draw.chance(w.slip_rate * kLateShare)) {
        const int slip = 1 + static_cast<int>(w.draw.below(8));  // 9 would hide from casting out nines
        const int64_t result = columns(w, working, a, b, is_sum, w.draw.between(0, n - 1), slip);
        const std::string found = is_sum ? nines_of_sum(a, b, result) : nines_of_sum(result, b, a);
        if (result % 9 != (is_sum ? a + b : a - b) % 9) {
            working.new_line();
            working.max_step(std::string(say.check) + (w.is_chinese() ? "" : " ") + found +
                             (w.is_chinese() ? "，" : " ") + say.wrong + " " + kBack);
            working.new_line();
        }
    }
    const int64_t result = columns(w, working, a, b, is_sum, -1, 0);
    working.check(is_sum ? nines_of_sum(a, b, result) : nines_of_sum(result, b, a));
    return working;
}

// The working of Think High with one digit exchanged, and what follows from it; `first` begins both.
Item::Slip slip_of(Wish& w, int64_t a, int64_t b, bool is_sum, const std::string& first, const std::string& sign) {
    Working working(w);
    if (!first.empty()) working.max_step(first);
    const int n = n_digits(std::max(a, b)), place = w.draw.between(0, n - 1);
    const int64_t result = columns(w, working, a, b, is_sum, place, 1 + static_cast<int>(w.draw.below(9)));
    Item::Slip slip{working.max(), (result ? sign : "") + text(result), 0};
    for (int i = 0; i <= place; ++i) slip.end = slip.high.find('=', slip.end) + 1;
    ++slip.end;
    return slip;
}

void draw_operands(Wish& w, int64_t& a, int64_t& b) {
    a = drawn_number(w.draw, w.level);
    b = drawn_number(w.draw, w.draw.chance(0.75) ? w.level : w.draw.between(1, w.level));
    if (w.draw.chance(0.5)) std::swap(a, b);
}

Item make_add(Wish& w) {
    int64_t a, b;
    draw_operands(w, a, b);
    const Working working = column_working(w, a, b, true);
    Item i = item(w, arithmetic_words().add, "add", a, b, text(a + b), working);
    i.slip = slip_of(w, a, b, true, "", "");
    return i;
}

Item make_subtract(Wish& w) {
    int64_t a, b;
    draw_operands(w, a, b);
    if (a < b && w.draw.chance(0.7)) std::swap(a, b);
    const std::string turned = a >= b ? "" : w.is_chinese() ? "负数：" : "negative:";
    const Working working = column_working(w, std::max(a, b), std::min(a, b), false, turned);
    Item i = item(w, arithmetic_words().subtract, "subtract", a, b, text(a - b), working);
    i.slip = slip_of(w, std::max(a, b), std::min(a, b), false, turned, a < b ? "-" : "");
    return i;
}

struct Shape {
    int a, b;
};
constexpr Shape kProducts[] = {{1, 1}, {2, 1}, {3, 1}, {2, 2}, {4, 1}, {3, 2}, {3, 3}, {4, 2}, {4, 3}, {4, 4}};

// a times one digit, column by column: "7*6=42 4*6+4=28".
std::vector<std::string> product_columns(int64_t a, int d) {
    std::vector<std::string> all;
    int carry = 0;
    for (int place = 0; place < n_digits(a); ++place) {
        const int x = digit(a, place), value = x * d + carry;
        all.push_back(text(x) + "*" + text(d) + (carry ? "+" + text(carry) : "") + "=" + text(value));
        carry = value / 10;
    }
    return all;
}

// A column whose result is off by one.
std::string slipped(Wish& w, const std::string& column) {
    const size_t at = column.find('=') + 1;
    const int64_t value = std::stoll(column.substr(at));
    return column.substr(0, at) + text(value > 0 && w.draw.chance(0.5) ? value - 1 : value + 1);
}

Item make_product(Wish& w) {
    const Shape shape = kProducts[w.level - 1];
    const int64_t a = drawn_number(w.draw, shape.a), b = drawn_number(w.draw, shape.b);
    Working working(w);
    working.plan("one row for each digit, then add the rows.", "每一位乘一行，再相加。");
    int64_t sum = 0, unit = 1;
    bool is_first = true;
    for (int place = 0; place < shape.b; ++place, unit *= 10) {
        const int d = digit(b, place);
        if (d == 0 && shape.b > 1) continue;
        const std::string head = text(a) + "*" + text(d * unit);
        const int64_t row = a * d * unit;
        const std::string low_first = reversed(row, place + 1);
        working.high_step(head + "=" + low_first);
        working.new_line();
        working.max_step(head + ":");
        for (const std::string& c : product_columns(a, d)) working.max_step(c, slipped(w, c));
        working.max_step("=" + low_first);
        sum += row;
        if (!is_first) working.step((w.is_chinese() ? "和" : "sum ") + reversed(sum));
        is_first = false;
    }
    const int64_t x = a % 9, y = b % 9;
    const std::string product = text(x) + "*" + text(y) + "=" + text(x * y) + (x * y > 8 ? "→" + text(x * y % 9) : "");
    working.check(nines(a) + " " + nines(b) + " " + product + " " + nines(sum));
    return item(w, arithmetic_words().multiply, "multiply", a, b, text(a * b), working);
}

// Long division: "7=4*1+3 33=4*8+1". Returns the quotient; the last remainder is a mod b.
void divide(Wish& w, Working& working, int64_t a, int64_t b) {
    const std::string digits = text(a);
    int64_t rest = 0;
    bool has_begun = false;
    for (size_t i = 0; i < digits.size(); ++i) {
        rest = rest * 10 + (digits[i] - '0');
        if (rest < b && !has_begun && i + 1 < digits.size()) continue;
        has_begun = true;
        const int64_t q = rest / b, wrong = q > 0 && w.draw.chance(0.7) ? q - 1 : q + 1;
        const std::string head = text(rest) + "=" + text(b) + "*";
        working.step(head + text(q) + "+" + text(rest % b),
                     head + text(wrong) + (rest - wrong * b < 0 ? "" : "+") + text(rest - wrong * b));
        rest %= b;
    }
}

constexpr Shape kQuotients[] = {{2, 1}, {3, 1}, {4, 1}, {3, 2}, {4, 2}, {5, 2}};

Item make_quotient(Wish& w) {
    const Shape shape = kQuotients[w.level - 1];
    const int64_t b = std::max<int64_t>(2, drawn_number(w.draw, shape.b));
    int64_t a = drawn_number(w.draw, shape.a);
    if (w.draw.chance(0.25)) a -= a % b;
    Working working(w);
    working.plan("divide from the highest digit, carry the remainder down.", "从高位除起，余数带到下一位。");
    divide(w, working, a, b);
    working.check(text(a / b) + "*" + text(b) + (a % b ? "+" + text(a % b) : "") + "=" + text(a));
    const std::string rest = a % b == 0 ? "" : (w.is_chinese() ? " 余 " : " remainder ") + text(a % b);
    return item(w, arithmetic_words().divide, "divide", a, b, text(a / b) + rest, working);
}

Item make_remainder(Wish& w) {
    static constexpr int kModuli[] = {7, 11, 23, 97};
    const int64_t p = w.draw.pick(kModuli), a = drawn_number(w.draw, w.level);
    Working working(w);
    working.plan("divide from the highest digit and keep the remainder.", "从高位除起，只留余数。");
    divide(w, working, a, p);
    working.check(text(a / p) + "*" + text(p) + "+" + text(a % p) + "=" + text(a));
    return item(w, arithmetic_words().remainder, "remainder", a, p, text(a % p), working);
}

Item make_compare(Wish& w) {
    const int64_t a = drawn_number(w.draw, w.level);
    int64_t b =
        drawn_number(w.draw, w.draw.chance(0.8) ? w.level : w.draw.between(std::max(1, w.level - 1), w.level + 1));
    if (w.draw.chance(0.5)) {  // the same beginning, so that the last digits decide
        std::string s = text(a);
        for (size_t i = static_cast<size_t>(w.draw.below(s.size())); i < s.size(); ++i)
            s[i] = static_cast<char>((i == 0 ? '1' : '0') + w.draw.between(0, i == 0 ? 8 : 9));
        b = std::stoll(s);
    }
    if (a == b) b = a + 1;
    const bool wants_larger = w.draw.chance(0.6);
    const std::string x = text(a), y = text(b);
    Working working(w);
    working.plan("count digits, then compare from the left.", "先数位数，再从左边比起。");
    if (x.size() != y.size()) {
        const char* unit = w.is_chinese() ? "位" : " digits";
        const std::string wrong = text(static_cast<int64_t>(x.size()) + 1);
        working.step(x + ": " + text(static_cast<int64_t>(x.size())) + unit, x + ": " + wrong + unit);
        working.step(y + ": " + text(static_cast<int64_t>(y.size())) + unit);
    } else {
        size_t i = 0;
        for (; x[i] == y[i]; ++i) working.step(std::string(1, x[i]) + "=" + y[i]);
        const char sign = x[i] < y[i] ? '<' : '>', other = x[i] < y[i] ? '>' : '<';
        working.step(std::string(1, x[i]) + sign + y[i], std::string(1, x[i]) + other + y[i]);
    }
    working.check(text(std::max(a, b)) + ">" + text(std::min(a, b)));
    const int64_t reply = wants_larger ? std::max(a, b) : std::min(a, b);
    const ArithmeticWords& ask_words = arithmetic_words();
    return item(w, wants_larger ? ask_words.larger : ask_words.smaller, wants_larger ? "larger" : "smaller", a, b,
                text(reply), working);
}

}  // namespace

const std::vector<Skill>& arithmetic_skills() {
    static const std::vector<Skill> all = {
        {"add", 28, 1, 10, make_add, 2},          {"subtract", 17, 1, 10, make_subtract, 2},
        {"multiply", 28, 1, 10, make_product, 2}, {"divide", 13, 1, 6, make_quotient, 2},
        {"compare", 6, 2, 10, make_compare, 2},   {"remainder", 8, 2, 6, make_remainder, 2},
    };
    return all;
}

}  // namespace vitrine::curriculum
