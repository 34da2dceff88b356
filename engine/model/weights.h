// The weights of one model by role: what v4.cpp reads. Filled from a checkpoint by load_weights.
#pragma once
#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/base/config/model_config.h"
#include "engine/model/param.h"
#include "engine/telemetry/model_info.h"

namespace vitrine {

struct HyperWeights {  // one mHC site: fn [2n+n², n·d], base [2n+n²], scale [3] (head: [n, n·d], [n], [1]); see model/residual
    Param fn, base, scale;
};

struct CompressorWeights {  // o = 2 for ratio 4, else 1; D = entry size
    Param wkv, wgate;       // [o·D, d]
    Param ape;              // [r, o·D]
    Param norm;             // [D]
};

struct IndexerWeights {
    Param wq_b;          // [index heads · index dim, q_lora]
    Param weights_proj;  // [index heads, d]
    CompressorWeights compressor;
};

struct AttentionWeights {
    Param wq_a, q_norm, wq_b, wkv, kv_norm, sink, wo_a, wo_b;
    Param wk, wv;                            // gqa, instead of wkv: [kv heads · c, d] each
    Param wkv_a, wk_rope, wk_b, wv_b;        // mla: latent [r, d], its shared rotary key [R, d], per-head keys [H (c - R), r]
                                             // and values [H c, r]
    CompressorWeights compressor;  // ratio > 0
    IndexerWeights indexer;        // ratio 4
};

struct ExpertWeights {
    Param w1, w2, w3;  // gate [I,d], down [d,I], up [I,d]
};

struct MoeWeights {
    Param gate;     // [E, d]
    Param bias;     // [E], score-routed layers
    Param tid2eid;  // [V, K] i64 or i32, hash-routed layers (values checked against E at load)
    std::vector<ExpertWeights> experts;
    ExpertWeights shared;
};

struct BlockWeights {
    HyperWeights hc_attn, hc_ffn;
    Param attn_norm, ffn_norm;
    AttentionWeights attn;
    MoeWeights ffn;
};

struct MtpWeights {  // recognised and checked; used by speculative decoding and training
    BlockWeights block;
    Param e_proj, h_proj, enorm, hnorm, norm;
    HyperWeights hc_head;
};

struct ModelWeights {
    Param embed, head, norm;
    HyperWeights hc_head;
    std::vector<BlockWeights> blocks;
    std::vector<MtpWeights> mtp;
    std::vector<TensorInfo> tensors;    // in file order by name
    std::vector<std::string> warnings;  // unknown tensors, NaN/Inf counts
    int64_t n_params = 0;               // trunk with embedding and head, without scales and tables (v4-spec 1.5)
    int64_t n_active_params = 0;  // read per token: without the embedding table and the experts that are not chosen
    uint64_t bytes = 0;           // of all tensors in use, scales and mtp included
};

// The two counts above from the config alone.
struct ParamCount {
    int64_t total = 0, active = 0;
};
ParamCount count_params(const ModelConfig& config);

// Maps names of either layout (official, transformers save_pretrained 5.17 and 5.12) to roles, checks *all* dtypes and
// shapes against the config and lists every mismatch at once, before any use. Reads headers and small tensors only.
// Storage: F32, F16, BF16 anywhere; F8_E4M3 with `.scale` (F8_E8M0 or F32, one per 128x128) in attention, expert and
// mtp projections; I8 nibbles with F8_E8M0 per 32 columns in routed experts; I64 or I32 in tid2eid.
// `stop` is read between files and tensors: Error(cancelled).
ModelWeights load_weights(const std::string& folder, const ModelConfig& config, std::stop_token stop = {});

// Every tensor that is in use, in a fixed order.
void for_each_param(const ModelWeights& w, const std::function<void(const Param&)>& visit);

struct WeightScan {  // what is not an ordinary number in one tensor, after its scale is applied
    std::string name;
    int64_t n_values = 0, n_nan = 0, n_inf = 0;
    double mean = 0, max_abs = 0;  // of the finite values
};
WeightScan scan_param(const Param& p);
// All tensors: reads the whole file (`inspect`). `keep_going` is asked between tensors.
std::vector<WeightScan> scan_weights(const ModelWeights& w, const std::function<bool()>& keep_going = nullptr);

}  // namespace vitrine
