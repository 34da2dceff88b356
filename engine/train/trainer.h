// The trainer: one model, its optimizer and its data; `step` is one page (v4-spec 10). Files are run_folder's business.
//
// Owner: the thread that constructs it; every call comes from there. Nothing here waits or reads a clock: after the same calls
// the state has the same bits, whatever the number of threads. Pausing is not calling step().
#pragma once
#include <future>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/base/config/training_config.h"
#include "engine/model/masters.h"
#include "engine/ops/training.h"
#include "engine/telemetry/probes.h"
#include "engine/train/anticipation.h"
#include "engine/train/data/data.h"
#include "engine/train/noise_scale.h"
#include "engine/train/optimizer.h"

namespace vitrine {

class Communicator;
namespace cuda {
class RankSums;
}  // namespace cuda

struct Scalar {
    std::string name;            // "loss", "loss.addition", "grad_norm", "layers.3.max_vio"
    double value;
};
struct TrainEvent {
    int64_t step;
    std::string kind, text;      // "change", "spike", "nonfinite", "rollback", "checkpoint", ...
    std::string detail;          // JSON or empty (engine/telemetry/run_folder.h)
};

struct StepReport {
    enum class Status { done, skipped, stopped, rolled_back } status = Status::done;
    int64_t step = 0;            // that was run
    double loss = 0, grad_norm = 0, lr = 0;
    int64_t n_tokens = 0;
    std::vector<Scalar> scalars; // of this step; loss, grad_norm and lr among them
    std::vector<TrainEvent> events;
};

struct LossAndGradients {        // of one batch, nothing is updated; gradients lie in the masters' leaves
    double loss = 0;             // mean cross-entropy of next tokens, no other term
    double total = 0;            // with all that is asked for
};

class Trainer {
  public:
    // Widens every weight to a master in c.dtype, on GPU number `gpu` or on the host (kCpu). Error(bad_input) when config, data,
    // model, device and ranks do not fit together; Error(device). `ranks`: see below; nullptr: this process alone.
    Trainer(ModelConfig model, ModelWeights weights, const TrainConfig& c, int n_threads, int gpu = kCpu,
            Communicator* ranks = nullptr);
    ~Trainer();

    // Batch, forward, backward, clip, update, biases, scalars. skipped: not finite, the batch is left out; stopped: not finite,
    // nothing has changed and the same call would stop again; rolled_back: a spike, and next_step() is smaller now. Throws
    // Error(cancelled) when asked to stop in between; weights are untouched then.
    StepReport step(std::stop_token stop = {});
    int64_t next_step() const { return step_; }
    bool is_done() const { return step_ >= config_.steps; }
    int64_t n_rollbacks() const { return n_rollbacks_; }  // so far: with next_step(), how far the run has come

    // A live field, from the next step on. Error(bad_input) when it is unknown, out of range or not live.
    void change(const std::string& key, const Json& value);
    const TrainConfig& config() const { return config_; }
    const ModelConfig& model() const { return model_; }
    const ModelWeights& weights() const { return *weights_; }
    Masters& masters() { return masters_; }
    const DataSource& data() const { return *data_; }
    const Place& place() const { return place_; }  // of masters, gradients and moments

    // Mean losses on held-out batches, "eval.loss", "eval.loss.DOMAIN", and loads of all of them together, "eval.max_vio" and
    // so on.
    std::vector<Scalar> evaluate(std::stop_token stop = {});
    LossAndGradients gradients(const TrainBatch& batch);

    // ---- several ranks: each computes its share of a batch's sequences; losses, loads and gradients are summed, so every rank has
    // the same weights and moments. Rank 0 constructs, restores if it wants to, and invites the others; they join() with the same
    // model, configuration and state, and follow() its calls of step, evaluate and change until it dismisses them. A stop token is
    // not read within a step then.
    void invite();
    static std::unique_ptr<Trainer> join(Communicator& ranks, int n_threads, int gpu = kCpu);
    void follow();
    void dismiss();  // nothing to do for one process

    // Everything that the next step depends on, for checkpoints: tensors by name, the rest as JSON.
    struct State {
        struct Array {
            std::string name;
            DType dtype;
            std::vector<int64_t> shape;
            const void* data;
            uint64_t bytes;
        };
        std::vector<Array> arrays;        // point into the trainer
        Json rest;
        std::vector<std::vector<std::byte>> owned;  // or into here
    };
    State state();
    // Of a trainer made from the same model config and train config. Error(bad_input) naming `file` and what is missing.
    void restore(const std::map<std::string, State::Array>& arrays, const Json& rest, const std::string& file);
    // Times by op of the steps from now on; nothing that is computed depends on them.
    void time_ops(bool is_on) { forward_times_.is_on = backward_times_.is_on = is_on; }
    const OpTimes& forward_times() const { return forward_times_; }   // the optimizer's too
    const OpTimes& backward_times() const { return backward_times_; }
    struct Bytes {                        // held by kind, after a step
        uint64_t weights = 0, gradients = 0, moments = 0, activations = 0, activation_gradients = 0;
    };
    Bytes bytes() const;
    std::string first_bad_weight();       // name of the first that is not finite, or ""

