// X19: a model that was trained with k experts per token, run with fewer and with more.
#include <algorithm>
#include <cmath>
#include <memory>

#include "engine/base/error.h"
#include "engine/engine.h"
#include "engine/ops/ctx.h"
#include "experiments/curriculum/domains.h"
#include "experiments/experiment.h"
#include "experiments/forced_text.h"
#include "experiments/questions.h"
#include "experiments/x19_active_experts/routed_share.h"

namespace vitrine::lab {
namespace {

constexpr int kLongestText = 600;  // [tokens]
struct Task {
    const char* row;
    Mode mode;
    bool is_multi_step;
};
constexpr Task kTasks[] = {
    {"chain of 12", Mode::high, true},   {"hops 4", Mode::high, true},
    {"multiply 3x3", Mode::high, true},  {"glossary", Mode::non_think, false},
    {"refusal", Mode::non_think, false}, {"own config, English", Mode::non_think, false},
};

LabInfo describe() {
    LabInfo i;
    i.name = "X19";
    i.title = "Active experts at run time";
    i.question = "What does a trained model lose, and what does it save, when fewer or more experts answer each token?";
    i.claim =
        "Going from 8 to 4 active experts saves 40 % of the cost and weakens multi-step reasoning (press, 2026; of no "
        "V4 model: V3 has 8 active experts, V4 has 6).";
    i.literature =
        "The saving is the routed experts' share of the work times the share of them that is left out, no more. Fewer "
        "experts without retraining: NAEE (arXiv 2402.14800), LExI (arXiv 2509.02753). A small model of this project "
        "lost 0.06 nat when k was halved.";
    i.badge = LabBadge::measured;
    i.knobs = {
        model_knob(),
        text_knob("k", "Active experts", "1,2,3,4,6,8,16",
                  "numbers of experts per token, with commas between; more than the model has are left out"),
        number_knob("texts", "Texts of each domain", "20", 1, 2000, "held-out samples whose loss is measured", true),
        number_knob("items", "Questions of each task", "20", 1, 5000, "answered greedily at each k", true),
        number_knob("seed", "Seed", "2026", 0, 1e9, "of texts and questions")};
    i.plots = {{"Loss", "active experts", "nat per token above the trained k", {}, true, false},
               {"Accuracy", "active experts", "right [%]", {}, true, false},
               {"Cost", "active experts", "multiply-adds per token, share of the trained k", {}, true, false}};
    i.expected_time = "a minute or two";
    return i;
}

std::vector<int> ks_of(const Knobs& knobs, const ModelConfig& c) {
    std::vector<int> ks = {c.n_experts_per_tok};
    const std::string& text = knobs.text("k");
    for (size_t begin = 0; begin < text.size();) {
        const size_t end = std::min(text.find(',', begin), text.size());
        const std::string one = text.substr(begin, end - begin);
        if (one.empty() || one.size() > 4 || one.find_first_not_of("0123456789") != std::string::npos ||
            std::stoi(one) < 1)
            throw_if_any({{"X19", "k", text, "expected numbers from 1, with commas between: 1,2,4", ""}});
        if (std::stoi(one) <= c.n_experts) ks.push_back(std::stoi(one));
        begin = end + 1;
    }
    std::sort(ks.begin(), ks.end());
    ks.erase(std::unique(ks.begin(), ks.end()), ks.end());
    return ks;
}

struct AtK {
    int k = 0;
    std::vector<TextSum> loss;     // by text
    std::vector<Answers> answers;  // by task
    double multiply_adds = 0;      // counted, per token read
};

AtK measure_at(const std::string& folder, int k, const std::vector<ForcedText>& texts, const Knobs& knobs,
               const Bench& bench) {
    EngineOptions options;
    options.active_experts = k;
    const auto engine = Engine::load(folder, options, bench.stop);
    AtK a;
    a.k = k;
    engine->op_times().is_on = true;
    double n_tokens = 0;
    for (size_t i = 0; i < texts.size(); ++i) {
        bench.tell("k = " + std::to_string(k) + ": text " + std::to_string(i + 1) + " of " +
                   std::to_string(texts.size()));
        a.loss.push_back(read_text(*engine, texts[i], bench.stop).loss);
        n_tokens += static_cast<double>(texts[i].ids.size());
    }
    a.multiply_adds = engine->op_times().total_multiply_adds() / n_tokens;
    engine->op_times().is_on = false;
    const curriculum::Asker asker(*engine, {}, bench.stop);
    for (const Task& t : kTasks) {
        bench.tell("k = " + std::to_string(k) + ": " + t.row);
        a.answers.push_back(ask_all(asker,
                                    suite_items(t.row, static_cast<int>(knobs.integer("items")),
                                                static_cast<uint64_t>(knobs.integer("seed")), engine->config()),
                                    t.mode));
    }
    return a;
}

std::vector<TextSum> of_domain(const std::vector<TextSum>& all, const std::vector<ForcedText>& texts, int domain) {
    std::vector<TextSum> some;
    for (size_t i = 0; i < texts.size(); ++i)
        if (texts[i].domain == domain || domain < 0) some.push_back(all[i]);
    return some;
}

double mean_loss(const std::vector<TextSum>& sums) {
    TextSum all;
    for (const TextSum& s : sums) all.sum += s.sum, all.n += s.n;
    return all.n ? all.sum / static_cast<double>(all.n) : 0;
}

std::vector<bool> right_of(const AtK& a, bool is_multi_step) {
    std::vector<bool> right;
    for (size_t t = 0; t < std::size(kTasks); ++t)
        if (kTasks[t].is_multi_step == is_multi_step)
            right.insert(right.end(), a.answers[t].is_right.begin(), a.answers[t].is_right.end());
    return right;
}

// a - b of different items (Zou and Donner 2008: limits from those of each).
Estimate difference(const Estimate& a, const Estimate& b) {
    const double d = a.value - b.value;
    return {d, d - std::hypot(a.value - a.lowest, b.highest - b.value),
            d + std::hypot(a.highest - a.value, b.value - b.lowest)};
}

std::string signed_text(const Estimate& e, int digits) {
    return (e.value > 0 ? "+" : "") + fixed(e.value, digits) + " [" + fixed(e.lowest, digits) + ", " +
           fixed(e.highest, digits) + "]";
}

class Report {
  public:
    Report(const ModelConfig& c, std::vector<ForcedText> texts, std::vector<AtK> all, uint64_t seed)
        : c_(c), texts_(std::move(texts)), all_(std::move(all)), seed_(seed) {
        for (const AtK& a : all_)
            if (a.k == c.n_experts_per_tok) trained_ = &a;
        VITRINE_ASSERT(trained_);
    }
    LabVerdict verdict() const {
        LabVerdict v;
        v.tables = {loss_table(), task_table(), cost_table()};
        v.charts = charts();
        judge(v);
        return v;
    }

