// Drafting: tokens guessed by the MTP module and checked in one pass; the same answers in less time.
#include <algorithm>
#include <cstdio>

#include "engine/base/error.h"
#include "engine/engine.h"
#include "engine/infer/generate.h"
#include "experiments/curriculum/asker.h"
#include "experiments/inner/inner.h"
#include "experiments/inner/statistics.h"
#include "experiments/questions.h"

namespace vitrine::inner {
namespace {

constexpr const char* kRows[] = {"add 8 digits", "chain of 12", "hops 4", "sort 8", "countdown 3", "glossary"};

struct Counts {
    int n_tokens = 0, n_passes = 0;
    std::vector<double> n_drafted, n_accepted, ms;  // by answer
    void add(const GenerateResult& r) {
        n_tokens += static_cast<int>(r.output_ids.size());
        n_passes += r.stats.n_passes;
        n_drafted.push_back(r.stats.n_drafted), n_accepted.push_back(r.stats.n_accepted);
        ms.push_back(r.stats.decode_ms);
    }
};

GenerateResult answer(Engine& engine, const std::vector<int32_t>& prompt, int n_drafts, std::stop_token stop) {
    GenerateRequest request;
    request.prompt = prompt, request.mode = Mode::high, request.n_drafts = n_drafts;
    request.sampling.temperature = 0, request.sampling.max_new_tokens = curriculum::answer_budget(Mode::high);
    const auto session = engine.new_session(n_drafts > 0);
    GenerateResult r = generate(engine, *session, request, {}, stop);
    // A stop ends an answer early and throws nothing; half an answer is no measurement.
    if (r.stats.stop_reason == "stopped") throw Error(ErrorKind::cancelled, "cancelled");
    return r;
}

}  // namespace

Result measure_drafting(Engine& engine, const Options& options, const Progress& progress, std::stop_token stop) {
    Result r;
    r.about =
        "n / 10 held-out items of six rows, Think High, greedy, one after the other. Accepted: share of the guesses "
        "that came true. Speed-up: time of decoding without drafts over that with them, on this machine as busy as it "
        "was. Both are of all answers together; 95 % over answers.";
    if (engine.config().n_mtp_layers == 0) {
        r.about += " This model has no MTP module.";
        return r;
    }
    const curriculum::Asker asker(engine, {}, stop);
    constexpr int kMostDrafts = 3;
    Table t{
        "drafts",
        {"answers", "tokens", "accepted", "lowest", "highest", "tokens per pass", "speed-up", "lowest ", "highest "},
        3,
        {}};
    std::vector<Counts> sums(kMostDrafts + 1);
    bool is_same = true;
    int n_answers = 0;
    for (const char* row : kRows)
        for (const curriculum::Item& item :
             lab::suite_items(row, std::max(1, options.n / 10), options.seed, engine.config())) {
            if (progress) progress("drafting: " + std::string(row));
            const std::vector<int32_t> prompt = asker.prompt(item.prompt, Mode::high);
            ++n_answers;
            const GenerateResult plain = answer(engine, prompt, 0, stop);
            sums[0].add(plain);
            for (int n = 1; n <= kMostDrafts; ++n) {
                const GenerateResult g = answer(engine, prompt, n, stop);
                is_same &= g.output_ids == plain.output_ids;
                sums[static_cast<size_t>(n)].add(g);
            }
        }
    for (size_t n = 0; n < sums.size(); ++n) {
        const Counts& s = sums[n];
        Mean a{0, kNone, {kNone, kNone}}, x = a;
        if (n) a = ratio_of_sums(s.n_accepted, s.n_drafted), x = ratio_of_sums(sums[0].ms, s.ms);
        // An answer's first token comes with its prompt.
        const double per_pass = s.n_passes ? double(s.n_tokens - n_answers) / s.n_passes : kNone;
        t.rows.push_back({std::to_string(n),
                          {double(n_answers), double(s.n_tokens), a.value, a.interval.lowest, a.interval.highest,
                           per_pass, x.value, x.interval.lowest, x.interval.highest}});
    }
    r.tables.push_back(std::move(t));
    r.bars.push_back(
        {"drafting changes no token", is_same ? "all answers are the same" : "some answers DIFFER", is_same});
    return r;
}

}  // namespace vitrine::inner
