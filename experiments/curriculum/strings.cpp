// Domain "strings": letters and lists turned, copied, sorted, counted, checked.
#include <algorithm>

#include "experiments/curriculum/domains.h"
#include "experiments/curriculum/names.h"
#include "experiments/curriculum/numbers.h"
#include "experiments/curriculum/working.h"

namespace vitrine::curriculum {
namespace {

std::string drawn_letters(Draws& draw, int n, int n_kinds = 26) {
    std::string s;
    for (int i = 0; i < n; ++i) s += static_cast<char>('a' + draw.between(0, n_kinds - 1));
    return s;
}
std::string spaced(std::string_view s) {
    std::string out;
    for (char c : s) out += (out.empty() ? "" : " ") + std::string(1, c);
    return out;
}
// A letter that does not belong, for a slip.
std::string with_other_letter(Draws& draw, std::string s) {
    s[static_cast<size_t>(draw.below(s.size()))] = static_cast<char>('a' + draw.between(0, 25));
    return s;
}

const Wordings& reverse_questions() {
    static const Wordings all = {
        {"Reverse: {a}", "Write {a} backwards.", "Reverse the letters {a}.", "{a} from back to front?",
         "What is {a} reversed?", "Turn {a} around.", "Spell {a} backwards.", "Backwards: {a}"},
        {"倒写：{a}", "把{a}倒过来写。", "反转字母{a}。", "{a}从后往前是什么？", "{a}反过来是什么？", "将{a}颠倒。",
         "倒着拼{a}。", "反转：{a}"}};
    return all;
}

// Letters with spaces are one token each: every mode should manage, so it is a control.
Item make_reverse(Wish& w) {
    const std::string s = drawn_letters(w.draw, w.level);
    const std::string reply = spaced(std::string(s.rbegin(), s.rend()));
    Working working(w);
    working.plan("read from the last letter.", "从最后一个字母读起。");
    working.step(reply, spaced(with_other_letter(w.draw, std::string(s.rbegin(), s.rend()))));
    working.check((w.is_chinese() ? "字母 " : "letters ") + text(w.level) + ", " + std::string(1, s.back()) + "..." +
                  std::string(1, s.front()));
    return finish(ask(w, reverse_questions(), {spaced(s)}), reply, working, "reverse" + s);
}

// A whole word must be spelt first.
Item make_reverse_word(Wish& w) {
    const std::string s =
        w.draw.chance(0.5) ? drawn_letters(w.draw, w.level) : std::string(w.draw.pick(things(Language::english)));
    const std::string reply(s.rbegin(), s.rend());
    Working working(w);
    working.plan("spell it, then read it backwards.", "先拼写，再倒着读。");
    working.step(spaced(s), spaced(with_other_letter(w.draw, s)));
    working.step("→ " + spaced(reply), "→ " + spaced(with_other_letter(w.draw, reply)));
    working.check((w.is_chinese() ? "字母 " : "letters ") + text(static_cast<int64_t>(s.size())));
    return finish(ask(w, reverse_questions(), {s}), reply, working, "reverse" + s);
}

Item make_copy(Wish& w) {
    static const Wordings questions = {
        {"Copy: {a}", "Repeat {a}.", "Write {a} again.", "Say {a}", "Echo {a}", "Please repeat: {a}", "Write down {a}.",
         "Same again: {a}"},
        {"复制：{a}", "重复{a}。", "再写一遍{a}。", "请说{a}", "照抄{a}", "请重复：{a}", "写下{a}。", "同样再来：{a}"}};
    const std::string s = spaced(drawn_letters(w.draw, w.level));
    Working working(w);
    working.plan("write it again, letter by letter.", "逐个字母照写。");
    working.step(text(w.level) + (w.is_chinese() ? " 个字母" : " letters"));
    working.check(std::string(1, s.front()) + "..." + std::string(1, s.back()));
    return finish(ask(w, questions, {s}), s, working, "copy" + s);
}

std::vector<int> drawn_list(Wish& w) {
    std::vector<int> x;
    while (static_cast<int>(x.size()) < w.level) {
        const int n = w.draw.between(1, 99);
        if (std::find(x.begin(), x.end(), n) == x.end()) x.push_back(n);
    }
    return x;
}
std::string listed(const std::vector<int>& x) {
    std::vector<std::string> s;
    for (int n : x) s.push_back(text(n));
    return joined(s, " ");
}

// By tens, as they come; Max then puts each ten in order.
Item make_sort(Wish& w) {
    static const Wordings questions = {
        {"Sort: {a}", "Sort these numbers: {a}", "Put in order: {a}", "Arrange from small to large: {a}",
         "Order {a} ascending.", "Write {a} in ascending order.", "Sorted, please: {a}",
         "From the smallest to the largest: {a}"},
        {"排序：{a}", "给这些数排序：{a}", "按顺序排列：{a}", "从小到大排列：{a}", "把{a}按升序排。", "将{a}升序写出。",
         "请排好序：{a}", "由小到大：{a}"}};
    const std::vector<int> x = drawn_list(w);
    std::vector<int> sorted = x;
    std::sort(sorted.begin(), sorted.end());
    std::vector<std::string> tens, in_order, sizes;
    for (int ten = 0; ten < 10; ++ten) {
        std::vector<int> group;
        for (int v : x)
            if (v / 10 == ten) group.push_back(v);
        if (group.empty()) continue;
        tens.push_back(listed(group));
        std::sort(group.begin(), group.end());
        in_order.push_back(listed(group));
        sizes.push_back(text(static_cast<int64_t>(group.size())));
    }
    Working working(w);
    working.plan("group by tens, then order each ten.", "先按十位分组，再给每组排序。");
    working.step(joined(tens, " | "));
    working.new_line();
    for (size_t i = 0; i < in_order.size(); ++i) {
        const std::string bar = i ? "| " : "";
        working.max_step(bar + in_order[i], tens[i] == in_order[i] ? "" : bar + tens[i]);
    }
    working.check(joined(sizes, "+") + "=" + text(w.level));
    return finish(ask(w, questions, {listed(x)}), listed(sorted), working, "sort" + listed(x));
}

Item make_count(Wish& w) {
    static const Wordings questions = {
        {"How many times does {b} occur in {a}?", "Count the letter {b} in: {a}", "How many {b} are in {a}?",
         "In {a}, how often is {b}?", "Number of {b} in {a}?", "Letters {a}: how many are {b}?",
         "How often do you see {b} in {a}?", "Count {b}: {a}"},
        {"{a}中{b}出现几次？", "数一数字母{b}：{a}", "{a}里有几个{b}？", "在{a}中，{b}有多少个？", "{b}在{a}里的个数？",
         "字母{a}，几个是{b}？", "你在{a}中看到几个{b}？", "数{b}：{a}"}};
    const std::string s = drawn_letters(w.draw, w.level, 4);
    const char c = s[static_cast<size_t>(w.draw.below(s.size()))];
    Working working(w);
    working.plan("number each one that fits.", "给符合的逐个编号。");
    int n = 0;
    for (size_t i = 0; i < s.size(); ++i) {
        if (s[i] != c) continue;
        ++n;
        working.high_step(text(n) + ":" + c);
        working.max_step(text(static_cast<int64_t>(i) + 1) + ":" + std::string(1, c) + " " + text(n),
                         text(static_cast<int64_t>(i) + 1) + ":" + std::string(1, c) + " " + text(n + 1));
    }
    working.check(text(n) + "<=" + text(w.level));
    return finish(ask(w, questions, {spaced(s), std::string(1, c)}), text(n), working, "count" + s + c);
}

Item make_dedupe(Wish& w) {
    static const Wordings questions = {
        {"Remove repeated letters: {a}", "Keep each letter of {a} once.", "Dedupe: {a}", "{a} without repeats?",
         "Drop what was there before: {a}", "Which different letters occur in {a}, in order?", "Unique letters of {a}?",
         "Strike out repetitions in {a}."},
        {"去掉重复的字母：{a}", "{a}中每个字母只保留一次。", "去重：{a}", "{a}没有重复时是什么？", "删掉出现过的：{a}",
         "{a}里依次有哪些不同的字母？", "{a}的不同字母？", "划掉{a}中的重复。"}};
    const std::string s = drawn_letters(w.draw, w.level, 6);
    std::string kept;
    Working working(w);
    working.plan("keep a letter when it is new.", "新字母才保留。");
    for (char c : s) {
        const bool is_new = kept.find(c) == std::string::npos;
        if (is_new) kept += c;
        working.max_step(std::string(1, c) + (is_new ? "+" : "-"), std::string(1, c) + (is_new ? "-" : "+"));
    }
    working.high_step(text(static_cast<int64_t>(kept.size())) + (w.is_chinese() ? " 个不同" : " different"));
    working.check((w.is_chinese() ? "不同 " : "different ") + text(static_cast<int64_t>(kept.size())));
    return finish(ask(w, questions, {spaced(s)}), spaced(kept), working, "dedupe" + s);
}

Item make_brackets(Wish& w) {
    static const Wordings questions = {
        {"Are these brackets balanced? {a}", "Balanced or not: {a}", "Do the brackets match? {a}", "{a}: balanced?",
         "Check the brackets {a}", "Is {a} balanced?", "Brackets {a}: do they close rightly?",
         "Matching brackets? {a}"},
        {"这些括号配对吗？{a}", "是否配对：{a}", "括号匹配吗？{a}", "{a}：配对吗？", "检查括号{a}", "{a}配对吗？",
         "括号{a}闭合正确吗？", "括号配对？{a}"}};
    std::string s, open;
    while (static_cast<int>(s.size()) < 2 * w.level) {
        const int left = 2 * w.level - static_cast<int>(s.size());
        if (open.empty() || (static_cast<int>(open.size()) < left && w.draw.chance(0.5))) {
            open += w.draw.chance(0.5) ? '(' : '[';
            s += open.back();
        } else {
            s += open.back() == '(' ? ')' : ']';
            open.pop_back();
        }
    }
    if (w.draw.chance(0.5)) s[static_cast<size_t>(w.draw.below(s.size()))] = "()[]"[w.draw.below(4)];
    Working working(w);
    working.plan("keep the open brackets in mind.", "记住还没闭合的括号。");
    std::string stack;
    bool fails = false;
    for (char c : s) {
        const bool opens = c == '(' || c == '[';
        if (opens) {
            stack += c;
        } else if (stack.empty() || (stack.back() == '(') != (c == ')')) {
            fails = true;
        } else {
            stack.pop_back();
        }
        const std::string depth = text(static_cast<int64_t>(stack.size()));
        working.high_step(fails ? "x" : depth);
        working.max_step(std::string(1, c) + " " + (fails ? "x" : depth),
                         std::string(1, c) + " " + text(static_cast<int64_t>(stack.size()) + 1));
        if (fails) break;
    }
    const bool is_balanced = !fails && stack.empty();
    const std::string left_open = (w.is_chinese() ? "剩余 " : "left open ") + text(static_cast<int64_t>(stack.size()));
    working.check(fails ? (w.is_chinese() ? "闭合不对" : "one closes wrongly,") : left_open);
    const std::string reply = w.is_chinese() ? (is_balanced ? "配对" : "不配对") : is_balanced ? "yes" : "no";
    return finish(ask(w, questions, {spaced(s)}), reply, working, "brackets" + s);
}

Item make_anagram(Wish& w) {
    static const Wordings questions = {
        {"Are {a} and {b} anagrams?", "Do {a} and {b} have the same letters?", "Anagrams: {a} / {b}?",
         "Is {b} a reordering of {a}?", "{a} and {b}: the same letters?", "Can {a} be rearranged to {b}?",
         "Same letters? {a}; {b}", "Check: is {a} an anagram of {b}?"},
        {"{a}和{b}字母相同吗？", "{a}与{b}是变位词吗？", "变位：{a} / {b}？", "{b}是{a}的重排吗？",
         "{a}和{b}：字母一样吗？", "{a}能重排成{b}吗？", "字母相同？{a}；{b}", "检查：{a}是{b}的变位词吗？"}};
    const std::string a = drawn_letters(w.draw, w.level, 8);
    std::vector<char> letters(a.begin(), a.end());
    w.draw.shuffle(letters);
    std::string b(letters.begin(), letters.end());
    if (w.draw.chance(0.5))
        b[static_cast<size_t>(w.draw.below(b.size()))] = static_cast<char>('a' + w.draw.between(0, 7));
    std::string x = a, y = b;
    std::sort(x.begin(), x.end());
    std::sort(y.begin(), y.end());
    Working working(w);
    working.plan("sort both and compare.", "分别排序后比较。");
    working.step(spaced(x), spaced(with_other_letter(w.draw, x)));
    working.step("| " + spaced(y), "| " + spaced(with_other_letter(w.draw, y)));
    working.check(x == y ? "=" : "!=");
    const std::string reply = w.is_chinese() ? (x == y ? "相同" : "不同") : x == y ? "yes" : "no";
    return finish(ask(w, questions, {spaced(a), spaced(b)}), reply, working, "anagram" + a + b);
}

}  // namespace

const std::vector<Skill>& string_skills() {
    static const std::vector<Skill> all = {
        {"reverse", 16, 3, 16, make_reverse, 4},   {"reverse_word", 10, 3, 8, make_reverse_word, 4},
        {"copy", 6, 3, 16, make_copy, 4},          {"sort", 22, 4, 16, make_sort, 4},
        {"count", 16, 6, 24, make_count, 6},       {"dedupe", 10, 4, 16, make_dedupe, 4},
        {"brackets", 10, 3, 10, make_brackets, 4}, {"anagram", 10, 4, 10, make_anagram, 4},
    };
    return all;
}

}  // namespace vitrine::curriculum
