// Draws the next token from logits: filters in a fixed order, then one counter-based draw.
#include "engine/infer/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "engine/base/rng.h"
#include "engine/device/cpu/kernels.h"
#include "engine/ops/exp_row.h"
#include "engine/ops/order.h"

namespace vitrine {
namespace {

constexpr uint64_t kSamplerStream = fnv1a64("sampler");

struct Candidate {
    int32_t id;
    double weight;  // unnormalised probability
};

bool more_probable(const Candidate& a, const Candidate& b) { return a.weight != b.weight ? a.weight > b.weight : a.id < b.id; }

// The first of the largest; -1: all are NaN.
int32_t argmax(std::span<const float> logits) {
    const float top = max_row(logits.data(), static_cast<int64_t>(logits.size()), -INFINITY);
    const auto at = std::find(logits.begin(), logits.end(), top);
    return at == logits.end() ? -1 : static_cast<int32_t>(at - logits.begin());
}

// Of token `id`, where `best` is the most probable. A few terms in FP32 at a time, those sums in double; the largest term, 1, is
// added last, so that a small entropy is as precise as a large one.
TokenOdds odds_of(std::span<const float> logits, int32_t best, int32_t id) {
    constexpr size_t kAtOnce = 128;
    const float top = logits[best];
    double others = 0, weighted = 0;
    float d[kAtOnce], e[kAtOnce];
    for (size_t at = 0; at < logits.size(); at += kAtOnce) {
        const size_t n = std::min(kAtOnce, logits.size() - at);
        // NaN, -inf, and what no sum of a vocabulary's size would show: e^-110 is 0.
        for (size_t i = 0; i < n; ++i) {
            const float x = logits[at + i] - top;
            d[i] = x > -80.0f ? x : -110.0f;
        }
        if (static_cast<size_t>(best) / kAtOnce == at / kAtOnce) d[static_cast<size_t>(best) - at] = -110.0f;
        others += cpu::kernels().exp_row(d, static_cast<int64_t>(n), 0.0f, e);
        weighted += cpu::kernels().dot(e, d, static_cast<int64_t>(n));
    }
    const double total = 1 + others, mine = std::exp(static_cast<double>(logits[id]) - top) / total;
    return {static_cast<float>(mine), static_cast<float>(std::log1p(others) - weighted / total)};
}

// The n best in descending order as words of (the logit's key, the id turned round): ties go to the lowest id.
std::vector<uint64_t> best_words(std::span<const float> logits, size_t n) {
    // Logits in rows of so many: the n-th largest of the columns' largest: what is smaller can't be among the n best, and few
    // others are left.
    const size_t size = logits.size(), n_columns = std::min(size, std::max<size_t>(256, 4 * n));
    std::vector<float> tops(logits.begin(), logits.begin() + static_cast<std::ptrdiff_t>(n_columns));
    for (float& top : tops) top = top > -INFINITY ? top : -INFINITY;  // no NaN
    for (size_t at = n_columns; at < size; at += n_columns) {
        const size_t here = std::min(n_columns, size - at);
        for (size_t i = 0; i < here; ++i) tops[i] = logits[at + i] > tops[i] ? logits[at + i] : tops[i];
    }
    float least = -INFINITY;
    if (n > 0 && n <= n_columns) {
        std::vector<float> sorted(tops);
        std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(n - 1), sorted.end(), std::greater<>());
        least = sorted[n - 1];
    }
    std::vector<uint64_t> words;
    for (size_t c = 0; c < n_columns; ++c)
        for (size_t i = c; tops[c] >= least && i < size; i += n_columns)
            if (logits[i] >= least) words.push_back(uint64_t{order_key(logits[i])} << 32 | (UINT32_MAX - i));
    const auto end = words.begin() + static_cast<std::ptrdiff_t>(std::min(n, words.size()));
    std::partial_sort(words.begin(), end, words.end(), std::greater<>());
    words.erase(end, words.end());
    return words;
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
    return best < 0 ? TokenOdds{} : odds_of(logits, best, id);
}

NextTokens next_tokens(std::span<const float> logits, int n) {
    NextTokens r;
    const std::vector<uint64_t> words = best_words(logits, static_cast<size_t>(n));
    for (uint64_t w : words) r.ids.push_back(static_cast<int32_t>(UINT32_MAX - static_cast<uint32_t>(w)));
    if (r.ids.empty()) return r;
    const float top = logits[r.ids[0]];
    const TokenOdds odds = odds_of(logits, r.ids[0], r.ids[0]);
    r.entropy = odds.entropy;
    for (int32_t id : r.ids)
        r.probabilities.push_back(static_cast<float>(odds.probability * std::exp(static_cast<double>(logits[id]) - top)));
    return r;
}

}  // namespace vitrine
