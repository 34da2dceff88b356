// Drawing held-out texts and reading them.
#include "experiments/forced_text.h"

#include <algorithm>
#include <cmath>

#include "engine/base/error.h"
#include "engine/engine.h"
#include "engine/text/tokenizer.h"
#include "experiments/curriculum/mixture.h"

namespace vitrine::lab {
namespace {

// Scores logits as they come and hands everything else on.
class Scorer : public ProbeSink {
  public:
    Scorer(const ForcedText& text, ProbeSink* extra, ProbeSet probes) : text_(text), extra_(extra), probes_(probes) {}
    void put(int token, Probe p, int layer, const float* data, int rows, int cols) override {
        if (p == kLogits) score(static_cast<size_t>(token), {data, static_cast<size_t>(cols)});
        if (extra_ && (probes_ & probe_bit(p))) extra_->put(token, p, layer, data, rows, cols);
    }
    void put(int token, Probe p, int layer, const int32_t* data, int rows, int cols) override {
        if (extra_ && (probes_ & probe_bit(p))) extra_->put(token, p, layer, data, rows, cols);
    }
    TextScore result;

  private:
    void score(size_t t, std::span<const float> logits) {
        if (t + 1 >= text_.ids.size() || !text_.is_learnt[t + 1]) return;
        const auto best = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
        result.loss.sum += loss_of(logits, text_.ids[t + 1]), ++result.loss.n;
        result.n_top += best == text_.ids[t + 1];
        result.best.push_back(best);
    }
    const ForcedText& text_;
    ProbeSink* extra_;
    ProbeSet probes_;
};

}  // namespace

double loss_of(std::span<const float> logits, int32_t id) {
    const double top = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (const float x : logits) sum += std::exp(x - top);
    return top + std::log(sum) - logits[static_cast<size_t>(id)];
}

std::vector<ForcedText> held_out_texts(const Engine& engine, int n_per_domain, int most_tokens, uint64_t seed) {
    if (!engine.tokenizer())
        throw Error(ErrorKind::bad_input,
                    engine.info().folder + ": the model has no tokenizer.json: it can't read texts");
    const std::shared_ptr<const text::Tokenizer> tokenizer(std::shared_ptr<void>(), engine.tokenizer());  // not owned
    std::vector<ForcedText> texts;
    const auto n_domains = static_cast<int>(curriculum::domains().size());
    for (int d = 0; d < n_domains; ++d) {
        curriculum::MixtureConfig only;
        only.shares.assign(static_cast<size_t>(n_domains), 0);
        only.shares[static_cast<size_t>(d)] = 1;
        curriculum::Mixture mixture(only, engine.config(), tokenizer, engine.chat_format());
        for (uint64_t i = 0, n = 0; n < static_cast<uint64_t>(n_per_domain); ++i) {
            VITRINE_ASSERT(i < 1000 + 100 * static_cast<uint64_t>(n_per_domain));
            curriculum::Sample s = mixture.sample(seed, curriculum::Split::test, i);
            if (s.tokens.ids.size() > static_cast<size_t>(most_tokens)) continue;
            texts.push_back({std::move(s.tokens.ids), std::move(s.tokens.is_learnt), d, s.mode});
            ++n;
        }
    }
    return texts;
}

TextScore read_text(Engine& engine, const ForcedText& text, std::stop_token stop, ProbeSink* extra, ProbeSet probes) {
    Scorer scorer(text, extra, probes);
    const auto session = engine.new_session();
    session->publish_to(&scorer);
    const ProbeSet before = engine.watch().get();
    engine.watch().set(probe_bit(kLogits) | probes);
    try {
        session->append(text.ids, stop);
    } catch (...) {
        engine.watch().set(before);
        throw;
    }
    engine.watch().set(before);
    return std::move(scorer.result);
}

}  // namespace vitrine::lab
