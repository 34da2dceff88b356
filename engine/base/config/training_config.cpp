// The keys of a training run: names, ranges, help.
#include "engine/base/config/training_config.h"

namespace vitrine {
namespace {

constexpr int64_t kMany = int64_t{1} << 40;

void list_data_and_schedule(TrainConfig& c, ConfigFields& f) {
    f.group("Data");
    f.text("data", c.data, "task that makes the batches: vitrine train --list names them");
    f.text("tokens", c.tokens, "data=tokens: JSON file with the ids of one sequence");
    f.text("tokenizer", c.tokenizer, "data=curriculum: folder with tokenizer.json and chat.json");
    f.text("mix", c.mix, "data=curriculum: shares of the tokens, DOMAIN=SHARE,...; those not named keep theirs");
    f.text("modes", c.modes, "data=curriculum: shares of Non-think, Think High and Think Max; 35,40,25 when empty");
    f.real("long_share", c.long_share, 0, 1, "data=curriculum: share of the sequences that ask for something far back");
    f.choice("loss_on", c.loss_on, {"answers", "all"}, "data=curriculum: what the assistant writes, or every token");
    f.integer("batch", c.batch, 1, 65536, "sequences a step");
    f.integer("sequence_length", c.sequence_length, 2, 1 << 20, "tokens a sequence; samples are packed into it");
    f.integer("seed", c.seed, 0, kMany, "of the data and of a model from nothing");
    f.integer("noise_step", c.noise_step, 0, kMany, "first step that gets another batch, when noise_batches is not 0");
    f.integer("noise_batches", c.noise_batches, 0, kMany, "how many steps get another batch: a provoked spike").is_live = true;
    f.choice("noise_kind", c.noise_kind, {"random", "repeat"}, "that batch: random tokens, or the one before noise_step again");
    f.group("Length and learning rate");
    f.integer("steps", c.steps, 1, kMany, "where the run ends; cosine and wsd end there too").is_live = true;
    f.real("lr", c.lr, 0, 100, "learning rate at the top").is_live = true;
    f.choice("schedule", c.schedule, {"constant", "cosine", "wsd"},
             "after the warm-up: constant; cosine to the end; wsd: constant, then linear over decay_steps");
    f.integer("warmup_steps", c.warmup_steps, 0, kMany, "linear from 0");
    f.integer("decay_steps", c.decay_steps, 0, kMany, "the last steps of wsd, and of the cosine when not 0");
    f.real("min_lr_ratio", c.min_lr_ratio, 0, 1, "last learning rate as a share of lr");
}

void list_optimizer(TrainConfig& c, ConfigFields& f) {
    f.group("Optimizer");
    f.choice("optimizer", c.optimizer, {"adamw", "muon"}, "muon: matrices by Muon, the rest by AdamW");
    f.real("beta1", c.beta1, 0, 0.999999, "AdamW: decay of the mean gradient").is_live = true;
    f.real("beta2", c.beta2, 0, 0.999999, "AdamW: decay of the mean square").is_live = true;
    f.real("eps", c.eps, 0, 1, "AdamW: added to the root of the mean square").is_live = true;
    f.real("weight_decay", c.weight_decay, 0, 100, "times lr, of the weight itself").is_live = true;
    f.choice("decay", c.decay, {"matrices", "all"}, "what decays: matrices, or norms, biases and sinks too");
    f.real("clip", c.clip, 0, 1e30, "largest norm of all gradients together; 0 = off").is_live = true;
    f.real("qk_clip", c.qk_clip, 0, 1e30,
           "largest attention logit of a head; above it its query projection shrinks after the step; 0 = off")
        .is_live = true;
    f.real("muon_momentum", c.muon_momentum, 0, 0.999999, "Muon: decay of the momentum").is_live = true;
    f.integer("muon_steps", c.muon_steps, 1, 30, "Muon: Newton-Schulz steps, the last two with the contracting polynomial");
    f.real("muon_scale", c.muon_scale, 0, 10, "Muon: RMS of the update at lr 1").is_live = true;
}

void list_losses(TrainConfig& c, ConfigFields& f) {
    f.group("Experts and further losses");
    f.choice("balance", c.balance, {"none", "auxiliary", "sequence", "bias", "bias_and_sequence"},
             "auxiliary: loss over the batch; sequence: loss within each sample; bias: sign rule on the selection bias");
    f.real("balance_weight", c.balance_weight, 0, 1e3, "of the auxiliary or sequence loss").is_live = true;
    f.real("bias_speed", c.bias_speed, 0, 10, "step of the selection bias; V4's 0.001 needs long runs").is_live = true;
    f.real("z_weight", c.z_weight, 0, 1e3, "of the router's z-loss").is_live = true;
    f.real("mtp_weight", c.mtp_weight, 0, 1e3, "of the token after the next, where the model has the module").is_live = true;
    f.real("mtp_weight_in_decay", c.mtp_weight_in_decay, 0, 1e3, "the same once the learning rate decays").is_live = true;
    f.choice("indexer", c.indexer, {"sparse", "dense", "warm_up", "staged"},
             "CSA attends to the top k, or to all entries; warm_up: to all, and only the indexer learns; staged: all three");
    f.real("indexer_weight", c.indexer_weight, 0, 1e3, "of KL(attention || indexer); 0: the indexer stays as it is").is_live =
        true;
    f.integer("indexer_dense_steps", c.indexer_dense_steps, 0, kMany, "staged: dense steps first");
    f.integer("indexer_warmup_steps", c.indexer_warmup_steps, 0, kMany, "staged: warm-up steps after these");
    f.group("Anticipatory routing");
    f.choice("anticipatory", c.anticipatory, {"off", "always", "triggered", "random"},
             "experts chosen by the weights of delta steps ago: never, always, after a spike; random: a control, "
             "as many experts of a token are exchanged, but against random ones");
    f.integer("anticipatory_delta", c.anticipatory_delta, 1, 10000, "age of the weights that choose, in steps");
    f.integer("anticipatory_start", c.anticipatory_start, 0, kMany, "always, random: first step with old choices");
    f.integer("anticipatory_steps", c.anticipatory_steps, 1, kMany, "triggered: for how long");
    f.real("spike_threshold", c.spike_threshold, 1, 1e6, "a spike: loss above this times the median of the window").is_live =
        true;
    f.real("spike_z", c.spike_z, 0, 1e6,
           "a spike too: loss this many deviations (1.4826 MAD) above the median of the last 50 steps; 0 = off").is_live = true;
    f.integer("spike_window", c.spike_window, 3, 1000, "steps in the window");
    f.integer("rollback_steps", c.rollback_steps, 1, 1000, "triggered: go back at least this far");
}

void list_numbers_and_records(TrainConfig& c, ConfigFields& f) {
    f.group("Numbers");
    f.choice("dtype", c.dtype, {"f32", "f64"}, "of weights, activations and gradients");
    f.choice("products", c.products, {"f32", "bf16"},
             "inputs of matrix products, sums are FP32: bf16 on a GPU only, where it is many times faster");
    f.flag("fp8_weights", c.fp8_weights, "fake quantisation: projections and shared expert, FP8 in 128x128 blocks");
    f.flag("fp4_experts", c.fp4_experts, "fake quantisation: routed experts, FP4 in rows of 32");
    f.flag("fp8_activations", c.fp8_activations, "fake quantisation: inputs of these, FP8 in rows of 128");
    f.choice("fp8_activation_scale", c.fp8_activation_scale, {"row", "tensor", "delayed"},
             "of fp8_activations: one per row and 128 columns, one per tensor, or that of the last 16 steps");
    f.flag("fp8_cache", c.fp8_cache, "fake quantisation: window rows and entries, FP8");
    f.flag("fp4_index", c.fp4_index, "fake quantisation: indexer queries and keys, FP4");
    f.flag("recompute", c.recompute, "keep each block's input only and run it again in backward");
    f.choice("on_nonfinite", c.on_nonfinite, {"stop", "skip"}, "a loss or gradient that is NaN or infinite");
    f.group("A model from nothing");
    f.real("init_std", c.init_std, 0, 10, "deviation of matrices");
    f.real("init_embedding", c.init_embedding, 0, 1000, "deviation of the embedding, times init_std");
    f.real("init_hyper", c.init_hyper, 0, 1000, "deviation of the dynamic part of hyper-connections, times init_std");
    f.real("init_alpha", c.init_alpha, 0, 10, "scale of the dynamic part of hyper-connections");
    f.real("init_identity", c.init_identity, 0, 20, "added to the diagonal of the mixing logits: 0 mixes evenly");
    f.real("init_aligned", c.init_aligned, 0, 1000,
           "gate and up projections start equal, this many times init_std; 0: each its own");
    f.real("init_router_skew", c.init_router_skew, 0, 1000, "the router's row of expert 0, times this");
    f.group("Records");
    f.integer("checkpoint_every", c.checkpoint_every, 0, kMany, "steps; 0: only at the end").is_live = true;
    f.integer("keep_checkpoints", c.keep_checkpoints, 0, 1000000, "the newest ones, besides the first; 0: all").is_live = true;
    f.integer("eval_every", c.eval_every, 0, kMany, "steps between losses on held-out batches; 0: never").is_live = true;
    f.integer("eval_batches", c.eval_batches, 1, 100000, "batches of an evaluation");
    f.choice("metrics", c.metrics, {"few", "layers", "all"}, "scalars a step: totals, by layer, and internals").is_live = true;
    f.integer("metrics_every", c.metrics_every, 1, kMany, "steps between the costly ones").is_live = true;
    f.integer("sharpness_every", c.sharpness_every, 0, kMany,
              "steps between measurements of the loss's curvature, up to 162 gradients each; 0: never").is_live = true;
}

}  // namespace

ConfigFields fields(TrainConfig& c) {
    ConfigFields f;
    list_data_and_schedule(c, f);
    list_optimizer(c, f);
    list_losses(c, f);
    list_numbers_and_records(c, f);
    return f;
}

Json to_json(const TrainConfig& c) {
    TrainConfig copy = c;
    return fields(copy).to_json();
}

TrainConfig train_config_from_json(const Json& j, const std::string& file) {
    TrainConfig c;
    std::vector<Issue> issues;
    fields(c).read(j, file, issues);
    throw_if_any(issues);
    throw_if_any(validate(c, file));
    return c;
}

std::vector<Issue> validate(const TrainConfig& c, const std::string& file) {
    std::vector<Issue> issues;
    auto at_most = [&](const char* key, int64_t value, int64_t limit, const char* what) {
        if (value > limit)
            issues.push_back({file, key, std::to_string(value), "expected at most " + std::to_string(limit) + ", " + what, ""});
    };
    if (c.schedule != ScheduleKind::constant) {
        at_most("warmup_steps", c.warmup_steps, c.steps, "steps");
        at_most("decay_steps", c.decay_steps, c.steps - c.warmup_steps, "steps - warmup_steps");
    }
    if (c.schedule == ScheduleKind::wsd && c.decay_steps == 0)
        issues.push_back({file, "decay_steps", "0", "expected at least 1 with schedule=wsd", ""});
    if (c.data == "tokens" && c.tokens.empty())
        issues.push_back({file, "tokens", "", "expected a JSON file with data=tokens", ""});
    if (c.data != "tokens" && !c.tokens.empty())
        issues.push_back({file, "tokens", c.tokens, "expected data=tokens with it, found data=" + c.data, ""});
    if (c.data == "curriculum" && c.tokenizer.empty())
        issues.push_back({file, "tokenizer", "", "expected a folder with tokenizer.json and chat.json with data=curriculum", ""});
    const bool learns_indexer = c.indexer == IndexerMode::warm_up || c.indexer == IndexerMode::staged;
    if (learns_indexer && c.indexer_weight == 0)
        issues.push_back({file, "indexer_weight", "0", "expected more than 0 when the indexer is to learn", ""});
    return issues;
}

}  // namespace vitrine
