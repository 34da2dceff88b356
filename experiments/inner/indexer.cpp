// The indexer: which share of the entries that attention would read most it picks. One CSA layer at a time attends to
// every entry, the layers below as they were trained; the indexer's order is read beside the attention mass.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "engine/engine.h"
#include "experiments/curriculum/asker.h"
#include "experiments/inner/inner.h"
#include "experiments/inner/intervening.h"
#include "experiments/inner/reading.h"
#include "experiments/inner/recall.h"
#include "experiments/inner/statistics.h"
#include "experiments/questions.h"

namespace vitrine::inner {

Picked picked(const std::vector<float>& mass_by_rank, int k) {
    const auto n = static_cast<int>(mass_by_rank.size());
    k = std::min(k, n);
    std::vector<int> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
        return mass_by_rank[static_cast<size_t>(a)] > mass_by_rank[static_cast<size_t>(b)];
    });
    Picked p;
    double total = 0, mine = 0, best = 0;
    for (int i = 0; i < n; ++i) {
        const double m = mass_by_rank[static_cast<size_t>(i)];
        total += m, mine += i < k ? m : 0;
        const int at = order[static_cast<size_t>(i)];
        if (i < k) best += mass_by_rank[static_cast<size_t>(at)], p.recall += at < k;
    }
    p.recall /= std::max(k, 1);
    p.chance = n ? double(k) / n : 1;
    p.mass = total > 0 ? mine / total : 1, p.best_mass = total > 0 ? best / total : 1;
    return p;
}

void read_by_rank(Engine& engine, const std::vector<int32_t>& prompt, int layer, const MassByRank& take,
                  std::stop_token stop) {
    const ModelConfig& c = engine.config();
    Interventions edits = no_change(c);
    edits.layers[static_cast<size_t>(layer)].topk = static_cast<int>(prompt.size());
    const Intervening intervening(engine, edits);
    // In the order of the indexer's ranking: its probe has to be watched too.
    Reader reader{probe_bit(kEntryMass) | probe_bit(kIndexTopk), {}, {}};
    reader.floats = [&](int position, Probe p, int l, const float* mass, int n) {
        if (p == kEntryMass && l == layer && n > c.index_topk) take(position, {mass, mass + n});
    };
    read(engine, prompt, reader, stop);
}

namespace {

constexpr const char* kRows[] = {"recall 1K", "recall 2K", "frequency 1K"};

// Means over a prompt's tokens with more entries than are picked, and of its last token.
struct OfPrompt {
    double recall = 0, chance = 0, mass = 0, best = 0, last_recall = 0, last_mass = 0;
    int n = 0;
};
OfPrompt read_prompt(Engine& engine, const std::vector<int32_t>& ids, int layer, std::stop_token stop) {
    const int k = engine.config().index_topk;
    OfPrompt o;
    read_by_rank(
        engine, ids, layer,
        [&](int position, const std::vector<float>& mass) {
            const Picked at = picked(mass, k);
            o.recall += at.recall, o.chance += at.chance, o.mass += at.mass, o.best += at.best_mass, ++o.n;
            if (static_cast<size_t>(position) + 1 == ids.size()) o.last_recall = at.recall, o.last_mass = at.mass;
        },
        stop);
    if (o.n) o.recall /= o.n, o.chance /= o.n, o.mass /= o.n, o.best /= o.n;
    return o;
}

}  // namespace

Result measure_indexer(Engine& engine, const Options& options, const Progress& progress, std::stop_token stop) {
    const ModelConfig& c = engine.config();
    Result r;
    r.about = "n / 10 prompts of each kind. Recall@k: share of the k = " + std::to_string(c.index_topk) +
              " entries with the largest attention mass, when every entry is attended to in that layer alone, that are "
              "among the indexer's k; mean over tokens that see more than k. Covered: share of the entries' mass that "
              "the indexer's k hold, and at best could. Intervals over prompts; n counts prompts with such a token.";
    const curriculum::Asker asker(engine, {options.n_together, options.is_batch_invariant}, stop);
    std::vector<double> all;
    for (const char* row : kRows) {
        const auto items = lab::suite_items(row, std::max(2, options.n / 10), options.seed, engine.config());
        Table t{row,
                {"n", "recall@k", "lowest", "highest", "chance", "covered", "at best", "of best", "last token",
                 "covered, last"},
                3,
                {}};
        for (int l = 0; l < c.n_layers(); ++l) {
            if (c.layers[static_cast<size_t>(l)].kind() != LayerKind::csa) continue;
            if (progress) progress("indexer: " + std::string(row) + ", layer " + std::to_string(l));
            std::vector<double> recall, chance, mass, best, last_recall, last_mass;
            for (const curriculum::Item& item : items) {
                const OfPrompt o = read_prompt(engine, asker.prompt(item.prompt, Mode::non_think), l, stop);
                if (o.n == 0) continue;
                recall.push_back(o.recall), chance.push_back(o.chance), mass.push_back(o.mass), best.push_back(o.best);
                last_recall.push_back(o.last_recall), last_mass.push_back(o.last_mass);
            }
            const Mean m = mean_of(recall);
            t.rows.push_back({"layer " + std::to_string(l),
                              {double(m.n), m.value, m.interval.lowest, m.interval.highest, mean_of(chance).value,
                               mean_of(mass).value, mean_of(best).value,
                               mean_of(best).value > 0 ? mean_of(mass).value / mean_of(best).value : kNone,
                               mean_of(last_recall).value, mean_of(last_mass).value}});
            all.insert(all.end(), recall.begin(), recall.end());
        }
        r.tables.push_back(std::move(t));
    }
    const Mean m = mean_of(all);
    char s[96];
    std::snprintf(s, sizeof s, "%.3f over %d readings of a prompt in a layer", m.value, m.n);
    r.bars.push_back({"mean indexer recall@k >= 0.9 against true attention", s, m.n > 0 && m.value >= 0.9});
    return r;
}

}  // namespace vitrine::inner
