// Domain "search": an answer is easy to check and hard to find. Think High gets there with little trial; Think Max
// shows its tries and how it drops them, so that it can go on trying.
#include <algorithm>
#include <array>
#include <map>
#include <queue>

#include "experiments/curriculum/countdown.h"
#include "experiments/curriculum/domains.h"
#include "experiments/curriculum/numbers.h"
#include "experiments/curriculum/working.h"

namespace vitrine::curriculum {
namespace {

std::string listed(const std::vector<int64_t>& x) {
    std::vector<std::string> s;
    for (int64_t n : x) s.push_back(text(n));
    return joined(s, " ");
}
std::string spaced_letters(std::string_view s) {
    std::string out;
    for (char c : s) out += (out.empty() ? "" : " ") + std::string(1, c);
    return out;
}
std::string_view trimmed(std::string_view s) {
    while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
    while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
    return s;
}
// Whole numbers with single spaces between them; false for anything else.
bool read_numbers(std::string_view s, std::vector<int64_t>& x) {
    x.clear();
    bool wants_digit = true;
    for (char c : trimmed(s)) {
        if (c == ' ') {
            if (wants_digit) return false;
            wants_digit = true;
        } else if (c >= '0' && c <= '9') {
            if (wants_digit) x.push_back(0);
            if (x.back() > 100000) return false;
            x.back() = x.back() * 10 + (c - '0');
            wants_digit = false;
        } else {
            return false;
        }
    }
    return !x.empty() && !wants_digit;
}

// Think High shows few of the dead ends before the solution, Think Max all.
constexpr size_t kHighTries = 2;

// ---- countdown; level = how many numbers
Item make_countdown(Wish& w) {
    static const Wordings questions = {
        {"Make {b} from {a}.", "Use {a} to get {b}. Each number once.", "Reach {b} with {a}.",
         "Numbers {a}, target {b}.", "Countdown: {a} -> {b}", "How can you get {b} from {a}?",
         "Combine {a} to {b} with + - * /.", "Write {b} with the numbers {a}."},
        {"用{a}得到{b}。", "用{a}算出{b}，每个数用一次。", "用{a}凑{b}。", "数字{a}，目标{b}。", "倒计时：{a} -> {b}",
         "怎样用{a}得到{b}？", "用加减乘除把{a}变成{b}。", "用数字{a}写出{b}。"}};
    std::vector<int64_t> numbers(static_cast<size_t>(w.level));
    int64_t target = 0;
    do {  // new numbers each time: of some, nothing in the range can be made
        for (int64_t& n : numbers) n = w.draw.between(1, 12);
        target = drawn_target(w.draw, numbers);
    } while (target < 5 || target > 150);
    const std::vector<CountdownTry> tries = search(numbers, target);
    const CountdownTry& solution = tries.back();
    const std::string asked = listed(numbers);
    Working working(w);
    working.plan("each first step in turn; from there as near as I can.", "依次试第一步，再尽量靠近。");
    for (size_t i = 0; i + 1 < tries.size(); ++i) {
        const std::string line = joined(tries[i].steps, " ") + " x";
        working.new_line();
        working.max_step(line);
        if (i + 1 < kHighTries) working.high_step(line);
    }
    working.new_line();
    working.step(joined(solution.steps, " "));
    working.check(solution.expression + "=" + text(target));
    std::sort(numbers.begin(), numbers.end());
    const auto accepts = [numbers, target](std::string_view s) {
        int64_t value = 0;
        std::vector<int64_t> used;
        if (!evaluate(trimmed(s), value, used) || value != target) return false;
        std::sort(used.begin(), used.end());
        return used == numbers;
    };
    return finish(ask(w, questions, {asked, text(target)}), solution.expression, working,
                  "countdown" + listed(numbers) + "=" + text(target), accepts);
}

// ---- Latin squares of 4 x 4; level = blanks
using Square = std::array<int, 16>;  // 0: blank

std::string shown(const Square& s) {
    std::string out;
    for (size_t i = 0; i < 16; ++i)
        out += (i == 0 ? "" : i % 4 == 0 ? " / " : " ") + (s[i] ? text(s[i]) : std::string("_"));
    return out;
}
// Bits 1 to 4: what may stand at a place.
int candidates(const Square& s, size_t at) {
    int taken = 0;
    for (size_t i = 0; i < 4; ++i) taken |= 1 << s[at / 4 * 4 + i] | 1 << s[i * 4 + at % 4];
    return ~taken & 0b11110;
}
std::string digits_of(int bits) {
    std::string s;
    for (int d = 1; d <= 4; ++d)
        if (bits >> d & 1) s += text(d);
    return s;
}
bool is_latin(const Square& s) {
    for (size_t i = 0; i < 4; ++i) {
        int row = 0, column = 0;
        for (size_t j = 0; j < 4; ++j) row |= 1 << s[i * 4 + j], column |= 1 << s[j * 4 + i];
        if (row != 0b11110 || column != 0b11110) return false;
    }
    return true;
}

Square drawn_square(Draws& draw) {
    static constexpr int kBases[2][16] = {{0, 1, 2, 3, 1, 2, 3, 0, 2, 3, 0, 1, 3, 0, 1, 2},
                                          {0, 1, 2, 3, 1, 0, 3, 2, 2, 3, 0, 1, 3, 2, 1, 0}};
    const int* base = kBases[draw.below(2)];
    std::vector<int> rows = {0, 1, 2, 3}, columns = rows, signs = {1, 2, 3, 4};
    draw.shuffle(rows), draw.shuffle(columns), draw.shuffle(signs);
    Square s{};
    for (size_t i = 0; i < 16; ++i) s[i] = signs[static_cast<size_t>(base[rows[i / 4] * 4 + columns[i % 4]])];
    return s;
}

// Its rows, then its columns: "1234 2143 3412 4321 | 1234 …".
std::string lines_of(const Square& s) {
    std::string rows, columns;
    for (size_t i = 0; i < 4; ++i) {
        if (i) rows += " ", columns += " ";
        for (size_t j = 0; j < 4; ++j) rows += text(s[i * 4 + j]), columns += text(s[j * 4 + i]);
    }
    return rows + " | " + columns;
}
// With a digit or two in the wrong place, as somebody fills in who doesn't look twice.
Square spoilt(Square s, const std::vector<size_t>& blanks, Draws& draw) {
    const Square right = s;
    while (is_latin(s)) {
        s = right;
        for (int n = draw.between(1, 2); n > 0; --n) {
            const size_t at = draw.pick(blanks), other = draw.pick(blanks);
            if (at / 4 == other / 4 && at != other) std::swap(s[at], s[other]);
            else s[at] = s[at] % 4 + 1;
        }
    }
    return s;
}
// What row and column of a place lack.
int missing(const Square& s, size_t first, size_t stride) {
    int taken = 0;
    for (size_t i = 0; i < 4; ++i) taken |= 1 << s[first + i * stride];
    return ~taken & 0b11110;
}
std::string place_of(size_t at) {
    return text(static_cast<int64_t>(at / 4) + 1) + "," + text(static_cast<int64_t>(at % 4) + 1);
}

// Where filling at sight fails, Think Max takes the blanks in order, again and again. A line a place: what its row lacks
// & what its column lacks = what both allow. One digit is filled in, several wait; when a whole round fills nothing, the
// first of the fewest is tried, and a place that allows nothing leads back to the last try.
struct LatinSearch {
    struct Step {
        std::string text;
        bool begins_line;
    };
    std::vector<Step> steps;

