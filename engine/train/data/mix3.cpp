// mix3: three small tasks that a model of a few hundred thousand parameters learns in minutes, with labelled domains.
//
// Addition, "+ 2 4 7 + 9 8 0 = 7 2 2 1 .": three-digit summands, the sum's digits from the lowest. Reversal,
// "r h e l l o = o l l e h .": 4 to 10 letters. Lookup, "? k : v , q : x , z : m ? q = x .": 3 to 5 pairs of letters with
// different keys. The loss counts on what follows "=", the end included.
#include <algorithm>
#include <array>

#include "engine/base/rng.h"
#include "engine/train/data/data.h"
#include "engine/train/data/mix3.h"

namespace vitrine {
namespace {

// Random draws one after the other from a stream.
class Draws {
  public:
    explicit Draws(const CounterRng& rng) : rng_(rng) {}
    int below(int n) { return static_cast<int>(rng_.bits(at_++) % static_cast<uint64_t>(n)); }

  private:
    CounterRng rng_;
    uint64_t at_ = 0;
};

struct SampleText {
    std::vector<int32_t> ids;
    size_t answer = 0;  // index of the first id of the answer
    int domain = 0;
};

int letter(int i) { return mix3::kFirstLetter + i; }

void add_digits(std::vector<int32_t>& ids, int n) {
    for (int unit : {100, 10, 1}) ids.push_back(n / unit % 10);
}

SampleText addition(Draws& draw) {
    SampleText s{{mix3::kBegin, mix3::kPlus}, 0, 0};
    const int a = 100 + draw.below(900), b = 100 + draw.below(900);
    add_digits(s.ids, a);
    s.ids.push_back(mix3::kPlus);
    add_digits(s.ids, b);
    s.ids.push_back(mix3::kEquals);
    s.answer = s.ids.size();
    for (int rest = a + b; rest > 0; rest /= 10) s.ids.push_back(rest % 10);
    return s;
}

SampleText reversal(Draws& draw) {
    SampleText s{{mix3::kBegin, mix3::kReverse}, 0, 1};
    const int n = 4 + draw.below(7);
    for (int i = 0; i < n; ++i) s.ids.push_back(letter(draw.below(26)));
    s.ids.push_back(mix3::kEquals);
    s.answer = s.ids.size();
    for (int i = 0; i < n; ++i) s.ids.push_back(s.ids[s.answer - 2 - static_cast<size_t>(i)]);
    return s;
}

SampleText lookup(Draws& draw) {
    SampleText s{{mix3::kBegin, mix3::kAsk}, 0, 2};
    const int n = 3 + draw.below(3);
    std::array<int, 26> keys;
    for (int i = 0; i < 26; ++i) keys[static_cast<size_t>(i)] = i;
    std::array<int, 5> values{};
    for (int i = 0; i < n; ++i) {
        std::swap(keys[static_cast<size_t>(i)], keys[static_cast<size_t>(i + draw.below(26 - i))]);
        values[static_cast<size_t>(i)] = draw.below(26);
        if (i > 0) s.ids.push_back(mix3::kComma);
        for (int id : {letter(keys[static_cast<size_t>(i)]), int{mix3::kColon}, letter(values[static_cast<size_t>(i)])})
            s.ids.push_back(id);
    }
    const auto asked = static_cast<size_t>(draw.below(n));
    for (int id : {int{mix3::kAsk}, letter(keys[asked]), int{mix3::kEquals}}) s.ids.push_back(id);
    s.answer = s.ids.size();
    s.ids.push_back(letter(values[asked]));
    return s;
}

class Mix3 : public DataSource {
  public:
    explicit Mix3(const TrainConfig& c)
        : seed_(static_cast<uint64_t>(c.seed)), n_sequences_(c.batch), length_(static_cast<size_t>(c.sequence_length)) {}
    TrainBatch batch(int64_t step) const override { return make(step, "mix3"); }
    TrainBatch held_out(int64_t index) const override { return make(index, "mix3/held-out"); }
    int vocab_size() const override { return mix3::kVocabSize; }
    const std::vector<std::string>& domains() const override {
        static const std::vector<std::string> names = {"addition", "reversal", "lookup"};
        return names;
    }
    std::string text(std::span<const int32_t> ids) const override {
        static const std::string signs = "0123456789abcdefghijklmnopqrstuvwxyz^.+=r?:,";
        std::string s;
        for (int32_t id : ids) s += id >= 0 && static_cast<size_t>(id) < signs.size() ? signs[static_cast<size_t>(id)] : '#';
        return s;
    }

  private:
    // Each sequence is filled with whole samples until the next one does not fit; what is left over is no token at all.
    TrainBatch make(int64_t index, std::string_view stream) const {
        Draws draw(CounterRng(mix64(seed_ ^ fnv1a64(stream)), static_cast<uint64_t>(index)));
        TrainBatch b;
        for (int64_t s = 0; s < n_sequences_; ++s) {
            for (size_t used = 0;;) {
                const SampleText text = sample(draw);
                if (used + text.ids.size() > length_) break;
                used += text.ids.size();
                add(b, text);
            }
        }
        return b;
    }
    static SampleText sample(Draws& draw) {
        const int kind = draw.below(3);
        SampleText text = kind == 0 ? addition(draw) : kind == 1 ? reversal(draw) : lookup(draw);
        text.ids.push_back(mix3::kEnd);
        return text;
    }
    static void add(TrainBatch& b, const SampleText& text) {
        const auto begin = static_cast<int64_t>(b.tokens.size()), n = static_cast<int64_t>(text.ids.size());
        b.samples.push_back({begin, begin + n, text.domain});
        for (size_t t = 0; t < text.ids.size(); ++t) {
            b.tokens.push_back(text.ids[t]);
            const bool counts = t + 1 >= text.answer && t + 1 < text.ids.size();
            b.targets.push_back(counts ? text.ids[t + 1] : -1);
        }
    }
    uint64_t seed_;
    int64_t n_sequences_;
    size_t length_;
};

}  // namespace

std::unique_ptr<DataSource> make_mix3(const TrainConfig& c, int) {
    if (c.sequence_length < mix3::kLongestSample)
        throw_if_any({{"", "sequence_length", std::to_string(c.sequence_length),
                       "expected at least " + std::to_string(mix3::kLongestSample) + ", the longest sample of mix3", ""}});
    return std::make_unique<Mix3>(c);
}

}  // namespace vitrine
