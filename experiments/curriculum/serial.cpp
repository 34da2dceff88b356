// Domain "serial": a state that changes step by step. Without writing the states down, the last one is hard to know.
#include <array>

#include "experiments/curriculum/domains.h"
#include "experiments/curriculum/numbers.h"
#include "experiments/curriculum/working.h"

namespace vitrine::curriculum {
namespace {

int other_below(Draws& draw, int n, int value) {
    return (value + 1 + static_cast<int>(draw.below(static_cast<uint64_t>(n - 1)))) % n;
}

// ---- arithmetic modulo a small prime: "+5=12 *3=13 -8=5"
Item make_chain(Wish& w) {
    static const Wordings questions = {
        {"Start with {a}. Then {b}, all mod {c}. What is the result?", "Take {a} and do {b} (mod {c}).",
         "Modulo {c}: {a}, then {b}. Result?", "Begin at {a} and apply {b}, always mod {c}.",
         "Compute mod {c}: start {a}; {b}.", "What do you get from {a} after {b}, mod {c}?", "{a}; {b}; mod {c} =?",
         "Work mod {c}. Start: {a}. Steps: {b}. End?"},
        {"从{a}开始，依次{b}，每步模{c}，结果是多少？", "模{c}：{a}，然后{b}，得多少？", "取{a}，做{b}（模{c}）。",
         "从{a}出发，依次{b}，都模{c}，最后是几？", "计算（模{c}）：{a}，{b}。", "{a}经过{b}后是多少？模{c}。",
         "在模{c}下，{a}，{b}，结果？", "起点{a}，步骤{b}，模{c}，终点是？"}};
    static constexpr int kModuli[] = {11, 23};
    const int p = w.draw.pick(kModuli), start = w.draw.between(0, p - 1);
    int value = start;
    Working working(w);
    working.plan("keep the value after each step.", "记下每一步的值。");
    std::vector<std::string> ops;
    std::string back = text(value);
    for (int i = 0; i < w.level; ++i) {
        static constexpr char kSigns[] = {'+', '-', '*'};
        const char sign = w.draw.pick(kSigns);
        const int x = sign == '*' ? w.draw.between(2, 9) : w.draw.between(1, 9);
        const int raw = sign == '+' ? value + x : sign == '-' ? value - x : value * x;
        value = (raw % p + p) % p;
        ops.push_back(std::string(1, sign) + text(x));
        const std::string head = ops.back() + "=";
        working.high_step(head + text(value));
        const std::string middle = raw == value ? "" : text(raw) + "→";
        working.max_step(head + middle + text(value), head + middle + text(other_below(w.draw, p, value)));
    }
    const std::string steps = joined(ops, w.is_chinese() ? "、" : ", ");
    working.check((w.is_chinese() ? "步数 " : "steps ") + text(w.level) + (w.is_chinese() ? "，" : ", ") + text(value) +
                  "<" + text(p));
    return finish(ask(w, questions, {text(start), steps, text(p)}), text(value), working,
                  "chain " + text(p) + " " + text(start) + joined(ops, " "));
}

// ---- five cups: "21345 21543"
Item make_cups(Wish& w) {
    static const Wordings questions = {
        {"Five cups stand in the order 12345. Swap places {a}. What is the order now?",
         "Start with 12345 and swap places {a}. Result?", "12345: swap positions {a}. What do you get?",
         "Cups 12345. Swaps of places: {a}. Final order?",
         "Five cards 1 2 3 4 5 lie in a row. Swap places {a}. What is the row?",
         "Apply these swaps of places to 12345: {a}.",
         "In the row 12345 swap places {a}, one after the other. Where does it end?",
         "Order 12345, swaps {a}. New order?"},
        {"五个杯子排成12345，依次交换位置{a}，现在的顺序是什么？", "从12345开始，交换位置{a}，结果是？",
         "12345：交换位置{a}，得到什么？", "杯子12345，位置交换：{a}，最后的顺序？",
         "五张牌12345排成一行，交换位置{a}，这行是什么？", "对12345依次做位置交换：{a}。",
         "把12345的位置{a}依次交换，最后是什么？", "顺序12345，交换{a}，新顺序？"}};
    std::string row = "12345";
    Working working(w);
    working.plan("write the row after each swap.", "每次交换后写出整行。");
    std::vector<std::string> swaps, keys;
    for (int i = 0; i < w.level; ++i) {
        const int a = w.draw.between(0, 4), b = other_below(w.draw, 5, a);
        swaps.push_back(text(std::min(a, b) + 1) + (w.is_chinese() ? "和" : " and ") + text(std::max(a, b) + 1));
        keys.push_back(text(std::min(a, b)) + text(std::max(a, b)));
        std::string wrong = row;
        std::swap(row[static_cast<size_t>(a)], row[static_cast<size_t>(b)]);
        std::swap(wrong[static_cast<size_t>(a)], wrong[static_cast<size_t>(other_below(w.draw, 5, b))]);
        const std::string head = text(std::min(a, b) + 1) + "-" + text(std::max(a, b) + 1) + ":";
        working.high_step(row);
        working.max_step(head + row, head + wrong);
    }
    working.check(w.is_chinese() ? "1到5各一个" : "1 to 5 once each");
    return finish(ask(w, questions, {joined(swaps, w.is_chinese() ? "、" : ", ")}), row, working,
                  "cups" + joined(keys, " "));
}

// ---- x → x² + c mod p
Item make_squaring(Wish& w) {
    static const Wordings questions = {
        {"Start with x = {a}. Replace x by x*x + {b} mod {c}, {d} times. What is x?",
         "x = {a}; x := x*x + {b} mod {c}; repeat {d} times. x = ?",
         "Iterate x -> x^2 + {b} mod {c} from {a}, {d} times.",
         "Square, add {b}, reduce mod {c}: from {a}, {d} times. Result?", "From {a}, apply x*x+{b} mod {c} {d} times.",
         "What is the value after {d} rounds of x*x+{b} mod {c}, starting at {a}?",
         "Begin with {a}. {d} times: square, add {b}, mod {c}.",
         "Run x = x*x+{b} (mod {c}) {d} times with x = {a} at first."},
        {"x={a}，把x换成x*x+{b}模{c}，做{d}次，x是多少？", "从{a}开始，平方加{b}再模{c}，重复{d}次，结果是？",
         "x={a}；x:=x*x+{b} 模{c}；重复{d}次。x=？", "对{a}做{d}次：平方，加{b}，模{c}。",
         "迭代 x→x*x+{b} 模{c}，从{a}开始{d}次。", "{a}，每次平方加{b}模{c}，{d}次后是几？",
         "初值{a}，运行x=x*x+{b}（模{c}）{d}次。", "从{a}出发，应用x*x+{b}模{c}共{d}次，得多少？"}};
    static constexpr int kModuli[] = {11, 23};
    const int p = w.draw.pick(kModuli), start = w.draw.between(0, p - 1), c = w.draw.between(1, 9);
    Working working(w);
    working.plan("square, add, reduce; keep each value.", "平方、加、取余，记下每个值。");
    int x = start;
    for (int i = 0; i < w.level; ++i) {
        const int raw = x * x + c, next = raw % p;
        working.high_step(text(raw) + "→" + text(next));
        const std::string head = text(x) + "*" + text(x) + "+" + text(c) + "=" + text(raw) + "→";
        working.max_step(head + text(next), head + text(other_below(w.draw, p, next)));
        x = next;
    }
    working.check((w.is_chinese() ? "次数 " : "rounds ") + text(w.level));
    const std::string problem = "squaring " + text(p) + " " + text(start) + " " + text(c) + " " + text(w.level);
    return finish(ask(w, questions, {text(start), text(c), text(p), text(w.level)}), text(x), working, problem);
}

// ---- a circuit: "a=1 b=0; p = a and b; q = not p"
Item make_circuit(Wish& w) {
    static const Wordings questions = {
        {"{a}. What is {b}?", "Given {a}: is {b} 0 or 1?", "A circuit: {a}. What is the value of {b}?",
         "Logic: {a}. {b} = ?", "Evaluate {b} where {a}.", "With {a}, find {b}.", "{a}. Tell me {b}.",
         "Let {a}. What does {b} give?"},
        {"{a}。{b}是多少？", "已知{a}，{b}是0还是1？", "电路：{a}。{b}的值是？", "逻辑：{a}。{b}=？", "设{a}，求{b}。",
         "由{a}，求{b}的值。", "{a}。告诉我{b}。", "令{a}，{b}等于几？"}};
    const int n_inputs = 3;
    std::vector<int> values;
    std::vector<std::string> lines;
    Working working(w);
    working.plan("work out the gates in order.", "按顺序计算每个门。");
    const auto name = [&](size_t i) { return std::string(1, static_cast<char>('a' + i)); };
    for (int i = 0; i < n_inputs; ++i) {
        values.push_back(w.draw.between(0, 1));
        lines.push_back(name(static_cast<size_t>(i)) + "=" + text(values.back()));
    }
    for (int i = 0; i < w.level; ++i) {
        static constexpr const char* kGates[] = {"and", "or", "xor", "not"};
        const size_t gate = static_cast<size_t>(w.draw.below(4));
        // Mostly the newest gate, so that the answer depends on all of them.
        const size_t x = w.draw.chance(0.8) ? values.size() - 1 : static_cast<size_t>(w.draw.below(values.size()));
        const size_t y = static_cast<size_t>(w.draw.below(values.size()));
        const int a = values[x], b = values[y];
        const int value = gate == 0 ? a & b : gate == 1 ? a | b : gate == 2 ? a ^ b : 1 - a;
        const std::string self = name(values.size());
        lines.push_back(self + "=" + (gate == 3 ? "not " + name(x) : name(x) + " " + kGates[gate] + " " + name(y)));
        working.high_step(self + "=" + text(value));
        const std::string head =
            self + "=" + (gate == 3 ? std::string("not ") + text(a) : text(a) + " " + kGates[gate] + " " + text(b)) +
            "=";
        working.max_step(head + text(value), head + text(1 - value));
        values.push_back(value);
    }
    const std::string last = name(values.size() - 1), all = joined(lines, w.is_chinese() ? "；" : "; ");
    working.check((w.is_chinese() ? "最后一个门是 " : "the last gate is ") + last);
    return finish(ask(w, questions, {all, last}), text(values.back()), working, "circuit" + joined(lines, " "));
}

// ---- an automaton: a table of transitions and a word
Item make_automaton(Wish& w) {
    static const Wordings questions = {
        {"A machine has states 1 to {a}. {b}. It starts in 1 and reads {c}. Where does it end?",
         "States 1..{a}; {b}. Start 1, input {c}. Final state?", "Automaton: {b}. From state 1 read {c}. Which state?",
         "Rules: {b}. Begin in 1, read {c}. State?", "{b}. Starting in state 1, what is the state after {c}?",
         "Follow {c} from state 1 with {b}. End state?", "A machine with {a} states: {b}. Input {c} from 1. Result?",
         "Transitions {b}. Start 1. Word {c}. Where are we?"},
        {"机器有状态1到{a}。{b}。从1开始读{c}，停在哪个状态？", "状态1..{a}；{b}。起点1，输入{c}，终态？",
         "自动机：{b}。从状态1读{c}，到哪个状态？", "规则：{b}。从1开始读{c}，状态是？",
         "{b}。从状态1出发，读完{c}后是什么状态？", "按{b}，从状态1走{c}，终点？",
         "有{a}个状态的机器：{b}。从1输入{c}，结果？", "转移{b}，起点1，输入{c}，现在在哪？"}};
    const int n_states = w.draw.between(3, 4);
    std::array<std::array<int, 2>, 4> next{};
    std::vector<std::string> rules;
    for (int s = 0; s < n_states; ++s)
        for (int c = 0; c < 2; ++c) {
            next[static_cast<size_t>(s)][static_cast<size_t>(c)] = w.draw.between(0, n_states - 1);
            rules.push_back(text(s + 1) + (c ? "b" : "a") + "→" +
                            text(next[static_cast<size_t>(s)][static_cast<size_t>(c)] + 1));
        }
    Working working(w);
    working.plan("follow one letter at a time.", "一次走一个字母。");
    int state = 0;
    std::vector<std::string> word;
    for (int i = 0; i < w.level; ++i) {
        const int c = w.draw.between(0, 1), after = next[static_cast<size_t>(state)][static_cast<size_t>(c)];
        word.push_back(c ? "b" : "a");
        const std::string head = text(state + 1) + word.back() + "→";
        working.high_step(word.back() + text(after + 1));
        working.max_step(head + text(after + 1), head + text(other_below(w.draw, n_states, after) + 1));
        state = after;
    }
    working.check((w.is_chinese() ? "字母 " : "letters ") + text(w.level));
    const std::string prompt = ask(w, questions, {text(n_states), joined(rules, " "), joined(word, " ")});
    return finish(prompt, text(state + 1), working, "automaton" + joined(rules, " ") + joined(word, " "));
}

}  // namespace

const std::vector<Skill>& serial_skills() {
    static const std::vector<Skill> all = {
        {"chain", 35, 1, 16, make_chain, 2},         {"cups", 25, 1, 16, make_cups, 3},
        {"squaring", 12, 1, 12, make_squaring, 1},   {"circuit", 14, 1, 12, make_circuit, 2},
        {"automaton", 14, 1, 16, make_automaton, 1},
    };
    return all;
}

}  // namespace vitrine::curriculum
