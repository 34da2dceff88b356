// Domain "facts": invented people whose data can only be known by heart. How often each is seen is fixed, so that
// memory can be measured against exposure; who was never seen must be refused.
#include "experiments/curriculum/domains.h"
#include "experiments/curriculum/working.h"

namespace vitrine::curriculum {
namespace {

constexpr int kPeople = 300;         // one third each is seen once, 3 times and 10 times as often
constexpr double kStrangers = 0.08;  // share of questions about people who are in no list

// A name of two parts from syllables; the Chinese questions use it too.
std::string name_of(uint64_t index) {
    static constexpr const char* kFirst[] = {"Dor", "Kel", "Mav", "Tis",  "Bren", "Sul", "Orv", "Pell",
                                             "Gav", "Lun", "Nar", "Vesk", "Tam",  "Ryl", "Jov", "Hest"};
    static constexpr const char* kEnd[] = {"a", "en", "ir", "o", "us", "in", "ael", "or"};
    static constexpr const char* kLast[] = {"Vask", "Tolm", "Brandt", "Kess", "Ruhl",   "Ostrow", "Plinn", "Garde",
                                            "Sorr", "Welk", "Marn",   "Dusk", "Yarrow", "Quill",  "Fenn",  "Holt"};
    const CounterRng rng(fnv1a64("curriculum/people"), index);
    return std::string(kFirst[rng.bits(0) % 16]) + kEnd[rng.bits(1) % 8] + " " + kLast[rng.bits(2) % 16];
}

struct Attribute {
    Wordings questions, replies;
    std::vector<std::string_view> english, chinese;  // values, in step
};
const std::vector<Attribute>& attributes() {
    static const std::vector<Attribute> all = {
        {{{"Where does {a} live?", "In which town does {a} live?", "What is the home of {a}?",
           "Which town is {a} from?", "{a} lives where?", "Tell me where {a} lives.", "Where is the home of {a}?",
           "Where can one find {a}?"},
          {"{a}住在哪里？", "{a}住在哪个城镇？", "{a}的家在哪里？", "{a}是哪里人？", "告诉我{a}住在哪里。",
           "{a}的家乡是哪里？", "在哪里能找到{a}？", "{a}住哪儿？"}},
         {{"{a} lives in {b}."}, {"{a}住在{b}。"}},
         {"Orlen", "Maresk", "Tavin", "Quor", "Belmar", "Sund", "Ilvane", "Harrow", "Neth", "Corvale", "Dunmere",
          "Astel", "Pirn", "Vollen", "Greyford", "Lask"},
         {"奥伦", "马雷", "塔文", "科尔", "贝马", "松德", "伊凡", "哈罗", "内思", "科谷", "顿湖", "阿斯", "皮恩",
          "沃伦", "灰津", "拉克"}},
        {{{"What is the job of {a}?", "What does {a} do for a living?", "What work does {a} do?",
           "Which profession has {a}?", "{a} works as what?", "Tell me the job of {a}.", "What is {a} by profession?",
           "How does {a} earn money?"},
          {"{a}是做什么工作的？", "{a}的职业是什么？", "{a}靠什么谋生？", "{a}做什么？", "告诉我{a}的职业。",
           "{a}从事什么工作？", "{a}是干什么的？", "{a}以什么为业？"}},
         {{"{a} is a {b}."}, {"{a}是{b}。"}},
         {"baker", "sailor", "painter", "teacher", "farmer", "smith", "doctor", "weaver", "miner", "gardener", "cook",
          "judge", "potter", "guard", "tailor", "clockmaker"},
         {"面包师", "水手", "画家", "老师", "农民", "铁匠", "医生", "织工", "矿工", "园丁", "厨师", "法官", "陶工",
          "守卫", "裁缝", "钟表匠"}},
        {{{"What does {a} play?", "Which instrument does {a} play?", "What is {a}'s instrument?",
           "Tell me {a}'s instrument.", "{a} plays which instrument?", "What music does {a} make?",
           "On what does {a} play?", "What instrument belongs to {a}?"},
          {"{a}演奏什么乐器？", "{a}会什么乐器？", "{a}的乐器是什么？", "告诉我{a}的乐器。", "{a}弹奏什么？",
           "{a}玩什么乐器？", "{a}用什么演奏？", "{a}拿手的乐器是什么？"}},
         {{"{a} plays the {b}."}, {"{a}演奏{b}。"}},
         {"violin", "flute", "drum", "piano", "harp", "horn", "cello", "lute"},
         {"小提琴", "长笛", "鼓", "钢琴", "竖琴", "圆号", "大提琴", "琉特琴"}},
    };
    return all;
}

// A person of the list, the rarer groups less often.
uint64_t drawn_person(Draws& draw) {
    const uint64_t at = draw.below(14), third = kPeople / 3;
    const uint64_t group = at < 1 ? 0 : at < 4 ? 1 : 2;
    return group * third + draw.below(third);
}

Item make_person(Wish& w) {
    const size_t which = static_cast<size_t>(w.draw.below(attributes().size()));
    const Attribute& attribute = attributes()[which];
    const bool is_stranger = w.draw.chance(kStrangers), zh = w.is_chinese();
    const uint64_t person = drawn_person(w.draw);
    std::string name = name_of(person);
    if (is_stranger) {  // beyond the list; a name that is in it by chance is drawn again
        for (bool is_known = true; is_known;) {
            name = name_of(kPeople + w.draw.below(100000));
            is_known = false;
            for (uint64_t p = 0; p < kPeople && !is_known; ++p) is_known = name_of(p) == name;
        }
    }
    const CounterRng rng(fnv1a64("curriculum/lives"), fnv1a64(name));  // by name: two people of one name are one
    const auto value_of = [&](uint64_t draw) {
        return (zh ? attribute.chinese : attribute.english)[draw % attribute.english.size()];
    };
    const std::string_view value = value_of(rng.bits(which));
    Item i;
    i.prompt = ask(w, attribute.questions, {name});
    Working working(w);
    working.plan("recall the person.", "回想这个人。");
    if (is_stranger) {
        i.reply = zh ? "我不认识" + name + "。" : "I do not know " + name + ".";
        working.step(zh ? name + "：没有学过。" : name + ": never learnt.");
        working.check(zh ? "不编造" : "nothing is made up");
    } else {
        i.reply = fill(attribute.replies.of(w.language)[0], {name, value});
        working.step(name + (zh ? "：" : ": ") + std::string(value),
                     name + (zh ? "：" : ": ") + std::string(value_of(rng.bits(which) + 1)));
        working.check(zh ? "回答说的是" + name : "the answer is about " + name);
    }
    i.high = working.high(), i.max = working.max();
    i.accepts = exactly(i.reply);
    i.problem = fnv1a64(i.prompt);  // by wording: the facts themselves must be seen
    return i;
}

}  // namespace

const std::vector<Skill>& fact_skills() {
    static const std::vector<Skill> all = {{"person", 1, 1, 1, make_person}};
    return all;
}

}  // namespace vitrine::curriculum