  private:
    Estimate extra_loss(const AtK& a, int domain) const {
        return paired_difference(of_domain(trained_->loss, texts_, domain), of_domain(a.loss, texts_, domain), seed_);
    }

    LabTable loss_table() const {
        LabTable t{"Loss above that at the trained k = " + std::to_string(trained_->k) +
                       " [nat per assistant's token; 95 % by resampling texts]",
                   {"domain", "loss at " + std::to_string(trained_->k)},
                   {}};
        for (const AtK& a : all_)
            if (&a != trained_) t.columns.push_back("k = " + std::to_string(a.k));
        const auto row = [&](const std::string& name, int domain) {
            t.rows.push_back({name, fixed(mean_loss(of_domain(trained_->loss, texts_, domain)), 4)});
            for (const AtK& a : all_)
                if (&a != trained_) t.rows.back().push_back(signed_text(extra_loss(a, domain), 3));
        };
        for (size_t d = 0; d < curriculum::domains().size(); ++d)
            row(curriculum::domains()[d].name, static_cast<int>(d));
        row("all", -1);
        return t;
    }

    LabTable task_table() const {
        LabTable t{"Right answers [%], n = " + std::to_string(trained_->answers[0].is_right.size()) +
                       " each; p: exact McNemar against the trained k",
                   {"task", "mode"},
                   {}};
        for (const AtK& a : all_) t.columns.push_back("k = " + std::to_string(a.k));
        for (size_t i = 0; i < std::size(kTasks); ++i) {
            t.rows.push_back({kTasks[i].row, mode_title(kTasks[i].mode)});
            for (const AtK& a : all_) {
                const Pairs p = pairs_of(trained_->answers[i].is_right, a.answers[i].is_right);
                t.rows.back().push_back(fixed(100 * a.answers[i].accuracy(), 1) +
                                        (&a == trained_ ? "" : " (p " + significant(p.p_value(), 2) + ")"));
            }
        }
        return t;
    }

    LabTable cost_table() const {
        LabTable t{
            "Cost: what the engine counted, and the identity 1 - share of routed experts x (1 - k / trained k); layers "
            "routed by a hash table take no more than the trained k",
            {"k", "multiply-adds per token [M]", "of the trained k", "identity", "difference"},
            {}};
        for (const AtK& a : all_) {
            const double counted = a.multiply_adds / trained_->multiply_adds, expected = cost_at(a.k);
            t.rows.push_back({std::to_string(a.k), fixed(a.multiply_adds / 1e6, 3), percent(counted), percent(expected),
                              percent(std::abs(counted - expected), 2)});
        }
        return t;
    }
    double cost_at(int k) const {
        const double base = routed_multiply_adds(c_, c_.n_experts_per_tok) / trained_->multiply_adds;
        return 1 - base + routed_multiply_adds(c_, k) / trained_->multiply_adds;
    }

