// X09: a trained model's CSA with other numbers of entries, other choices of them, and shorter windows.
#include <algorithm>

#include "engine/base/error.h"
#include "engine/engine.h"
#include "experiments/curriculum/asker.h"
#include "experiments/experiment.h"
#include "experiments/inner/intervening.h"
#include "experiments/inner/recall.h"
#include "experiments/questions.h"
#include "experiments/statistics.h"

namespace vitrine::lab {
namespace {

constexpr const char* kRows[] = {"recall 1K", "hops 2"};

LabInfo describe() {
    LabInfo i;
    i.name = "X09";
    i.title = "CSA: entries and window";
    i.question =
        "How many compressed entries does a trained model need, does it matter which, and what does the window carry?";
    i.claim =
        "CSA keeps one entry for four tokens and attends to the best 1,024 (Pro) or 512 (Flash), beside a window of "
        "128 (V4 report).";
    i.literature =
        "DSA (arXiv 2512.02556), NSA (arXiv 2502.11089). A public tiny V4 (55 M) recalled 2.5 / 52 / 65 / 72 / 73 % "
        "with "
        "0 / 1 / 2 / 4 / 8 entries, its larger one 1 / 69 / 73 / 76 / 77 %.";
    i.badge = LabBadge::measured;
    i.knobs = {
        model_knob(),
        number_knob("items", "Questions of each task", "10", 1, 5000, "answered greedily without thinking", true),
        number_knob("texts", "Texts for the indexer", "2", 1, 200,
                    "long prompts on which its picks are compared with attention", true),
        number_knob("seed", "Seed", "2026", 0, 1e9, "of questions and random entries")};
    i.plots = {{"Right answers", "entries", "right [%]", {}, true, false},
               {"The indexer's picks", "entries", "share [%]", {}, true, false}};
    i.expected_time = "three minutes";
    return i;
}

struct Arm09 {
    std::string what;                      // "indexer", "random", "recent", "oracle", "window"
    int value;                             // entries, or positions
    std::vector<std::vector<bool>> right;  // by row, by question
    Interventions edits;
};

std::string name_of(const Arm09& a) {
    return a.what == "window" ? "window of " + std::to_string(a.value) : a.what + ", " + std::to_string(a.value);
}

Interventions shorter_window(const ModelConfig& c, int window) {
    Interventions e = inner::no_change(c);
    for (LayerIntervention& l : e.layers) l.window = window;
    return e;
}

// Powers of two around the trained k, which is among them.
std::vector<int> ladder(int trained) {
    std::vector<int> all;
    for (int k = trained; k >= 1; k /= 2) all.insert(all.begin(), k);
    all.push_back(2 * trained), all.push_back(8 * trained);
    return all;
}

std::vector<Arm09> arms_of(const ModelConfig& c, uint64_t seed) {
    const auto csa = [&](EntryChoice choice, int k) {
        Interventions e = inner::entries_of_all(c, LayerKind::csa, choice, k);
        e.seed = seed;
        return e;
    };
    const int k = c.index_topk;
    std::vector<Arm09> all = {{"indexer", 0, {}, csa(EntryChoice::none, 0)}};
    for (const int n : ladder(k)) all.push_back({"indexer", n, {}, csa(EntryChoice::as_trained, n)});
    for (const int n : ladder(k))
        if (n <= k) all.push_back({"oracle", n, {}, csa(EntryChoice::attention, n)});
    all.push_back({"random", k, {}, csa(EntryChoice::random, k)});
    all.push_back({"recent", k, {}, csa(EntryChoice::recent, k)});
    for (int w = c.sliding_window / 2; w >= 1 && w >= c.sliding_window / 8; w /= 2)
        all.push_back({"window", w, {}, shorter_window(c, w)});
    return all;
}

// The indexer's first k against the k entries with most attention, for every k of the ladder: means over CSA layers and
// the tokens that see more than the trained k. One layer at a time attends to all.
struct PicksAt {
    int k = 0;
    double recall = 0, chance = 0, mass = 0, best = 0;
};
std::vector<PicksAt> picks(Engine& engine, const std::vector<std::vector<int32_t>>& prompts, const Bench& bench) {
    const ModelConfig& c = engine.config();
    std::vector<PicksAt> all;
    for (const int k : ladder(c.index_topk)) all.push_back({k});
    double n = 0;
    for (const std::vector<int32_t>& ids : prompts)
        for (int l = 0; l < c.n_layers(); ++l) {
            if (c.layers[static_cast<size_t>(l)].kind() != LayerKind::csa) continue;
            bench.tell("the indexer's picks, layer " + std::to_string(l));
            inner::read_by_rank(
                engine, ids, l,
                [&](int, const std::vector<float>& mass) {
                    for (PicksAt& at : all) {
                        const inner::Picked x = inner::picked(mass, at.k);
                        at.recall += x.recall, at.chance += x.chance, at.mass += x.mass, at.best += x.best_mass;
                    }
                    ++n;
                },
                bench.stop);
        }
    for (PicksAt& at : all)
        if (n > 0) at.recall /= n, at.chance /= n, at.mass /= n, at.best /= n;
    return all;
}

class Report09 {
  public:
    Report09(const ModelConfig& c, std::vector<Arm09> arms, std::vector<PicksAt> picks)
        : c_(c), arms_(std::move(arms)), picks_(std::move(picks)) {}
    LabVerdict verdict() const {
        LabVerdict v;
        v.tables = {answers(), picks_table()};
        v.charts = charts();
        judge(v);
        return v;
    }

