// Token-level compression: rows to the ring, blocks to entries.
#include "engine/ops/compress/compress.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/ops/linear/linear.h"
#include "engine/ops/quantize/quantize.h"
#include "engine/ops/rmsnorm/rmsnorm.h"

namespace vitrine {
namespace {

// Row layout in the ring: K [o*D], then S [o*D].
void store_rows(Ctx& ctx, const Tensor& x_TD, int64_t position, const CompressorWeights& w, int ratio, RowRing& ring) {
    const LinearOptions wide{.quantise_input = false, .round_output = false};
    will_use(ctx, w.wgate);
    const Tensor k = linear(ctx, x_TD, w.wkv, wide), s = linear(ctx, x_TD, w.wgate, wide);
    const int64_t width = k.dim(1);
    // Only the rows that these tokens need: a decode step needs one of up to 128.
    Tensor ape = ctx.arena.make(DType::f32, {ratio, width});
    for (int64_t t = 0; t < std::min<int64_t>(x_TD.dim(0), ratio); ++t)
        w.ape.widen_row((position + t) % ratio, ape.row<float>((position + t) % ratio));
    for (int64_t t = 0; t < x_TD.dim(0); ++t) {
        auto* row = reinterpret_cast<float*>(ring.row(position + t));
        const float* bias = ape.row<float>((position + t) % ratio);  // by absolute position, on the score only
        std::memcpy(row, k.row<float>(t), width * sizeof(float));
        for (int64_t i = 0; i < width; ++i) row[width + i] = s.row<float>(t)[i] + bias[i];
    }
}

// Pools channels [c0, c1) of entry `index`. CSA: the previous block's tokens give their first halves, the block's own tokens
// their second halves; entry 0 has no previous block. mean [slots] collects the weights summed over channels.
void pool(const RowRing& ring, int64_t index, int ratio, int d, bool overlaps, int64_t c0, int64_t c1, float* e, float* mean) {
    const int n_slots = overlaps ? 2 * ratio : ratio, width = overlaps ? 2 * d : d;
    const int first_slot = overlaps && index == 0 ? ratio : 0;
    std::vector<const float*> k(n_slots), s(n_slots);
    for (int i = first_slot; i < n_slots; ++i) {
        const int64_t token = index * ratio + i - (overlaps ? ratio : 0);
        const auto* row = reinterpret_cast<const float*>(ring.row(token));
        const int half = overlaps && i >= ratio ? d : 0;
        k[i] = row + half;
        s[i] = row + width + half;
    }
    std::vector<float> a(n_slots);
    for (int64_t ch = c0; ch < c1; ++ch) {
        float top = -INFINITY, sum = 0, value = 0;
        for (int i = first_slot; i < n_slots; ++i) top = std::max(top, s[i][ch]);
        for (int i = first_slot; i < n_slots; ++i) sum += a[i] = std::exp(s[i][ch] - top);
        for (int i = first_slot; i < n_slots; ++i) {
            a[i] /= sum;
            value += a[i] * k[i][ch];
            mean[i] += a[i];
        }
        e[ch] = value;
    }
}

}  // namespace

NewEntries compress(Ctx& ctx, const Tensor& x_TD, int64_t position, const CompressorWeights& w, int ratio, int entry_size,
                    const std::vector<double>& frequencies, double eps, RowRing& ring,
                    bool is_normed) {
    const int64_t n_tokens = x_TD.dim(0), d = entry_size;
    const bool overlaps = ratio == 4;
    const int64_t n_slots = overlaps ? 2 * ratio : ratio;
    store_rows(ctx, x_TD, position, w, ratio, ring);

    NewEntries out{position / ratio, (position + n_tokens) / ratio - position / ratio, {}, {}};
    if (out.n == 0) return out;
    {
        const OpTimer timer(ctx, OpKind::compress);
        out.entries_ND = ctx.arena.make(DType::f32, {out.n, d});
        out.weights_NS = ctx.arena.make(DType::f32, {out.n, n_slots});
        constexpr int64_t kChannels = 64;  // per piece
        const int64_t pieces = (d + kChannels - 1) / kChannels;
        Tensor partial = ctx.arena.make(DType::f32, {out.n * pieces, n_slots});
        std::memset(partial.data, 0, static_cast<size_t>(partial.count()) * sizeof(float));
        ctx.pool.parallel_for(out.n * pieces, 1, [&](int64_t p0, int64_t p1) {
            for (int64_t p = p0; p < p1; ++p) {
                const int64_t i = p / pieces, c0 = p % pieces * kChannels;
                pool(ring, out.first + i, ratio, entry_size, overlaps, c0, std::min(c0 + kChannels, d),
                     out.entries_ND.row<float>(i), partial.row<float>(p));
            }
        });
        for (int64_t i = 0; i < out.n; ++i)
            for (int64_t slot = 0; slot < n_slots; ++slot) {
                float sum = 0;
                for (int64_t p = 0; p < pieces; ++p) sum += partial.row<float>(i * pieces + p)[slot];
                out.weights_NS.row<float>(i)[slot] = sum / static_cast<float>(d);
            }
        round_output(ctx, out.entries_ND);
    }
    if (is_normed) out.entries_ND = rmsnorm(ctx, out.entries_ND, w.norm, eps);
    std::vector<int64_t> starts(out.n);
    for (int64_t i = 0; i < out.n; ++i) starts[i] = (out.first + i) * ratio;
    apply_rope(ctx, out.entries_ND.reshaped({out.n, 1, d}), rope_angles(ctx, starts, frequencies));
    return out;
}

}  // namespace vitrine
