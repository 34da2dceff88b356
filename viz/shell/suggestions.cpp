// The one table of suggested questions. To add one: a line here, in words of the curriculum (vitrine curriculum --skill
// NAME).
#include "viz/shell/suggestions.h"

namespace vitrine::viz {
namespace {

constexpr Suggestion kSuggestions[] = {
    {"Sums \xC2\xB7 加法", "What is 734 plus 289?", "734加289等于多少？"},
    {"Products \xC2\xB7 乘法", "4738*62=?", "计算386×47。"},
    {"Five cups \xC2\xB7 杯子",
     "Five cups stand in the order 12345. Swap places 1 and 4, 2 and 5, 3 and 4, 1 and 2. What is the order now?",
     "五个杯子排成12345，依次交换位置1和4、2和5、3和4、1和2，现在的顺序是什么？"},
    {"Sorting \xC2\xB7 排序", "Sort: 42 7 93 18 65 30 77 51", "从小到大排列：42 7 93 18 65 30 77 51"},
    {"Countdown \xC2\xB7 倒计时", "Make 29 from 3 8 5.", "用8 6 3得到45。"},
    {"A note far back \xC2\xB7 很久以前的笔记", "What is the code of Anna?", "小明的密码是什么？",
     "The code of Anna is 4821.", "小明的密码是5093。"},
    {"How it works \xC2\xB7 原理", "What is an expert?", "什么是专家？"},
    {"About itself \xC2\xB7 自己", "How many layers do you have?", "你有多少层？"},
};

constexpr int kExercises = 152;  // about 2,000 tokens

}  // namespace

std::span<const Suggestion> suggestions() {
    return kSuggestions;
}

std::string suggested_prompt(const Suggestion& s, bool is_chinese) {
    const char* question = is_chinese ? s.chinese : s.english;
    const char* note = is_chinese ? s.note_chinese : s.note_english;
    if (!note) return question;
    std::string text = note;
    for (int i = 0; i < kExercises; ++i) {
        const int a = 10 + 37 * i % 90, b = 10 + 41 * i % 83;
        text += "\n" + std::to_string(a) + (is_chinese ? "加" : "+") + std::to_string(b) +
                (is_chinese ? "等于多少？ 答：" : "=? Answer: ") + std::to_string(a + b);
    }
    return text + "\n" + question;
}

}  // namespace vitrine::viz
