// The weights of one model by role: what v4.cpp reads. Filled from a checkpoint by load_weights.
#pragma once
#include <string>
#include <vector>

#include "engine/base/config/model_config.h"
#include "engine/model/param.h"
#include "engine/telemetry/model_info.h"

namespace vitrine {

struct HyperWeights {  // one mHC site: fn [2n+n², n·d], base [2n+n²], scale [3] (head: [n, n·d], [n], [1])
    Param fn, base, scale;
};

struct CompressorWeights {  // o = 2 for ratio 4, else 1; D = entry size
    Param wkv, wgate;       // [o·D, d]
    Param ape;              // [r, o·D]
    Param norm;             // [D]
};

struct IndexerWeights {
    Param wq_b;             // [index heads · index dim, q_lora]
    Param weights_proj;     // [index heads, d]
    CompressorWeights compressor;
};

struct AttentionWeights {
    Param wq_a, q_norm, wq_b, wkv, kv_norm, sink, wo_a, wo_b;
    CompressorWeights compressor;  // ratio > 0
    IndexerWeights indexer;        // ratio 4
};

struct ExpertWeights {
    Param w1, w2, w3;       // gate [I,d], down [d,I], up [I,d]
};

struct MoeWeights {
    Param gate;             // [E, d]
    Param bias;             // [E], score-routed layers
    Param tid2eid;          // [V, K] i64 or i32, hash-routed layers (values checked against E at load)
    std::vector<ExpertWeights> experts;
    ExpertWeights shared;
};

struct BlockWeights {
    HyperWeights hc_attn, hc_ffn;
    Param attn_norm, ffn_norm;
    AttentionWeights attn;
    MoeWeights ffn;
};

struct MtpWeights {         // recognised and checked; used by speculative decoding and training
    BlockWeights block;
    Param e_proj, h_proj, enorm, hnorm, norm;
    HyperWeights hc_head;
};

struct ModelWeights {
    Param embed, head, norm;
    HyperWeights hc_head;
    std::vector<BlockWeights> blocks;
    std::vector<MtpWeights> mtp;
    std::vector<TensorInfo> tensors;        // in file order by name
    std::vector<std::string> warnings;      // unknown tensors, NaN/Inf counts
    int64_t n_params = 0, n_active_params = 0;  // trunk with embedding and head; active per token
    uint64_t bytes = 0;
};

// Maps names of either layout (official, transformers save_pretrained 5.17 and 5.12) to roles, checks *all* dtypes and shapes
// against the config and lists every mismatch at once, before any use.
ModelWeights load_weights(const std::string& folder, const ModelConfig& config);

}  // namespace vitrine
