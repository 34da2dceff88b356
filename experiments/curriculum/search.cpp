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

Item make_latin(Wish& w) {
    static const Wordings questions = {
        {"Fill the Latin square: {a}", "Complete so that each row and column has 1 to 4: {a}",
         "Latin square, please complete: {a}", "Fill the blanks: {a}",
         "{a} Fill in 1 to 4, no repeats in rows and columns.", "Solve the Latin square {a}",
         "Which numbers are missing? {a}", "Complete the 4x4 square: {a}"},
        {"填完拉丁方：{a}", "补全，使每行每列都有1到4：{a}", "请完成拉丁方：{a}", "填空：{a}",
         "{a} 填入1到4，行列不重复。", "解拉丁方{a}", "缺哪些数？{a}", "完成4x4方阵：{a}"}};
    Square full = drawn_square(w.draw), s = full;
    std::vector<size_t> places(16);
    for (size_t i = 0; i < 16; ++i) places[i] = i;
    w.draw.shuffle(places);
    for (int i = 0; i < w.level; ++i) s[places[static_cast<size_t>(i)]] = 0;
    const Square puzzle = s;
    Working working(w);
    working.plan("fill places that leave one choice.", "先填只有一种可能的格子。");
    for (int left = w.level; left > 0; --left) {
        // The place with the fewest candidates; when there are two, the wrong one is tried first in some workings.
        size_t best = 16;
        for (size_t i = 0; i < 16; ++i)
            if (s[i] == 0 && (best == 16 || __builtin_popcount(static_cast<unsigned>(candidates(s, i))) <
                                                __builtin_popcount(static_cast<unsigned>(candidates(s, best)))))
                best = i;
        const int bits = candidates(s, best);
        const std::string place =
            text(static_cast<int64_t>(best / 4) + 1) + "," + text(static_cast<int64_t>(best % 4) + 1);
        const std::string right = text(full[best]);
        std::string wrong = digits_of(bits & ~(1 << full[best]));
        if (wrong.empty()) wrong = text(full[best] % 4 + 1);
        working.high_step(place + "=" + right);
        working.max_step(place + ":" + digits_of(bits) + "→" + right,
                         place + ":" + digits_of(bits) + "→" + wrong.substr(0, 1));
        s[best] = full[best];
    }
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
    return finish(ask(w, questions, {shown(puzzle)}), shown(full), working, "latin" + shown(puzzle), accepts);
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
        {"latin", 22, 3, 8, make_latin},
        {"subset", 20, 4, 8, make_subset},
        {"path", 18, 5, 10, make_path},
    };
    return all;
}

}  // namespace vitrine::curriculum