  private:
    const Arm09& arm(const std::string& what, int value) const {
        for (const Arm09& a : arms_)
            if (a.what == what && a.value == value) return a;
        throw Error(ErrorKind::internal, "X09: no arm " + what);
    }
    const Arm09& trained() const { return arm("indexer", c_.index_topk); }
    static std::vector<bool> together(const Arm09& a) {
        std::vector<bool> all;
        for (const auto& row : a.right) all.insert(all.end(), row.begin(), row.end());
        return all;
    }
    static int count(const std::vector<bool>& x) { return static_cast<int>(std::count(x.begin(), x.end(), true)); }

    LabTable answers() const {
        LabTable t{"Right answers [%, Wilson's 95 %; p: exact McNemar against the model as it is], without thinking",
                   {"entries, or window"},
                   {}};
        for (const char* row : kRows) t.columns.insert(t.columns.end(), {row, std::string("p, ") + row});
        for (const Arm09& a : arms_) {
            t.rows.push_back({name_of(a) + (&a == &trained() ? " (as trained)" : "")});
            for (size_t r = 0; r < std::size(kRows); ++r) {
                const Pairs p = pairs_of(trained().right[r], a.right[r]);
                t.rows.back().push_back(with_interval(count(a.right[r]), p.n));
                t.rows.back().push_back(&a == &trained() ? "" : significant(p.p_value(), 2));
            }
        }
        return t;
    }
    LabTable picks_table() const {
        LabTable t{
            "The indexer's k against the k entries with most attention, were all attended to (long prompts, all CSA "
            "layers)",
            {"k", "recall@k", "chance", "mass covered", "mass at best", "covered of best"},
            {}};
        for (const PicksAt& p : picks_)
            t.rows.push_back({std::to_string(p.k), percent(p.recall), percent(p.chance), percent(p.mass),
                              percent(p.best), percent(p.best > 0 ? p.mass / p.best : 1)});
        return t;
    }
    std::vector<LabChart> charts() const {
        LabChart right{"Right answers", "entries", "right [%]", true, false, {}};
        for (size_t r = 0; r < std::size(kRows); ++r)
            for (const char* what : {"indexer", "oracle"}) {
                LabCurve curve{std::string(kRows[r]) + ", " + what, {}, {}};
                for (const Arm09& a : arms_)
                    if (a.what == what && a.value > 0)
                        curve.x.push_back(a.value),
                            curve.y.push_back(100.0 * count(a.right[r]) / double(a.right[r].size()));
                right.curves.push_back(std::move(curve));
            }
        LabChart share{"The indexer's picks", "entries", "share [%]", true, false, {}};
        const auto curve = [&](const char* label, double PicksAt::*what) {
            share.curves.push_back({label, {}, {}});
            for (const PicksAt& p : picks_)
                share.curves.back().x.push_back(p.k), share.curves.back().y.push_back(100 * p.*what);
        };
        curve("recall@k", &PicksAt::recall), curve("chance", &PicksAt::chance);
        curve("attention mass covered", &PicksAt::mass), curve("at best", &PicksAt::best);
        return {right, share};
    }

