// X15: what each part of the model loses when it is rounded to FP8 or FP4, and what that saves.
#include <algorithm>
#include <cmath>
#include <memory>

#include "engine/base/error.h"
#include "engine/engine.h"
#include "experiments/curriculum/domains.h"
#include "experiments/experiment.h"
#include "experiments/forced_text.h"

namespace vitrine::lab {
namespace {

constexpr int kLongestText = 600;  // [tokens]

LabInfo describe() {
    LabInfo i;
    i.name = "X15";
    i.title = "FP8 and FP4, part by part";
    i.question =
        "Which part of the model loses what when its weights are rounded to FP8 or FP4, and how many bytes does that "
        "save?";
    i.claim =
        "V4 keeps routed experts in FP4 and the other projections in FP8 with next to no loss, after training with "
        "that "
        "rounding (V4 report); elsewhere 4 bits are said to do for everything (press, 2026).";
    i.literature =
        "Rounding noise of normal weights: 31.8 dB in FP8, 18.8 dB in FP4 with a scale per 32. Outliers decide (OSP, "
        "arXiv "
        "2506.19697). A 0.6 M model that trained for minutes lost nothing by FP4 experts and 5 % by FP4 everywhere: "
        "too small a "
        "model to tell.";
    i.badge = LabBadge::measured;
    i.knobs = {
        model_knob(),
        number_knob("texts", "Texts of each domain", "20", 1, 2000, "held-out samples whose loss is measured", true),
        number_knob("seed", "Seed", "2026", 0, 1e9, "of the texts")};
    i.plots = {{"Size and loss", "megabytes", "nat per token", {}, false, false},
               {"Loss by part", "format (8, 4 bits)", "nat per token above the weights as stored", {}, false, false}};
    i.expected_time = "a minute or two";
    return i;
}

struct Arm15 {
    WeightRounding what;
    RoundedWeights rounded;
    std::vector<TextScore> scores;  // by text
};

std::vector<WeightRounding> all_roundings() {
    std::vector<WeightRounding> all;
    for (int p = 0; p <= kWeightParts; ++p)
        for (const NumberFormat f : {NumberFormat::fp8, NumberFormat::fp4})
            all.push_back({static_cast<WeightPart>(p), f});
    all.push_back({WeightPart::everything, NumberFormat::bf16});
    return all;
}

std::vector<TextScore> read_all(Engine& engine, const std::vector<ForcedText>& texts, const std::string& what,
                                const Bench& bench) {
    std::vector<TextScore> all;
    for (size_t i = 0; i < texts.size(); ++i) {
        if (i % 10 == 0) bench.tell(what + ": text " + std::to_string(i + 1) + " of " + std::to_string(texts.size()));
        all.push_back(read_text(engine, texts[i], bench.stop));
    }
    return all;
}

std::string label(const WeightRounding& w) {
    return std::string(weight_part_name(w.part)) + " in " + number_format_name(w.to);
}

std::string decibels(const RoundedWeights& r) {
    return r.n_changed == 0 ? "exact" : fixed(r.sqnr_db(), 1);
}

class Report {
  public:
    Report(std::vector<ForcedText> texts, std::vector<TextScore> base, std::vector<Arm15> arms,
           int64_t n_widened_otherwise, uint64_t bytes, uint64_t seed)
        : texts_(std::move(texts)),
          base_(std::move(base)),
          arms_(std::move(arms)),
          n_widened_otherwise_(n_widened_otherwise),
          bytes_(bytes),
          seed_(seed) {}
    LabVerdict verdict() const {
        LabVerdict v;
        v.tables = {part_table(), domain_table()};
        v.charts = {pareto(), by_part()};
        judge(v);
        return v;
    }

