// Guesses of which experts a token will use, made before its router has run: fitted on some texts, judged on others.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace vitrine::lab {

// What a text did in every layer. [T] tokens, K experts each, D values.
struct RoutedText {
    std::vector<int32_t> ids;                   // [T]
    std::vector<std::vector<int32_t>> experts;  // by layer: [T, K], -1: none
    std::vector<std::vector<float>> inputs;     // by layer: [T, D], what the experts' site reads, before its norm
};

enum class Predictor {
    popularity,      // the layer's most frequent experts
    previous_token,  // what the layer chose for the token before
    token_id,        // what it chose most often for this token id; popularity for ids that were never seen
    affinity,        // co-occurrence: P(expert here | experts of the layer below), summed over those
    next_router,     // this layer's own router on the input of the layer below
    linear,          // least squares (ridge) from the input of the layer below
    count
};
const char* predictor_name(Predictor p);
bool looks_below(Predictor p);  // needs the layer below: says nothing of layer 0

struct RoutingShape {
    int n_layers = 0, n_experts = 0, k = 0, d = 0, vocab = 0;
};
// The k experts that layer `layer`'s router would choose for that input [D] of another layer.
using RouterOf = std::function<std::vector<int32_t>(int layer, std::span<const float> input)>;

class ExpertPredictors {
  public:
    ExpertPredictors(const RoutingShape& shape, RouterOf router);
    void fit(const RoutedText& text);
    void finish();  // after the last fit; before the first guess
    // K different experts for token t >= 1 of the text.
    std::vector<int32_t> guess(Predictor p, const RoutedText& text, int layer, int64_t t) const;
    // Share of the chosen experts that were guessed, over tokens 1 on: `sum` over `n` tokens.
    struct Recall {
        double sum = 0;
        int64_t n = 0;
        double mean() const { return n ? sum / static_cast<double>(n) : 0; }
    };
    void judge(Predictor p, const RoutedText& text, int layer, Recall& recall) const;

  private:
    std::span<const int32_t> chosen(const RoutedText& text, int layer, int64_t t) const;
    std::vector<double> features(const RoutedText& text, int layer, int64_t t) const;
    struct Layer {
        std::vector<double> used;       // [E]
        std::vector<double> by_id;      // [V, E]
        std::vector<double> by_below;   // [E below, E]
        std::vector<double> below;      // [E below] how often
        std::vector<double> xx, xy, w;  // ridge: [F, F], [F, E], [F, E]
    };
    RoutingShape shape_;
    RouterOf router_;
    std::vector<Layer> layers_;
    int64_t n_fitted_ = 0;
};

// A streaming model: every layer takes `compute` seconds and its experts take `load` seconds to arrive. Without guesses
// they are asked for when the router has chosen. With guesses, made one layer earlier, guessed ones load while that
// layer computes and what was not guessed is loaded afterwards; wrong guesses waste bandwidth, not time. Layer 0 has
// none. recall: by layer. Seconds per token.
double seconds_on_demand(int n_layers, double compute, double load);
double seconds_with_guesses(const std::vector<double>& recall, double compute, double load);

}  // namespace vitrine::lab
