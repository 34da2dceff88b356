// A rank's part of a batch.
#include "engine/train/share.h"

#include <algorithm>

#include "engine/base/error.h"

namespace vitrine {
namespace {

// The first sequence of rank r: where a cut leaves closest to r / size of the tokens before it.
std::vector<size_t> first_samples(const TrainBatch& batch, size_t size) {
    const size_t n = batch.samples.size();
    const auto n_tokens = static_cast<int64_t>(batch.tokens.size());
    std::vector<size_t> first{0};
    for (size_t r = 1; r < size; ++r) {
        const auto excess = [&](size_t i) {
            const int64_t off = batch.samples[i].begin * static_cast<int64_t>(size) - n_tokens * static_cast<int64_t>(r);
            return off < 0 ? -off : off;
        };
        size_t best = first.back() + 1;
        for (size_t i = best; i + (size - r) <= n; ++i)
            if (excess(i) < excess(best)) best = i;
        first.push_back(best);
    }
    first.push_back(n);
    return first;
}

}  // namespace

TrainBatch share_of(const TrainBatch& batch, int rank, int size) {
    if (batch.samples.size() < static_cast<size_t>(size))
        throw_if_any({{"", "batch", std::to_string(batch.samples.size()) + " sequences",
                       "expected at least " + std::to_string(size) + ", one for each rank", ""}});
    const std::vector<size_t> first = first_samples(batch, static_cast<size_t>(size));
    const size_t s0 = first[static_cast<size_t>(rank)], s1 = first[static_cast<size_t>(rank) + 1];
    const int64_t begin = batch.samples[s0].begin, end = batch.samples[s1 - 1].end;
    TrainBatch mine;
    mine.tokens.assign(batch.tokens.begin() + begin, batch.tokens.begin() + end);
    mine.targets.assign(batch.targets.begin() + begin, batch.targets.begin() + end);
    for (size_t s = s0; s < s1; ++s)
        mine.samples.push_back({batch.samples[s].begin - begin, batch.samples[s].end - begin, batch.samples[s].domain});
    return mine;
}

int64_t n_counted(std::span<const int32_t> targets) {
    return std::count_if(targets.begin(), targets.end(), [](int32_t t) { return t >= 0; });
}

}  // namespace vitrine
