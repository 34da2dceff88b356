// Domain "lookup": what stands in the text must be found again, near or far. Thinking should not help with one lookup,
// and should help with several in a row.
#include <algorithm>
#include <array>

#include "experiments/curriculum/domains.h"
#include "experiments/curriculum/names.h"
#include "experiments/curriculum/numbers.h"
#include "experiments/curriculum/recall.h"
#include "experiments/curriculum/working.h"

namespace vitrine::curriculum {
namespace {

// ---- pairs: "Mira: 447; Tom: 120; ... Mira?" Levels 1 to 6: 4 to 128 pairs.
Item make_pairs(Wish& w) {
    static const Wordings questions = {
        {"{a}. What is the code of {b}?", "Codes: {a}. Which code has {b}?", "{a}. {b}?",
         "Here are codes: {a}. Tell me {b}'s code.", "List: {a}. Find {b}.", "Read: {a}. What belongs to {b}?",
         "{a}. Which number stands with {b}?", "Look up {b}: {a}."},
        {"{a}。{b}的号码是多少？", "号码：{a}。{b}是几号？", "{a}。{b}？", "这里有号码：{a}。告诉我{b}的号码。",
         "列表：{a}。查找{b}。", "请看：{a}。{b}对应什么？", "{a}。{b}后面是哪个数？", "查{b}：{a}。"}};
    const size_t n = size_t{4} << (w.level - 1);
    std::vector<std::string> keys;
    if (n <= 32) {
        for (std::string_view name : different(w.draw, first_names(w.language), n)) keys.emplace_back(name);
    } else {  // more than there are names: pairs of a colour and an animal
        for (std::string_view c : colours(w.language))
            for (std::string_view a : animals(w.language))
                keys.push_back(std::string(c) + (w.is_chinese() ? "" : " ") + std::string(a));
        w.draw.shuffle(keys);
        keys.resize(n);
    }
    std::vector<std::string> pairs, values;
    for (const std::string& key : keys) {
        values.push_back(text(drawn_number(w.draw, 3)));
        pairs.push_back(key + (w.is_chinese() ? "：" : ": ") + values.back());
    }
    const size_t asked = static_cast<size_t>(w.draw.below(n)),
                 other = (asked + 1 + static_cast<size_t>(w.draw.below(n - 1))) % n;
    Working working(w);
    working.plan("find the name, read its code.", "找到名字，读出号码。");
    working.step(pairs[asked], pairs[other]);
    working.check((w.is_chinese() ? "问的是" : "asked for ") + keys[asked] + (w.is_chinese() ? "，" : ", ") +
                  values[asked]);
    const std::string all = joined(pairs, w.is_chinese() ? "；" : "; ");
    return finish(ask(w, questions, {all, keys[asked]}), values[asked], working, "pairs" + all + keys[asked]);
}

// ---- ordinals: the third word
Item make_ordinal(Wish& w) {
    static const Wordings questions = {
        {"{a}. What is word number {b}?", "Words: {a}. Which one is number {b}?", "List: {a}. Item {b}?",
         "In the list {a}, what is item {b}?", "Tell me word {b} of: {a}.", "{a}: what stands at place {b}?",
         "Count to {b} in {a}. Which word?", "Which word is at position {b} in {a}?"},
        {"{a}。第{b}个词是什么？", "词语：{a}。第{b}个是哪个？", "列表：{a}。第{b}项？", "在{a}中，第{b}个是什么？",
         "告诉我第{b}个词：{a}。", "{a}：第{b}位是什么？", "在{a}里数到{b}，是哪个词？", "{a}中位置{b}的词是什么？"}};
    std::vector<std::string> words;
    for (std::string_view t : different(w.draw, things(w.language), static_cast<size_t>(w.level)))
        words.emplace_back(t);
    const size_t asked = static_cast<size_t>(w.draw.below(words.size()));
    Working working(w);
    working.plan("number the words.", "给词编号。");
    for (size_t i = 0; i <= asked; ++i) working.step(text(static_cast<int64_t>(i) + 1) + ":" + words[i]);
    working.check((w.is_chinese() ? "问的是" : "asked for ") + text(static_cast<int64_t>(asked) + 1) + ":" +
                  words[asked]);
    const std::string list = joined(words, w.is_chinese() ? "、" : ", ");
    return finish(ask(w, questions, {list, text(static_cast<int64_t>(asked) + 1)}), words[asked], working,
                  "ordinal" + list + text(static_cast<int64_t>(asked)));
}

// ---- pointers: who is the friend of the friend; level = hops
Item make_hops(Wish& w) {
    static const Wordings questions = {
        {"{a}. Start at {b} and follow {c} arrows. Where do you end?", "{a}. Who is {c} steps from {b}?",
         "Arrows: {a}. From {b}, {c} steps. Who?", "{a}. Begin with {b}, go {c} arrows on. Name?",
         "Each one points to the next: {a}. {c} hops from {b}?",
         "{a}. Follow the chain from {b}, {c} times. Who is it?", "{a}. After {c} arrows from {b} you meet whom?",
         "Chain: {a}. {b}, then {c} hops. Result?"},
        {"{a}。从{b}开始走{c}步，到谁？", "{a}。{b}之后{c}步是谁？", "箭头：{a}。从{b}走{c}步，是谁？",
         "{a}。从{b}出发，沿箭头走{c}次，名字是？", "每个人指向下一个：{a}。{b}走{c}步到谁？",
         "{a}。从{b}沿链走{c}次，是谁？", "{a}。{b}经过{c}个箭头遇到谁？", "链：{a}。{b}，再走{c}步，结果？"}};
    const size_t hops = static_cast<size_t>(w.level), n = hops + 2 + static_cast<size_t>(w.draw.below(4));
    const std::vector<std::string_view> names = different(w.draw, first_names(w.language), n);
    std::vector<std::string> arrows;  // a ring of all names, so that every name has one successor
    for (size_t i = 0; i < n; ++i) arrows.push_back(std::string(names[i]) + "→" + std::string(names[(i + 1) % n]));
    w.draw.shuffle(arrows);
    Working working(w);
    working.plan("follow one arrow at a time and count.", "一次走一个箭头，并计数。");
    for (size_t i = 0; i < hops; ++i) {
        const std::string head = std::string(names[i]) + "→";
        working.high_step(head + std::string(names[i + 1]));
        working.max_step(text(static_cast<int64_t>(i) + 1) + ":" + head + std::string(names[i + 1]),
                         text(static_cast<int64_t>(i) + 1) + ":" + head + std::string(names[(i + 2) % n]));
    }
    working.check((w.is_chinese() ? "步数 " : "hops ") + text(w.level));
    const std::string all = joined(arrows, w.is_chinese() ? "；" : "; ");
    return finish(ask(w, questions, {all, names[0], text(w.level)}), std::string(names[hops]), working,
                  "hops" + all + std::string(names[0]));
}

// ---- families: composition of relations; level = depth
struct Kin {
    const char *english, *chinese;
};
constexpr Kin kParent[] = {{"father", "父亲"}, {"mother", "母亲"}};
// Of a person whose line upwards is `depth` parents long; the last one's sex decides. Chinese tells the father's side
// apart.
std::string ancestor(Wish& w, int depth, bool last_is_mother, bool first_is_mother) {
    if (depth == 1) return w.is_chinese() ? kParent[last_is_mother].chinese : kParent[last_is_mother].english;
    if (!w.is_chinese()) {
        std::string s = last_is_mother ? "grandmother" : "grandfather";
        for (int i = 2; i < depth; ++i) s = "great-" + s;
        return s;
    }
    if (depth == 2)
        return first_is_mother ? (last_is_mother ? "外祖母" : "外祖父") : (last_is_mother ? "祖母" : "祖父");
    return first_is_mother ? (last_is_mother ? "外曾祖母" : "外曾祖父") : (last_is_mother ? "曾祖母" : "曾祖父");
}

Item make_family(Wish& w) {
    static const Wordings questions = {
        {"{a}. What is {b} to {c}?", "Family: {a}. How is {b} related to {c}?", "{a}. {b} is {c}'s what?",
         "Given {a}: what is {b} of {c}?", "{a}. Name the relation of {b} to {c}.",
         "A family: {a}. Who is {b} for {c}?", "{a}. Which relative of {c} is {b}?", "Relations: {a}. {b} to {c}?"},
        {"{a}。{b}是{c}的什么人？", "家庭：{a}。{b}和{c}是什么关系？", "{a}。{c}该叫{b}什么？",
         "已知{a}，{b}是{c}的谁？", "{a}。说出{b}对{c}的称呼。", "一家人：{a}。{b}是{c}的什么亲人？",
         "{a}。{b}是{c}的哪位亲属？", "关系：{a}。{b}之于{c}是？"}};
    const int depth = w.level, n_others = 2;
    std::vector<std::string_view> mothers = different(w.draw, women(w.language), 8),
                                  fathers = different(w.draw, men(w.language), 8);
    const auto take = [](std::vector<std::string_view>& from) {
        const std::string name(from.back());
        from.pop_back();
        return name;
    };
    const auto relation = [&](const std::string& parent, const std::string& child, bool mother) {
        return w.is_chinese() ? parent + "是" + child + "的" + kParent[mother].chinese
                              : parent + " is the " + kParent[mother].english + " of " + child;
    };
    const std::string youngest = take(w.draw.chance(0.5) ? mothers : fathers);
    std::string child = youngest;
    bool first_is_mother = false, is_mother = false;
    std::vector<std::string> facts;
    Working working(w);
    working.plan("go up from the younger one, parent by parent.", "从晚辈开始，一代一代往上找。");
    for (int i = 0; i < depth; ++i) {
        is_mother = w.draw.chance(0.5);
        if (i == 0) first_is_mother = is_mother;
        const std::string parent = take(is_mother ? mothers : fathers), head = child + "→" + parent + ":";
        facts.push_back(relation(parent, child, is_mother));
        working.step(head + ancestor(w, i + 1, is_mother, first_is_mother),
                     head + ancestor(w, i + 1, !is_mother, first_is_mother));
        child = parent;
    }
    for (int i = 0; i < n_others; ++i) {
        const bool other_is_mother = w.draw.chance(0.5);
        const std::string parent = take(other_is_mother ? mothers : fathers);
        facts.push_back(relation(parent, take(w.draw.chance(0.5) ? mothers : fathers), other_is_mother));
    }
    w.draw.shuffle(facts);
    working.check((w.is_chinese() ? "代数 " : "generations ") + text(depth));
    const std::string all = joined(facts, w.is_chinese() ? "，" : ", ");
    return finish(ask(w, questions, {all, child, youngest}), ancestor(w, depth, is_mother, first_is_mother), working,
                  "family" + all);
}

// ---- counting what is of one kind
Item make_tally(Wish& w) {
    static const Wordings questions = {
        {"{a}. How many are {b}?", "Count the {b} ones: {a}.", "{a}. Number of {b} ones?",
         "How many of these are {b}: {a}?", "List: {a}. How many {b} ones do you see?", "In {a}, how many are {b}?",
         "Tell me how often {b} occurs in: {a}.", "{a}. How many times {b}?"},
        {"{a}。有几个{b}的？", "数一数{b}的：{a}。", "{a}。{b}的有多少？", "这些里有几个是{b}的：{a}？",
         "列表：{a}。你看到几个{b}的？", "在{a}中，有几个{b}的？", "告诉我{b}在{a}里出现几次。", "{a}。{b}出现几次？"}};
    const std::vector<std::string_view> palette = different(w.draw, colours(w.language), 3);
    const std::string asked(palette[0]);
    std::vector<std::string> list;
    Working working(w);
    working.plan("count one by one.", "一个一个地数。");
    int n = 0;
    for (int i = 0; i < w.level; ++i) {
        const std::string c(w.draw.chance(0.4) ? palette[0] : w.draw.pick(palette));
        const std::string thing(w.draw.pick(things(w.language)));
        list.push_back(c + (w.is_chinese() ? "的" : " ") + thing);
        if (c != asked) continue;
        ++n;
        working.step(text(n) + ":" + thing, text(n + 1) + ":" + thing);
    }
    working.step(words(w.language).so + std::string(w.is_chinese() ? "" : " ") + text(n));
    working.check(text(n) + "<=" + text(w.level));
    const std::string all = joined(list, w.is_chinese() ? "、" : ", ");
    return finish(ask(w, questions, {all, asked}), text(n), working, "tally" + all + asked);
}

}  // namespace

const std::vector<Skill>& lookup_skills() {
    static const std::vector<Skill> all = {
        {"pairs", 30, 1, 6, make_pairs},
        {"ordinal", 12, 4, 16, make_ordinal},
        {"hops", 24, 1, 6, make_hops},
        {"family", 16, 2, 3, make_family},
        {"tally", 12, 4, 16, make_tally},
        {"recall", 4, 100, 500, make_recall},
        {"frequency", 6, 30, 500, make_frequency},
        {"most_frequent", 4, 100, 500, make_most_frequent},
    };
    return all;
}

}  // namespace vitrine::curriculum
