// Drawing samples so that domains get their shares of the tokens.
#include "experiments/curriculum/mixture.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>

#include "engine/base/error.h"
#include "experiments/curriculum/recall.h"

namespace vitrine::curriculum {
namespace {

std::vector<std::string> split_at(const std::string& s, char mark) {
    std::vector<std::string> parts;
    for (size_t begin = 0; begin <= s.size();) {
        const size_t end = std::min(s.find(mark, begin), s.size());
        parts.push_back(s.substr(begin, end - begin));
        begin = end + 1;
    }
    return parts;
}

double share_from(const char* key, const std::string& text) {
    char* end = nullptr;
    const double x = std::strtod(text.c_str(), &end);
    if (text.empty() || *end || !(x >= 0) || x > 1e6)
        throw_if_any({{"", key, text, "expected a share, a number from 0", ""}});
    return x;
}

// An index drawn with these weights.
size_t weighted(Draws& draw, const std::vector<double>& weights) {
    double at = draw.uniform() * std::accumulate(weights.begin(), weights.end(), 0.0);
    for (size_t i = 0; i < weights.size(); ++i)
        if ((at -= weights[i]) < 0) return i;
    return weights.size() - 1;
}

}  // namespace

MixtureConfig mixture_from(const std::string& mix, const std::string& modes) {
    MixtureConfig c;
    for (const DomainInfo& d : domains()) c.shares.push_back(d.share);
    for (const std::string& part : mix.empty() ? std::vector<std::string>{} : split_at(mix, ',')) {
        const size_t equals = part.find('=');
        if (equals == std::string::npos) throw_if_any({{"", "mix", part, "expected DOMAIN=SHARE", ""}});
        c.shares[static_cast<size_t>(domain_index(part.substr(0, equals)))] =
            share_from("mix", part.substr(equals + 1));
    }
    if (!modes.empty()) {
        const std::vector<std::string> parts = split_at(modes, ',');
        if (parts.size() != 3)
            throw_if_any({{"", "modes", modes, "expected three shares: Non-think, Think High, Think Max", ""}});
        for (size_t i = 0; i < 3; ++i) c.modes[i] = share_from("modes", parts[i]);
    }
    for (const auto& [key, list] : {std::pair{"mix", &c.shares}, {"modes", &c.modes}})
        if (std::accumulate(list->begin(), list->end(), 0.0) <= 0)
            throw_if_any({{"", key, "0", "expected a share above 0", ""}});
    return c;
}

Mixture::Mixture(MixtureConfig config, const ModelConfig& model, std::shared_ptr<const text::Tokenizer> tokenizer,
                 text::ChatFormat format)
    : config_(std::move(config)), model_(model), encoder_(std::move(tokenizer), std::move(format)) {
    measure();
}

// Mean length of a domain's items over the modes, so that shares can be of tokens.
void Mixture::measure() {
    constexpr uint64_t kItems = 300;
    const double n_modes = std::accumulate(config_.modes.begin(), config_.modes.end(), 0.0);
    for (size_t d = 0; d < domains().size(); ++d) {
        double length = 0;
        for (uint64_t i = 0; i < kItems && config_.shares[d] > 0; ++i) {
            const Item item = make_item(0, Split::train, selection(static_cast<int>(d)), i);
            for (const Mode m : {Mode::non_think, Mode::high, Mode::max})
                length +=
                    config_.modes[static_cast<size_t>(m)] / n_modes *
                    static_cast<double>(encoder_.encode({{item.prompt, item.thinking(m), item.reply}}, m).ids.size());
        }
        weights_.push_back(config_.shares[d] > 0 ? config_.shares[d] / length : 0);
    }
}

int Mixture::draw_domain(Draws& draw) const {
    return static_cast<int>(weighted(draw, weights_));
}

Selection Mixture::selection(int domain) const {
    return {.domain = domain, .model = &model_, .slip_rate = config_.slip_rate};
}

void Mixture::encode(Sample& s) {
    std::vector<Turn> turns;
    for (const Item& item : s.items) turns.push_back({item.prompt, item.thinking(s.mode), item.reply});
    if (s.has_slip) {
        const Item::Slip& slip = s.items.back().slip;
        turns.back() = {s.items.back().prompt, slip.high, slip.reply, slip.end};
    }
    s.tokens = encoder_.encode(turns, s.mode);
}

Sample Mixture::sample(uint64_t seed, Split split, uint64_t index) {
    Draws draw(CounterRng(mix64(seed ^ fnv1a64("curriculum/sample")), index));
    Sample s;
    s.mode = static_cast<Mode>(weighted(draw, config_.modes));
    const int n_turns = draw.chance(config_.several_share) ? draw.between(2, 4) : 1;
    for (int i = 0; i < n_turns; ++i)
        s.items.push_back(
            make_item(mix64(seed), split, selection(draw_domain(draw)), index * 4 + static_cast<uint64_t>(i)));
    s.has_slip = s.mode == Mode::high && !s.items.back().slip.high.empty() && draw.chance(config_.unseen_slip_share);
    encode(s);
    return s;
}

Sample Mixture::long_sample(uint64_t seed, Split split, uint64_t index, int n_tokens) {
    Draws draw(CounterRng(mix64(seed ^ fnv1a64("curriculum/long")), index));
    Sample s;
    s.mode = static_cast<Mode>(weighted(draw, config_.modes));
    constexpr int kShortest = 150, kLongest = 2000, kThinking = 60;
    const double most = std::clamp(n_tokens - kThinking, kShortest, kLongest);
    const int distance = static_cast<int>(kShortest * std::pow(most / kShortest, draw.uniform()));
    const int lookup = domain_index("lookup");
    if (draw.chance(0.6)) {
        Selection what = selection(lookup);
        const double u = draw.uniform();
        what.skill = &find_skill(u < 0.35 ? "recall" : u < 0.7 ? "frequency" : "most_frequent"), what.level = distance;
        s.items.push_back(make_item(mix64(seed), split, what, index));
        encode(s);
        return s;
    }
    // The first turn says it, others talk of other things, the last asks.
    NoteAndQuestion note;
    do {
        Wish w{draw, 1, draw.chance(kChineseShare) ? Language::chinese : Language::english, config_.slip_rate, &model_};
        note = make_note(w);
        note.question.domain = note.note.domain = lookup;
    } while (is_held_out(note.question.problem) != (split == Split::test));
    s.items.push_back(note.note);
    for (uint64_t i = 0, have = 0; have < static_cast<uint64_t>(distance); ++i) {
        const Item item = make_item(mix64(seed) + 1, split, selection(draw_domain(draw)), index * 64 + i);
        have += encoder_.encode({{item.prompt, "", item.reply}}, Mode::non_think).ids.size();
        if (have < static_cast<uint64_t>(distance)) s.items.push_back(item);
    }
    s.items.push_back(note.question);
    encode(s);
    return s;
}

}  // namespace vitrine::curriculum
