// vitrine compare: one question in the three modes, side by side, as the Modes view shows it.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "app/cli/common.h"
#include "app/comparison.h"
#include "app/conversation.h"
#include "engine/base/error.h"
#include "engine/base/json.h"
#include "engine/base/reader.h"
#include "engine/engine.h"

namespace vitrine::cli {
namespace {

constexpr Mode kAllModes[] = {Mode::non_think, Mode::high, Mode::max};
constexpr Phase kPhases[] = {Phase::prompt, Phase::thinking, Phase::answer};

std::string indented(const std::string& text) {
    std::string out;
    for (const char c : text) out += c == '\n' ? "\n            " : std::string(1, c);
    return out;
}

void print_costs(const Comparison& c) {
    std::printf("%-22s", "");
    for (const Mode m : kAllModes) std::printf(" %14s", mode_title(m));
    const auto row = [&](const char* name, const char* format, auto value) {
        std::printf("\n%-22s", name);
        for (const Mode m : kAllModes) {
            char cell[64];
            std::snprintf(cell, sizeof cell, format, value(c.at(m)));
            std::printf(" %14s", c.at(m).state == ModeAnswer::State::done ? cell : "-");
        }
    };
    row("tokens read", "%d", [](const ModeAnswer& a) { return a.stats.n_prompt; });
    row("tokens of thinking", "%d", [](const ModeAnswer& a) { return a.stats.n_thinking; });
    row("tokens of the answer", "%d", [](const ModeAnswer& a) { return a.stats.n_answer; });
    row("reading [ms]", "%.1f", [](const ModeAnswer& a) { return a.at(Phase::prompt).ms; });
    row("thinking [ms]", "%.1f", [](const ModeAnswer& a) { return a.at(Phase::thinking).ms; });
    row("answering [ms]", "%.1f", [](const ModeAnswer& a) { return a.at(Phase::answer).ms; });
    row("ended by", "%s", [](const ModeAnswer& a) { return a.stats.stop_reason.c_str(); });
    std::printf("\n");
}

void print_answers(const Comparison& c) {
    for (const Mode m : kAllModes) {
        const ModeAnswer& a = c.at(m);
        std::printf("\n%s\n", mode_title(m));
        if (a.state == ModeAnswer::State::failed) std::printf("  failed    %s\n", a.problem.c_str());
        if (!a.reasoning.empty()) std::printf("  thinking  %s\n", indented(a.reasoning).c_str());
        if (a.state == ModeAnswer::State::done) std::printf("  answer    %s\n", indented(a.content).c_str());
    }
}

std::string two_digits(double v) {
    char b[16];
    std::snprintf(b, sizeof b, "%.2f", v);
    return std::isfinite(v) ? b : "-";
}

void print_distances(const Comparison& c) {
    std::printf(
        "\nDistance between expert loads by layer: total variation, 0 the same, 1 no expert in common.\n"
        "In brackets what chance gives (tokens of both dealt anew); * more than 95 of 100 such deals.\n");
    std::printf("%-40s %12s", "", "all layers");
    for (int l = 0; l < c.n_layers; ++l) std::printf(" %5d", l);
    std::printf("\n");
    for (int p = 0; p < kPhasePairCount; ++p) {
        std::printf("%-40s", pair_name(kPhasePairs[p]).c_str());
        double chance = 0;
        for (int l = 0; l < c.n_layers; ++l) chance += c.distance(p, l).chance / c.n_layers;
        const std::string mean = two_digits(c.mean_distance(p));
        std::printf(" %12s", (mean == "-" ? mean : mean + " (" + two_digits(chance) + ")").c_str());
        for (int l = 0; l < c.n_layers; ++l) {
            const LoadDistance& d = c.distance(p, l);
            std::printf(" %5s", (two_digits(d.distance) + (d.exceeds_chance() ? "*" : " ")).c_str());
        }
        std::printf("\n");
    }
}

void print_caches(const Comparison& c) {
    std::printf(
        "\nCache as each phase ended: bytes that hold something, by kind; allocated: with the allocator's "
        "blocks\n%-21s "
        "%6s %7s",
        "", "tokens", "entries");
    for (int k = 0; k < kCacheKinds; ++k) std::printf(" %16s", cache_kind_name(static_cast<CacheKind>(k)));
    std::printf(" %10s %10s\n", "total", "allocated");
    for (const Mode m : kAllModes)
        for (const Phase p : kPhases) {
            const PhaseMeasure& measure = c.at(m).at(p);
            if (measure.cache.layers.empty()) continue;
            std::printf("%-11s %-9s %6lld %7lld", mode_title(m), phase_name(p),
                        static_cast<long long>(measure.cache.n_tokens), static_cast<long long>(measure.n_entries()));
            for (const uint64_t bytes : measure.filled) std::printf(" %16llu", static_cast<unsigned long long>(bytes));
            std::printf(" %10llu %10llu\n", static_cast<unsigned long long>(measure.n_filled()),
                        static_cast<unsigned long long>(measure.cache.total()));
        }
}

Json phase_json(const Comparison& c, const PhaseMeasure& m) {
    Json j = Json::object();
    j.set("tokens", m.n_tokens);
    j.set("ms", m.ms);
    Json cache = Json::object();
    cache.set("tokens", m.cache.n_tokens);
    cache.set("entries", m.n_entries());
    for (int k = 0; k < kCacheKinds; ++k) cache.set(cache_kind_name(static_cast<CacheKind>(k)), m.filled[k]);
    cache.set("total", m.n_filled());
    cache.set("allocated", m.cache.total());
    j.set("cache_bytes", std::move(cache));
    j.set("routed_tokens", m.n_counted);
    Json loads = Json::array();
    for (int l = 0; l < c.n_layers && m.n_counted > 0; ++l) {
        Json layer = Json::array();
        for (const int64_t n : layer_loads(m, l, c.n_experts)) layer.push(n);
        loads.push(std::move(layer));
    }
    j.set("expert_loads", std::move(loads));
    return j;
}

Json mode_json(const Comparison& c, Mode m) {
    const ModeAnswer& a = c.at(m);
    Json j = Json::object();
    j.set("mode", mode_name(m));
    if (a.state == ModeAnswer::State::failed) j.set("problem", a.problem);
    j.set("reasoning", a.reasoning);
    j.set("answer", a.content);
    j.set("stop", a.stats.stop_reason);
    j.set("n_prompt", a.stats.n_prompt);
    j.set("n_thinking", a.stats.n_thinking);
    j.set("n_answer", a.stats.n_answer);
    j.set("prefill_ms", a.stats.prefill_ms);
    j.set("decode_ms", a.stats.decode_ms);
    Json phases = Json::object();
    for (const Phase p : kPhases) phases.set(phase_name(p), phase_json(c, a.at(p)));
    j.set("phases", std::move(phases));
    return j;
}

// null where there is no number.
Json real(double v) {
    return std::isfinite(v) ? Json(v) : Json();
}

Json distance_json(const Comparison& c, int pair) {
    Json j = Json::object();
    j.set("pair", pair_name(kPhasePairs[pair]));
    j.set("mean", real(c.mean_distance(pair)));
    Json layers = Json::array();
    for (int l = 0; l < c.n_layers; ++l) {
        const LoadDistance& d = c.distance(pair, l);
        Json one = Json::object();
        one.set("distance", real(d.distance));
        one.set("chance", real(d.chance));
        one.set("chance_95", real(d.chance_95));
        layers.push(std::move(one));
    }
    j.set("layers", std::move(layers));
    return j;
}

std::string to_json(const Comparison& c, const Engine& engine) {
    Json j = Json::object();
    j.set("model", engine.info().name);
    j.set("numerics", numerics_name(engine.numerics()));
    j.set("question", c.question);
    j.set("seed", c.sampling.seed);
    j.set("temperature", c.sampling.temperature);
    Json modes = Json::array(), distances = Json::array();
    for (const Mode m : kAllModes) modes.push(mode_json(c, m));
    for (int p = 0; p < kPhasePairCount; ++p) distances.push(distance_json(c, p));
    j.set("modes", std::move(modes));
    j.set("load_distances", std::move(distances));
    return j.dump();
}

}  // namespace

int run_compare(const Args& args) {
    ModelArgs model;
    SamplingArgs sampling;
    std::string prompt, file, system;
    bool is_json = false;
    Options o(
        "compare", "-p TEXT [OPTIONS]",
        "Answers one question in Non-think, Think High and Think Max, each from the same context in a session of its "
        "own,\n"
        "and prints side by side what each thought, answered and spent; then, by phase (prompt, thinking, answer),\n"
        "how far the expert loads are apart and what the cache held. The window's Modes view shows the same.");
    add_model_options(o, model);
    o.text("-p, --prompt", "TEXT", &prompt, "what to ask")
        .text("-f, --file", "FILE", &file, "ask what is in this file")
        .text("-sys, --system", "TEXT", &system, "system text");
    add_sampling_options(o, sampling);
    o.flag("--json", &is_json, "print one object, with every load and distance");
    if (!o.parse(args)) return 0;
    const bool has_prompt = o.was_given("--prompt"), has_file = o.was_given("--file");
    if (has_prompt == has_file) throw UsageError("give either -p TEXT or -f FILE");
    if (has_file) prompt = read_file(file, 64 << 20);

    Interrupt interrupt;
    const auto engine = load_engine(model);
    ConversationTree tree;
    tree.system = system;
    Turn turn;
    turn.role = "user";
    turn.content = prompt;
    const int64_t asked = tree.add(std::move(turn));
    const std::stop_token stop = interrupt.begin();
    const Comparison c = compare_modes(*engine, tree, asked, sampling.get(engine->info().sampling), {}, stop);
    if (is_json) {
        std::printf("%s\n", to_json(c, *engine).c_str());
    } else {
        print_costs(c);
        print_answers(c);
        print_distances(c);
        print_caches(c);
    }
    const bool has_answer = std::any_of(c.modes.begin(), c.modes.end(),
                                        [](const ModeAnswer& a) { return a.state == ModeAnswer::State::done; });
    return stop.stop_requested() || !has_answer ? 1 : 0;
}

}  // namespace vitrine::cli
