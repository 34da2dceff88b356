// vitrine curriculum: samples of what the shipped model learns from, and the tokenizer that is made from them.
#include <chrono>
#include <cstdio>

#include "app/cli/common.h"
#include "app/paths.h"
#include "engine/base/log.h"
#include "engine/base/reader.h"
#include "engine/model/config.h"
#include "engine/model/init.h"
#include "engine/train/data/data.h"
#include "experiments/curriculum/domains.h"
#include "experiments/curriculum/source.h"
#include "experiments/curriculum/tokenizer_build.h"

namespace vitrine::cli {
namespace {

namespace cur = curriculum;

struct CurriculumArgs {
    std::string domain, skill, language, model, preset = "nano", out, bench;
    int64_t n = 3, level = -1, seed = 0, vocab = 2048, items = 60000;
    bool is_test = false;
};

void print_table() {
    for (const cur::DomainInfo& d : cur::domains()) {
        std::printf("%s (%g %%): %s\n", d.name, d.share, d.what);
        for (const cur::Skill& s : d.skills()) std::printf("  %-12s levels %d to %d\n", s.name, s.lowest, s.highest);
    }
}

void print_item(const cur::Item& i) {
    std::printf("---- %s %d\n%s\n", i.skill, i.level, i.prompt.c_str());
    std::printf("  Non-think   %s\n", i.reply.c_str());
    for (const Mode m : {Mode::high, Mode::max}) {
        std::string text = i.thinking(m);
        for (size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 15)
            text.replace(at, 1, "\n              ");
        std::printf("  %-11s %s\n", mode_title(m), text.c_str());
    }
}

void print_samples(const CurriculumArgs& a, const ModelConfig& model) {
    const auto refuse = [&a](const std::string& expected) {
        throw UsageError("--level " + std::to_string(a.level) + ": expected " + expected);
    };
    bool has_any = false;
    for (size_t d = 0; d < cur::domains().size(); ++d) {
        if (!a.domain.empty() && cur::domain_index(a.domain) != static_cast<int>(d)) continue;
        for (const cur::Skill& s : cur::domains()[d].skills()) {
            if (!a.skill.empty() && &cur::find_skill(a.skill) != &s) continue;
            if (a.level >= 0 && (a.level < s.lowest || a.level > s.highest)) {
                if (a.skill.empty()) continue;
                refuse(std::to_string(s.lowest) + " to " + std::to_string(s.highest) + " for " + s.name);
            }
            has_any = true;
            cur::Selection what{
                .domain = static_cast<int>(d), .skill = &s, .level = static_cast<int>(a.level), .model = &model};
            if (!a.language.empty())
                what.language = a.language == "zh" ? cur::Language::chinese : cur::Language::english;
            for (int64_t i = 0; i < a.n; ++i)
                print_item(cur::make_item(static_cast<uint64_t>(a.seed),
                                          a.is_test ? cur::Split::test : cur::Split::train, what,
                                          static_cast<uint64_t>(i)));
        }
    }
    if (!has_any && a.level >= 0) refuse("a level of one of these skills; --list names them");
}

void write_tokenizer(const CurriculumArgs& a, const ModelConfig& model) {
    make_folder(a.out);
    write_file_atomic(a.out + "/tokenizer.json",
                      cur::build_tokenizer(model, static_cast<int>(a.vocab), static_cast<uint64_t>(a.items)));
    write_file_atomic(a.out + "/chat.json", cur::chat_json());
    log_info("tokenizer.json and chat.json written to " + a.out);
}

// How fast batches are made, on as many threads as there are cores.
void measure(const CurriculumArgs& a, const ModelConfig& model) {
    cur::add_task();
    TrainConfig c;
    c.data = "curriculum", c.tokenizer = a.bench, c.batch = 64, c.sequence_length = 1024;
    const auto data = make_data(c, model);
    (void)data->batch(0);
    size_t n_tokens = 0, n_learnt = 0;
    const auto begin = std::chrono::steady_clock::now();
    for (int64_t step = 1; step <= 20; ++step) {
        const TrainBatch b = data->batch(step);
        n_tokens += b.tokens.size();
        for (int32_t t : b.targets) n_learnt += t >= 0;
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    std::printf("%.0f tokens/s, sequences %.1f %% full, loss on %.1f %% of the tokens\n",
                static_cast<double>(n_tokens) / seconds, 100.0 * static_cast<double>(n_tokens) / (20 * 64 * 1024.0),
                100.0 * static_cast<double>(n_learnt) / static_cast<double>(n_tokens));
}

}  // namespace

int run_curriculum(const Args& args) {
    CurriculumArgs a;
    bool lists = false;
    Options o("curriculum", "[OPTIONS]",
              "Shows samples of the generated data that the shipped model learns from "
              "(experiments/curriculum/README.md), or makes the\n"
              "tokenizer from it.");
    o.flag("--list", &lists, "domains, their shares and skills, and nothing else")
        .text("--domain", "NAME", &a.domain, "samples of this domain alone")
        .text("--skill", "NAME", &a.skill, "samples of this skill alone")
        .integer("--level", 0, 1 << 20, &a.level, "difficulty; drawn when not given")
        .choice("--language", {"en", "zh"}, &a.language, "of the questions; drawn when not given")
        .integer("-n, --samples", 1, 1 << 20, &a.n, "samples of each skill (3)")
        .integer("--seed", 0, INT64_MAX, &a.seed, "of the samples (0)")
        .flag("--held-out", &a.is_test, "problems that training never sees")
        .text("-m, --model", "DIR", &a.model, "whose configuration the chat tells")
        .text("--preset", "NAME", &a.preset, "the same, by the name of a shape (nano)")
        .text("-o, --out", "DIR", &a.out, "learn a tokenizer and write tokenizer.json and chat.json there")
        .integer("--vocab", 272, 65536, &a.vocab, "tokens of it (2048)")
        .integer("--items", 1, 1 << 24, &a.items, "items that it is learnt from (60000)")
        .text("--bench", "DIR", &a.bench, "how fast batches are made with the tokenizer in DIR");
    if (!o.parse(args)) return 0;
    if (lists) return print_table(), 0;
    const ModelConfig model = a.model.empty() ? preset_config(a.preset) : read_config(a.model).config;
    if (!a.out.empty()) return write_tokenizer(a, model), 0;
    if (!a.bench.empty()) return measure(a, model), 0;
    print_samples(a, model);
    return 0;
}

}  // namespace vitrine::cli
