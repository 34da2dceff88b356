// Small talk, what Vitrine is, and what can't be known: questions and replies as data.
#pragma once
#include <string_view>
#include <vector>

#include "experiments/curriculum/wording.h"

namespace vitrine::curriculum {

// Questions that get one of a few replies.
struct Intent {
    std::string_view topic, chinese_topic;  // "greeting": what a working says the question is about
    Wordings questions;
    Wordings replies;  // any of them is right
};
const std::vector<Intent>& intents();

// What this model can't know. {a} is one of `subjects`.
struct Unknowable {
    std::string_view topic, chinese_topic;
    Wordings questions;
    Wordings subjects;
};
const std::vector<Unknowable>& unknowables();
const Wordings& refusals();

}  // namespace vitrine::curriculum
