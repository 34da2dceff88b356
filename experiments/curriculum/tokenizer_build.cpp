// Learning a tokenizer from what the generators write.
#include "experiments/curriculum/tokenizer_build.h"

#include <algorithm>

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
    void add(const std::string& text, uint64_t times) {
        for (const text::Piece& p : pre_tokenizer_.pieces(text, steps_))
            counts_[text.substr(p.begin, p.end - p.begin)] += times;
    }
    // The most frequent characters of three bytes: Chinese ones and their marks.
    std::vector<std::string> characters(size_t n) const {
        std::map<std::string, uint64_t> seen;
        for (const auto& [piece, count] : counts_)
            for (size_t i = 0; i < piece.size(); ++i)
                if ((static_cast<unsigned char>(piece[i]) & 0xF0) == 0xE0) seen[piece.substr(i, 3)] += count;
        std::vector<std::pair<uint64_t, std::string>> order;
        for (const auto& [character, count] : seen) order.emplace_back(~count, character);
        std::sort(order.begin(), order.end());
        std::vector<std::string> first;
        for (size_t i = 0; i < std::min(n, order.size()); ++i) first.push_back(order[i].second);
        return first;
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
            // What people read as sentences counts more: its words should be whole.
            const uint64_t times = std::string_view(domains()[d].name) == "chat" ? 12 : 3;
            counter.add(item.prompt, times), counter.add(item.reply, times);
            counter.add(item.high, 1), counter.add(item.max, 1);
            if (i % 4 == 0) counter.add(kMaxPrefix, 1);  // as often as it will be read
        }
    }
    const int n_learnt = vocab_size - kBytesAndControl;
    return bpe_tokenizer_json(
        train_bpe(counter.counts(), n_learnt, counter.characters(static_cast<size_t>(n_learnt) / 3)));
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