  private:
    std::vector<TextSum> losses(const std::vector<TextScore>& scores, int domain) const {
        std::vector<TextSum> some;
        for (size_t i = 0; i < texts_.size(); ++i)
            if (domain < 0 || texts_[i].domain == domain) some.push_back(scores[i].loss);
        return some;
    }
    double mean(const std::vector<TextScore>& scores, int domain = -1) const {
        TextSum all;
        for (const TextSum& s : losses(scores, domain)) all.sum += s.sum, all.n += s.n;
        return all.n ? all.sum / static_cast<double>(all.n) : 0;
    }
    Estimate extra(const Arm15& a) const { return paired_difference(losses(base_, -1), losses(a.scores, -1), seed_); }
    // Share of the tokens whose most probable one stays.
    double agreement(const Arm15& a) const {
        int64_t n = 0, n_same = 0;
        for (size_t i = 0; i < texts_.size(); ++i)
            for (size_t t = 0; t < base_[i].best.size(); ++t) ++n, n_same += base_[i].best[t] == a.scores[i].best[t];
        return n ? static_cast<double>(n_same) / static_cast<double>(n) : 1;
    }
    double megabytes(const Arm15& a) const {  // of the whole model
        return (static_cast<double>(bytes_) - static_cast<double>(a.rounded.stored_bytes) +
                static_cast<double>(a.rounded.rounded_bytes)) /
               1e6;
    }
    const Arm15& arm(WeightPart p, NumberFormat f) const {
        return *std::find_if(arms_.begin(), arms_.end(),
                             [&](const Arm15& a) { return a.what.part == p && a.what.to == f; });
    }

    LabTable part_table() const {
        LabTable t{"One part rounded, the rest as stored (loss " + fixed(mean(base_), 4) +
                       " nat per assistant's token, " + fixed(static_cast<double>(bytes_) / 1e6, 1) + " MB)",
                   {"part", "to", "values [M]", "stored [MB]", "rounded [MB]", "SQNR [dB]", "loss above [nat; 95 %]",
                    "same best token"},
                   {}};
        for (const Arm15& a : arms_) {
            const Estimate e = extra(a);
            t.rows.push_back({weight_part_name(a.what.part), number_format_name(a.what.to),
                              fixed(static_cast<double>(a.rounded.n_values) / 1e6, 2),
                              fixed(static_cast<double>(a.rounded.stored_bytes) / 1e6, 2),
                              fixed(static_cast<double>(a.rounded.rounded_bytes) / 1e6, 2), decibels(a.rounded),
                              a.rounded.n_changed == 0
                                  ? "0"
                                  : fixed(e.value, 4) + " [" + fixed(e.lowest, 4) + ", " + fixed(e.highest, 4) + "]",
                              percent(agreement(a), 2)});
        }
        return t;
    }

    LabTable domain_table() const {
        LabTable t{
            "Loss above the weights as stored, by domain [nat per assistant's token]", {"domain", "as stored"}, {}};
        const std::vector<const Arm15*> shown = {
            &arm(WeightPart::everything, NumberFormat::fp8), &arm(WeightPart::routed_experts, NumberFormat::fp4),
            &arm(WeightPart::attention, NumberFormat::fp4),  &arm(WeightPart::indexer, NumberFormat::fp4),
            &arm(WeightPart::embedding, NumberFormat::fp4),  &arm(WeightPart::head, NumberFormat::fp4),
            &arm(WeightPart::everything, NumberFormat::fp4)};
        for (const Arm15* a : shown) t.columns.push_back(label(a->what));
        for (size_t d = 0; d < curriculum::domains().size(); ++d) {
            const int domain = static_cast<int>(d);
            t.rows.push_back({curriculum::domains()[d].name, fixed(mean(base_, domain), 4)});
            for (const Arm15* a : shown)
                t.rows.back().push_back(fixed(mean(a->scores, domain) - mean(base_, domain), 4));
        }
        return t;
    }

    LabChart pareto() const {
        LabChart c{"Size and loss: one part rounded", "megabytes", "nat per token", false, false, {}};
        c.curves.push_back({"as stored", {static_cast<double>(bytes_) / 1e6}, {mean(base_)}});
        for (const Arm15& a : arms_) c.curves.push_back({label(a.what), {megabytes(a)}, {mean(a.scores)}});
        return c;
    }
    LabChart by_part() const {
        LabChart c{"Loss above the weights as stored", "bits", "nat per token", false, false, {}};
        for (int p = 0; p <= kWeightParts; ++p) {
            const auto part = static_cast<WeightPart>(p);
            c.curves.push_back({weight_part_name(part),
                                {4, 8},
                                {mean(arm(part, NumberFormat::fp4).scores) - mean(base_),
                                 mean(arm(part, NumberFormat::fp8).scores) - mean(base_)}});
        }
        return c;
    }

