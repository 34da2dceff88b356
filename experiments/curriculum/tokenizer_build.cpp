// Learning a tokenizer from what the generators write.
#include "experiments/curriculum/tokenizer_build.h"

#include "engine/base/error.h"
#include "engine/base/json.h"
#include "engine/model/init.h"
#include "engine/text/pretokenizer.h"
#include "experiments/curriculum/bpe_trainer.h"
#include "experiments/curriculum/domains.h"

namespace vitrine::curriculum {
namespace {

constexpr int kBytesAndControl = 272;
constexpr const char* kMaxPrefix = "Reasoning Effort: Absolute maximum with no shortcuts permitted.\n";

class Counter {
  public:
    Counter()
        : pre_tokenizer_(text::PreTokenizer::from_json(
              Json::parse(bpe_tokenizer_json({}), "tokenizer.json").at("pre_tokenizer"), "tokenizer.json")) {}
    void add(const std::string& text) {
        for (const text::Piece& p : pre_tokenizer_.pieces(text, steps_))
            ++counts_[text.substr(p.begin, p.end - p.begin)];
    }
    const PieceCounts& counts() const { return counts_; }

  private:
    text::PreTokenizer pre_tokenizer_;
    PieceCounts counts_;
    uint64_t steps_ = 0;
};

}  // namespace

std::string build_tokenizer(const ModelConfig& model, int vocab_size, uint64_t n_items) {
    if (vocab_size < kBytesAndControl)
        throw_if_any({{"", "vocabulary", std::to_string(vocab_size),
                       "expected at least " + std::to_string(kBytesAndControl), ""}});
    Counter counter;
    double shares = 0;
    for (const DomainInfo& d : domains()) shares += d.share;
    for (size_t d = 0; d < domains().size(); ++d) {
        const Selection what{.domain = static_cast<int>(d), .model = &model};
        const auto n = static_cast<uint64_t>(static_cast<double>(n_items) * domains()[d].share / shares);
        for (uint64_t i = 0; i < n; ++i) {
            const Item item = make_item(0, Split::train, what, i);
            for (const std::string* text : {&item.prompt, &item.reply, &item.high, &item.max}) counter.add(*text);
            if (i % 4 == 0) counter.add(kMaxPrefix);  // as often as it will be read
        }
    }
    return bpe_tokenizer_json(train_bpe(counter.counts(), vocab_size - kBytesAndControl));
}

std::string chat_json() {
    Json prefixes = Json::object(), j = Json::object();
    prefixes.set("high", "");
    prefixes.set("max", kMaxPrefix);
    j.set("format", "deepseek_v4");
    j.set("effort_prefix", prefixes);
    j.set("note",
          "effort_prefix is placed right after the begin-of-sentence token; max: the first line of DeepSeek-V4's own "
          "text");
    return j.dump(1) + "\n";
}

}  // namespace vitrine::curriculum