    void judge(LabVerdict& v) const {
        const int k = c_.index_topk;
        bool is_monotone = true;
        const Arm09* before = &arm("indexer", 0);
        for (const int n : ladder(k)) {
            const Pairs p = pairs_of(together(*before), together(arm("indexer", n)));
            is_monotone &= !(p.difference() < 0 && p.p_value() < 0.05);
            before = &arm("indexer", n);
        }
        const auto share = [&](const Arm09& a) {
            const std::vector<bool> all = together(a);
            return double(count(all)) / double(all.size());
        };
        const Pairs none = pairs_of(together(arm("indexer", 0)), together(trained())),
                    random = pairs_of(together(arm("random", k)), together(trained()));
        int n_behind = 0, n_rungs = 0;  // rungs of the ladder where the indexer reaches 90 % of the oracle
        for (const int n : ladder(k))
            if (n <= k) ++n_rungs, n_behind += share(arm("indexer", n)) < 0.9 * share(arm("oracle", n));
        LabTable t{"Criteria", {"criterion", "measured", ""}, {}};
        const auto row = [&](const char* what, const std::string& measured, bool holds) {
            t.rows.push_back({what, measured, holds ? "pass" : "fail"});
        };
        row("answers need entries: none against as trained, p < 0.05",
            percent(share(arm("indexer", 0))) + " against " + percent(share(trained())) + " (p " +
                significant(none.p_value(), 2) + ")",
            none.difference() > 0 && none.p_value() < 0.05);
        row("more entries never hurt: no step up with fewer right answers, p < 0.05", is_monotone ? "none" : "one does",
            is_monotone);
        row("it matters which: random ones against as trained, p < 0.05",
            percent(share(arm("random", k))) + " against " + percent(share(trained())) + " (p " +
                significant(random.p_value(), 2) + ")",
            random.difference() > 0 && random.p_value() < 0.05);
        row("the indexer reaches 90 % of the oracle at every k up to the trained one",
            std::to_string(n_rungs - n_behind) + " of " + std::to_string(n_rungs), n_behind == 0);
        const int n_pass = static_cast<int>(
            std::count_if(t.rows.begin(), t.rows.end(), [](const auto& r) { return r.back() == "pass"; }));
        v.tables.insert(v.tables.begin(), t);
        using Outcome = LabVerdict::Outcome;
        v.outcome = n_pass == 4 ? Outcome::holds : n_pass == 0 ? Outcome::does_not_hold : Outcome::mixed;
        int fewest = k;
        for (const int n : ladder(k))
            if (n <= fewest && share(arm("indexer", n)) >= 0.95 * share(trained())) fewest = n;
        v.sentence = "As trained, with " + std::to_string(k) + " entries, " + percent(share(trained())) +
                     " of the answers are right; " + std::to_string(fewest) +
                     (fewest == 1 ? " entry still gives" : " entries still give") + " 95 % of that, none " +
                     percent(share(arm("indexer", 0))) +
                     ", as many random ones " + percent(share(arm("random", k))) +
                     ". One trained model, so one seed; another ratio than four would have to be trained.";
    }
    const ModelConfig& c_;
    std::vector<Arm09> arms_;
    std::vector<PicksAt> picks_;
};

LabVerdict measure(const Knobs& knobs, const Bench& bench) {
    const auto engine = Engine::load(model_folder(knobs, bench), {}, bench.stop);
    const ModelConfig& c = engine->config();
    if (std::none_of(c.layers.begin(), c.layers.end(), [](const LayerConfig& l) { return l.kind() == LayerKind::csa; }))
        throw Error(ErrorKind::bad_input, engine->info().folder + ": the model has no CSA layers");
    const auto seed = static_cast<uint64_t>(knobs.integer("seed"));
    const curriculum::Asker asker(*engine, {}, bench.stop);
    std::vector<std::vector<curriculum::Item>> items;
    for (const char* row : kRows) items.push_back(suite_items(row, static_cast<int>(knobs.integer("items")), seed, c));
    std::vector<Arm09> arms = arms_of(c, seed);
    for (Arm09& a : arms) {
        const inner::Intervening intervening(*engine, a.edits);
        for (size_t r = 0; r < items.size(); ++r) {
            bench.tell(name_of(a) + ": " + kRows[r]);
            a.right.push_back(ask_all(asker, items[r], Mode::non_think).is_right);
        }
    }
    std::vector<std::vector<int32_t>> prompts;
    for (const curriculum::Item& i : suite_items("recall 1K", static_cast<int>(knobs.integer("texts")), seed, c))
        prompts.push_back(asker.prompt(i.prompt, Mode::non_think));
    return Report09(c, std::move(arms), picks(*engine, prompts, bench)).verdict();
}

}  // namespace

Experiment x09_csa() {
    return {.info = describe(), .folder = "x09_csa", .measure = measure};
}

}  // namespace vitrine::lab
