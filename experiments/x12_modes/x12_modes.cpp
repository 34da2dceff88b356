// X12: three modes of thinking, what they answer, what they spend, and whether the answer follows the thinking.
#include <algorithm>
#include <memory>

#include "engine/engine.h"
#include "experiments/curriculum/causality.h"
#include "experiments/experiment.h"
#include "experiments/questions.h"
#include "experiments/statistics.h"

namespace vitrine::lab {
namespace {

using curriculum::Causality;

enum class Kind { serial, search, control, other };
struct Row {
    const char* name;  // of the suite
    Kind kind;
};
constexpr Row kRows[] = {
    {"chain of 4", Kind::serial},      {"chain of 12", Kind::serial}, {"cups, 4 swaps", Kind::serial},
    {"cups, 12 swaps", Kind::serial},  {"countdown 3", Kind::search}, {"countdown 4", Kind::search},
    {"latin, 6 blanks", Kind::search}, {"reverse 12", Kind::control}, {"recall 1K", Kind::control},
    {"add 8 digits", Kind::other},     {"multiply 3x3", Kind::other}, {"hops 4", Kind::other},
};
constexpr Kind kKinds[] = {Kind::serial, Kind::search, Kind::control, Kind::other};
const char* kind_name(Kind k) {
    static constexpr const char* kNames[] = {"serial", "search", "control", "other"};
    return kNames[static_cast<int>(k)];
}
constexpr Mode kModes[] = {Mode::non_think, Mode::high, Mode::max};

LabInfo describe() {
    LabInfo i;
    i.name = "X12";
    i.title = "Three modes of thinking";
    i.question =
        "What do Think High and Think Max gain, on which tasks, for how many tokens, and is it the thinking that does "
        "it?";
    i.claim =
        "V4-Pro on Humanity's Last Exam: 7.7 % in Non-think, 34.5 % in Think High, 37.7 % in Think Max (V4 report, "
        "Table "
        "7): the jump is from none to High.";
    i.literature =
        "A network of fixed depth can't carry out long serial computations in one pass; written steps let it (arXiv "
        "2402.12875). Search gains from longer traces with dead ends (arXiv 2404.03683). Looking up or reversing needs "
        "no "
        "steps.";
    i.badge = LabBadge::measured;
    i.knobs = {
        model_knob(),
        number_knob("items", "Questions of each task", "20", 2, 5000, "held out, the same ones in every mode", true),
        number_knob("seed", "Seed", "2026", 0, 1e9, "of the questions"),
        number_knob("gpu", "GPU", "-1", -1, 15, "number of an NVIDIA GPU; -1: the CPU")};
    i.plots = {{"Accuracy and tokens", "tokens written", "right [%]", {}, true, false},
               {"Mean by kind of task", "tokens written", "right [%]", {}, true, false}};
    i.expected_time = "two to three minutes";
    return i;
}

struct Asked {
    const Row* row;
    Answers by_mode[3];
};

// Answers of all rows of a kind in one mode, item after item.
std::vector<bool> right_of(const std::vector<Asked>& all, Kind kind, Mode mode) {
    std::vector<bool> right;
    for (const Asked& a : all)
        if (a.row->kind == kind) {
            const std::vector<bool>& one = a.by_mode[static_cast<int>(mode)].is_right;
            right.insert(right.end(), one.begin(), one.end());
        }
    return right;
}
Pairs pairs_of(const std::vector<Asked>& all, Kind kind, Mode from, Mode to) {
    return lab::pairs_of(right_of(all, kind, from), right_of(all, kind, to));
}

LabTable answers_table(const std::vector<Asked>& all) {
    LabTable t{"Right answers [% with 95 % Wilson interval] and tokens written, n = " +
                   std::to_string(all[0].by_mode[0].is_right.size()) + " each",
               {"task", "kind"},
               {}};
    for (const Mode m : kModes) t.columns.insert(t.columns.end(), {mode_title(m), "tokens", "right per 1,000 tokens"});
    for (const Asked& a : all) {
        t.rows.push_back({a.row->name, kind_name(a.row->kind)});
        for (const Answers& x : a.by_mode)
            t.rows.back().insert(
                t.rows.back().end(),
                {with_interval(x.n_right(), static_cast<int>(x.is_right.size())), fixed(x.mean_tokens, 0),
                 fixed(x.mean_tokens > 0 ? 1000 * x.accuracy() / x.mean_tokens : 0, 1)});
    }
    return t;
}

LabTable pairs_table(const std::vector<Asked>& all) {
    LabTable t{"The same questions in two modes (exact McNemar test)",
               {"tasks", "from", "to", "n", "right in the first only", "in the second only", "points", "p"},
               {}};
    for (const Kind k : kKinds)
        for (const Mode from : {Mode::non_think, Mode::high}) {
            const Mode to = from == Mode::high ? Mode::max : Mode::high;
            const Pairs p = pairs_of(all, k, from, to);
            t.rows.push_back({kind_name(k), mode_title(from), mode_title(to), std::to_string(p.n),
                              std::to_string(p.n_only_a), std::to_string(p.n_only_b), fixed(100 * p.difference(), 1),
                              significant(p.p_value(), 2)});
        }
    return t;
}

LabTable causality_table(const Causality& sums, const Causality& chains) {
    LabTable t{"A digit of the model's own working is changed (Think High); it goes on from there",
               {"task", "n", "answers otherwise [%]", "takes that digit over [%]", "takes a step back [%]", "no answer",
                "answers otherwise with the digit put back [%]"},
               {}};
    const auto row = [&](const char* name, const Causality& c, bool has_digits) {
        t.rows.push_back({name, std::to_string(c.n), with_interval(c.n_changed, c.n),
                          has_digits ? with_interval(c.n_taken_over, c.n) : "", with_interval(c.n_taken_back, c.n),
                          std::to_string(c.n_unfinished), with_interval(c.n_changed_without, c.n)});
    };
    row("add 8 digits", sums, true);
    row("chain of 12", chains, false);
    return t;
}

LabTable examples_table(const Causality& sums) {
    LabTable t{
        "The first of these sums", {"its working up to the digit", "as changed", "it went on", "answer", "before"}, {}};
    for (const Causality::Example& e : sums.examples)
        t.rows.push_back({e.kept, e.changed, e.went_on, e.answer, e.before});
    return t;
}

std::vector<LabChart> charts(const std::vector<Asked>& all) {
    LabChart tasks{
        "Accuracy and tokens: Non-think, Think High, Think Max", "tokens written", "right [%]", true, false, {}};
    LabChart kinds{"Mean by kind of task", "tokens written", "right [%]", true, false, {}};
    for (const Asked& a : all) {
        tasks.curves.push_back({a.row->name, {}, {}});
        for (const Answers& x : a.by_mode)
            tasks.curves.back().x.push_back(x.mean_tokens), tasks.curves.back().y.push_back(100 * x.accuracy());
    }
    for (const Kind k : kKinds) {
        kinds.curves.push_back({kind_name(k), {}, {}});
        for (size_t m = 0; m < std::size(kModes); ++m) {
            double tokens = 0, right = 0;
            int n = 0;
            for (const Asked& a : all)
                if (a.row->kind == k) tokens += a.by_mode[m].mean_tokens, right += a.by_mode[m].accuracy(), ++n;
            kinds.curves.back().x.push_back(tokens / n), kinds.curves.back().y.push_back(100 * right / n);
        }
    }
    return {tasks, kinds};
}

std::string told(const Pairs& p) {
    return (p.difference() > 0 ? "+" : "") + fixed(100 * p.difference(), 1) + " points (p " +
           significant(p.p_value(), 2) + ")";
}

void judge(LabVerdict& v, const std::vector<Asked>& all, const Causality& sums) {
    const Pairs serial = pairs_of(all, Kind::serial, Mode::non_think, Mode::high),
                search = pairs_of(all, Kind::search, Mode::high, Mode::max),
                high = pairs_of(all, Kind::control, Mode::non_think, Mode::high),
                max = pairs_of(all, Kind::control, Mode::non_think, Mode::max);
    const auto gains = [](const Pairs& p) { return p.difference() > 0 && p.p_value() < 0.05; };
    const double follows = sums.n ? static_cast<double>(sums.n_changed) / sums.n : 0;
    LabTable t{"Criteria", {"criterion", "measured", ""}, {}};
    int n_pass = 0;
    const auto row = [&](const char* what, const std::string& measured, bool holds) {
        t.rows.push_back({what, measured, holds ? "pass" : "fail"});
        n_pass += holds;
    };
    row("serial tasks: Think High 30 points over Non-think, p < 0.01", told(serial),
        serial.difference() >= 0.3 && serial.p_value() < 0.01);
    row("search: Think Max 10 points over Think High, p < 0.01", told(search),
        search.difference() >= 0.1 && search.p_value() < 0.01);
    row("controls gain nothing: neither mode over Non-think with p < 0.05", told(high) + " and " + told(max),
        !gains(high) && !gains(max));
    row("sums: 90 % of the answers change with a digit of the working", with_interval(sums.n_changed, sums.n) + " %",
        follows >= 0.9);
    v.tables.insert(v.tables.begin(), t);
    using Outcome = LabVerdict::Outcome;
    v.outcome = n_pass == 4 ? Outcome::holds : n_pass == 0 ? Outcome::does_not_hold : Outcome::mixed;
    v.sentence = std::to_string(n_pass) + " of 4 criteria pass. Thinking moves serial tasks by " + told(serial) +
                 ", Think Max moves search by " + told(search) + " over Think High, controls move by " + told(high) +
                 ". With a digit of its working changed the model answers " + fixed(100 * follows, 0) +
                 " % of the sums otherwise and takes a step back in " +
                 fixed(sums.n ? 100.0 * sums.n_taken_back / sums.n : 0, 0) + " %; with the digit put back " +
                 std::to_string(sums.n_changed_without) + " of " + std::to_string(sums.n) + " answers change.";
}

LabVerdict measure(const Knobs& knobs, const Bench& bench) {
    EngineOptions options;
    options.gpu = static_cast<int>(knobs.integer("gpu"));
    const auto engine = Engine::load(model_folder(knobs, bench), options, bench.stop);
    const auto seed = static_cast<uint64_t>(knobs.integer("seed"));
    const auto n = static_cast<int>(knobs.integer("items"));
    const curriculum::Asker asker(*engine, {}, bench.stop);
    std::vector<Asked> all;
    for (const Row& row : kRows) {
        const auto items = suite_items(row.name, n, seed, engine->config());
        Asked a{&row, {}};
        for (const Mode m : kModes) {
            bench.tell(std::string(row.name) + ", " + mode_title(m));
            a.by_mode[static_cast<int>(m)] = ask_all(asker, items, m);
        }
        all.push_back(std::move(a));
    }
    const auto corrupt = [&](const char* row) {  // other questions than those above
        bench.tell(std::string("changing digits: ") + row);
        return corrupt_digits(asker, suite_items(row, n, seed + 1, engine->config()), seed, 3);
    };
    const Causality sums = corrupt("add 8 digits"), chains = corrupt("chain of 12");
    LabVerdict v;
    v.tables = {answers_table(all), pairs_table(all), causality_table(sums, chains), examples_table(sums)};
    v.charts = charts(all);
    judge(v, all, sums);
    v.sentence += model_words(engine->info());
    return v;
}

}  // namespace

Experiment x12_modes() {
    return {.info = describe(), .folder = "x12_modes", .measure = measure};
}

}  // namespace vitrine::lab
