// What a training sample is made of: a conversation in one mode, of one or a few items.
#pragma once
#include <string>
#include <vector>

#include "engine/base/config/model_config.h"
#include "experiments/curriculum/domains.h"
#include "experiments/curriculum/encoder.h"

namespace vitrine::curriculum {

struct MixtureConfig {
    std::vector<double> shares;                // of the tokens, by domain
    std::vector<double> modes = {35, 40, 25};  // of the samples: Non-think, Think High, Think Max
    double several_share = 0.15;               // of the samples: conversations of two to four turns
    double slip_rate = 0.4;                    // of the Max workings: a step goes wrong and is done again
    double unseen_slip_share = 0.2;            // of the sums in Think High: go on from a wrong digit (Item::slip)
};
// "arithmetic=30,chat=70" over the table's shares (0 leaves a domain out); "35,40,25". Error(bad_input) naming the key.
MixtureConfig mixture_from(const std::string& mix, const std::string& modes);

struct Sample {
    std::vector<Item> items;  // turns in order
    Mode mode = Mode::non_think;
    bool has_slip = false;  // the last turn is its item's Item::slip
    EncodedConversation tokens;
    int domain() const { return items.back().domain; }
};

// Samples are a pure function of (seed, split, index): any number of mixtures with the same arguments give the same.
// One thread each.
class Mixture {
  public:
    Mixture(MixtureConfig config, const ModelConfig& model, std::shared_ptr<const text::Tokenizer> tokenizer,
            text::ChatFormat format);
    Sample sample(uint64_t seed, Split split, uint64_t index);
    // One that asks for something far back, of up to about `n_tokens` (200 at least): one long prompt, or a
    // conversation of many turns.
    Sample long_sample(uint64_t seed, Split split, uint64_t index, int n_tokens);
    ConversationEncoder& encoder() { return encoder_; }

  private:
    int draw_domain(Draws& draw) const;
    Selection selection(int domain) const;
    void encode(Sample& s);
    void measure();
    MixtureConfig config_;
    ModelConfig model_;
    ConversationEncoder encoder_;
    std::vector<double> weights_;  // of samples, by domain: share over mean length
};

}  // namespace vitrine::curriculum