  private:
    struct Pass;
    struct Whole;
    struct Snapshot;
    using Means = std::map<std::string, std::pair<double, int64_t>>;  // sum and count by name
    Ctx context(Tape& tape);
    void forget_values();
    TrainBatch batch_of(int64_t step);
    bool is_replaced(int64_t step) const;
    bool is_noise(int64_t step) const;
    DelayedScales delayed_scales() const;
    void remember(const DelayedScales& scales);
    void forward(Ctx& ctx, const TrainBatch& batch, const Forced* forced, Pass& pass);
    StepReport step_here(std::stop_token stop);
    std::vector<Scalar> evaluate_here(std::stop_token stop);
    using Loads = std::vector<std::vector<double>>;  // [L + MTP] of [E]: tokens by expert
    Means held_out_losses(int64_t i, std::stop_token stop, Loads& loads);
    std::vector<double> gradient_squares(Ctx& ctx);  // by leaf
    LossAndGradients gradients_of(const TrainBatch& batch, const Forced* forced);
    PartGradient half_gradient(const TrainBatch& batch);
    bool is_active(size_t leaf) const;
    bool has_mtp(int64_t step) const;
    void bind_active();
    void ask(TrainingStep& s, int64_t step) const;
    ExpertChoices choices(Ctx& ctx, const TrainBatch& batch, int64_t step, bool with_mtp);
    StepReport not_finite(StepReport r, const std::string& what, const TrainBatch& batch, const Forced* forced);
    std::string first_not_finite(const TrainBatch& batch, const Forced* forced);
    Json batch_detail(const TrainBatch& batch) const;
    struct Norms;
    bool saw_spike(StepReport& r, const TrainBatch& batch, const Norms& norms);
    std::string spike_detail(const TrainBatch& batch, const Norms& norms) const;
    void keep_snapshot();
    void roll_back(StepReport& r);
    void anticipate(Ctx& ctx);
    double churn_since_last(Ctx& ctx);
    // trainer_sharpness.cpp
    struct Point {                        // in the space of all weights that the step moves, one after the other
        std::vector<double> weights, gradient;
        ExpertChoices experts;            // of the batch's tokens: kept, so that the loss is smooth there
    };
    bool is_sharpness_due() const;
    std::vector<double> active_weights();
    std::vector<double> active_gradients();
    void set_active_weights(const std::vector<double>& x);
    void add_sharpness(const TrainBatch& batch, const Point& at, double lr, std::vector<Scalar>& scalars);
    double clip_rate(bool is_clipped);
    double spike_z(double loss) const;
    void note_used_experts(const std::vector<LayerLoad>& loads, std::vector<Scalar>& scalars);
    std::vector<State::Array> weight_arrays();
    std::vector<Tensor> weight_tensors();
    Json counters() const;
    void check_data(const Json& rest, const std::string& file) const;
    void restore_counters(const Json& j, const std::string& file);
    void check_fit() const;
    void add_gpu_issues(const TrainConfig& c, std::vector<Issue>& issues) const;
    // trainer_ranks.cpp
    void add_rank_issues(const TrainConfig& c, std::vector<Issue>& issues) const;
    void announce(const std::string& what, const std::string& key = "", const Json& value = {});
    Whole take_share(TrainBatch& batch) const;
    void add_parts(Pass& pass);
    void add_gradients();
    void add_loads_of_all(Loads& loads) const;
    void add_means(const std::string& prefix, Means& sums, const std::string& all = "") const;
    void check_agreement(const std::vector<UpdateSums>& sums) const;
    void share_state();

    TrainConfig config_;
    Communicator* ranks_;  // nullptr: one process
    Place place_;
    std::shared_ptr<cuda::RankSums> rank_sums_;  // of several GPUs' gradients, once invited
    ModelConfig model_;
    std::unique_ptr<ModelWeights> weights_;
    Masters masters_;
    Optimizer optimizer_;
    std::unique_ptr<DataSource> data_, noise_;
    Pool pool_;
    Arena arena_;
    Tape tape_;
    std::map<int64_t, std::future<TrainBatch>> coming_;  // batches of the next steps, made beside a GPU's work
    OpTimes forward_times_, backward_times_;
    size_t activation_bytes_ = 0;
    int64_t step_ = 0, n_skipped_ = 0, n_rollbacks_ = 0, anticipating_until_ = 0;
    std::vector<double> recent_losses_;   // the last spike_window, at least kDeviationWindow
    static constexpr size_t kDeviationWindow = 50;
    // By layer and expert: the last step that sent a token to it, or the step before counting began.
    std::vector<std::vector<int64_t>> experts_used_;
    int64_t experts_counted_from_ = -1;   // first step that was counted; -1: none yet
    std::vector<int64_t> recent_clips_;   // of the last kClipWindow steps: 1 where the gradient was clipped
    std::map<std::string, std::vector<double>> recent_largest_;  // by weight: magnitude of its inputs in the last steps
    NoiseScale noise_scale_;
    ExpertChoices probe_choices_;         // for a held-out batch, when metrics=all last looked
    std::map<int64_t, ExpertChoices> anticipated_;  // by step
    std::vector<Snapshot> snapshots_;     // at most two, for rolling back
};

}  // namespace vitrine
