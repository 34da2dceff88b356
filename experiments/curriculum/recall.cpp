// Long texts.
#include "experiments/curriculum/recall.h"

#include <algorithm>

#include "experiments/curriculum/domains.h"
#include "experiments/curriculum/names.h"
#include "experiments/curriculum/numbers.h"
#include "experiments/curriculum/working.h"

namespace vitrine::curriculum {
namespace {

// A thing that can be noted of a person.
struct Kind {
    Wordings say, ask_for;
    bool is_number;
    const std::vector<std::string_view>& (*values)(Language);
};
const std::vector<Kind>& kinds() {
    static const std::vector<Kind> all = {
        {{{"The code of {a} is {b}.", "{a} has the code {b}.", "Note: {a}'s code is {b}."},
          {"{a}的密码是{b}。", "记住：{a}的密码是{b}。", "{a}用的密码是{b}。"}},
         {{"What is the code of {a}?", "Which code has {a}?", "What was {a}'s code?", "Tell me the code of {a}.",
           "{a}'s code?", "Do you remember the code of {a}?", "Find the code of {a}.",
           "I forgot the code of {a}. What is it?"},
          {"{a}的密码是什么？", "{a}的密码是多少？", "{a}用的是什么密码？", "告诉我{a}的密码。", "{a}的密码？",
           "你记得{a}的密码吗？", "找出{a}的密码。", "我忘了{a}的密码，是什么？"}},
         true,
         nullptr},
        {{{"The coat of {a} is {b}.", "{a} wears a {b} coat.", "Note: {a}'s coat is {b}."},
          {"{a}的大衣是{b}的。", "记住：{a}的大衣是{b}的。", "{a}穿{b}的大衣。"}},
         {{"What colour is the coat of {a}?", "Which coat does {a} wear?", "What was the colour of {a}'s coat?",
           "Tell me the colour of {a}'s coat.", "{a}'s coat is what colour?", "Do you remember {a}'s coat?",
           "Find the colour of {a}'s coat.", "I forgot {a}'s coat. Which colour?"},
          {"{a}的大衣是什么颜色？", "{a}穿什么颜色的大衣？", "{a}的大衣颜色是什么？", "告诉我{a}的大衣颜色。",
           "{a}的大衣？", "你记得{a}的大衣吗？", "找出{a}大衣的颜色。", "我忘了{a}的大衣，是什么颜色？"}},
         false,
         colours},
        {{{"The pet of {a} is a {b}.", "{a} keeps a {b}.", "Note: {a}'s pet is a {b}."},
          {"{a}的宠物是{b}。", "记住：{a}的宠物是{b}。", "{a}养的是{b}。"}},
         {{"What pet does {a} keep?", "What is the pet of {a}?", "Which animal does {a} have?", "Tell me {a}'s pet.",
           "{a}'s pet?", "Do you remember the pet of {a}?", "Find the pet of {a}.", "I forgot {a}'s pet. What is it?"},
          {"{a}养什么宠物？", "{a}的宠物是什么？", "{a}有什么动物？", "告诉我{a}的宠物。", "{a}的宠物？",
           "你记得{a}的宠物吗？", "找出{a}的宠物。", "我忘了{a}的宠物，是什么？"}},
         false,
         animals},
    };
    return all;
}

struct Note {
    const Kind* kind;
    std::string name, value, sentence;
};

Note make(Wish& w, const Kind& kind, std::string_view name) {
    Note n{&kind, std::string(name),
           kind.is_number ? text(drawn_number(w.draw, 4)) : std::string(w.draw.pick(kind.values(w.language))), ""};
    n.sentence = fill(w.draw.pick(kind.say.of(w.language)), {n.name, n.value});
    return n;
}

// About how many tokens a text takes, without a tokenizer: digits and Chinese one each, words by their letters.
int about_tokens(std::string_view s) {
    double n = 0;
    for (char c : s)
        n += c >= '0' && c <= '9' ? 1 : static_cast<unsigned char>(c) >= 0x80 ? 0.25 : c == ' ' ? 0.05 : 0.25;
    return static_cast<int>(n);
}

// Exercises of all domains but this one, with their answers, up to about `n_tokens`.
std::vector<std::string> filler(Wish& w, int n_tokens) {
    std::vector<std::string> lines;
    const int lookup = domain_index("lookup");
    for (int have = 0; have < n_tokens;) {
        Selection what{.domain = static_cast<int>(w.draw.below(domains().size())),
                       .language = w.language,
                       .model = w.model,
                       .slip_rate = 0};
        if (what.domain == lookup) continue;
        const Item item = make_item(w.draw.bits(), Split::train, what, 0);
        lines.push_back(item.prompt + (w.is_chinese() ? " 答：" : " Answer: ") + item.reply);
        have += about_tokens(lines.back()) + 2;
    }
    return lines;
}

Working thoughts(Wish& w, const Note& asked, const Note& other) {
    Working working(w);
    working.plan("find the note, read it.", "找到那条笔记，读出来。");
    working.step(asked.sentence, other.sentence);
    working.check((w.is_chinese() ? "这条说的是" : "it is about ") + asked.name);
    return working;
}

Item question_of(Wish& w, const Note& asked, const Note& other) {
    Item i;
    i.prompt = ask(w, asked.kind->ask_for, {asked.name});
    i.reply = asked.value;
    const Working working = thoughts(w, asked, other);
    i.high = working.high(), i.max = working.max();
    i.accepts = exactly(i.reply);
    i.problem = fnv1a64(asked.name + asked.value + other.sentence);
    return i;
}

}  // namespace

Item make_frequency(Wish& w) {
    static const Wordings questions = {
        {"How many notes are about a {a}?", "How often is a {a} noted?", "How many people keep a {a}?",
         "Count the people with a {a}.", "In how many notes do you see a {a}?", "How many times is a {a} named?",
         "The number of notes with a {a}?", "How many have a {a}?"},
        {"有几条笔记是关于{a}的？", "{a}被记了几次？", "有几个人养{a}？", "数一数养{a}的人。", "几条笔记里有{a}？",
         "{a}提到几次？", "关于{a}的笔记有多少条？", "多少人有{a}？"}};
    const Kind& kind = kinds()[2];
    const std::vector<std::string_view> pets = different(w.draw, animals(w.language), 3);
    const int n_notes = w.draw.between(4, 9);
    const std::vector<std::string_view> names =
        different(w.draw, first_names(w.language), static_cast<size_t>(n_notes));
    std::vector<std::string> lines = filler(w, w.level);
    Working working(w);
    working.plan("count the notes one by one.", "一条一条地数笔记。");
    std::vector<std::string> notes;
    std::string problem = "frequency";
    int n = 0;
    for (int i = 0; i < n_notes; ++i) {
        const std::string_view pet = w.draw.chance(0.4) ? pets[0] : w.draw.pick(pets);
        const std::string number = text(i + 1);
        notes.push_back((w.is_chinese() ? "笔记" + number + "：" : "Note " + number + ": ") +
                        fill(w.draw.pick(kind.say.of(w.language)), {names[static_cast<size_t>(i)], pet}));
        problem += notes.back();
        const std::string read = number + ":" + std::string(pet);
        if (pet == pets[0]) ++n;
        working.step(pet == pets[0] ? read + "=" + text(n) : read, pet == pets[0] ? read + "=" + text(n + 1) : "");
    }
    working.step(words(w.language).so + std::string(w.is_chinese() ? "" : " ") + text(n));
    working.check(text(n) + "<=" + text(n_notes));
    std::vector<size_t> places;
    for (size_t i = 0; i < notes.size(); ++i) places.push_back(static_cast<size_t>(w.draw.below(lines.size() + 1)));
    std::sort(places.begin(), places.end());
    for (size_t i = notes.size(); i-- > 0;) lines.insert(lines.begin() + static_cast<long>(places[i]), notes[i]);
    Item item;
    item.prompt = joined(lines, "\n") + "\n" + ask(w, questions, {pets[0]}) +
                  (w.is_chinese() ? "（共" + text(n_notes) + "条）" : " (" + text(n_notes) + " notes)");
    item.reply = text(n);
    item.high = working.high(), item.max = working.max();
    item.accepts = exactly(item.reply);
    item.problem = fnv1a64(problem);
    return item;
}

Item make_most_frequent(Wish& w) {
    static const Wordings seen = {{"{a} saw a {b}.", "A {b}, says {a}.", "{a} met a {b}."},
                                  {"{a}看到了{b}。", "{a}说：是{b}。", "{a}遇到了{b}。"}};
    static const Wordings questions = {
        {"Which animal was met most often?", "Which animal comes up most?", "What did the most people see?",
         "Which is the most frequent animal?", "Most notes are about which animal?", "Which animal leads the list?",
         "Name the animal that is noted most.", "Which animal do you read most often?"},
        {"哪种动物出现得最多？", "最多人看到的是什么？", "最多的是哪种动物？", "笔记里哪种动物最多？",
         "哪种动物被看到的次数最多？", "最多的笔记说的是什么动物？", "说出最常见的动物。", "哪种动物最常见？"}};
    constexpr int kTokensOfNote = 9;
    const int n_notes = std::max(10, w.level / kTokensOfNote);
    const std::vector<std::string_view> kinds_seen = different(w.draw, animals(w.language), 3);
    // 42 % and more of one; of the two others, one may come close.
    const int n_first = n_notes * 42 / 100 + 1, n_rest = n_notes - n_first;
    const int n_second = std::min(n_first - 1, n_rest / 2 + w.draw.between(0, n_rest / 6));
    std::vector<int> which(static_cast<size_t>(n_notes), 2);
    std::fill_n(which.begin(), n_first, 0);
    std::fill_n(which.begin() + n_first, n_second, 1);
    w.draw.shuffle(which);
    std::vector<std::string> lines;
    for (int i : which)
        lines.push_back(fill(w.draw.pick(seen.of(w.language)),
                             {w.draw.pick(first_names(w.language)), kinds_seen[static_cast<size_t>(i)]}));
    const std::string all = joined(lines, "\n");
    const auto order = [&](size_t a, size_t b, size_t c) {
        return joined({std::string(kinds_seen[a]), std::string(kinds_seen[b]), std::string(kinds_seen[c])}, ">");
    };
    Working working(w);
    working.plan("put them in order.", "按多少排列。");
    working.step(n_second >= n_rest - n_second ? order(0, 1, 2) : order(0, 2, 1));
    working.check((w.is_chinese() ? "种类 " : "kinds ") + std::string("3"));
    Item item;
    item.prompt = all + "\n" + ask(w, questions, {});
    item.reply = std::string(kinds_seen[0]);
    item.high = working.high(), item.max = working.max();
    item.accepts = exactly(item.reply);
    item.problem = fnv1a64("most frequent" + all);
    return item;
}

Item make_recall(Wish& w) {
    const Kind& kind = w.draw.pick(kinds());
    const std::vector<std::string_view> names = different(w.draw, first_names(w.language), 4);
    const Note asked = make(w, kind, names[0]);
    std::vector<std::string> lines = filler(w, w.level);
    std::vector<Note> others;
    for (size_t i = 1; i < names.size(); ++i) {
        others.push_back(make(w, kind, names[i]));
        lines.insert(lines.begin() + static_cast<long>(w.draw.below(lines.size() + 1)), others.back().sentence);
    }
    lines.insert(lines.begin(), asked.sentence);
    Item item = question_of(w, asked, others[0]);
    item.prompt = joined(lines, "\n") + "\n" + item.prompt;
    return item;
}

NoteAndQuestion make_note(Wish& w) {
    static const Wordings tell = {
        {"Remember this: {a}", "Please note: {a}", "{a} Keep it in mind.", "{a}", "I will ask you later: {a}",
         "Write this down: {a}", "For later: {a}", "Listen: {a}"},
        {"请记住：{a}", "记一下：{a}", "{a}别忘了。", "{a}", "我等会儿问你：{a}", "写下来：{a}", "以后用：{a}",
         "听好：{a}"}};
    const Kind& kind = w.draw.pick(kinds());
    const std::vector<std::string_view> names = different(w.draw, first_names(w.language), 2);
    const Note asked = make(w, kind, names[0]), other = make(w, kind, names[1]);
    const std::string both =
        w.draw.chance(0.5) ? asked.sentence + " " + other.sentence : other.sentence + " " + asked.sentence;
    NoteAndQuestion n;
    n.note.prompt = ask(w, tell, {both});
    n.note.reply = w.is_chinese() ? "记住了。" : "Noted.";
    n.note.accepts = exactly(n.note.reply);
    n.question = question_of(w, asked, other);
    n.note.high = n.note.max = "";
    return n;
}

}  // namespace vitrine::curriculum
