// What op tests need: a context with an arena and a pool, and parameters made from numbers.
#pragma once
#include <memory>
#include <vector>

#include "engine/model/param.h"
#include "engine/ops/ctx.h"

namespace vitrine::test {

struct OpFixture {
    Arena arena;
    Pool pool{2};
    Ctx ctx{arena, pool, Numerics::exact, nullptr, nullptr, {}, nullptr, 0};

    Tensor tensor(Shape shape, const std::vector<float>& values) {
        Tensor t = arena.make(DType::f32, shape);
        VITRINE_ASSERT(static_cast<size_t>(t.count()) == values.size());
        std::copy(values.begin(), values.end(), t.f32());
        return t;
    }
};

// An F32 parameter that owns its numbers; rank 1 or 2.
inline Param make_param(const std::vector<float>& values, Shape shape) {
    auto owner = std::make_shared<std::vector<float>>(values);
    const int64_t out = shape.rank == 2 ? shape[0] : 1, in = shape.rank == 2 ? shape[1] : shape[0];
    Param p{"test", shape, {owner->data(), nullptr, DType::f32, DType::f8_e8m0, out, in, 0, 0}, owner};
    return p;
}

// Whole numbers as an op on a tape reads them, on the host or on ctx's GPU.
inline Tensor place_ints(Ctx& ctx, Shape shape, const std::vector<int32_t>& values) {
    VITRINE_ASSERT(static_cast<size_t>(shape.count()) == values.size());
    const Tensor t = ctx.arena.make(DType::i32, shape);
    if constexpr (kHasCuda)
        if (ctx.cuda) {
            ctx.cuda->copy(t.data, ctx.cuda->ints(values), values.size() * 4);
            return t;
        }
    std::copy(values.begin(), values.end(), t.as<int32_t>());
    return t;
}

// Reproducible values in (-1, 1).
inline std::vector<float> noise(size_t n, uint32_t seed) {
    std::vector<float> v(n);
    uint32_t s = seed * 2654435761u + 12345u;
    for (float& x : v) {
        s = s * 1664525u + 1013904223u;
        x = static_cast<float>(s >> 8) * 0x1p-23f - 1.0f;
    }
    return v;
}

}  // namespace vitrine::test
