// Sums of squares in fixed chunks.
#include "engine/ops/squares/squares.h"

#include <algorithm>

namespace vitrine {

std::vector<ElementChunk> element_chunks(std::span<const int64_t> counts) {
    constexpr int64_t kChunk = 16384;
    std::vector<ElementChunk> chunks;
    for (size_t i = 0; i < counts.size(); ++i)
        for (int64_t at = 0; at < counts[i]; at += kChunk)
            chunks.push_back({static_cast<int64_t>(i), at, std::min(at + kChunk, counts[i])});
    return chunks;
}

namespace {

template <class T>
double sum_of_squares(const T* x, int64_t n) {
    double lanes[8] = {};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int l = 0; l < 8; ++l) lanes[l] += static_cast<double>(x[i + l]) * static_cast<double>(x[i + l]);
    for (; i < n; ++i) lanes[0] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    double sum = 0;
    for (double l : lanes) sum += l;
    return sum;
}

}  // namespace

std::vector<double> sums_of_squares(Ctx& ctx, std::span<const Tensor> tensors) {
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::sums_of_squares(ctx, tensors);
    std::vector<int64_t> counts;
    for (const Tensor& t : tensors) counts.push_back(t.count());
    const std::vector<ElementChunk> chunks = element_chunks(counts);
    std::vector<double> partial(chunks.size());
    ctx.pool.parallel_for(static_cast<int64_t>(chunks.size()), 4, [&](int64_t c0, int64_t c1) {
        for (int64_t c = c0; c < c1; ++c) {
            const ElementChunk& at = chunks[static_cast<size_t>(c)];
            const Tensor& t = tensors[static_cast<size_t>(at.tensor)];
            partial[static_cast<size_t>(c)] = with_real(
                t.dtype, [&](auto real) { return sum_of_squares(t.as<decltype(real)>() + at.begin, at.end - at.begin); });
        }
    });
    std::vector<double> sums(tensors.size());
    for (size_t c = 0; c < chunks.size(); ++c) sums[static_cast<size_t>(chunks[c].tensor)] += partial[c];
    return sums;
}

}  // namespace vitrine
