// vitrine bench --train: tokens per second of training, its share of the products' peak, bytes by kind, time by op.
#include "app/cli/bench_train.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "app/cli/common.h"
#include "app/cli/ranks.h"
#include "engine/base/json.h"
#include "engine/comm/communicator.h"
#include "engine/device/cpu/kernels.h"
#include "engine/device/cpu/peak.h"
#include "engine/train/fresh.h"
#include "engine/train/presets.h"
#include "engine/train/trainer.h"

namespace vitrine::cli {
namespace {
using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// FP32 multiply-adds of all threads together, without memory [GFLOP/s].
double measure_peak(int n_threads) {
    constexpr int64_t kRounds = 20'000'000;
    Pool pool(n_threads);
    std::vector<double> flops(static_cast<size_t>(n_threads));
    double best = 0;
    for (int i = 0; i < 3; ++i) {
        const auto start = Clock::now();
        pool.parallel_for(n_threads, 1, [&](int64_t t0, int64_t t1) {
            for (int64_t t = t0; t < t1; ++t) flops[static_cast<size_t>(t)] = cpu::fma_work(kRounds) * kRounds;
        });
        double sum = 0;
        for (double f : flops) sum += f;
        best = std::max(best, sum / seconds_since(start) * 1e-9);
    }
    return best;
}

// Seconds. n_tokens: of the batches, which are packed with whole samples and hold fewer than batch times
// sequence_length.
double run_steps(Trainer& trainer, int64_t n, std::stop_token stop, int64_t* n_tokens = nullptr) {
    const auto start = Clock::now();
    for (int64_t i = 0; i < n; ++i) {
        const StepReport r = trainer.step(stop);
        if (n_tokens) *n_tokens += r.n_tokens;
    }
    return seconds_since(start);
}

double median(std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return v[v.size() / 2];
}

struct OpShare {
    std::string name;
    double forward_ms, backward_ms;  // per step
};
std::vector<OpShare> shares(const Trainer& t, int64_t n_steps) {
    std::vector<OpShare> all;
    for (int k = 0; k < static_cast<int>(OpKind::count); ++k) {
        double forward = 0, backward = 0;
        for (int l = 0; l <= OpTimes::kMaxLayers; ++l)
            forward += t.forward_times().ms[k][l], backward += t.backward_times().ms[k][l];
        if (forward + backward > 0)
            all.push_back({op_kind_name(static_cast<OpKind>(k)), forward / static_cast<double>(n_steps),
                           backward / static_cast<double>(n_steps)});
    }
    return all;
}

// The host only queues the work: no times by op, and internals have no twin there.
void bench_on_gpu(Trainer& trainer, const TrainPreset& preset, int64_t n_steps, bool is_json, std::stop_token stop) {
    run_steps(trainer, 3, stop);  // memory is there
    std::vector<double> seconds;
    for (int64_t i = 0; i < n_steps; ++i) seconds.push_back(run_steps(trainer, 1, stop));
    const double step = median(seconds);
    const auto n_tokens = static_cast<double>(trainer.config().batch * trainer.config().sequence_length);
    const ParamCount params = count_params(preset.model);
    const double tflops = 6e-12 * static_cast<double>(params.active) * n_tokens / step;
    uint64_t used = 0;
    if constexpr (kHasCuda) used = trainer.place().gpu()->gpu().total_bytes - trainer.place().gpu()->free_bytes();
    if (is_json) {
        Json j = Json::object();
        j.set("preset", preset.name), j.set("train.tokens_per_s", n_tokens / step), j.set("train.step_ms", step * 1e3);
        j.set("train.tflop_per_s", tflops), j.set("bytes.used", static_cast<int64_t>(used));
        std::printf("%s\n", j.dump().c_str());
        return;
    }
    std::printf("training   %s: %.2f M parameters, %.2f M active\n", preset.name, static_cast<double>(params.total) * 1e-6,
                static_cast<double>(params.active) * 1e-6);
    std::printf("speed      %8.0f tokens/s, %.1f ms a step of %.0f tokens, median of %lld steps\n", n_tokens / step, step * 1e3,
                n_tokens, static_cast<long long>(n_steps));
    std::printf("products   %8.1f TFLOP/s counting 6 per active parameter and token\n", tflops);
    std::printf("memory     %8.2f GiB of the GPU's in use\n", static_cast<double>(used) / (1 << 30));
}

}  // namespace

void bench_train(const std::string& preset_name, int64_t n_steps, int64_t n_threads, const std::string& device,
                 bool is_json, Communicator& ranks, std::stop_token stop) {
    const TrainPreset& preset = train_preset(preset_name);
    TrainConfig config = preset.train;
    config.metrics = MetricsLevel::few;
    const int threads = threads_per_rank(ranks, n_threads), gpu = gpu_of_rank(ranks, device);
    if (ranks.size() > 1 && gpu == kCpu)
        throw UsageError("--train over several processes measures GPUs: expected --device cuda");
    order_training(ranks, threads, gpu != kCpu);
    Trainer trainer(preset.model, fresh_weights(preset.model, config), config, threads, gpu, &ranks);
    trainer.invite();
    if (gpu != kCpu) {
        bench_on_gpu(trainer, preset, n_steps, is_json, stop);
        return trainer.dismiss();
    }
    const double peak = measure_peak(threads);
    run_steps(trainer, 3, stop);  // memory is there, the scratch has grown
    int64_t n_tokens = 0;
    trainer.time_ops(true);
    const double seconds = run_steps(trainer, n_steps, stop, &n_tokens);
    trainer.time_ops(false);
    const double tokens_per_s = static_cast<double>(n_tokens) / seconds;
    const ParamCount params = count_params(preset.model);
    const double gflops = 6e-9 * static_cast<double>(params.active) * tokens_per_s;

    // Scalars by layer and internals at the interval the preset records them, in turn with none.
    constexpr int kPairs = 7;
    std::vector<double> costs;
    for (int i = 0; i < kPairs; ++i) {
        trainer.change("metrics", Json("few"));
        const double without = run_steps(trainer, config.metrics_every, stop);
        trainer.change("metrics", Json("layers"));
        costs.push_back(100 * (run_steps(trainer, config.metrics_every, stop) / without - 1));
    }
    const double watching = median(costs);

    const Trainer::Bytes b = trainer.bytes();
    const std::vector<OpShare> ops = shares(trainer, n_steps);
    const std::pair<const char*, uint64_t> kinds[] = {{"weights", b.weights},
                                                      {"gradients", b.gradients},
                                                      {"moments", b.moments},
                                                      {"activations", b.activations},
                                                      {"activation_gradients", b.activation_gradients}};
    if (is_json) {
        Json j = Json::object();
        j.set("preset", preset.name), j.set("threads", int64_t{threads}), j.set("kernels", cpu::kernels().name);
        j.set("train.tokens_per_s", tokens_per_s), j.set("train.step_ms", seconds / static_cast<double>(n_steps) * 1e3);
        j.set("train.gflop_per_s", gflops), j.set("peak_gflop_per_s", peak), j.set("train.peak_share", gflops / peak);
        j.set("watching_cost_percent", watching);
        for (const auto& [name, bytes] : kinds) j.set(std::string("bytes.") + name, static_cast<int64_t>(bytes));
        for (const OpShare& o : ops) {
            j.set("ms." + o.name + ".forward", o.forward_ms);
            j.set("ms." + o.name + ".backward", o.backward_ms);
        }
        std::printf("%s\n", j.dump().c_str());
        return;
    }
    std::printf("training   %s: %.2f M parameters, %.2f M active; %s, %d threads\n", preset.name,
                static_cast<double>(params.total) * 1e-6, static_cast<double>(params.active) * 1e-6, cpu::kernels().name,
                threads);
    std::printf("speed      %8.0f tokens/s, %.1f ms a step of %.0f tokens, %lld steps\n", tokens_per_s,
                seconds / static_cast<double>(n_steps) * 1e3,
                static_cast<double>(n_tokens) / static_cast<double>(n_steps), static_cast<long long>(n_steps));
    std::printf("products   %8.1f GFLOP/s counting 6 per active parameter and token: %.1f %% of the FP32 peak of %.0f\n", gflops,
                100 * gflops / peak, peak);
    std::printf("watching   %8.2f %% with scalars by layer and internals every %lld steps, median of %d alternating runs\n",
                watching, static_cast<long long>(config.metrics_every), kPairs);
    for (const auto& [name, bytes] : kinds) std::printf("bytes      %10.2f MB %s\n", static_cast<double>(bytes) * 1e-6, name);
    std::printf("op                   forward  backward [ms a step]\n");
    for (const OpShare& o : ops) std::printf("%-18s %9.2f %9.2f\n", o.name.c_str(), o.forward_ms, o.backward_ms);
}

}  // namespace vitrine::cli
