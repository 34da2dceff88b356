// vitrine bench --draft, --sequences.
#include "app/cli/bench_generate.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "engine/base/error.h"
#include "engine/base/json.h"
#include "engine/base/reader.h"
#include "engine/infer/generate.h"
#include "engine/train/data/data.h"

namespace vitrine::cli {
namespace {

constexpr int kRuns = 3;

// All answers of one way of generating, in the best run's time. Of decoding alone beside drafts; reading the prompts
// included beside sequences that join as they come.
struct Speed {
    int64_t n_tokens = 0, n_passes = 0, n_drafted = 0, n_accepted = 0;
    double seconds = 1e300;
    std::vector<std::vector<int32_t>> ids;
    double tokens_per_pass() const {  // an answer's first token comes with its prompt
        return n_passes > 0 ? static_cast<double>(n_tokens - static_cast<int64_t>(ids.size())) / static_cast<double>(n_passes) : 0;
    }
    double tokens_per_s() const { return static_cast<double>(n_tokens) / seconds; }
};

std::vector<std::vector<int32_t>> read_prompts(const Engine& engine, const std::string& file) {
    const ModelConfig& c = engine.config();
    if (file.empty()) return {{std::max(c.bos_id, 0)}};
    std::vector<std::vector<int32_t>> prompts;
    const Json lists = Json::parse(read_file(file, 64 << 20), file, {.max_bytes = 64 << 20});
    std::vector<Issue> issues;
    for (const Json& prompt : lists.items()) {
        const std::string key = "[" + std::to_string(prompts.size()) + "]";
        prompts.push_back(token_ids(prompt, key, c.vocab_size, issues));
        if (prompt.is_array() && prompt.items().empty())
            issues.push_back({file, key, "[]", "expected at least one id", prompt.where()});
    }
    if (prompts.empty()) issues.push_back({file, "", "[]", "expected a list with at least one list of ids", ""});
    throw_if_any(issues);
    return prompts;
}

void add(Speed& s, const GenerateResult& r) {
    if (r.stats.stop_reason == "stopped") throw Error(ErrorKind::cancelled, "cancelled");
    s.n_tokens += static_cast<int64_t>(r.output_ids.size());
    s.n_passes += r.stats.n_passes, s.n_drafted += r.stats.n_drafted, s.n_accepted += r.stats.n_accepted;
    s.ids.push_back(r.output_ids);
}

Speed one_at_a_time(Engine& engine, std::span<const GenerateRequest> requests, int n_drafts, bool counts_prompts,
                    std::stop_token stop) {
    Speed s;
    s.seconds = 0;
    for (GenerateRequest r : requests) {
        r.n_drafts = n_drafts;
        const auto session = engine.new_session(n_drafts > 0);
        const GenerateResult result = generate(engine, *session, r, {}, stop);
        add(s, result);
        s.seconds += (result.stats.decode_ms + (counts_prompts ? result.stats.prefill_ms : 0)) / 1e3;
    }
    return s;
}

Speed side_by_side(Engine& engine, std::span<const GenerateRequest> requests, const GenerateBench& what,
                   std::stop_token stop) {
    Speed s;
    const auto start = std::chrono::steady_clock::now();
    for (const GenerateResult& r :
         generate_many(engine, requests, {what.n_sequences, what.is_batch_invariant}, {}, stop)) {
        add(s, r);
    }
    s.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return s;
}

struct Comparison {
    Speed plain, fast;
    bool is_same = true;
};

Comparison compare(Engine& engine, std::span<const GenerateRequest> requests, const GenerateBench& what,
                   std::stop_token stop) {
    Comparison c;
    const auto keep = [](Speed& best, Speed run) {
        if (run.seconds < best.seconds) best = std::move(run);
    };
    for (int i = 0; i < kRuns; ++i) {
        const bool is_many = what.n_sequences > 0;
        keep(c.plain, one_at_a_time(engine, requests, 0, is_many, stop));
        keep(c.fast, is_many ? side_by_side(engine, requests, what, stop)
                             : one_at_a_time(engine, requests, what.n_drafts, false, stop));
        c.is_same = c.is_same && c.plain.ids == c.fast.ids;
    }
    return c;
}

double share(int64_t part, int64_t whole) {
    return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

void print(const char* how, const Comparison& c, bool is_draft) {
    std::printf("%-10s %8.1f tokens/s alone, %8.1f %s: %.2f times; %s\n", how, c.plain.tokens_per_s(),
                c.fast.tokens_per_s(), is_draft ? "with drafts" : "side by side",
                c.fast.tokens_per_s() / c.plain.tokens_per_s(), c.is_same ? "the same tokens" : "NOT the same tokens");
    if (is_draft)
        std::printf("           %.1f %% of %lld guesses right, %.2f tokens a pass\n",
                    100 * share(c.fast.n_accepted, c.fast.n_drafted), static_cast<long long>(c.fast.n_drafted),
                    c.fast.tokens_per_pass());
}

Json to_json(const Comparison& c, bool is_draft) {
    Json j = Json::object();
    j.set("tokens", c.plain.n_tokens);
    j.set("tokens_per_s_alone", c.plain.tokens_per_s());
    j.set("tokens_per_s", c.fast.tokens_per_s());
    j.set("speedup", c.fast.tokens_per_s() / c.plain.tokens_per_s());
    j.set("same_tokens", c.is_same);
    if (!is_draft) return j;
    j.set("drafted", c.fast.n_drafted);
    j.set("acceptance", share(c.fast.n_accepted, c.fast.n_drafted));
    j.set("tokens_per_pass", c.fast.tokens_per_pass());
    return j;
}

}  // namespace

void bench_generate(Engine& engine, const GenerateBench& what, bool is_json, std::stop_token stop) {
    std::vector<GenerateRequest> requests;
    std::vector<std::vector<int32_t>> prompts = read_prompts(engine, what.prompts);
    for (size_t i = prompts.size(); i < static_cast<size_t>(what.n_sequences); ++i)
        prompts.push_back(prompts[i % prompts.size()]);
    for (size_t i = 0; i < prompts.size(); ++i) {
        GenerateRequest r{prompts[i], {}};
        r.sampling.max_new_tokens = static_cast<int>(what.n_tokens), r.sampling.seed = i;
        requests.push_back(std::move(r));
    }
    const auto at = [&](double temperature) {
        for (GenerateRequest& r : requests) r.sampling.temperature = temperature;
        return compare(engine, requests, what, stop);
    };
    const Comparison greedy = at(0), drawn = at(1);
    const bool is_draft = what.n_sequences == 0;
    const ModelInfo& info = engine.info();
    if (is_json) {
        Json j = Json::object();
        j.set("model", info.name), j.set("numerics", numerics_name(info.numerics)), j.set("device", info.device);
        j.set("threads", info.n_threads), j.set("prompts", static_cast<int64_t>(prompts.size()));
        if (is_draft)
            j.set("drafts", what.n_drafts);
        else
            j.set("sequences", what.n_sequences), j.set("batch_invariant", what.is_batch_invariant);
        j.set("greedy", to_json(greedy, is_draft)), j.set("drawn", to_json(drawn, is_draft));
        std::printf("%s\n", j.dump(2).c_str());
        return;
    }
    std::printf("model      %s, %s, %s; %zu prompts, answers of at most %lld tokens, %s\n", info.name.c_str(),
                numerics_name(info.numerics), info.device.c_str(), prompts.size(),
                static_cast<long long>(what.n_tokens),
                is_draft ? (std::to_string(what.n_drafts) + " drafts a pass").c_str()
                         : (std::to_string(what.n_sequences) + " sequences a pass, batch-invariant " +
                            (what.is_batch_invariant ? "on" : "off"))
                               .c_str());
    print("greedy", greedy, is_draft);
    print("drawn", drawn, is_draft);
}

}  // namespace vitrine::cli
