// How arithmetic is asked for: signs, words and small stories.
#include "experiments/curriculum/arithmetic_words.h"

namespace vitrine::curriculum {

const ArithmeticWords& arithmetic_words() {
    static const ArithmeticWords all = {
        .add = {{"{a}+{b}=?", "{a} + {b}", "{a} + {b} = ?", "{a}+{b}", "What is {a} plus {b}?", "What is {a} + {b}?",
                 "Add {a} and {b}.", "Compute {a} + {b}.", "What is the sum of {a} and {b}?",
                 "How much is {a} plus {b}?", "Calculate {a}+{b}.", "Please add {b} to {a}.",
                 "I have {a} coins and find {b} more. How many do I have?",
                 "A shelf holds {a} books. We add {b}. How many books are there now?"},
                {"{a}加{b}等于多少？", "{a}+{b}等于多少？", "{a}加{b}是多少？", "计算{a}+{b}。", "{a}与{b}的和是多少？",
                 "请把{a}和{b}加起来。", "{a}加上{b}等于几？", "算一下{a}加{b}。", "{a}+{b}=？",
                 "我有{a}个苹果，又得到{b}个，一共有多少个？", "求{a}与{b}之和。"}},
        .subtract = {{"{a}-{b}=?", "{a} - {b}", "{a} - {b} = ?", "What is {a} minus {b}?", "What is {a} - {b}?",
                      "Subtract {b} from {a}.", "Compute {a} - {b}.", "What is the difference {a} - {b}?",
                      "Take {b} away from {a}.", "How much is {a} minus {b}?", "Calculate {a}-{b}."},
                     {"{a}减{b}等于多少？", "{a}-{b}等于多少？", "{a}减去{b}是多少？", "计算{a}-{b}。",
                      "从{a}中减去{b}，得多少？", "算一下{a}减{b}。", "{a}-{b}=？", "{a}减{b}的差是多少？",
                      "求{a}减{b}的差。"}},
        .multiply = {{"{a}*{b}=?", "{a} * {b}", "{a} x {b} = ?", "{a}×{b}", "What is {a} times {b}?",
                      "What is {a} x {b}?", "Multiply {a} by {b}.", "Compute {a} * {b}.",
                      "What is the product of {a} and {b}?", "How much is {a} times {b}?", "Calculate {a}×{b}.",
                      "A hall has {a} rows of {b} seats. How many seats are there?"},
                     {"{a}乘{b}等于多少？", "{a}×{b}等于多少？", "{a}乘以{b}是多少？", "计算{a}×{b}。",
                      "{a}与{b}的积是多少？", "算一下{a}乘{b}。", "{a}*{b}=？", "{a}×{b}=？", "求{a}与{b}的乘积。",
                      "每盒有{b}支笔，{a}盒一共有多少支？"}},
        .divide = {{"{a}/{b}=?", "{a} ÷ {b}", "What is {a} divided by {b}?", "What is {a} / {b}?", "Divide {a} by {b}.",
                    "Compute {a} / {b} with remainder.", "How many times does {b} go into {a}, and what is left?",
                    "Calculate {a} divided by {b}.", "What is {a}÷{b}, with remainder?",
                    "Share {a} sweets among {b} children."},
                   {"{a}除以{b}等于多少？", "{a}÷{b}等于多少？", "{a}除以{b}，商和余数是多少？", "计算{a}÷{b}。",
                    "算一下{a}除以{b}。", "{a}÷{b}=？", "{a}/{b}=？", "求{a}除以{b}的商和余数。",
                    "把{a}颗糖平均分给{b}个人，每人几颗，剩几颗？"}},
        .larger = {{"Which is larger, {a} or {b}?", "Which is bigger: {a} or {b}?", "Which is greater, {a} or {b}?",
                    "Compare {a} and {b}. Which is larger?", "What is the larger of {a} and {b}?", "max({a}, {b})",
                    "Tell me the bigger number: {a} or {b}.", "Larger: {a}, {b}?",
                    "Which number is the greater one, {a} or {b}?"},
                   {"{a}和{b}哪个大？", "{a}与{b}哪个更大？", "比较{a}和{b}，哪个大？", "{a}和{b}中较大的是哪个？",
                    "哪个数更大，{a}还是{b}？", "请说出较大的数：{a}，{b}。", "{a}大还是{b}大？",
                    "{a}、{b}，哪个数大一些？"}},
        .smaller = {{"Which is smaller, {a} or {b}?", "Which is less: {a} or {b}?",
                     "Compare {a} and {b}. Which is smaller?", "What is the smaller of {a} and {b}?", "min({a}, {b})",
                     "Tell me the smaller number: {a} or {b}.", "Smaller: {a}, {b}?",
                     "Which number is the lesser one, {a} or {b}?"},
                    {"{a}和{b}哪个小？", "{a}与{b}哪个更小？", "比较{a}和{b}，哪个小？", "{a}和{b}中较小的是哪个？",
                     "哪个数更小，{a}还是{b}？", "请说出较小的数：{a}，{b}。", "{a}小还是{b}小？",
                     "{a}、{b}，哪个数小一些？"}},
        .remainder = {{"{a} mod {b}", "{a} mod {b} = ?", "What is {a} mod {b}?", "What is {a} modulo {b}?",
                       "What remains of {a} divided by {b}?", "What is the remainder of {a} divided by {b}?",
                       "{a} % {b}", "Compute {a} mod {b}.", "Reduce {a} modulo {b}."},
                      {"{a} mod {b} 等于多少？", "{a}除以{b}的余数是多少？", "{a}除以{b}余几？", "求{a}除以{b}的余数。",
                       "计算{a}模{b}。", "{a}模{b}等于多少？", "{a}对{b}取余是多少？", "算一下{a}除以{b}余多少。"}},
    };
    return all;
}

}  // namespace vitrine::curriculum
