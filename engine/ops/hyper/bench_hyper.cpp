// Micro benchmark of hyper-connections on the tape: a site, its mixing and their backward, per map.
//
//     ninja -C build/release bench_hyper && build/release/bin/bench_hyper [threads] [d] [tokens]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "engine/ops/hyper/hyper.h"

namespace vitrine {
namespace {

struct Bench {
    Arena arena, weights;
    Pool pool;
    Tape tape;
    Ctx ctx{arena, pool, Numerics::exact, nullptr, nullptr, {}, nullptr, 0};
    explicit Bench(int threads) : pool(threads) { ctx.tape = &tape; }

    static void fill(const Tensor& x, float scale) {
        uint32_t s = 12345;
        for (float& v : x.span<float>()) s = s * 1664525u + 1013904223u, v = (static_cast<float>(s >> 8) * 0x1p-23f - 1) * scale;
    }
    Param leaf(Shape shape, float scale) {
        const Tensor master = weights.make(DType::f32, shape), gradient = weights.make(DType::f32, shape);
        fill(master, scale), fill(gradient, 0);
        tape.bind(master, gradient);
        const int64_t in = shape.rank == 2 ? shape[1] : shape[0];
        return {"w", shape, {master.data, nullptr, DType::f32, DType::f8_e8m0, shape.count() / in, in, 0, 0}, nullptr, master};
    }
};

using Clock = std::chrono::steady_clock;
double ms_since(Clock::time_point t) { return std::chrono::duration<double, std::milli>(Clock::now() - t).count(); }

void run(int threads, int64_t d, int64_t n_tokens, const HyperForm& form, const char* name) {
    Bench b(threads);
    const int64_t rows = form.n_rows(), n = form.n;
    const HyperWeights w{b.leaf({rows, n * d}, 0.1f), b.leaf({rows}, 0.5f), b.leaf({3}, 1)};
    const Tensor x = b.weights.make(DType::f32, {n_tokens, n, d}), dy = b.weights.make(DType::f32, {n_tokens, n, d});
    b.fill(x, 1), b.fill(dy, 1);
    std::vector<double> site, mix, back;
    for (int i = 0; i < 60; ++i) {
        b.arena.clear();
        b.tape.clear();
        auto start = Clock::now();
        const HyperSite s = hyper_site(b.ctx, x, w, form, 1e-6);
        site.push_back(ms_since(start));
        start = Clock::now();
        const Tensor y = hyper_mix(b.ctx, x, s, s.u_TD);
        mix.push_back(ms_since(start));
        const Tensor g = b.tape.grad(y), gx = b.tape.grad(x);
        std::copy_n(dy.f32(), dy.count(), g.f32());
        start = Clock::now();
        b.tape.backward(b.ctx);
        back.push_back(ms_since(start));
    }
    const auto median = [](std::vector<double>& v) { return std::sort(v.begin(), v.end()), v[v.size() / 2]; };
    std::printf("%-12s site %.3f  mix %.3f  backward %.3f  together %.3f ms\n", name, median(site), median(mix), median(back),
                median(site) + median(mix) + median(back));
}

}  // namespace
}  // namespace vitrine

int main(int argc, char** argv) {
    using namespace vitrine;
    const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
    const int64_t d = argc > 2 ? std::atoi(argv[2]) : 64, n_tokens = argc > 3 ? std::atoi(argv[3]) : 1024;
    std::printf("%lld tokens, 4 streams of %lld, %d threads, median of 60\n", static_cast<long long>(n_tokens),
                static_cast<long long>(d), threads);
    run(threads, d, n_tokens, {.map = MixingMap::sinkhorn, .n = 4, .iters = 20, .eps = 1e-6}, "mhc");
    run(threads, d, n_tokens, {.map = MixingMap::permutations, .n = 4, .eps = 1e-6}, "mhc_lite");
    run(threads, d, n_tokens, {.map = MixingMap::free, .n = 4, .eps = 1e-6}, "hc");
}
