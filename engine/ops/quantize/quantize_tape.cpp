// Fake quantisation on the tape.
#include "engine/ops/quantize/quantize_tape.h"

#include <algorithm>
#include <cstring>

#include "engine/device/cpu/formats.h"
#include "engine/ops/linear/copies.h"
#include "engine/ops/quantize/quantize.h"
#include "engine/ops/trained.h"
#include "engine/ops/training.h"

namespace vitrine {
namespace {

bool asks(const Ctx& ctx, bool FakeQuant::*part) { return ctx.training && ctx.training->quant.*part; }
bool counts(const Ctx& ctx) { return ctx.training->wants_rounding && !ctx.training->is_recomputation; }

// f on the row as FP32.
template <class F>
void on_f32(float* x, int64_t, F&& f) { f(x); }
template <class F>
void on_f32(double* x, int64_t n, F&& f) {
    std::vector<float> narrow(x, x + n);
    f(narrow.data());
    std::copy(narrow.begin(), narrow.end(), x);
}

// Blocks of 128 rows are independent in both formats.
template <class T>
void round_weight(Ctx& ctx, T* w, int64_t rows, int64_t cols, bool is_fp4) {
    const int64_t n_blocks = (rows + cpu::kFp8WeightBlock - 1) / cpu::kFp8WeightBlock;
    std::vector<cpu::RoundingCount> counted(static_cast<size_t>(n_blocks));
    ctx.pool.parallel_for(n_blocks, 1, [&](int64_t b0, int64_t b1) {
        for (int64_t b = b0; b < b1; ++b) {
            const int64_t r0 = b * cpu::kFp8WeightBlock, r1 = std::min(rows, r0 + cpu::kFp8WeightBlock);
            on_f32(w + r0 * cols, (r1 - r0) * cols, [&](float* x) {
                cpu::RoundingCount& c = counted[static_cast<size_t>(b)];
                if (!is_fp4) return void(c = cpu::fp8_round_weight(x, cols, 0, r1 - r0));
                for (int64_t r = 0; r < r1 - r0 && counts(ctx); ++r)
                    c.add(cpu::count_fp4_rounding(x + r * cols, cols, cpu::kFp4WeightBlock));
                cpu::fp4_round_weight(x, cols, 0, r1 - r0);
            });
        }
    });
    if (counts(ctx))
        for (const auto& c : counted)
            (is_fp4 ? ctx.training->rounding.fp4_experts : ctx.training->rounding.weights).add(c);
}

Tensor rounded(Ctx& ctx, const Param& w, bool is_fp4) {
    auto& step = *ctx.training;
    if (!step.rounded) step.rounded = std::make_shared<RoundedWeights>();
    const void* key = w.master.empty() ? w.view.data : w.master.data;
    auto [at, is_new] = step.rounded->by_master.try_emplace(key);
    const int64_t cols = w.shape[w.shape.rank - 1], rows = w.shape.count() / cols;
    if (is_new) {
        const Arena::Scope scratch(ctx.arena);
        const Tensor value = trained_value(ctx, w);
        const auto* bytes = static_cast<const std::byte*>(value.data);
        at->second.assign(bytes, bytes + static_cast<size_t>(value.count()) * dtype_bits(value.dtype) / 8);
        with_real(ctx.dtype, [&](auto real) {
            round_weight(ctx, reinterpret_cast<decltype(real)*>(at->second.data()), rows, cols, is_fp4);
        });
    }
    return {at->second.data(), ctx.dtype, w.shape};
}

// A copy of x in the arena, each row of n changed by f; counts are made of the rows before.
template <class F>
Tensor changed_rows(Ctx& ctx, const Tensor& x, int64_t n, F&& f) {
    const Tensor y = ctx.arena.make(x.dtype, x.shape);
    std::memcpy(y.data, x.data, static_cast<size_t>(x.count()) * dtype_bits(x.dtype) / 8);
    with_real(x.dtype, [&](auto real) {
        using T = decltype(real);
        ctx.pool.parallel_for(x.count() / n, 16, [&](int64_t r0, int64_t r1) {
            for (int64_t r = r0; r < r1; ++r) on_f32(y.as<T>() + r * n, n, [&](float* row) { f(row); });
        });
    });
    return y;
}

void count_rows(const Ctx& ctx, const Tensor& x, int64_t ld, int64_t n, int64_t block, cpu::RoundingCount& into) {
    if (!counts(ctx)) return;
    std::vector<float> row(static_cast<size_t>(n));
    with_real(x.dtype, [&](auto real) {
        using T = decltype(real);
        for (int64_t r = 0; r < x.count() / ld; ++r) {
            std::copy_n(x.as<T>() + r * ld, n, row.data());
            into.add(cpu::count_fp8_rounding(row.data(), n, block));
        }
    });
}

// Of a tensor with one scale.
uint8_t scale_of(float own, const DelayedScales* delayed, const void* site) {
    const bool is_known = delayed && delayed->before.contains(site);
    return cpu::fp8_scale(is_known ? std::max(delayed->before.at(site), cpu::kFp8MinAmax) : own);
}

void count_index_rows(const Ctx& ctx, const Tensor& x, int64_t n) {
    if (!counts(ctx)) return;
    std::vector<float> row(static_cast<size_t>(n));
    with_real(x.dtype, [&](auto real) {
        for (int64_t i = 0; i < x.count(); i += n) {
            std::copy_n(x.as<decltype(real)>() + i, n, row.data());
            hadamard(row.data(), static_cast<int>(n));
            ctx.training->rounding.fp4_index.add(cpu::count_fp4_rounding(row.data(), n, cpu::kIndexKeyBlock));
        }
    });
}

// One scale for x. Counted by the same scale.
Tensor input_by_tensor(Ctx& ctx, const Tensor& x, const void* site) {
    DelayedScales* delayed = ctx.training->delayed;
    float own = 0;
    const int64_t n = x.count();
    const Tensor y = changed_rows(ctx, x, n, [&](float* rows) {
        if (counts(ctx)) {
            const float amax = cpu::block_amax(rows, 1, n, n, cpu::kFp8MinAmax);
            ctx.training->rounding.activations.add(cpu::count_fp8_rounding_by(scale_of(amax, delayed, site), rows, n));
        }
        own = round_fp8_tensor(rows, n, delayed, site);
    });
    if (delayed) keep_largest(*delayed, site, own);
    return y;
}

}  // namespace

Tensor dense_weight(Ctx& ctx, const Param& w) {
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::f32_weight(ctx, w, cuda::WeightUse::dense);
    return asks(ctx, &FakeQuant::fp8_weights) ? rounded(ctx, w, false) : trained_value(ctx, w);
}

Tensor expert_weight(Ctx& ctx, const Param& w, bool is_shared) {
    if (is_shared) return dense_weight(ctx, w);
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::f32_weight(ctx, w, cuda::WeightUse::routed);
    return asks(ctx, &FakeQuant::fp4_experts) ? rounded(ctx, w, true) : trained_value(ctx, w);
}

bool asks_fp8_activations(const Ctx& ctx) { return asks(ctx, &FakeQuant::fp8_activations); }

void round_fp8_row(float* x, int64_t n, int64_t block) { cpu::fp8_simulate(x, n, block); }
void round_fp8_row(double* x, int64_t n, int64_t block) {
    on_f32(x, n, [&](float* row) { cpu::fp8_simulate(row, n, block); });
}

float round_fp8_tensor(float* x, int64_t n, const DelayedScales* delayed, const void* site) {
    const float own = cpu::block_amax(x, 1, n, n, cpu::kFp8MinAmax);
    const float scale = cpu::e8m0_to_f32(scale_of(own, delayed, site));
    for (int64_t i = 0; i < n; ++i) x[i] = cpu::fp8_decode(cpu::fp8_encode(x[i] / scale)) * scale;
    return own;
}
float round_fp8_tensor(double* x, int64_t n, const DelayedScales* delayed, const void* site) {
    float own = 0;
    on_f32(x, n, [&](float* row) { own = round_fp8_tensor(row, n, delayed, site); });
    return own;
}

void keep_largest(DelayedScales& delayed, const void* site, float largest) {
    float& kept = delayed.now[site];
    kept = std::max(kept, largest);
}

Tensor linear_input(Ctx& ctx, const Tensor& x_TN, const void* site) {
    if (!asks_fp8_activations(ctx)) return x_TN;
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::f32_value(ctx, x_TN, true);
    if (ctx.training->quant.fp8_per_tensor) return input_by_tensor(ctx, x_TN, site);
    const int64_t n = x_TN.shape[x_TN.shape.rank - 1];
    count_rows(ctx, x_TN, n, n, 128, ctx.training->rounding.activations);
    return changed_rows(ctx, x_TN, n, [=](float* row) { cpu::fp8_simulate(row, n, 128); });
}

Tensor cache_rows(Ctx& ctx, const Tensor& x_SC, int rope_dim) {
    if (!asks(ctx, &FakeQuant::fp8_cache) || x_SC.count() == 0) return x_SC;
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::cache_rows_on_tape(ctx, x_SC, rope_dim);
    const int64_t n = x_SC.shape[x_SC.shape.rank - 1], plain = n - rope_dim;
    count_rows(ctx, x_SC, n, plain, cpu::kEntryBlock, ctx.training->rounding.cache);
    const Tensor y = changed_rows(ctx, x_SC, n, [=](float* row) {
        cpu::fp8_simulate(row, plain, cpu::kEntryBlock);
        for (int64_t i = plain; i < n; ++i) row[i] = cpu::round_bf16(row[i]);
    });
    ctx.tape->record([=](Ctx& c) {
        if (!c.tape->has_grad(y)) return;
        with_real(y.dtype, [&](auto real) {
            using T = decltype(real);
            const T* dy = c.tape->grad(y).template as<T>();
            T* dx = c.tape->grad(x_SC).template as<T>();
            for (int64_t i = 0; i < y.count(); ++i) dx[i] += dy[i];
        });
    });
    return y;
}

Tensor index_rows(Ctx& ctx, const Tensor& x_SD) {
    if (!asks(ctx, &FakeQuant::fp4_index) || x_SD.count() == 0) return x_SD;
    const int64_t n = x_SD.shape[x_SD.shape.rank - 1];
    if (n & (n - 1))
        throw Error(ErrorKind::bad_input, "index_head_dim = " + std::to_string(n) +
                                              ": expected a power of two for FP4 index keys (they pass a Hadamard rotation)");
    if constexpr (kHasCuda)
        if (ctx.cuda) return cuda::index_rows_on_tape(ctx, x_SD);
    const Tensor y = changed_rows(ctx, x_SD, n, [n](float* row) {
        hadamard(row, static_cast<int>(n));
        simulate_fp4(row, static_cast<int>(n));
    });
    count_index_rows(ctx, x_SD, n);
    ctx.tape->record([=](Ctx& c) {
        if (!c.tape->has_grad(y)) return;
        with_real(y.dtype, [&](auto real) {
            using T = decltype(real);
            std::vector<T> row(static_cast<size_t>(n));
            const T* dy = c.tape->grad(y).template as<T>();
            T* dx = c.tape->grad(x_SD).template as<T>();
            for (int64_t r = 0; r < y.count(); r += n) {
                std::copy_n(dy + r, n, row.begin());
                walsh(row.data(), static_cast<int>(n));  // symmetric and its own inverse
                for (int64_t i = 0; i < n; ++i) dx[r + i] += row[static_cast<size_t>(i)];
            }
        });
    });
    return y;
}

}  // namespace vitrine
