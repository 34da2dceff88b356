// vitrine bench: prefill, decoding, memory bandwidth and the cost of watching, all in one run.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <numeric>
#include <set>
#include <thread>

#include "app/cli/bench_generate.h"
#include "app/cli/bench_report.h"
#include "app/cli/bench_train.h"
#include "app/cli/common.h"
#include "app/cli/ranks.h"
#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/base/rng.h"
#include "engine/device/cpu/bandwidth.h"
#include "engine/device/cuda/device.h"
#include "engine/engine.h"

namespace vitrine::cli {
namespace {
using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

// The vocabulary in a seeded order: n different tokens as long as there are n.
std::vector<int32_t> seeded_tokens(int vocab_size, int64_t n, uint64_t seed) {
    std::vector<int32_t> all(vocab_size);
    std::iota(all.begin(), all.end(), 0);
    const CounterRng rng(seed, fnv1a64("bench tokens"));
    for (size_t i = all.size() - 1; i > 0; --i) std::swap(all[i], all[rng.bits(i) % (i + 1)]);
    std::vector<int32_t> out;
    for (int64_t i = 0; i < n; ++i) out.push_back(all[i % all.size()]);
    return out;
}

// Which experts the decoded tokens chose.
class ChosenExperts : public ProbeSink {
  public:
    void put(int, Probe, int, const float*, int, int) override {}
    void put(int, Probe p, int layer, const int32_t* data, int rows, int cols) override {
        if (p != kRouterIndices) return;
        for (int i = 0; i < rows * cols; ++i)
            if (data[i] >= 0) ++counts[{layer, data[i]}];  // -1: a slot that top_p left empty
    }
    std::map<std::pair<int, int>, int64_t> counts;
};

// "layers.3.ffn.experts.12.w1.weight": {3, 12}; {-1, -1} for what is no routed expert. Both layouts call them so.
std::pair<int, int> expert_of(const std::string& name) {
    const auto number_after = [&](const char* word) {
        const size_t at = name.find(word);
        return at == std::string::npos ? -1 : std::atoi(name.c_str() + at + std::char_traits<char>::length(word));
    };
    const int layer = number_after("layers."), expert = number_after(".experts.");
    return layer < 0 || expert < 0 ? std::pair{-1, -1} : std::pair{layer, expert};
}

bool is_looked_up(const std::string& name) {  // one row per token is read
    return name.find("embed") != std::string::npos || name.find("tid2eid") != std::string::npos;
}

void count_bytes(const Engine& engine, const ChosenExperts& chosen, int64_t n_tokens, int64_t n_different,
                 BenchReport& r) {
    const ModelConfig& c = engine.config();
    double per_token = 0;
    uint64_t distinct = 0;
    for (const TensorInfo& t : engine.info().tensors) {
        if (t.name.rfind("mtp.", 0) == 0) continue;  // not used by the trunk
        const auto expert = expert_of(t.name);
        if (expert.first >= 0) {
            const auto it = chosen.counts.find(expert);
            if (it == chosen.counts.end()) continue;
            per_token += static_cast<double>(t.bytes) * static_cast<double>(it->second) / static_cast<double>(n_tokens);
            distinct += t.bytes;
        } else if (is_looked_up(t.name)) {
            per_token += static_cast<double>(t.bytes) / c.vocab_size;
            distinct += t.bytes / c.vocab_size * n_different;
        } else {
            per_token += static_cast<double>(t.bytes);
            distinct += t.bytes;
        }
    }
    r.bytes_per_token = per_token;
    r.distinct_bytes = distinct;
}

void measure_prefill(Engine& engine, int64_t n_tokens, std::stop_token stop, BenchReport& r) {
    const auto ids = seeded_tokens(engine.config().vocab_size, n_tokens, 1);
    r.prefill_tokens = n_tokens;
    engine.new_session()->append(ids, stop);  // pages of the mapped file come in
    double best = 1e30;
    for (int i = 0; i < 3; ++i) {
        const auto session = engine.new_session();
        const auto start = Clock::now();
        session->append(ids, stop);
        best = std::min(best, seconds_since(start));
    }
    r.prefill_tokens_per_s = static_cast<double>(n_tokens) / best;
}

// Decodes in slices of 8 tokens, each between two readings of 128 MiB.
void decode_beside_reading(Session& session, std::span<const int32_t> ids, std::stop_token stop, BenchReport& r) {
    constexpr size_t kSlice = 8;
    if constexpr (kHasCuda)
        if (r.gpu != kCpu) {
            r.read_slices = {cuda::copy_gb_per_s(r.gpu)};
            const auto start = Clock::now();
            for (const int32_t& id : ids) session.append({&id, 1}, stop);
            r.decode_tokens_per_s = static_cast<double>(ids.size()) / seconds_since(start);
            return;
        }
    Pool pool(r.n_threads);
    cpu::ReadMeter reading(pool);
    double seconds = 0;
    r.read_slices = {reading.slice()};
    for (size_t at = 0; at < ids.size(); at += kSlice) {
        const auto slice = ids.subspan(at, std::min(kSlice, ids.size() - at));
        const auto start = Clock::now();
        for (const int32_t& id : slice) session.append({&id, 1}, stop);
        const double s = seconds_since(start);
        seconds += s;
        r.decode_slices.push_back(static_cast<double>(slice.size()) / s);
        r.read_slices.push_back(reading.slice());
    }
    r.decode_tokens_per_s = static_cast<double>(ids.size()) / seconds;
    r.read_bytes = reading.bytes_read();
}

void measure_decode(Engine& engine, Session& session, int64_t context, int64_t n_tokens, std::stop_token stop,
                    BenchReport& r) {
    const int vocab = engine.config().vocab_size;
    session.append(seeded_tokens(vocab, context, 2), stop, [&](int64_t done) {
        if (done % 8192 == 0)
            log_info("prefilling for decode: " + std::to_string(done) + " of " + std::to_string(context));
    });
    session.keep_state();
    const auto ids = seeded_tokens(vocab, n_tokens, 3);
    r.decode_context = context;
    r.decode_tokens = n_tokens;
    r.n_different_tokens = static_cast<int64_t>(std::set<int32_t>(ids.begin(), ids.end()).size());
    for (int i = 0; i < 8; ++i) session.append({&ids[i], 1}, stop);  // warm-up
    session.rewind(context);
    decode_beside_reading(session, ids, stop, r);
    r.cache_bytes = static_cast<double>(session.cache_report().total());

    // Once more, untimed, to see which experts the same tokens choose.
    ChosenExperts chosen;
    session.rewind(context);
    engine.watch().set(probe_bit(kRouterIndices));
    session.publish_to(&chosen);
    for (const int32_t& id : ids) session.append({&id, 1}, stop);
    session.publish_to(nullptr);
    engine.watch().set(kNoProbes);
    count_bytes(engine, chosen, n_tokens, r.n_different_tokens, r);
}

// How long the engine goes on computing after a stop is asked for, at seeded random times of a prefill.
void measure_cancel(Engine& engine, BenchReport& r) {
    constexpr int kStops = 15;
    const auto ids = seeded_tokens(engine.config().vocab_size, r.prefill_tokens, 5);
    const double prefill_s = static_cast<double>(r.prefill_tokens) / r.prefill_tokens_per_s;
    const CounterRng rng(6, fnv1a64("bench cancel"));
    std::vector<double> ms;
    for (int i = 0; i < kStops; ++i) {
        const auto session = engine.new_session();
        std::stop_source stop;
        Clock::time_point asked{};
        std::jthread asker([&] {
            std::this_thread::sleep_for(std::chrono::duration<double>(prefill_s * 0.95 * rng.uniform(i)));
            asked = Clock::now();
            stop.request_stop();
        });
        bool is_stopped = false;
        try {
            session->append(ids, stop.get_token());
        } catch (const Error& e) {
            if (e.kind() != ErrorKind::cancelled) throw;
            is_stopped = true;
        }
        const auto returned = Clock::now();
        asker.join();
        // One that was done before it was asked to stop says nothing.
        if (is_stopped) ms.push_back(std::chrono::duration<double, std::milli>(returned - asked).count());
    }
    std::sort(ms.begin(), ms.end());
    r.n_cancels = static_cast<int>(ms.size());
    if (ms.empty()) return;
    r.cancel_median_ms = ms[ms.size() / 2];
    r.cancel_max_ms = ms.back();
}

// One check as a probe site makes it, an opaque pointer away.
double measure_check_ns() {
    Watch watch;
    constexpr int64_t kChecks = 20'000'000;
    int64_t n_wanted = 0;
    const auto start = Clock::now();
    for (int64_t i = 0; i < kChecks; ++i) {
        const Watch* w = &watch;
        asm volatile("" : "+r"(w) : : "memory");  // the load is made every time
        n_wanted += w->wants(static_cast<Probe>(i % kProbeCount));
    }
    const double ns = seconds_since(start) * 1e9 / kChecks;
    VITRINE_ASSERT(n_wanted == 0);
    return ns;
}

// On rank 0, or in the only process.
int lead(const Args& args, Communicator& ranks) {
    ModelArgs model;
    int64_t context = 512, n_prefill = 512, n_decode = 256;
    bool is_json = false, is_training = false;
    std::string preset = "mix3-t1";
    int64_t n_steps = 20, n_drafts = 0, n_sequences = 0;
    GenerateBench generating;
    std::string invariant = "on";
    Options o("bench", "[OPTIONS]",
              "Measures prefill, decoding at a context, memory bandwidth and the cost of watching, in one run.\n"
              "With --train: training of a preset, as tokens per second, bytes by kind and time by op.\n"
              "With --draft or --sequences: generating text so, against one token at a time.");
    add_model_options(o, model);
    o.integer("--context", 1, 1048000, &context, "tokens in the cache when decoding begins (512)")
        .integer("--prefill", 1, 65536, &n_prefill, "tokens of the prefill measurement (512)")
        .integer("-n, --tokens", 256, 65536, &n_decode, "tokens decoded, from a seeded order of the vocabulary (256)")
        .flag("--train", &is_training, "measure training instead")
        .text("--preset", "NAME", &preset, "of vitrine train, with --train (mix3-t1)")
        .integer("--steps", 1, 100000, &n_steps, "training steps that are timed, with --train (20)")
        .integer("--draft", 1, kMaxDrafts, &n_drafts, "measure generating with so many tokens guessed ahead by the MTP module")
        .integer("--sequences", 1, 1024, &n_sequences, "measure generating so many sequences side by side")
        .choice("--batch-invariant", {"on", "off"}, &invariant,
                "with --sequences: each has the bits that it has alone, as drafts always do (on); or the fastest kernels")
        .text("--prompts", "FILE.json", &generating.prompts, "lists of token ids that --draft and --sequences continue")
        .flag("--json", &is_json, "one JSON object");
    if (!o.parse(args)) return 0;

    Interrupt interrupt;
    if (is_training)
        return bench_train(preset, n_steps, model.threads, model.device, is_json, ranks, interrupt.begin()), 0;
    if (n_drafts > 0 && n_sequences > 0) throw UsageError("--draft and --sequences exclude each other");
    const auto engine = load_engine(model, ranks, false);
    const std::stop_token stop = interrupt.begin();
    if (n_drafts > 0 || n_sequences > 0) {
        generating.n_drafts = static_cast<int>(n_drafts), generating.n_sequences = static_cast<int>(n_sequences);
        generating.n_tokens = n_decode, generating.is_batch_invariant = invariant == "on";
        bench_generate(*engine, generating, is_json, stop);
        return 0;
    }
    BenchReport r;
    r.model = engine->info().name;
    r.numerics = numerics_name(engine->numerics());
    r.kernels = engine->info().kernels;
    r.n_threads = engine->info().n_threads;
    r.gpu = engine->device();
    r.device = engine->info().device;
    const auto session = engine->new_session();
    if (context + n_decode > session->max_context())
        throw Error(ErrorKind::bad_input, "--context " + std::to_string(context) + " and " + std::to_string(n_decode) +
                                              " decoded tokens: the context holds " +
                                              std::to_string(session->max_context()));
    measure_prefill(*engine, n_prefill, stop, r);
    measure_decode(*engine, *session, context, n_decode, stop, r);

    // Spans long enough to be told from the clock's noise, short enough for 20 pairs.
    const int span = static_cast<int>(std::clamp(r.decode_tokens_per_s * 0.05, 8.0, 48.0));
    const auto watched_ids = seeded_tokens(engine->config().vocab_size, std::min<int64_t>(context, 512), 4);
    const auto watching = [&](ProbeSet probes) {
        WatchingMeter meter(*engine, watched_ids, span, probes);
        for (int i = 0; i < 20; ++i) meter.measure_pair();
        return meter.cost();
    };
    r.watching = watching(base_probes());
    // What the Attention view wants with a head selected: the most that any view watches.
    r.watching_most = watching(base_probes() | probe_bit(kIndexScores) | probe_bit(kSharesHead) | probe_bit(kEntryMassHead));
    measure_cancel(*engine, r);
    r.check_ns = measure_check_ns();
    r.checks_per_token = int64_t{kProbeCount} * (engine->config().n_layers() + 1);
    std::printf("%s%s", (is_json ? to_json(r) : to_text(r)).c_str(), is_json ? "\n" : "");
    return 0;
}

}  // namespace

int run_bench(const Args& args) {
    return with_started_ranks([&](Communicator& ranks) { return lead(args, ranks); });
}

}  // namespace vitrine::cli
