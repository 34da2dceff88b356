// Questions about the model's own architecture, answered from its real configuration.
#pragma once
#include <string>
#include <vector>

#include "experiments/curriculum/item.h"

namespace vitrine::curriculum {

struct ConfigFact {
    std::string topic, chinese_topic;  // "layers": what a working says the question is about
    std::string value;                 // the number or list that makes an answer right
    std::vector<std::string> questions, chinese_questions;
    std::string reply, chinese_reply;
};
// Facts that this configuration has; one that would say nothing of it (no HCA layer, say) is left out.
std::vector<ConfigFact> config_facts(const ModelConfig& c);

}  // namespace vitrine::curriculum
