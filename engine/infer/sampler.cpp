// Draws the next token from logits: filters in a fixed order, then one counter-based draw.
#include "engine/infer/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/base/rng.h"

namespace vitrine {
namespace {

constexpr uint64_t kSamplerStream = fnv1a64("sampler");

struct Candidate {
    int32_t id;
    double weight;  // unnormalised probability
};

bool more_probable(const Candidate& a, const Candidate& b) { return a.weight != b.weight ? a.weight > b.weight : a.id < b.id; }

int32_t argmax(std::span<const float> logits) {
    int32_t best = -1;
    for (size_t i = 0; i < logits.size(); ++i)
        if (!std::isnan(logits[i]) && (best < 0 || logits[i] > logits[best])) best = static_cast<int32_t>(i);
    return best;
}

std::vector<float> penalised(std::span<const float> logits, double penalty, std::span<const int32_t> seen) {
    std::vector<float> z(logits.begin(), logits.end());
    std::vector<bool> done(z.size(), false);
    for (int32_t id : seen) {
        if (done[id]) continue;
        done[id] = true;
        z[id] = static_cast<float>(z[id] > 0 ? z[id] / penalty : z[id] * penalty);
    }
    return z;
}

}  // namespace

std::vector<Issue> validate(const Sampling& s, int vocab_size) {
    std::vector<Issue> issues;
    const auto check = [&](bool ok, const char* key, const std::string& value, const char* range) {
        if (!ok) issues.push_back({"", key, value, range, ""});
    };
    check(s.temperature >= 0 && s.temperature <= 100, "temperature", std::to_string(s.temperature),
          "expected a number in [0, 100]");
    check(s.top_k >= 0 && s.top_k <= vocab_size, "top_k", std::to_string(s.top_k),
          "expected an integer in [0, vocabulary size]; 0 is off");
    check(s.top_p > 0 && s.top_p <= 1, "top_p", std::to_string(s.top_p), "expected a number in (0, 1]; 1 is off");
    check(s.min_p >= 0 && s.min_p < 1, "min_p", std::to_string(s.min_p), "expected a number in [0, 1); 0 is off");
    check(s.repetition_penalty >= 0.1 && s.repetition_penalty <= 10, "repetition_penalty", std::to_string(s.repetition_penalty),
          "expected a number in [0.1, 10]; 1 is off");
    check(s.max_new_tokens >= 1 && s.max_new_tokens <= 1048576, "max_new_tokens", std::to_string(s.max_new_tokens),
          "expected an integer in [1, 1048576]");
    return issues;
}

int32_t sample(std::span<const float> logits, const Sampling& s, std::span<const int32_t> seen, int64_t position) {
    std::vector<float> changed;
    if (s.repetition_penalty != 1.0) logits = changed = penalised(logits, s.repetition_penalty, seen);
    const int32_t best = argmax(logits);
    if (best < 0 || !std::isfinite(logits[best]))
        throw Error(ErrorKind::bad_input,
                    "the logits hold no finite value: the weights or the activations are damaged (NaN or Inf)");
    if (s.temperature == 0) return best;

    std::vector<Candidate> c;
    c.reserve(logits.size());
    for (size_t i = 0; i < logits.size(); ++i)
        if (!std::isnan(logits[i]))
            c.push_back({static_cast<int32_t>(i), std::exp((static_cast<double>(logits[i]) - logits[best]) / s.temperature)});
    const bool needs_order = (s.top_k > 0 && s.top_k < static_cast<int>(c.size())) || s.top_p < 1;
    if (needs_order) std::sort(c.begin(), c.end(), more_probable);
    if (s.top_k > 0 && s.top_k < static_cast<int>(c.size())) c.resize(s.top_k);
    double total = 0;
    for (const auto& x : c) total += x.weight;
    if (s.top_p < 1) {
        double sum = 0;
        size_t n = 0;
        while (n < c.size() && sum < s.top_p * total) sum += c[n++].weight;  // the token that crosses the border stays
        c.resize(std::max<size_t>(n, 1));
    }
    if (s.min_p > 0) std::erase_if(c, [&](const Candidate& x) { return x.weight < s.min_p; });  // the best one has weight 1
    total = 0;
    for (const auto& x : c) total += x.weight;
    const CounterRng rng(s.seed, kSamplerStream);
    double rest = static_cast<double>(rng.bits(static_cast<uint64_t>(position)) >> 11) * 0x1p-53 * total;
    for (const auto& x : c) {
        rest -= x.weight;
        if (rest < 0) return x.id;
    }
    return c.back().id;
}

TokenOdds token_odds(std::span<const float> logits, int32_t id) {
    const int32_t best = argmax(logits);
    if (best < 0) return {};
    double total = 0, weighted = 0;
    for (float z : logits) {
        const float d = z - logits[best];
        if (!(d > -80.0f)) continue;  // NaN, -inf, and what no sum of a vocabulary's size would show
        const float e = std::exp(d);
        total += e;
        weighted += static_cast<double>(e) * d;
    }
    const double mine = std::exp(static_cast<double>(logits[id]) - logits[best]) / total;
    return {static_cast<float>(mine), static_cast<float>(std::log(total) - weighted / total)};
}

NextTokens next_tokens(std::span<const float> logits, int n) {
    NextTokens r;
    const int32_t best = argmax(logits);
    if (best < 0) return r;
    const TokenOdds odds = token_odds(logits, best);
    r.entropy = odds.entropy;
    std::vector<int32_t> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::erase_if(order, [&](int32_t i) { return std::isnan(logits[i]); });
    n = std::min<int>(n, static_cast<int>(order.size()));
    std::partial_sort(order.begin(), order.begin() + n, order.end(), [&](int32_t a, int32_t b) {
        return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
    });
    for (int i = 0; i < n; ++i) {
        r.ids.push_back(order[i]);
        r.probabilities.push_back(odds.probability * std::exp(logits[order[i]] - logits[best]));
    }
    return r;
}

}  // namespace vitrine