    bool solve(Square& s) {
        for (bool has_filled = true; has_filled;) {
            has_filled = false;
            bool begins_line = true;
            for (size_t at = 0; at < 16; ++at) {
                if (s[at]) continue;
                const int row = missing(s, at / 4 * 4, 1), column = missing(s, at % 4, 4), both = row & column;
                steps.push_back({place_of(at) + ":" + digits_of(row) + "&" + digits_of(column) + "=" +
                                     (both ? digits_of(both) : "-"),
                                 begins_line});
                begins_line = false;
                if (!both) return false;
                if (__builtin_popcount(static_cast<unsigned>(both)) > 1) continue;
                s[at] = __builtin_ctz(static_cast<unsigned>(both));
                has_filled = true;
            }
        }
        size_t best = 16;
        const auto choices = [&s](size_t at) { return __builtin_popcount(static_cast<unsigned>(candidates(s, at))); };
        for (size_t at = 0; at < 16; ++at)
            if (!s[at] && (best == 16 || choices(at) < choices(best))) best = at;
        if (best == 16) return true;
        const int bits = candidates(s, best);
        for (int d = 1; d <= 4; ++d) {
            if (!(bits >> d & 1)) continue;
            steps.push_back({place_of(best) + "=" + text(d), true});
            Square tried = s;
            tried[best] = d;
            if (solve(tried)) return s = tried, true;
            steps.push_back({kBack, false});
        }
        return false;
    }
};

constexpr int kMostBlanks = 10;

Item make_latin(Wish& w) {
    static const Wordings questions = {
        {"Fill the Latin square: {a}", "Complete so that each row and column has 1 to 4: {a}",
         "Latin square, please complete: {a}", "Fill the blanks: {a}",
         "{a} Fill in 1 to 4, no repeats in rows and columns.", "Solve the Latin square {a}",
         "Which numbers are missing? {a}", "Complete the 4x4 square: {a}"},
        {"填完拉丁方：{a}", "补全，使每行每列都有1到4：{a}", "请完成拉丁方：{a}", "填空：{a}",
         "{a} 填入1到4，行列不重复。", "解拉丁方{a}", "缺哪些数？{a}", "完成4x4方阵：{a}"}};
    const Square full = drawn_square(w.draw);
    constexpr size_t kMostSteps = 19;  // what Think Max has room for
    Square puzzle{}, found{};
    LatinSearch searched;
    std::vector<size_t> places(16);
    for (size_t i = 0; i < 16; ++i) places[i] = i;
    do {
        puzzle = full, searched = {};
        w.draw.shuffle(places);
        for (int i = 0; i < w.level; ++i) puzzle[places[static_cast<size_t>(i)]] = 0;
        found = puzzle;
        searched.solve(found);
    } while (searched.steps.size() > kMostSteps && w.level <= kMostBlanks);
    Working working(w);
    // Think High fills the place with the fewest candidates first, and shows no choice.
    Square s = puzzle;
    for (int left = w.level; left > 0; --left) {
        size_t best = 16;
        for (size_t i = 0; i < 16; ++i)
            if (s[i] == 0 && (best == 16 || __builtin_popcount(static_cast<unsigned>(candidates(s, i))) <
                                                __builtin_popcount(static_cast<unsigned>(candidates(s, best)))))
                best = i;
        s[best] = found[best];
        working.high_step(place_of(best) + "=" + text(s[best]));
    }
    // Think Max fills at sight and looks at the columns; where that was wrong it goes place by place.
    working.plan("fill it, check rows and columns; if wrong, place by place.", "先填，查行与列；不对就逐格看。");
    places.resize(static_cast<size_t>(w.level));
    if (w.draw.chance(w.slip_rate)) {
        working.max_step(lines_of(spoilt(found, places, w.draw)) + " x " + kBack);
        for (const LatinSearch::Step& step : searched.steps) {
            if (step.begins_line) working.new_line();
            working.max_step(step.text);
        }
        working.new_line();
    }
    working.max_step(lines_of(found));
    working.check(w.is_chinese() ? "每行每列都是1到4" : "rows and columns have 1 to 4");
    const auto accepts = [puzzle](std::string_view given) {
        Square got{};
        size_t n = 0;
        for (char c : given) {
            if (c >= '1' && c <= '4' && n < 16)
                got[n++] = c - '0';
            else if (c != ' ' && c != '/')
                return false;
        }
        if (n != 16 || given.size() > 41) return false;
        for (size_t i = 0; i < 16; ++i)
            if (puzzle[i] && puzzle[i] != got[i]) return false;
        return is_latin(got);
    };
    return finish(ask(w, questions, {shown(puzzle)}), shown(found), working, "latin" + shown(puzzle), accepts);
}

// ---- subset sums; level = how many numbers
Item make_subset(Wish& w) {
    static const Wordings questions = {
        {"Which of {a} add up to {b}?", "Pick numbers from {a} with the sum {b}.", "Subset of {a} with sum {b}?",
         "From {a} choose some that make {b}.", "Sum {b} from {a}?", "Find numbers in {a} whose sum is {b}.",
         "{a}: which ones give {b} together?", "Take some of {a} to reach {b} exactly."},
        {"{a}中哪些数加起来是{b}？", "从{a}里选几个数，和为{b}。", "{a}的哪个子集和为{b}？", "从{a}中挑几个凑成{b}。",
         "用{a}凑和{b}？", "在{a}里找和为{b}的数。", "{a}：哪几个加起来得{b}？", "从{a}取一些，正好等于{b}。"}};
    std::vector<int64_t> numbers;
    while (static_cast<int>(numbers.size()) < w.level) {
        const int64_t n = w.draw.between(2, 40);
        if (std::find(numbers.begin(), numbers.end(), n) == numbers.end()) numbers.push_back(n);
    }
    const auto drawn_subset = [&](std::vector<int64_t>& picked) {
        picked.clear();
        for (int64_t n : numbers)
            if (w.draw.chance(0.45)) picked.push_back(n);
        int64_t sum = 0;
        for (int64_t n : picked) sum += n;
        return sum;
    };
    std::vector<int64_t> solution, attempt;
    int64_t target = 0;
    do target = drawn_subset(solution);
    while (solution.size() < 2 || solution.size() > 4);
    const auto sum_line = [](const std::vector<int64_t>& x, int64_t sum) {
        std::string s;
        for (int64_t n : x) s += (s.empty() ? "" : "+") + text(n);
        return s + "=" + text(sum);
    };
    Working working(w);
    working.plan("try sums; drop what is too small or too large.", "试不同的和，太大太小都换。");
    constexpr int kMost = 8;
    for (int i = 0; i < kMost; ++i) {
        const int64_t sum = drawn_subset(attempt);
        if (attempt.size() < 2 || attempt.size() > 4) continue;
        if (sum == target) {
            solution = attempt;
            break;
        }
        const std::string line = sum_line(attempt, sum) + (sum < target ? "<" : ">");
        working.max_step(line);
        if (static_cast<size_t>(i) < kHighTries) working.high_step(line);
    }
    working.step(sum_line(solution, target));
    working.check(sum_line(solution, target));
    const auto accepts = [numbers, target](std::string_view given) {
        std::vector<int64_t> x;
        if (!read_numbers(given, x)) return false;
        int64_t sum = 0;
        for (size_t i = 0; i < x.size(); ++i) {
            if (std::find(numbers.begin(), numbers.end(), x[i]) == numbers.end() ||
                std::find(x.begin(), x.begin() + static_cast<long>(i), x[i]) != x.begin() + static_cast<long>(i))
                return false;
            sum += x[i];
        }
        return sum == target;
    };
    return finish(ask(w, questions, {listed(numbers), text(target)}), listed(solution), working,
                  "subset" + listed(numbers) + "=" + text(target), accepts);
}

// ---- paths in a graph; level = nodes
Item make_path(Wish& w) {
    static const Wordings questions = {{"Roads: {a}. Find a way from {b} to {c}.", "{a}. Path from {b} to {c}?",
                                        "Graph {a}. How do you get from {b} to {c}?", "Edges {a}: go from {b} to {c}.",
                                        "With the roads {a}, travel from {b} to {c}.", "Find a path {b} to {c} in {a}.",
                                        "Map: {a}. From {b} to {c}?", "{b} to {c} along {a}?"},
                                       {"道路：{a}。找一条从{b}到{c}的路。", "{a}。从{b}到{c}的路径？",
                                        "图{a}，怎么从{b}到{c}？", "边{a}：从{b}走到{c}。", "用道路{a}，从{b}去{c}。",
                                        "在{a}中找{b}到{c}的路径。", "地图：{a}。{b}到{c}？", "沿{a}从{b}到{c}？"}};
    const int n = w.level;
    std::vector<int> order;
    for (int i = 0; i < n; ++i) order.push_back(i);
    w.draw.shuffle(order);
    std::map<int, std::vector<int>> next;
    std::vector<std::string> edges;
    const auto name = [](int i) { return std::string(1, static_cast<char>('A' + i)); };
    const auto connect = [&](int a, int b) {
        if (a == b || std::find(next[a].begin(), next[a].end(), b) != next[a].end()) return;
        next[a].push_back(b), next[b].push_back(a);
        edges.push_back(name(std::min(a, b)) + "-" + name(std::max(a, b)));
    };
    for (int i = 1; i < n; ++i)
        connect(order[static_cast<size_t>(i)], order[static_cast<size_t>(w.draw.between(std::max(0, i - 3), i - 1))]);
    if (n > 5) connect(w.draw.between(0, n - 1), w.draw.between(0, n - 1));
    w.draw.shuffle(edges);
    const int from = order[0], to = order[static_cast<size_t>(n - 1)];
    // Breadth first from the start; a node is written with what is new from it.
    std::map<int, int> before = {{from, from}};
    std::queue<int> open;
    Working working(w);
    working.plan("spread from the start, then walk back.", "从起点扩散，再倒着走回。");
    for (open.push(from); !open.empty() && !before.count(to); open.pop()) {
        const int a = open.front();
        std::string found, wrong;
        std::sort(next[a].begin(), next[a].end());
        for (int b : next[a])
            if (before.emplace(b, a).second) found += name(b), open.push(b);
        working.max_step(name(a) + ":" + (found.empty() ? "-" : spaced_letters(found)),
                         name(a) + ":" + name(w.draw.between(0, n - 1)));
    }
    std::vector<int> path = {to};
    while (path.back() != from) path.push_back(before[path.back()]);
    std::vector<std::string> backwards;
    for (int node : path) backwards.push_back(name(node));
    working.step(joined(backwards, "<"));
    std::reverse(backwards.begin(), backwards.end());
    working.check((w.is_chinese() ? "每一步都有路，" : "each step is a road, ") +
                  text(static_cast<int64_t>(path.size()) - 1));
    const auto accepts = [next, from, to](std::string_view given) {
        int at = -1, n_seen = 0;
        bool wants_letter = true;
        for (char c : trimmed(given)) {
            if (wants_letter != (c >= 'A' && c <= 'Z') || (!wants_letter && c != ' ') || ++n_seen > 60) return false;
            wants_letter = !wants_letter;
            if (c == ' ') continue;
            const int node = c - 'A';
            if (at < 0 ? node != from : std::find(next.at(at).begin(), next.at(at).end(), node) == next.at(at).end())
                return false;
            at = node;
        }
        return at == to && !wants_letter;
    };
    const std::string all = joined(edges, " ");
    return finish(ask(w, questions, {all, name(from), name(to)}), joined(backwards, " "), working,
                  "path" + all + name(from) + name(to), accepts);
}

}  // namespace

const std::vector<Skill>& search_skills() {
    static const std::vector<Skill> all = {
        {"countdown", 40, 3, 4, make_countdown},
        {"latin", 26, 3, kMostBlanks, make_latin},
        {"subset", 20, 4, 8, make_subset},
        {"path", 18, 5, 10, make_path},
    };
    return all;
}

}  // namespace vitrine::curriculum
