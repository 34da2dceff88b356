// Residual connections: how streams enter and leave a sub-layer. One variant per file, listed in table.cpp.
#pragma once
#include <span>
#include <string>

#include "engine/base/config/model_config.h"
#include "engine/ops/hyper/hyper.h"

namespace vitrine {

// What decides where the base of a site starts.
struct HyperStart {
    double identity = 0;   // what the mixing logits favour a stream's staying itself by; 0: streams mix evenly
    int site = 0;          // counted over the model: 2 layer + (0 attention, 1 experts); the MTP modules' layers come last
    bool is_head = false;
};

// Every variant gives the same HyperSite (u, pre, post, comb), which hyper_mix applies: probes and gains mean the same for all.
struct Residual {
    ResidualKind kind;
    const char* name;  // as config.json's "vitrine" object spells it
    int max_streams;                                                        // hc_mult is at most this
    HyperForm (*form)(const ModelConfig& c, bool is_head);                  // null: x + F(x), no weights at all
    void (*start_base)(const ModelConfig& c, const HyperStart& at, std::span<float> base);  // [n_rows]; null without weights

    int n_rows(const ModelConfig& c, bool is_head) const { return form ? form(c, is_head).n_rows() : 0; }  // of fn and base
    // With the collapsed input's norm.
    HyperSite site(Ctx& ctx, const Tensor& x_TND, const HyperWeights& w, const Param& norm_D, const ModelConfig& c) const;
    Tensor head(Ctx& ctx, const Tensor& x_TND, const HyperWeights& w, const ModelConfig& c) const;  // streams to [T, D]
};
extern const Residual kMhc, kMhcLite, kHyperConnections, kPlainResidual;

// Of the plain residual: the stream itself.
HyperSite plain_site(Ctx& ctx, const Tensor& x_TND);

const Residual& residual_for(const ModelConfig& c);
std::span<const Residual* const> residuals();  // in the table's order

// Where base and scale (by official name: "layers.3.hc_ffn_base", "hc_head_scale") start when a model is trained from nothing.
// False, and nothing written, for any other weight: fn among them, which is drawn like other matrices.
bool start_hyper_weight(const ModelConfig& c, const std::string& name, double alpha, double identity, std::span<float> values);

}  // namespace vitrine
