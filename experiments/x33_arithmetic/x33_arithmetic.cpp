// X33: cards that need only multiplication: which numbers said about V4 fit each other.
#include <cmath>

#include "experiments/experiment.h"
#include "experiments/x08_cost/cost_model.h"
#include "experiments/x33_arithmetic/cards.h"

namespace vitrine::lab {
namespace {

LabInfo describe() {
    LabInfo i;
    i.name = "X33";
    i.title = "Arithmetic cards";
    i.question = "Which of the numbers written about V4 survive a multiplication?";
    i.claim = "Sizes, prices, GPU hours and scores from five news articles about V4.";
    i.literature =
        "V4 report (arXiv 2606.19348), V3 report (arXiv 2412.19437); each card names what it was held against.";
    i.badge = LabBadge::analytic;
    i.expected_time = "at once";
    return i;
}

LabVerdict analyse(const Knobs&) {
    LabVerdict v;
    LabTable t{"Cards", {"said", "calculation", "here", "verdict"}, {}};
    int n_true = 0;
    for (const Card& c : arithmetic_cards()) {
        t.rows.push_back({c.said, c.calculation, c.result, c.holds ? "fits" : "does not fit"});
        n_true += c.holds;
    }
    const auto n = static_cast<int>(t.rows.size());
    v.tables = {t,
                {"What the five articles say of the same things",
                 {"", "A", "B", "C", "D", "E", "report"},
                 {{"total / active parameters", "1.2T / 37B", "1.2T / 200B", "", "1.6T / 49B; 284B / 13B", "",
                   "1.6T / 49B; 284B / 13B"},
                  {"experts a layer, active", "\"adaptive\"", "\"dynamic\"", "256, top 2", "", "8 to 4",
                   "384 or 256 and 1 shared, top 6"},
                  {"balancing", "V3's, \"static\"", "auxiliary loss", "affinity matrix", "", "",
                   "bias, speed 0.001; sequence loss 0.0001"},
                  {"attention", "", "low-rank", "", "CSA and HCA", "window of 32K", "CSA 4:1, HCA 128:1, window 128"},
                  {"context", "128K", "256K", "", "1M", "128K, 32K effective", "1M"},
                  {"training tokens", "14.8T", "15T", "18T", "", "", "33T / 32T"}}}};
    v.outcome = n_true == n ? LabVerdict::Outcome::holds : LabVerdict::Outcome::mixed;
    v.sentence = std::to_string(n_true) + " of " + std::to_string(n) +
                 " cards fit. A card that fits shows that numbers agree with each other, not that the thing is so.";
    return v;
}

}  // namespace

std::vector<Card> arithmetic_cards() {
    constexpr double kV3Hours = 2.788e6, kV3Active = 37, kH100Gb = 80, kH100Bf16 = 989.4e12;
    const auto hours = 10000.0 * 90 * 24;
    const double weights_gb = 1200 * 0.5, room_gb = 8 * kH100Gb;
    const double days = 6 * 37e9 * 18e12 / (0.45 * 10000 * kH100Bf16) / 86400;
    // One routed expert of Flash has 3 d I weights; 4.25 bits each with their scales.
    const ModelConfig flash = flash_config();
    const double expert = 3.0 * flash.hidden_size * flash.expert_width, active = 13.27e9;
    const double experts_gb = expert * flash.n_experts * flash.n_layers() * (4.25 / 8) / 1e9;
    const double per_expert = flash.n_layers() * expert, saving = 4 * per_expert / (active + 2 * per_expert);
    return {
        {"\"like a company of 1,600 with 49 at work\" (D)", "49 / 1,600; 13 / 284 for Flash",
         percent(49 / 1600.0) + "; " + percent(13 / 284.0), true, 49 / 1600.0},
        {"1.2T parameters at 4 bits serve on 8 H100 (B)", "1,200 GB x 0.5 of 8 x 80 GB",
         fixed(weights_gb, 0) + " of " + fixed(room_gb, 0) + " GB: " + fixed(room_gb - weights_gb, 0) +
             " GB for scales, cache and activations",
         false, weights_gb / room_gb},
        {"trained on 10,000 GPUs in 90 days, cheaply like V3 (B)", "10,000 x 90 x 24 h against V3's 2.788 M h",
         fixed(hours / 1e6, 1) + " M h: " + fixed(hours / kV3Hours, 1) + " times V3", false, hours / kV3Hours},
        {"20 % more active than V3's 30B (A)", "V3 has 37B active (its report); 37 / (1.2 x 30)",
         percent(kV3Active / 36 - 1) + " more than the claimed 36B before anything was added", false, kV3Active / 30},
        {"over 7 times cheaper: 25 to 30 against 3.48 per M tokens (D)", "25 / 3.48, 30 / 3.48",
         fixed(25 / 3.48, 1) + " to " + fixed(30 / 3.48, 1), true, 25 / 3.48},
        {"thinking multiplies the score on Humanity's Last Exam: 7.7 to 37.7 (D)",
         "37.7 / 7.7; of it High / Non-think 34.5 / 7.7",
         fixed(37.7 / 7.7, 1) + "; " + fixed(34.5 / 7.7, 1) + ": Max adds 3.2 points", true, 37.7 / 7.7},
        {"MRCR falls to 66 % at 1M (D)", "labels of the report's Figure 9, 8K to 1M: .90 .85 .94 .90 .92 .82 .66 .59",
         "66 % stands at 512K; 1M is 59 %", false, 0.59},
        {"45 % utilisation on 10,000 H100 with 18T tokens (C)", "6 x 37e9 x 18e12 / (0.45 x 10,000 x 989 TFLOP/s)",
         fixed(days, 1) + " days: possible, but 37B active is article A's and the article gives no time", true, days},
        {"Flash might run in 128 GB (D)", "43 layers x 256 experts x 25.2 M x 4.25 bits",
         fixed(experts_gb, 0) + " GB of experts alone: they must stream, or be packed below 4 bits", false, experts_gb},
        {"8 to 4 active experts save 40 % (E)", "4 x 43 x 25.2 M of Flash with 8 experts active",
         percent(saving, 0) + " at most; V4 has 6, not 8", false, saving},
    };
}

Experiment x33_arithmetic() {
    return {describe(), "x33_arithmetic", analyse};
}

}  // namespace vitrine::lab
