// Everything that decides a training run but the model's architecture: one member and one line in fields() per key.
//
// JSON, `--set key=value`, forms and differences follow from fields(). Sources: v4-spec 10; defaults are V4's where a run of
// minutes can use them.
#pragma once
#include <string>
#include <vector>

#include "engine/base/config/fields.h"

namespace vitrine {

enum class OptimizerKind { adamw, muon };         // muon: AdamW for what is no matrix (v4-spec 10.2)
enum class DecayScope { matrices, all };          // matrices: embedding and head too; norms, biases, scales and sinks not
enum class ScheduleKind { constant, cosine, wsd };
enum class BalanceKind { none, auxiliary, sequence, bias, bias_and_sequence };  // V4: the last
enum class IndexerMode { sparse, dense, warm_up, staged };
enum class AnticipatoryMode { off, always, triggered, random };
enum class ActivationScale { row, tensor, delayed };  // of FP8 activations: one per row and 128 columns, or one per tensor, from
                                                      // itself or from steps before
enum class NoiseKind { random, repeat };          // what takes the place of noise_batches: random tokens, or the batch before again
enum class NonFinitePolicy { stop, skip };
enum class MetricsLevel { few, layers, all };
enum class TrainDType { f32, f64 };
enum class ProductInputs { f32, bf16 };           // what matrix products round their inputs to
enum class LossOn { answers, all };               // of conversations: what the assistant writes, or every token

struct TrainConfig {
    // data
    std::string data = "mix3", tokens, tokenizer, mix, modes;
    LossOn loss_on = LossOn::answers;
    double long_share = 0.3;
    int64_t batch = 16, sequence_length = 64, seed = 0, noise_step = 0, noise_batches = 0;
    NoiseKind noise_kind = NoiseKind::random;
    // length and schedule
    int64_t steps = 200, warmup_steps = 0, decay_steps = 0;
    ScheduleKind schedule = ScheduleKind::constant;
    double lr = 3e-3, min_lr_ratio = 0.1;
    // optimizer
    OptimizerKind optimizer = OptimizerKind::adamw;
    double beta1 = 0.9, beta2 = 0.95, eps = 1e-20, weight_decay = 0.1, clip = 1;
    DecayScope decay = DecayScope::matrices;
    double qk_clip = 0;
    double muon_momentum = 0.95, muon_scale = 0.18;
    int64_t muon_steps = 10;
    // experts
    BalanceKind balance = BalanceKind::bias;
    double balance_weight = 1e-2, bias_speed = 1e-2, z_weight = 0;
    // further losses
    double mtp_weight = 0.3, mtp_weight_in_decay = 0.1;
    IndexerMode indexer = IndexerMode::sparse;
    double indexer_weight = 0;
    int64_t indexer_dense_steps = 0, indexer_warmup_steps = 0;
    // anticipatory routing and spikes
    AnticipatoryMode anticipatory = AnticipatoryMode::off;
    int64_t anticipatory_delta = 20, anticipatory_start = 0, anticipatory_steps = 100, spike_window = 20, rollback_steps = 10;
    double spike_threshold = 1.25, spike_z = 6;
    // numbers
    TrainDType dtype = TrainDType::f32;
    ProductInputs products = ProductInputs::f32;
    bool fp8_weights = false, fp4_experts = false, fp8_activations = false, fp8_cache = false, fp4_index = false;
    ActivationScale fp8_activation_scale = ActivationScale::row;
    bool recompute = false;
    NonFinitePolicy on_nonfinite = NonFinitePolicy::stop;
    // a model from nothing
    double init_std = 0.02, init_embedding = 1, init_hyper = 1, init_alpha = 0.01, init_identity = 0;
    double init_aligned = 0, init_router_skew = 1;
    // records
    int64_t checkpoint_every = 50, keep_checkpoints = 3, eval_every = 0, eval_batches = 4, metrics_every = 10;
    int64_t sharpness_every = 0;
    MetricsLevel metrics = MetricsLevel::few;

    friend bool operator==(const TrainConfig&, const TrainConfig&) = default;
};

// The list refers to c's members. Live fields may change in the middle of a run.
ConfigFields fields(TrainConfig& c);

Json to_json(const TrainConfig& c);
// Unknown keys and values out of range: Error(bad_input) listing all. Keys that are absent keep their default.
TrainConfig train_config_from_json(const Json& j, const std::string& file);
// What no single key shows: "decay_steps: expected at most steps - warmup_steps".
std::vector<Issue> validate(const TrainConfig& c, const std::string& file);

}  // namespace vitrine