    void judge(LabVerdict& v) const {
        const Arm15 &fp8 = arm(WeightPart::everything, NumberFormat::fp8),
                    &fp4 = arm(WeightPart::everything, NumberFormat::fp4),
                    &experts = arm(WeightPart::routed_experts, NumberFormat::fp4);
        const double base = mean(base_);
        const auto share = [&](const Arm15& a) {
            const Estimate e = extra(a);
            return percent(e.value / base, 2) + " [" + fixed(100 * e.lowest / base, 2) + ", " +
                   fixed(100 * e.highest / base, 2) + "]";
        };
        const auto is_small = [&](const Arm15& a) { return extra(a).highest / base < 0.01; };
        const Estimate of_fp4 = extra(fp4);
        const bool is_stored_in_fp4 = experts.rounded.n_changed == 0;
        LabTable t{"Criteria", {"criterion", "measured", ""}, {}};
        int n_pass = 0;
        const auto row = [&](const char* what, const std::string& measured, bool holds) {
            t.rows.push_back({what, measured, holds ? "pass" : "fail"});
            n_pass += holds;
        };
        row("FP8 everywhere: loss within 1 %, 95 % interval below it", share(fp8), is_small(fp8));
        row("FP4 routed experts: loss within 1 %, 95 % interval below it",
            is_stored_in_fp4 ? "no value changes: they are stored so" : share(experts), is_small(experts));
        row("FP4 experts widened to FP8: no value changes",
            std::to_string(n_widened_otherwise_) + " of " + std::to_string(experts.rounded.n_values),
            n_widened_otherwise_ == 0);
        row("FP4 everywhere costs loss: 95 % interval above 0",
            fixed(of_fp4.value, 4) + " [" + fixed(of_fp4.lowest, 4) + ", " + fixed(of_fp4.highest, 4) + "]",
            of_fp4.is_above(0));
        v.tables.insert(v.tables.begin(), t);
        using Outcome = LabVerdict::Outcome;
        v.outcome = n_pass == 4 ? Outcome::holds : n_pass == 0 ? Outcome::does_not_hold : Outcome::mixed;
        std::string told;  // parts whose loss in FP4 can be told from 0
        for (const Arm15& a : arms_)
            if (a.what.part != WeightPart::everything && a.what.to == NumberFormat::fp4 && extra(a).is_above(0))
                told += (told.empty() ? "" : ", ") + std::string(weight_part_name(a.what.part));
        v.sentence =
            std::string(is_stored_in_fp4 ? "The routed experts are stored in FP4 already, so rounding them again "
                                           "changes nothing. "
                                         : "") +
            "FP8 everywhere moves the loss by " + share(fp8) + ", FP4 everywhere by " + share(fp4) + " and changes " +
            percent(1 - agreement(fp4), 1) + " of the most probable tokens. " +
            (told.empty() ? "No single part's loss in FP4 can be told from 0 with so many texts."
                          : "Parts whose loss in FP4 can be told from 0: " + told + ".") +
            (is_stored_in_fp4 ? " What was trained with its rounding is at home in it; only the rest is tested." : "");
    }

    std::vector<ForcedText> texts_;
    std::vector<TextScore> base_;
    std::vector<Arm15> arms_;
    int64_t n_widened_otherwise_;
    uint64_t bytes_, seed_;
};

LabVerdict measure(const Knobs& knobs, const Bench& bench) {
    const std::string folder = model_folder(knobs, bench);
    const auto seed = static_cast<uint64_t>(knobs.integer("seed"));
    const auto stored = Engine::load(folder, {}, bench.stop);
    std::vector<ForcedText> texts =
        held_out_texts(*stored, static_cast<int>(knobs.integer("texts")), kLongestText, seed);
    std::vector<TextScore> base = read_all(*stored, texts, "as stored", bench);
    std::vector<Arm15> arms;
    for (const WeightRounding& what : all_roundings()) {
        EngineOptions options;
        options.rounding = {what};
        const auto engine = Engine::load(folder, options, bench.stop);
        Arm15 a{what, engine->rounded().at(0), {}};
        // What changes no value changes no answer; there is nothing to read.
        a.scores = a.rounded.n_changed == 0 ? base : read_all(*engine, texts, label(what), bench);
        arms.push_back(std::move(a));
    }
    EngineOptions widened;
    widened.rounding = {{WeightPart::routed_experts, NumberFormat::fp4},
                        {WeightPart::routed_experts, NumberFormat::fp8}};
    const int64_t n_otherwise = Engine::load(folder, widened, bench.stop)->rounded().at(1).n_changed;
    LabVerdict v =
        Report(std::move(texts), std::move(base), std::move(arms), n_otherwise, stored->info().weight_bytes, seed)
            .verdict();
    v.sentence += model_words(stored->info());
    return v;
}

}  // namespace

Experiment x15_formats() {
    return {.info = describe(), .folder = "x15_formats", .measure = measure};
}

}  // namespace vitrine::lab
