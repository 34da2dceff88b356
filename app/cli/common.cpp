// What the subcommands share.
#include "app/cli/common.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <mutex>

#include "app/cli/ranks.h"
#include "app/paths.h"
#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/comm/communicator.h"
#include "engine/engine.h"

namespace vitrine::cli {

std::string ModelArgs::folder_or_shipped() const {
    return folder.empty() ? shipped_model() : folder;
}

void add_model_options(Options& o, ModelArgs& m) {
    o.text("-m, --model", "DIR", &m.folder, "checkpoint folder; the shipped model when not given")
        .choice("--numerics", {"exact", "reference"}, &m.numerics, "FP32 throughout, or the official code's rounding")
        .text("--device", "cpu|cuda[:N]", &m.device, "where it runs: the CPU, or NVIDIA GPU number N (0)")
        .integer("-c, --ctx, --ctx-size", 1, 1048576, &m.context,
                 "largest context in tokens; the model's own when not given")
        .integer("-t, --threads", 1, 1024, &m.threads, "threads; one per core when not given");
}

int gpu_number(const std::string& device) {
    if (device == "cpu") return kCpu;
    if (device == "cuda") return 0;
    int n = 0;
    const char *first = device.c_str() + 5, *last = device.c_str() + device.size();
    if (device.rfind("cuda:", 0) == 0)
        if (const auto [end, error] = std::from_chars(first, last, n); error == std::errc() && end == last && n >= 0) return n;
    throw UsageError("--device " + escaped(device) + ": expected cpu, cuda or cuda:N");
}

EngineOptions ModelArgs::options() const { return {numerics_mode(), static_cast<int>(threads), context, gpu()}; }

std::unique_ptr<Engine> load_engine(const ModelArgs& m, bool needs_text) {
    return load_engine(m, *alone(), needs_text);
}

std::unique_ptr<Engine> load_engine(const ModelArgs& m, Communicator& ranks, bool needs_text) {
    EngineOptions options = m.options();
    options.needs_text = needs_text;
    if (ranks.size() > 1) {
        options.n_threads = threads_per_rank(ranks, m.threads), options.gpu = gpu_of_rank(ranks, m.device);
        options.ranks = &ranks;
        order_experts(ranks, m.folder_or_shipped(), options.n_threads, options.gpu != kCpu);
    }
    auto engine = Engine::load(m.folder_or_shipped(), options);
    const ModelInfo& info = engine->info();
    for (const std::string& w : info.warnings) log_warning(w);
    const std::string where =
        info.gpu == kCpu ? info.kernels + ", " + std::to_string(info.n_threads) + " threads" : info.device;
    char line[256];
    std::snprintf(line, sizeof line, "%s: %.1f M parameters, %.1f M active, %s, %s, loaded in %.0f ms",
                  info.name.c_str(), info.n_params / 1e6, info.n_active_params / 1e6, numerics_name(info.numerics),
                  where.c_str(), info.load_ms);
    log_info(line);
    return engine;
}

Sampling SamplingArgs::get(const Sampling& of_model) const {
    Sampling s = sampling;
    s.max_new_tokens = static_cast<int>(max_new_tokens);
    s.temperature = temperature < 0 ? of_model.temperature : temperature;
    s.top_k = top_k < 0 ? of_model.top_k : static_cast<int>(top_k);
    s.top_p = top_p < 0 ? of_model.top_p : top_p;
    s.min_p = min_p < 0 ? of_model.min_p : min_p;
    s.repetition_penalty = repetition_penalty < 0 ? of_model.repetition_penalty : repetition_penalty;
    return s;
}

void add_sampling_options(Options& o, SamplingArgs& s) {
    o.integer("-n, --n-predict", 1, 1048576, &s.max_new_tokens, "at most this many new tokens (4096)")
        .number("--temp", 0, 100, &s.temperature, "temperature; 0 is greedy (the model's own)")
        .integer("--top-k", 0, INT32_MAX, &s.top_k, "draw from the k most probable; 0: from all (the model's own)")
        .number("--top-p", 0, 1, &s.top_p, "draw from the smallest set with this probability (the model's own)",
                Ends::above_lowest)
        .number("--min-p", 0, 1, &s.min_p, "leave out what is less than this share of the best (the model's own)",
                Ends::below_highest)
        .number("--repetition-penalty", 0.1, 10, &s.repetition_penalty, "divide logits of tokens seen (the model's own)")
        .counter("--seed", &s.sampling.seed, "the same seed draws the same tokens (0)")
        .list("--stop", "TEXT", &s.sampling.stop, "end the answer before this text; may be repeated");
}

Mode mode_from_name(const std::string& name) {
    if (name == "non-think") return Mode::non_think;
    if (name == "high") return Mode::high;
    if (name == "max") return Mode::max;
    throw UsageError("--mode " + escaped(name) + ": expected one of non-think|high|max");
}

int exit_code(const std::exception& e) {
    if (dynamic_cast<const UsageError*>(&e)) return 2;
    const auto* error = dynamic_cast<const Error*>(&e);
    return error && error->kind() == ErrorKind::bad_input ? 2 : 1;
}

struct Interrupt::State {
    std::mutex mutex;
    std::stop_source running;
    bool is_running = false;
};

Interrupt::Interrupt() : state_(std::make_shared<State>()) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    thread_ = std::jthread([state = state_, set](std::stop_token stop) {
        while (!stop.stop_requested()) {
            const timespec wait{0, 50'000'000};
            if (sigtimedwait(&set, nullptr, &wait) != SIGINT) continue;
            const std::lock_guard lock(state->mutex);
            if (!state->is_running || state->running.stop_requested()) _exit(130);
            state->running.request_stop();
        }
    });
}

Interrupt::~Interrupt() = default;

std::stop_token Interrupt::begin() {
    const std::lock_guard lock(state_->mutex);
    state_->running = std::stop_source();
    state_->is_running = true;
    return state_->running.get_token();
}

void Interrupt::end() {
    const std::lock_guard lock(state_->mutex);
    state_->is_running = false;
}

std::string human_bytes(double bytes) {
    const char* units[] = {"B", "kB", "MB", "GB", "TB"};
    int u = 0;
    while (bytes >= 1000 && u < 4) bytes /= 1000, ++u;
    char b[32];
    std::snprintf(b, sizeof b, u ? "%.1f %s" : "%.0f %s", bytes, units[u]);
    return b;
}

}  // namespace vitrine::cli
