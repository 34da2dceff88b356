// Domain "chat": small talk, the glossary, the model's own configuration, and what it can't know.
#include <memory>

#include "engine/base/error.h"
#include "experiments/curriculum/domains.h"
#include "experiments/curriculum/glossary.h"
#include "experiments/curriculum/own_config.h"
#include "experiments/curriculum/talk.h"
#include "experiments/curriculum/working.h"

namespace vitrine::curriculum {
namespace {

// What is thought before a reply: the topic; in Max also the language.
void think(Wish& w, Item& i, std::string_view topic, std::string_view other_topic) {
    Working working(w);
    const bool zh = w.is_chinese();
    working.plan("find the topic, then answer in the language of the question.", "先找主题，再用提问的语言回答。");
    const std::string head = zh ? "主题：" : "Topic: ", end = zh ? "。" : ".";
    working.step(head + std::string(topic) + end, head + std::string(other_topic) + end);
    working.max_step(zh ? "语言：中文。" : "Language: English.");
    working.check(zh ? "回答说的是" + std::string(topic) : "the answer is about " + std::string(topic));
    i.high = working.high(), i.max = working.max();
}

std::function<bool(std::string_view)> any_of(const std::vector<std::string_view>& replies) {
    return [&replies](std::string_view given) {
        for (const std::string_view r : replies)
            if (given == r) return true;
        return false;
    };
}

// The split of chat is by wording and subject: the facts themselves must be seen.
uint64_t wording_hash(const Item& i) {
    return fnv1a64(i.prompt);
}

Item make_talk(Wish& w) {
    const Intent& intent = w.draw.pick(intents());
    const Intent& other = w.draw.pick(intents());
    Item i;
    i.prompt = ask(w, intent.questions, {});
    const auto& replies = intent.replies.of(w.language);
    i.reply = w.draw.pick(replies);
    i.accepts = any_of(replies);
    think(w, i, w.is_chinese() ? intent.chinese_topic : intent.topic,
          w.is_chinese() ? other.chinese_topic : other.topic);
    i.problem = wording_hash(i);
    return i;
}

const Wordings& definition_questions() {
    static const Wordings all = {
        {"What is {a}?", "Explain {a}.", "What does {a} mean?", "Define {a}.", "Tell me about {a}.", "{a}?",
         "Can you explain {a}?", "What do you mean by {a}?", "What's {a}?", "Please explain {a} to me.",
         "I do not understand {a}.", "Describe {a}."},
        {"什么是{a}？", "{a}是什么？", "解释一下{a}。", "{a}是什么意思？", "介绍一下{a}。", "请解释{a}。",
         "能讲讲{a}吗？", "{a}？", "我不懂{a}。", "说说{a}。", "{a}指的是什么？"}};
    return all;
}
const Wordings& purpose_questions() {
    static const Wordings all = {{"What is {a} good for?", "Why use {a}?", "Why do we need {a}?",
                                  "What is the use of {a}?", "Why does V4 have {a}?", "Why {a}?",
                                  "What is the purpose of {a}?", "How does {a} help?", "What do you use {a} for?"},
                                 {"{a}有什么用？", "为什么用{a}？", "为什么需要{a}？", "{a}的作用是什么？",
                                  "V4 为什么有{a}？", "为什么要{a}？", "{a}的目的是什么？", "{a}有什么好处？"}};
    return all;
}
const Wordings& cross_questions() {  // the answer in the other language
    static const Wordings all = {
        {"Explain {a} in Chinese.", "What is {a}? Answer in Chinese.", "Tell me in Chinese what {a} is.",
         "In Chinese, please: {a}.", "Say in Chinese what {a} means.", "Define {a} in Chinese.",
         "How do you explain {a} in Chinese?", "Chinese explanation of {a}, please."},
        {"用英文解释{a}。", "{a}是什么？请用英文回答。", "请用英语说明{a}。", "用英语介绍{a}。", "英文怎么解释{a}？",
         "请用英文讲讲{a}。", "用英文说说{a}。", "用英语回答：什么是{a}？"}};
    return all;
}

Item make_definition(Wish& w) {
    const Term& term = w.draw.pick(glossary());
    const Term& other = w.draw.pick(glossary());
    const bool zh = w.is_chinese();
    const auto& names = zh ? term.chinese_names : term.names;
    const std::string_view name = w.draw.pick(names);
    Item i;
    const bool is_cross = w.draw.chance(0.12);
    const bool is_purpose = !is_cross && !term.purpose.empty() && w.draw.chance(0.35);
    const Wordings& questions = is_cross     ? cross_questions()
                                : is_purpose ? purpose_questions()
                                             : definition_questions();
    i.prompt = ask(w, questions, {name});
    const bool answers_in_chinese = zh != is_cross;
    i.reply = is_purpose ? (zh ? term.chinese_purpose : term.purpose) : answers_in_chinese ? term.chinese_is : term.is;
    i.accepts = exactly(i.reply);
    think(w, i, zh ? term.chinese_names[0] : term.names[0], zh ? other.chinese_names[0] : other.names[0]);
    i.problem = wording_hash(i);
    return i;
}

Item make_contrast(Wish& w) {
    static const Wordings questions = {
        {"What is the difference between {a} and {b}?", "How do {a} and {b} differ?",
         "{a} or {b}: what is the difference?", "Compare {a} and {b}.", "How is {a} different from {b}?",
         "Explain {a} against {b}.", "{a} vs {b}", "Tell me how {a} and {b} differ.",
         "What makes {a} different from {b}?"},
        {"{a}和{b}有什么区别？", "{a}与{b}有何不同？", "比较{a}和{b}。", "{a}和{b}的区别是什么？", "{a}跟{b}不一样吗？",
         "说说{a}和{b}的不同。", "{a}和{b}有什么不一样？", "{a}、{b}，区别在哪里？"}};
    const Contrast& c = w.draw.pick(contrasts());
    const Contrast& other = w.draw.pick(contrasts());
    const bool zh = w.is_chinese(), swap = w.draw.chance(0.5);
    const std::string_view a = zh ? c.chinese_a : c.a, b = zh ? c.chinese_b : c.b;
    Item i;
    i.prompt = swap ? ask(w, questions, {b, a}) : ask(w, questions, {a, b});
    i.reply = zh ? c.chinese_answer : c.answer;
    i.accepts = exactly(i.reply);
    const std::string join = zh ? "和" : " and ";
    think(w, i, std::string(a) + join + std::string(b),
          std::string(zh ? other.chinese_a : other.a) + join + std::string(zh ? other.chinese_b : other.b));
    i.problem = wording_hash(i);
    return i;
}

Item make_own_config(Wish& w) {
    VITRINE_ASSERT(w.model);
    const std::vector<ConfigFact> facts = config_facts(*w.model);
    const ConfigFact &fact = w.draw.pick(facts), &other = w.draw.pick(facts);
    const bool zh = w.is_chinese();
    Item i;
    const auto& questions = zh ? fact.chinese_questions : fact.questions;
    i.prompt = ask(w, {{w.draw.pick(questions)}, {w.draw.pick(questions)}}, {});
    i.reply = zh ? fact.chinese_reply : fact.reply;
    i.accepts = exactly(i.reply);
    think(w, i, zh ? fact.chinese_topic : fact.topic, zh ? other.chinese_topic : other.topic);
    i.problem = wording_hash(i);
    return i;
}

Item make_refusal(Wish& w) {
    const Unknowable& u = w.draw.pick(unknowables());
    const bool zh = w.is_chinese();
    Item i;
    i.prompt = ask(w, u.questions, {w.draw.pick(u.subjects.of(w.language))});
    i.reply = refusals().of(w.language)[0];
    i.accepts = exactly(i.reply);
    Working working(w);
    working.plan("see whether I can know this.", "看看我是否可能知道。");
    const std::string topic = std::string(zh ? u.chinese_topic : u.topic);
    working.step(zh ? "主题：" + topic + "。我没有学过。" : "Topic: " + topic + ". I have not learnt this.");
    working.check(zh ? "不编造" : "nothing is made up");
    i.high = working.high(), i.max = working.max();
    i.problem = wording_hash(i);
    return i;
}

}  // namespace

const std::vector<Skill>& chat_skills() {
    static const std::vector<Skill> all = {
        {"talk", 25, 1, 1, make_talk},        {"glossary", 35, 1, 1, make_definition},
        {"contrast", 6, 1, 1, make_contrast}, {"config", 17, 1, 1, make_own_config},
        {"refusal", 17, 1, 1, make_refusal},
    };
    return all;
}

}  // namespace vitrine::curriculum
