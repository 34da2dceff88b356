// Removal: what is lost when the compressed entries of all HCA layers, or of all CSA layers, are gone.
#include <algorithm>

#include "engine/engine.h"
#include "experiments/curriculum/asker.h"
#include "experiments/inner/inner.h"
#include "experiments/inner/intervening.h"
#include "experiments/inner/statistics.h"
#include "experiments/questions.h"
#include "experiments/statistics.h"

namespace vitrine::inner {
namespace {

struct Task {
    const char* row;
    bool is_control;
};
constexpr Task kTasks[] = {{"recall 1K", false},        {"recall 2K", false}, {"frequency 1K", false},
                           {"most frequent 1K", false}, {"hops 2", true},     {"chain of 4", true}};

}  // namespace

Result measure_removal(Engine& engine, const Options& options, const Progress& progress, std::stop_token stop) {
    const ModelConfig& c = engine.config();
    Result r;
    r.about =
        "n held-out items of each row, greedy, as the model is and with the compressed entries of every HCA layer, "
        "or of every CSA layer, removed: window and sink remain. Differences are paired, in points, with 95 % "
        "intervals (Newcombe's method 10). Accuracy in %.";
    const curriculum::Asker asker(engine, {options.n_together, options.is_batch_invariant}, stop);
    for (const Mode mode : options.modes) {
        Table t{mode_title(mode), {"n", "as it is", "lowest", "highest"}, 1, {}};
        for (const char* what : {"no HCA", "no CSA"})
            for (const char* suffix : {"", ", change", ", from", ", to"})
                t.columns.push_back(std::string(what) + suffix);
        bool hurts[2] = {false, false};
        for (const Task& task : kTasks) {
            const auto items = lab::suite_items(task.row, options.n, options.seed, c);
            const auto tell = [&](const char* how) {
                if (progress) progress(std::string("removal: ") + task.row + ", " + mode_title(mode) + ", " + how);
            };
            tell("as it is");
            const std::vector<bool> whole = lab::ask_all(asker, items, mode).is_right;
            const auto n_right = static_cast<int>(std::count(whole.begin(), whole.end(), true)),
                       n = static_cast<int>(whole.size());
            const Interval i = curriculum::wilson(n_right, n);
            Table::Row row{std::string(task.row) + (task.is_control ? " (control)" : ""),
                           {double(n), n ? 100.0 * n_right / n : 0, 100 * i.lowest, 100 * i.highest}};
            for (const LayerKind kind : {LayerKind::hca, LayerKind::csa}) {
                tell(kind == LayerKind::hca ? "without HCA" : "without CSA");
                const Intervening removed(engine, entries_of_all(c, kind, EntryChoice::none));
                const lab::Pairs p = lab::pairs_of(whole, lab::ask_all(asker, items, mode).is_right);
                const lab::Estimate d = p.change();
                row.values.insert(row.values.end(),
                                  {100 * p.share_b(), 100 * d.value, 100 * d.lowest, 100 * d.highest});
                if (!task.is_control && d.is_below(0)) hurts[kind == LayerKind::csa] = true;
            }
            t.rows.push_back(std::move(row));
        }
        r.tables.push_back(std::move(t));
        for (const int csa : {0, 1})
            r.bars.push_back(
                {std::string("removing ") + (csa ? "CSA" : "HCA") + " hurts a long task, " + mode_title(mode),
                 hurts[csa] ? "an interval lies below 0" : "no interval lies below 0", hurts[csa]});
    }
    return r;
}

}  // namespace vitrine::inner
