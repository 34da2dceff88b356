// What tests of the GPU's twins need: a device (or the test is skipped), tensors and weights on it, a step's tokens and caches.
#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "engine/device/cpu/formats.h"
#include "engine/model/upload.h"
#include "tests/support/op_fixture.h"

namespace vitrine::test {

// A GPU test's body starts with: if (!CudaFixture::is_there()) GTEST_SKIP() << CudaFixture::why_not();
// `cpu` is a host context beside it, to run the CPU's twin on the same numbers.
class CudaFixture {
  public:
    static bool is_there() { return kHasCuda && !cuda::gpus().found.empty(); }
    static std::string why_not() { return cuda::gpus().why_none; }

    explicit CudaFixture(Numerics numerics = Numerics::exact)
        : device(std::make_shared<cuda::Device>(0)), arena(device->memory(), 256) {
        ctx.cuda = device.get();
        ctx.numerics = cpu.ctx.numerics = numerics;
    }
    // f32 values as ctx.activation() (or as `dtype`) in the GPU's memory.
    Tensor up(Shape shape, const std::vector<float>& values) { return up(shape, values, ctx.activation()); }
    Tensor up(Shape shape, const std::vector<float>& values, DType dtype) {
        VITRINE_ASSERT(shape.count() == static_cast<int64_t>(values.size()));
        const Tensor t = arena.make(dtype, shape);
        std::vector<uint16_t> half;
        for (float x : values) half.push_back(cpu::f32_to_bf16(x));
        device->upload(t.data, dtype == DType::bf16 ? static_cast<const void*>(half.data()) : values.data(),
                       values.size() * dtype_bits(dtype) / 8);
        device->sync();
        return t;
    }
    Tensor up_i32(Shape shape, const std::vector<int32_t>& values) {
        const Tensor t = arena.make(DType::i32, shape);
        device->upload(t.data, values.data(), values.size() * 4);
        device->sync();
        return t;
    }
    std::vector<float> down(const Tensor& t) {
        std::vector<float> v(static_cast<size_t>(t.count()));
        std::vector<uint16_t> half(v.size());
        device->download(t.dtype == DType::bf16 ? static_cast<void*>(half.data()) : v.data(), t.data,
                         v.size() * dtype_bits(t.dtype) / 8);
        device->sync();
        for (size_t i = 0; i < v.size() && t.dtype == DType::bf16; ++i) v[i] = cpu::bf16_to_f32(half[i]);
        return v;
    }
    std::vector<int32_t> down_i32(const Tensor& t) {
        std::vector<int32_t> v(static_cast<size_t>(t.count()));
        device->download(v.data(), t.data, v.size() * 4);
        device->sync();
        return v;
    }
    Param up(const Param& p) { return cuda::upload(p, device); }
    // Bytes on the GPU for as long as the fixture lives (a cache's rows).
    std::byte* bytes(size_t n) {
        buffers_.push_back(std::make_shared<cuda::Buffer>(device, n));
        return buffers_.back()->data();
    }
    // The step's tokens, of one sequence whose caches of layers 0, 1, ... are `views`.
    void set_step(const std::vector<cuda::TokenAt>& tokens, const std::vector<cuda::LayerView>& views) {
        auto* t = reinterpret_cast<cuda::TokenAt*>(bytes(tokens.size() * sizeof(cuda::TokenAt)));
        auto* v = reinterpret_cast<cuda::LayerView*>(bytes(views.size() * sizeof(cuda::LayerView) + 1));
        const auto last = static_cast<int32_t>(tokens.size()) - 1;
        auto* l = reinterpret_cast<int32_t*>(bytes(4));
        device->upload(t, tokens.data(), tokens.size() * sizeof(cuda::TokenAt));
        device->upload(v, views.data(), views.size() * sizeof(cuda::LayerView));
        device->upload(l, &last, 4);
        device->sync();
        int64_t longest = 0;
        for (const cuda::TokenAt& at : tokens) longest = std::max(longest, at.position + 1);
        device->step = {t, v, l, static_cast<int>(tokens.size()), 1, longest};
    }

    OpFixture cpu;
    std::shared_ptr<cuda::Device> device;
    Arena arena;
    Pool pool{1};
    Ctx ctx{arena, pool, Numerics::exact, nullptr, nullptr, {}, nullptr, 0};

  private:
    std::vector<std::shared_ptr<cuda::Buffer>> buffers_;
};

}  // namespace vitrine::test