    std::vector<LabChart> charts() const {
        LabChart loss{"Loss above the trained k", "active experts", "nat per token", true, false, {}};
        LabChart accuracy{"Accuracy", "active experts", "right [%]", true, false, {}};
        LabChart cost{"Cost", "active experts", "share of the trained k [%]", true, false, {}};
        const auto curve = [&](LabChart& chart, const std::string& label, auto&& value) {
            chart.curves.push_back({label, {}, {}});
            for (const AtK& a : all_) chart.curves.back().x.push_back(a.k), chart.curves.back().y.push_back(value(a));
        };
        for (size_t d = 0; d < curriculum::domains().size(); ++d)
            curve(loss, curriculum::domains()[d].name, [&](const AtK& a) {
                const int domain = static_cast<int>(d);
                return mean_loss(of_domain(a.loss, texts_, domain)) -
                       mean_loss(of_domain(trained_->loss, texts_, domain));
            });
        for (size_t i = 0; i < std::size(kTasks); ++i)
            curve(accuracy, kTasks[i].row, [&](const AtK& a) { return 100 * a.answers[i].accuracy(); });
        curve(cost, "counted", [&](const AtK& a) { return 100 * a.multiply_adds / trained_->multiply_adds; });
        curve(cost, "identity", [&](const AtK& a) { return 100 * cost_at(a.k); });
        return {loss, accuracy, cost};
    }

    void judge(LabVerdict& v) const {
        const int half = std::max(1, trained_->k / 2);
        const auto at = std::find_if(all_.begin(), all_.end(), [&](const AtK& a) { return a.k == half; });
        if (at == all_.end() || &*at == trained_) {
            v.sentence = "Half of the trained k was not asked for, so nothing is judged.";
            return;
        }
        const Estimate loss = extra_loss(*at, -1);
        const Pairs hard = pairs_of(right_of(*trained_, true), right_of(*at, true)),
                    easy = pairs_of(right_of(*trained_, false), right_of(*at, false));
        bool identity = true;
        for (const AtK& a : all_) identity &= std::abs(a.multiply_adds / trained_->multiply_adds - cost_at(a.k)) < 0.02;
        const double saved = 1 - cost_at(half);
        const Estimate more = difference(hard.change(), easy.change());
        const bool is_weaker = hard.difference() < 0 && more.is_below(0);
        LabTable t{"Criteria, at k = " + std::to_string(half), {"criterion", "measured", ""}, {}};
        const auto row = [&](const char* what, const std::string& measured, bool holds) {
            t.rows.push_back({what, measured, holds ? "pass" : "fail"});
        };
        row("half the experts cost loss: 95 % interval above 0", signed_text(loss, 4), loss.is_above(0));
        row("multi-step tasks lose more than chat: 95 % interval of the difference below 0",
            fixed(100 * hard.difference(), 1) + " against " + fixed(100 * easy.difference(), 1) + ": " +
                signed_text({100 * more.value, 100 * more.lowest, 100 * more.highest}, 1) + " points",
            is_weaker);
        row("it saves 40 % of the work", percent(saved), saved >= 0.4);
        row("counted work is the identity's within 2 points", identity ? "yes" : "no", identity);
        v.tables.insert(v.tables.begin(), t);
        const int n_pass = loss.is_above(0) + is_weaker + (saved >= 0.4);
        using Outcome = LabVerdict::Outcome;
        v.outcome = !identity     ? Outcome::does_not_hold
                    : n_pass == 3 ? Outcome::holds
                    : n_pass == 0 ? Outcome::does_not_hold
                                  : Outcome::mixed;
        v.sentence =
            "Halving the experts saves " + percent(saved) + " of this model's work per token, costs " +
            signed_text(loss, 3) + " nat, and moves multi-step tasks by " + fixed(100 * hard.difference(), 1) +
            " points (chat: " + fixed(100 * easy.difference(), 1) +
            "). Nothing was trained again at another k, so this is the price of switching, not of having fewer "
            "experts.";
    }

    const ModelConfig& c_;
    std::vector<ForcedText> texts_;
    std::vector<AtK> all_;
    uint64_t seed_;
    const AtK* trained_ = nullptr;
};

LabVerdict measure(const Knobs& knobs, const Bench& bench) {
    const std::string folder = model_folder(knobs, bench);
    const auto seed = static_cast<uint64_t>(knobs.integer("seed"));
    const auto engine = Engine::load(folder, {}, bench.stop);
    const ModelConfig& c = engine->config();
    std::vector<ForcedText> texts =
        held_out_texts(*engine, static_cast<int>(knobs.integer("texts")), kLongestText, seed);
    std::vector<AtK> all;
    for (const int k : ks_of(knobs, c)) all.push_back(measure_at(folder, k, texts, knobs, bench));
    LabVerdict v = Report(c, std::move(texts), std::move(all), seed).verdict();
    v.sentence += model_words(engine->info());
    return v;
}

}  // namespace

double routed_multiply_adds(const ModelConfig& c, int k) {
    double sum = 0;
    for (const LayerConfig& layer : c.layers)
        sum += 3.0 * c.hidden_size * c.expert_width * (layer.is_hash_routed ? std::min(k, c.n_experts_per_tok) : k);
    return sum;
}

Experiment x19_active_experts() {
    return {.info = describe(), .folder = "x19_active_experts", .measure = measure};
}

}  // namespace vitrine::lab
