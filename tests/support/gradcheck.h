// Gradients of an op against central differences in FP64, and its FP32 and CUDA twins against FP64, from one description of a case.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>

#include "engine/device/cuda/device.h"
#include "engine/ops/training.h"
#include "tests/support/op_fixture.h"

namespace vitrine::test {

// The loss is sum_i r_i y_i over all results with fixed random r, plus the auxiliary losses that the op left in `step`.
class GradCheck {
  public:
    using Op = std::function<std::vector<Tensor>(Ctx&)>;  // reads inputs and params of the check; returns its results
    TrainingStep step;

    explicit GradCheck(uint32_t seed = 1) : seed_(seed) {}
    // An activation; lives as long as the check. Its dtype is that of the run: ask again inside the op (`at(i)`).
    size_t input(Shape shape, double scale = 1, double offset = 0) { return add(shape, scale, offset, nullptr); }
    Tensor at(size_t i) const { return where_ == On::gpu ? values_[i].gpu : where_ == On::f64 ? values_[i].f64 : values_[i].f32; }
    // A weight with a master; `p` must outlive the check.
    size_t param(Param& p, Shape shape, double scale = 1, double offset = 0) { return add(shape, scale, offset, &p); }

    // Checks at most `n_probed` elements of each input and weight. relative: |a - b| <= tolerance * max(1e-3, largest |gradient|).
    void run(const Op& op, double tolerance = 1e-7, int n_probed = 24) {
        set_place(On::f64);
        const double loss = evaluate(op, true);
        ASSERT_TRUE(std::isfinite(loss));
        std::vector<std::vector<double>> gradients;
        for (auto& v : values_) gradients.emplace_back(v.g64.span<double>().begin(), v.g64.span<double>().end());
        for (size_t i = 0; i < values_.size(); ++i) {
            double largest = 1e-3;
            for (double g : gradients[i]) largest = std::max(largest, std::abs(g));
            const int64_t n = values_[i].f64.count(), stride = std::max<int64_t>(1, n / n_probed);
            for (int64_t e = 0; e < n; e += stride) {
                double& x = values_[i].f64.as<double>()[e];
                const double kept = x, h = 1e-5 * std::max(1.0, std::abs(kept));
                x = kept + h;
                const double up = evaluate(op, false);
                x = kept - h;
                const double down = evaluate(op, false);
                x = kept;
                EXPECT_NEAR(gradients[i][static_cast<size_t>(e)], (up - down) / (2 * h), tolerance * largest)
                    << "value " << i << " element " << e;
            }
        }
        compare_f32(op, loss, gradients);
        if constexpr (kHasCuda)
            if (has_cuda_twin && !cuda::gpus().found.empty()) {
                compare_gpu(op, loss, gradients, false, gpu_tolerance);
                compare_gpu(op, loss, gradients, true, bf16_tolerance);
            }
    }

    double f32_tolerance = 1e-5;  // of results and gradients, relative to the largest
    // On a machine with a GPU, the op runs there too: in FP32, and with products on BF16 inputs (then most inputs have 8 bits).
    bool has_cuda_twin = true;
    double gpu_tolerance = 2e-5, bf16_tolerance = 3e-2;

