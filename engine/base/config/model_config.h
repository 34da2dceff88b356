// The architecture of one DeepSeek-V4 model, validated: what config.json says in either of its forms (v4-spec 1).
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace vitrine {

// Ratio 0: sliding window only; 4: CSA, overlapping entries and an indexer; any other: HCA (v4-spec 0.4).
enum class LayerKind { sliding, csa, hca };
inline char layer_glyph(LayerKind k) { return k == LayerKind::sliding ? 'S' : k == LayerKind::csa ? 'C' : 'H'; }

// Departures from V4, for experiments. A checkpoint that departs holds them in config.json under "vitrine".
enum class ResidualKind { mhc, mhc_lite, hc, plain };
enum class AttentionOverride { none, full, mla, gqa };  // instead of what the ratio says
enum class RouterKind { topk_bias, topk, top_p };       // topk: no selection bias; top_p: as many experts as reach the mass

struct Variants {
    ResidualKind residual = ResidualKind::mhc;
    RouterKind router = RouterKind::topk_bias;
    double router_top_p = 0.9;    // top_p: share of the normalised affinities to reach, at most n_experts_per_tok experts
    bool q_norm = true;           // per-head query norm
    bool kv_norm = true;          // of window rows and entries
    int n_kv_heads = 2;           // gqa
    int kv_lora_rank = 0;         // mla: width of the latent
    double attention_softcap = 0; // logits become cap tanh(logit / cap); 0: none
    bool operator==(const Variants&) const = default;
    bool is_v4() const {
        return residual == ResidualKind::mhc && router == RouterKind::topk_bias && q_norm && kv_norm &&
               attention_softcap == 0;
    }
};

struct LayerConfig {
    int ratio = 0;                // tokens per compressed entry, 0 = none
    bool is_hash_routed = false;  // experts from tid2eid[token]
    AttentionOverride attention = AttentionOverride::none;
    bool operator==(const LayerConfig&) const = default;
    LayerKind kind() const { return ratio == 0 ? LayerKind::sliding : ratio == 4 ? LayerKind::csa : LayerKind::hca; }
};

struct YarnConfig {
    double factor = 1, beta_fast = 32, beta_slow = 1;
    int64_t original_max_position = 0;
    bool operator==(const YarnConfig&) const = default;
};

struct ModelConfig {
    int vocab_size = 0, hidden_size = 0;
    int n_heads = 0, head_dim = 0, rope_dim = 0, q_lora_rank = 0, o_groups = 0, o_lora_rank = 0, sliding_window = 0;
    int index_n_heads = 0, index_head_dim = 0, index_topk = 0;
    int n_experts = 0, n_shared_experts = 0, n_experts_per_tok = 0, expert_width = 0;  // width of one expert
    int hc_mult = 0, hc_sinkhorn_iters = 0;
    double hc_eps = 0, rms_norm_eps = 0, routed_scaling_factor = 0;
    double swiglu_limit = 0;      // infinity: no clamp
    double rope_theta = 0, compress_rope_theta = 0;
    bool has_yarn = false;        // on compressed layers only
    YarnConfig yarn;
    int64_t max_position = 0;
    int bos_id = 0, eos_id = 1;   // -1: none
    int pad_id = -1;              // -1: none; its embedding row takes no gradient, as torch's padding_idx
    std::vector<int> more_eos_ids;  // that end a text too
    int n_mtp_layers = 0;
    bool norm_topk_prob = true;
    std::vector<LayerConfig> layers;  // the trunk
    Variants variants;

    int n_layers() const { return static_cast<int>(layers.size()); }
    int shared_width() const { return n_shared_experts * expert_width; }
    bool ends_text(int id) const {
        for (const int other : more_eos_ids)
            if (id == other) return true;
        return id >= 0 && id == eos_id;
    }
    bool operator==(const ModelConfig&) const = default;
};

}  // namespace vitrine