  private:
    struct Value {
        Tensor f64, f32, g64, g32, gpu, g_gpu;
        Param* param;
    };
    size_t add(Shape shape, double scale, double offset, Param* p) {
        const auto n = static_cast<size_t>(shape.count());
        auto place = [&](DType t) {
            memory_.emplace_back(n * 8);
            return Tensor{memory_.back().data(), t, shape};
        };
        Value v{place(DType::f64), place(DType::f32), place(DType::f64), place(DType::f32), {}, {}, p};
        const std::vector<float> x = noise(n, seed_ * 1000 + static_cast<uint32_t>(values_.size()));
        for (size_t i = 0; i < n; ++i)
            v.f32.f32()[i] = static_cast<float>(x[i] * scale + offset), v.f64.as<double>()[i] = v.f32.f32()[i];
        if (p) *p = {"w" + std::to_string(values_.size()), shape, {}, nullptr, {}};
        values_.push_back(v);
        return values_.size() - 1;
    }
    enum class On { f64, f32, gpu };
    void set_place(On where) {
        where_ = where;
        for (size_t i = 0; i < values_.size(); ++i) {
            Value& v = values_[i];
            if (!v.param) continue;
            v.param->master = at(i);
            const int64_t in = v.f64.shape.rank > 1 ? v.f64.shape[v.f64.shape.rank - 1] : v.f64.count();
            v.param->view = {v.param->master.data, nullptr, v.param->master.dtype, DType::f8_e8m0, v.f64.count() / in, in, 0, 0};
        }
    }
    double evaluate(const Op& op, bool with_gradients) {
        arena_.clear();
        Tape tape(with_gradients);
        step.losses.clear();
        step.loads.clear();
        for (auto& v : values_) {
            const Tensor& g = where_ == On::f64 ? v.g64 : v.g32;
            std::memset(g.data, 0, static_cast<size_t>(g.count()) * dtype_bits(g.dtype) / 8);
            tape.bind(where_ == On::f64 ? v.f64 : v.f32, g);
        }
        Ctx ctx{arena_, pool_, Numerics::exact, nullptr, nullptr, {}, nullptr, 0};
        ctx.tape = &tape, ctx.dtype = where_ == On::f64 ? DType::f64 : DType::f32, ctx.training = &step;
        results_ = op(ctx);
        double loss = 0;
        for (size_t r = 0; r < results_.size(); ++r)
            with_real(ctx.dtype, [&](auto real) {
                using T = decltype(real);
                const Tensor& y = results_[r];
                const std::vector<float> weight = noise(static_cast<size_t>(y.count()), seed_ * 77 + static_cast<uint32_t>(r));
                for (int64_t i = 0; i < y.count(); ++i) {
                    loss += static_cast<double>(y.as<T>()[i]) * weight[static_cast<size_t>(i)];
                    if (with_gradients) tape.grad(y).template as<T>()[i] += static_cast<T>(weight[static_cast<size_t>(i)]);
                }
            });
        for (const AuxiliaryLoss& l : step.losses) loss += l.weight * l.value;
        if (with_gradients) tape.backward(ctx);
        return loss;
    }
    void compare_f32(const Op& op, double loss, const std::vector<std::vector<double>>& gradients) {
        set_place(On::f32);
        const double loss32 = evaluate(op, true);
        EXPECT_NEAR(loss32, loss, 10 * f32_tolerance * std::max(1.0, std::abs(loss)));
        for (size_t i = 0; i < values_.size(); ++i) {
            double largest = 0.1;  // smaller gradients are differences of terms near 1
            for (double g : gradients[i]) largest = std::max(largest, std::abs(g));
            for (size_t e = 0; e < gradients[i].size(); ++e)
                ASSERT_NEAR(values_[i].g32.f32()[e], gradients[i][e], f32_tolerance * largest)
                    << "value " << i << " FP32, element " << e;
        }
        set_place(On::f64);
    }
    void compare_gpu(const Op& op, double loss, const std::vector<std::vector<double>>& gradients, bool is_bf16, double tolerance) {
        if constexpr (kHasCuda) {
            cuda::Device device(0);
            Arena arena(device.memory(), 256);
            auto up = [&](const Tensor& from) {
                const Tensor t = arena.make(from.dtype, from.shape);
                device.upload(t.data, from.data, static_cast<size_t>(from.count()) * 4);
                return t;
            };
            auto down = [&](const Tensor& t) {
                std::vector<float> x(static_cast<size_t>(t.count()));
                device.download(x.data(), t.data, x.size() * 4);
                device.sync();
                return x;
            };
            Tape tape(true, &device);
            step.losses.clear();
            step.loads.clear();
            step.on_gpu.reset();
            for (auto& v : values_) {
                v.gpu = up(v.f32), v.g_gpu = arena.make(DType::f32, v.f32.shape);
                device.clear(v.g_gpu.data, static_cast<size_t>(v.f32.count()) * 4);
                tape.bind(v.gpu, v.g_gpu);
            }
            set_place(On::gpu);
            Ctx ctx{arena, pool_, Numerics::exact, nullptr, nullptr, {}, nullptr, 0};
            ctx.cuda = &device, ctx.tape = &tape, ctx.training = &step, ctx.has_bf16_products = is_bf16;
            const std::vector<Tensor> results = op(ctx);
            device.collect();
            double loss_here = 0;
            for (size_t r = 0; r < results.size(); ++r) {
                const std::vector<float> weight = noise(static_cast<size_t>(results[r].count()),
                                                        seed_ * 77 + static_cast<uint32_t>(r)),
                                         y = down(results[r]);
                std::vector<float> g = down(tape.grad(results[r]));
                for (size_t i = 0; i < y.size(); ++i) loss_here += static_cast<double>(y[i]) * weight[i], g[i] += weight[i];
                device.upload(tape.grad(results[r]).data, g.data(), g.size() * 4);
                device.sync();
            }
            for (const AuxiliaryLoss& l : step.losses) loss_here += l.weight * l.value;
            EXPECT_NEAR(loss_here, loss, 10 * tolerance * std::max(1.0, std::abs(loss))) << "on the GPU, BF16 products " << is_bf16;
            tape.backward(ctx);
            for (size_t i = 0; i < gradients.size(); ++i) {
                double largest = 0.1;
                for (double g : gradients[i]) largest = std::max(largest, std::abs(g));
                const std::vector<float> g = down(values_[i].g_gpu);
                for (size_t e = 0; e < g.size(); ++e)
                    ASSERT_NEAR(g[e], gradients[i][e], tolerance * largest)
                        << "value " << i << " on the GPU, BF16 products " << is_bf16 << ", element " << e;
            }
            set_place(On::f64);
        } else {
            static_cast<void>(op), static_cast<void>(loss), static_cast<void>(gradients);
            static_cast<void>(is_bf16), static_cast<void>(tolerance);
        }
    }

    uint32_t seed_;
    On where_ = On::f64;
    Arena arena_;
    Pool pool_{2};
    std::deque<std::vector<std::byte>> memory_;
    std::vector<Value> values_;
    std::vector<Tensor> results_;
};

}  // namespace vitrine::test
