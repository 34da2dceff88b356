// The trainer: one step from batch to scalars.
#include "engine/train/trainer.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "engine/base/rng.h"
#include "engine/comm/communicator.h"
#include "engine/model/config.h"
#include "engine/model/v4.h"
#include "engine/ops/cross_entropy/cross_entropy.h"
#include "engine/ops/squares/squares.h"
#include "engine/train/internals.h"
#include "engine/train/metrics.h"
#include "engine/train/noise_scale.h"
#include "engine/train/not_finite.h"
#include "engine/train/pass.h"
#include "engine/train/schedule.h"
#include "engine/train/share.h"
#include "engine/train/snapshot.h"
#include "engine/train/update_shapes.h"

namespace vitrine {
namespace {

DType dtype_of(const TrainConfig& c) { return c.dtype == TrainDType::f64 ? DType::f64 : DType::f32; }

// Mean loss of each domain's counted positions.
void add_domains(const DataSource& data, const TrainBatch& batch, const HostBytes& losses_T, DType dtype, const std::string& prefix,
                 std::map<std::string, std::pair<double, int64_t>>& sums) {
    for (const TrainBatch::Sample& s : batch.samples)
        for (int64_t t = s.begin; t < s.end; ++t) {
            if (batch.targets[static_cast<size_t>(t)] < 0) continue;
            const double loss = with_real(dtype, [&](auto real) {
                return static_cast<double>(reinterpret_cast<const decltype(real)*>(losses_T.data)[t]);
            });
            auto& [sum, n] = sums[prefix + data.domains()[static_cast<size_t>(s.domain)]];
            sum += loss, ++n;
        }
}

}  // namespace

// Memory is used again: nothing of the last step is asked for any more.
void Trainer::forget_values() {
    if constexpr (kHasCuda)
        if (place_.gpu()) {  // steps differ in size there: packed samples, experts' rows
            place_.gpu()->forget();
            arena_.merge(), tape_.merge();
            return;
        }
    arena_.clear(), tape_.clear();
}

namespace {

Place place_of(const TrainConfig& c, int gpu) {
    if (gpu == kCpu) return Place{};
    if (c.dtype == TrainDType::f64)
        throw_if_any({{"", "dtype", "f64", "expected f32 on a GPU", ""}});
    if constexpr (kHasCuda) return Place{std::make_shared<cuda::Device>(gpu)};
    throw Error(ErrorKind::device, "cuda:" + std::to_string(gpu) + ": " + cuda::gpus().why_none);
}

}  // namespace

Trainer::Trainer(ModelConfig model, ModelWeights weights, const TrainConfig& c, int n_threads, int gpu, Communicator* ranks)
    : config_(c),
      ranks_(ranks && ranks->size() > 1 ? ranks : nullptr),
      place_(place_of(c, gpu)),
      model_(std::move(model)),
      weights_(std::make_unique<ModelWeights>(std::move(weights))),
      masters_(*weights_, model_, dtype_of(c), place_, c.products == ProductInputs::bf16),
      optimizer_(c.optimizer, masters_),
      data_(make_data(c, model_)),
      noise_(make_random_tokens(c, model_.vocab_size)),
      pool_(n_threads),
      arena_(place_.memory(), place_.alignment()),
      tape_(true, place_.gpu()) {
    check_fit();
}

Trainer::~Trainer() = default;

Ctx Trainer::context(Tape& tape) {
    Ctx ctx{arena_, pool_};
    ctx.dtype = dtype_of(config_), ctx.tape = &tape;
    ctx.cuda = place_.gpu(), ctx.has_bf16_products = config_.products == ProductInputs::bf16;
    masters_.refresh(ctx);
    return ctx;
}

void Trainer::check_fit() const {
    std::vector<Issue> issues = validate(config_, "");
    const bool is_top_p = model_.variants.router == RouterKind::top_p;
    if (config_.anticipatory != AnticipatoryMode::off && is_top_p)
        issues.push_back({"", "anticipatory", "", "expected a router with a fixed number of experts", ""});
    if (config_.qk_clip > 0 && model_.variants.q_norm)
        issues.push_back({"", "qk_clip", "", "expected a model without the query norm (vitrine.q_norm false): with it "
                          "the size of the query projection changes no logit", ""});
    add_rank_issues(config_, issues);
    add_gpu_issues(config_, issues);
    if (!place_.gpu() && config_.products == ProductInputs::bf16)
        issues.push_back({"", "products", "bf16", "expected f32 on the CPU; bf16 needs --device cuda", ""});
    throw_if_any(issues);
}

// What has no twin there.
void Trainer::add_gpu_issues(const TrainConfig& c, std::vector<Issue>& issues) const {
    if (!place_.gpu()) return;
    const auto need = [&](bool is_met, const char* key, const char* expected) {
        if (!is_met) issues.push_back({"", key, "", std::string("expected ") + expected + " when training on a GPU", ""});
    };
    need(c.anticipatory == AnticipatoryMode::off, "anticipatory", "off");
    need(c.metrics != MetricsLevel::all, "metrics", "few or layers");
    need(c.qk_clip == 0, "qk_clip", "0");
    need(c.sharpness_every == 0, "sharpness_every", "0");
    need(c.fp8_activation_scale == ActivationScale::row, "fp8_activation_scale", "row");
    need(model_.variants.router != RouterKind::top_p, "vitrine.router", "another router than top_p");
}

bool Trainer::is_replaced(int64_t step) const {
    return step >= config_.noise_step && step - config_.noise_step < config_.noise_batches;
}
bool Trainer::is_noise(int64_t step) const { return is_replaced(step) && config_.noise_kind == NoiseKind::random; }
// Beside a GPU's work the host makes the batches of the next steps: they are functions of (seed, step) alone.
TrainBatch Trainer::batch_of(int64_t step) {
    const auto source = [this](int64_t s) { return (is_noise(s) ? noise_ : data_).get(); };
    const bool is_repeated = is_replaced(step) && !is_noise(step);
    if (is_repeated) return data_->batch(std::max<int64_t>(0, config_.noise_step - 1));
    if (!place_.gpu()) return source(step)->batch(step);
    const int64_t n_ahead = 3;  // sources make one on several threads
    std::erase_if(coming_, [&](const auto& b) { return b.first < step || b.first > step + n_ahead; });
    for (int64_t s = step; s <= std::min(step + n_ahead, config_.steps - 1); ++s)
        if (!coming_.contains(s))
            coming_[s] = std::async(std::launch::async, [from = source(s), s] { return from->batch(s); });
    if (!coming_.contains(step)) return source(step)->batch(step);
    TrainBatch batch = coming_[step].get();
    coming_.erase(step);
    return batch;
}

// A weight that no loss of this step can reach is left alone: no decay, no update count.
bool Trainer::is_active(size_t leaf) const {
    const Leaf& l = masters_.leaves()[leaf];
    if (l.role == ParamRole::router_bias) return false;
    const IndexerPhase phase = indexer_phase(config_, step_);
    const bool is_indexer = l.name.find(".attn.indexer.") != std::string::npos;
    if (is_indexer) return config_.indexer_weight > 0 && phase != IndexerPhase::dense;
    if (phase == IndexerPhase::warm_up) return false;  // everything else is frozen (V3.2's procedure, v4-spec 10.3)
    return !l.name.starts_with("mtp.") || mtp_weight(config_, step_) > 0;
}

void Trainer::bind_active() {
    tape_.unbind();
    const auto& leaves = masters_.leaves();
    const auto is_large = [&](const Leaf& l) {
        return l.role == ParamRole::matrix || l.role == ParamRole::head || l.role == ParamRole::embedding;
    };
    masters_.clear_gradients([&](size_t i) { return !is_active(i) || !is_large(leaves[i]); });
    for (size_t i = 0; i < leaves.size(); ++i) {
        if (!is_active(i)) continue;
        if (is_large(leaves[i])) tape_.bind_empty(leaves[i].param->master, leaves[i].gradient);
        else tape_.bind(leaves[i].param->master, leaves[i].gradient);
    }
}

bool Trainer::has_mtp(int64_t step) const { return !weights_->mtp.empty() && mtp_weight(config_, step) > 0; }

void Trainer::ask(TrainingStep& s, int64_t step) const {
    const bool is_sequence = config_.balance == BalanceKind::sequence || config_.balance == BalanceKind::bias_and_sequence;
    s.balance_weight = config_.balance == BalanceKind::auxiliary ? config_.balance_weight : 0;
    s.sequence_weight = is_sequence ? config_.balance_weight : 0;
    s.z_weight = config_.z_weight;
    s.indexer = indexer_phase(config_, step);
    s.indexer_weight = config_.indexer_weight;
    s.quant = {config_.fp8_weights, config_.fp4_experts, config_.fp8_activations, config_.fp8_cache, config_.fp4_index,
               config_.fp8_activation_scale != ActivationScale::row};
    s.wants_head_logits = config_.qk_clip > 0;
    s.recomputes = config_.recompute;
}

void Trainer::forward(Ctx& ctx, const TrainBatch& batch, const Forced* forced, Pass& p) {
    ask(p.asked, step_);
    p.asked.whole = p.whole ? &p.whole->batch : nullptr;
    if (config_.fp8_activation_scale == ActivationScale::delayed) p.delayed = delayed_scales(), p.asked.delayed = &p.delayed;
    ctx.training = &p.asked;
    p.segments = segments_of(batch);
    const Batch b{batch.tokens, p.segments, forced};
    const Tensor x_TND = trunk(ctx, model_, *weights_, b);
    const auto share = [&](std::span<const int32_t> targets, int64_t n_whole) {  // of the batch's mean
        return p.whole && n_whole > 0 ? static_cast<double>(n_counted(targets)) / static_cast<double>(n_whole) : 1.0;
    };
    const double next_share = share(batch.targets, p.whole ? p.whole->n_next : 0);
    p.next =
        cross_entropy(ctx, head(ctx, model_, weights_->hc_head, weights_->norm, weights_->head, x_TND), batch.targets, next_share);
    p.next.value *= next_share;
    const double second_weight = mtp_weight(config_, step_);
    if (!weights_->mtp.empty() && second_weight > 0) {
        p.following = batch.next_tokens(), p.second_targets = batch.second_targets();
        const Tensor logits_TV = mtp_logits(ctx, model_, *weights_, weights_->mtp[0], x_TND, p.following, b);
        const double second_share = share(p.second_targets, p.whole ? p.whole->n_second : 0);
        p.second = cross_entropy(ctx, logits_TV, p.second_targets, second_weight * second_share);
        p.second.value *= second_share;
    }
    if constexpr (kHasCuda)
        if (ctx.cuda) ctx.cuda->collect();  // auxiliary losses and loads
    if (p.whole) add_parts(p);
    p.total = p.next.value;
    if (p.second.n_counted > 0) p.total += second_weight * p.second.value;
    for (const AuxiliaryLoss& l : p.asked.losses) p.total += l.weight * l.value;
}

std::vector<double> Trainer::gradient_squares(Ctx& ctx) {
    std::vector<Tensor> gradients;
    for (const Leaf& l : masters_.leaves())
        if (!l.gradient.empty()) gradients.push_back(l.gradient);
    const std::vector<double> squares = sums_of_squares(ctx, gradients);
    std::vector<double> by_leaf;
    size_t next = 0;
    for (const Leaf& l : masters_.leaves()) by_leaf.push_back(l.gradient.empty() ? 0 : squares[next++]);
    return by_leaf;
}

DelayedScales Trainer::delayed_scales() const {
    DelayedScales scales;
    for (const Leaf& l : masters_.leaves())
        if (const auto seen = recent_largest_.find(l.name); seen != recent_largest_.end())
            scales.before[l.param->master.data] =
                static_cast<float>(*std::max_element(seen->second.begin(), seen->second.end()));
    return scales;
}

void Trainer::remember(const DelayedScales& scales) {
    constexpr size_t kDelayedSteps = 16;
    for (const Leaf& l : masters_.leaves()) {
        const auto at = scales.now.find(l.param->master.data);
        if (at == scales.now.end()) continue;
        std::vector<double>& seen = recent_largest_[l.name];
        seen.push_back(at->second);
        if (seen.size() > kDelayedSteps) seen.erase(seen.begin());
    }
}

StepReport Trainer::step(std::stop_token stop) {
    if (!ranks_) return step_here(stop);
    announce("step");
    return step_here({});  // the others would wait for a rank that stops in between
}

StepReport Trainer::step_here(std::stop_token stop) {
    StepReport r;
    r.step = step_;
    forget_values();
    Ctx ctx = context(tape_);
    ctx.stop = stop;
    ctx.times = place_.gpu() ? nullptr : &forward_times_;  // a GPU's work is only queued here
    keep_snapshot();
    anticipate(ctx);

    TrainBatch batch = batch_of(step_);
    r.n_tokens = static_cast<int64_t>(batch.tokens.size());
    Whole whole;
    if (ranks_) whole = take_share(batch);
    const auto chosen = anticipated_.find(step_);
    Forced forced;
    ExpertChoices control;
    // A GPU leaves what comes back at every step: no internals.
    const bool is_measured =
        config_.metrics != MetricsLevel::few && !place_.gpu() && step_ % config_.metrics_every == 0;
    double churned = NAN;
    if (chosen != anticipated_.end()) {
        const int n_layers = model_.n_layers() + static_cast<int>(weights_->mtp.size());
        const bool is_random = config_.anticipatory == AnticipatoryMode::random;
        ExpertChoices now;
        if (is_random || is_measured) now = choices(ctx, batch, step_, has_mtp(step_));
        if (is_random)
            control = random_control(chosen->second, now, model_.n_experts,
                                     mix64(static_cast<uint64_t>(config_.seed)) + static_cast<uint64_t>(step_));
        forced = (control.by_layer.empty() ? chosen->second : control).forced(n_layers);
        now.by_layer.resize(std::min(now.by_layer.size(), static_cast<size_t>(model_.n_layers())));
        if (is_measured) churned = churn(chosen->second, now);
    }
    const bool measures_all = is_measured && config_.metrics == MetricsLevel::all;
    const bool measures_noise =
        measures_all && config_.anticipatory == AnticipatoryMode::off && batch.samples.size() > 1;
    const PartGradient half = measures_noise ? half_gradient(batch) : PartGradient{};
    InternalsSink internals(r.n_tokens);
    Watch watch;
    watch.set(internals.wanted());
    if (is_measured) ctx.watch = &watch, ctx.probes = &internals;

    bind_active();
    Pass pass;
    pass.whole = ranks_ ? &whole : nullptr;
    pass.asked.wants_attention_stats = pass.asked.wants_expert_stats = pass.asked.wants_rounding = is_measured;
    pass.asked.wants_compressor_stats = pass.asked.wants_hyper_stats = is_measured;
    pass.asked.wants_indexer_recall = pass.asked.wants_expert_outputs = pass.asked.wants_reconstruction = measures_all;
    const Forced* const imposed = chosen != anticipated_.end() ? &forced : nullptr;
    forward(ctx, batch, imposed, pass);
    ctx.watch = nullptr;
    r.loss = pass.total;
    if (!std::isfinite(pass.total)) return not_finite(std::move(r), "loss", batch, imposed);
    activation_bytes_ = arena_.used_bytes();
    if (ctx.times) ctx.times = &backward_times_;
    tape_.backward(ctx);
    if (ctx.times) ctx.times = &forward_times_;
    if (ranks_) add_gradients();

    const std::vector<double> squares = gradient_squares(ctx);
    double sum = 0;
    for (double s : squares) sum += s;
    r.grad_norm = std::sqrt(sum);
    if (!std::isfinite(r.grad_norm)) return not_finite(std::move(r), "gradient", batch, imposed);

    const double scale = config_.clip > 0 && r.grad_norm > config_.clip ? config_.clip / r.grad_norm : 1;
    r.lr = learning_rate(config_, step_);
    const auto is_moved = [&](size_t leaf) { return is_active(leaf); };
    const auto cosines =
        is_measured ? momentum_cosines(masters_, optimizer_, is_moved) : std::map<std::string, double>{};
    std::vector<Scalar> of_weights;  // before the step moves them
    if (measures_all) {
        ScalarList list(of_weights);
        add_spectral(ctx, masters_, model_.n_layers(), list);
        if (const double share = churn_since_last(ctx); share >= 0) list.add("router.churn", share);
    }
    const bool has_noise = half.n_counted > 0 && half.n_counted < n_counted(batch.targets);
    const double distance = has_noise ? squared_distance(ctx, masters_, half) : NAN;
    Point point;
    if (is_sharpness_due()) {
        point = {active_weights(), active_gradients(), control};
        if (chosen == anticipated_.end()) point.experts = choices(ctx, batch, step_, has_mtp(step_));
        else if (control.by_layer.empty()) point.experts = chosen->second;
    }
    const auto sums = [&] {
        const OpTimer timer(ctx, OpKind::optimize);
        return optimizer_.step(ctx, config_, r.lr, scale, is_moved);
    }();
    if (ranks_) check_agreement(sums);
    remember(pass.delayed);
    const bool moves_bias = (config_.balance == BalanceKind::bias || config_.balance == BalanceKind::bias_and_sequence) &&
                            indexer_phase(config_, step_) != IndexerPhase::warm_up;
    if (moves_bias) move_router_biases(masters_, pass.asked.loads, model_.n_layers(), config_.bias_speed);
    const int n_shrunk = config_.qk_clip > 0
                             ? clip_query_projections(masters_, pass.asked.head_logits, model_.n_layers(), config_.qk_clip)
                             : 0;

    ScalarList out(r.scalars);
    out.add("loss", pass.total);
    out.add("loss.next", pass.next.value);
    if (pass.second.n_counted > 0) out.add("loss.mtp", pass.second.value);
    Means domains;
    if (data_->domains().size() > 1 && !is_noise(step_))
        add_domains(*data_, batch, place_.read(pass.next.losses_T), ctx.dtype, "loss.", domains);
    if (ranks_) add_means("loss.", domains);
    for (const auto& [name, mean] : domains) out.add(name, mean.first / static_cast<double>(mean.second));
    out.add("grad_norm", r.grad_norm), out.add("grad_norm_clipped", r.grad_norm * scale), out.add("lr", r.lr);
    if (const double rate = clip_rate(scale < 1); rate >= 0) out.add("clip_rate", rate);
    if (n_skipped_ > 0) out.add("skipped_steps", static_cast<double>(n_skipped_));
    if (config_.qk_clip > 0) out.add("qk_clip.heads", n_shrunk);
    const bool by_layer = config_.metrics != MetricsLevel::few;
    add_training_step(pass.asked, model_, {by_layer, by_layer && step_ % config_.metrics_every == 0}, out);
    note_used_experts(pass.asked.loads, r.scalars);
    add_updates(masters_, sums, squares, model_.n_layers(), by_layer, out);
    if (config_.optimizer == OptimizerKind::muon) add_muon_rms(masters_, sums, r.lr * config_.muon_scale, by_layer, out);
    for (const auto& [name, cosine] : cosines) out.add(name, cosine);
    const Bytes held = bytes();
    out.add("bytes.weights", static_cast<double>(held.weights)), out.add("bytes.gradients", static_cast<double>(held.gradients));
    out.add("bytes.moments", static_cast<double>(held.moments));
    out.add("bytes.activations", static_cast<double>(held.activations));
    out.add("bytes.activation_gradients", static_cast<double>(held.activation_gradients));
    if (!std::isnan(churned)) out.add("routing_churn", churned);
    const bool has_domains = data_->domains().size() > 1 && !is_noise(step_);
    if (is_measured) internals.add(model_.n_layers(), by_layer, out);
    if (is_measured) internals.add_routing(model_, batch, has_domains, by_layer, out);
    if (std::isfinite(distance)) {
        const GradientNoise now = gradient_noise(distance, sum, half.n_counted, n_counted(batch.targets));
        noise_scale_.add(now), noise_scale_.report(now, out);
    }
    if (measures_all) {
        add_update_shapes(ctx, config_, scale, masters_, optimizer_, is_moved, out);
        r.scalars.insert(r.scalars.end(), of_weights.begin(), of_weights.end());
    }

    if (is_sharpness_due()) add_sharpness(batch, point, r.lr, r.scalars);
    anticipated_.erase(step_);
    if (saw_spike(r, batch, {squares, sums})) return r;
    ++step_;
    return r;
}

// Of the first half of the sequences, by the weights of now.
PartGradient Trainer::half_gradient(const TrainBatch& batch) {
    const TrainBatch half = share_of(batch, 0, 2);
    gradients(half);
    PartGradient part = copy_gradients(
        masters_, [&](size_t leaf) { return is_active(leaf); }, n_counted(half.targets));
    forget_values();
    return part;
}

Trainer::Bytes Trainer::bytes() const {
    return {masters_.master_bytes(), masters_.gradient_bytes(), optimizer_.bytes(), activation_bytes_, tape_.gradient_bytes()};
}

// The same forward pass again, watched: the first site whose values are not finite, or what is behind the last layer. "": nothing
// can be told, on a GPU or when it lies in another rank's share.
std::string Trainer::first_not_finite(const TrainBatch& batch, const Forced* forced) {
    if (place_.gpu()) return "";
    forget_values();
    Tape none(false);
    Ctx ctx = context(none);
    FirstNotFinite first;
    Watch watch;
    watch.set(FirstNotFinite::wanted());
    ctx.watch = &watch, ctx.probes = &first;
    Pass pass;
    forward(ctx, batch, forced, pass);
    if (!first.text().empty()) return first.text();
    if (!std::isfinite(pass.next.value)) return "loss.next (all layers are finite, the head's logits are not)";
    if (!std::isfinite(pass.second.value)) return "loss.mtp (all layers are finite)";
    for (const AuxiliaryLoss& l : pass.asked.losses)
        if (!std::isfinite(l.value)) return "loss." + std::string(l.name) + " of layer " + std::to_string(l.layer);
    return "";
}

// Nothing was updated. skip: on to the next batch; stop: the caller decides.
StepReport Trainer::not_finite(StepReport r, const std::string& what, const TrainBatch& batch, const Forced* forced) {
    std::string tensor = first_bad_weight();
    if (!tensor.empty()) tensor = "weight " + tensor;
    if (tensor.empty() && what == "gradient") {
        Ctx ctx = context(tape_);
        const std::vector<double> squares = gradient_squares(ctx);
        const auto bad = std::find_if(squares.begin(), squares.end(), [](double s) { return !std::isfinite(s); });
        if (bad != squares.end()) tensor = "gradient of " + masters_.leaves()[static_cast<size_t>(bad - squares.begin())].name;
    }
    if (tensor.empty() && what == "loss") {
        const std::string first = first_not_finite(batch, forced);
        tensor = first.empty() ? what : "loss: " + first;
    }
    if (tensor.empty()) tensor = what;
    const bool skips = config_.on_nonfinite == NonFinitePolicy::skip;
    r.status = skips ? StepReport::Status::skipped : StepReport::Status::stopped;
    Json detail = Json::object();
    detail.set("batch", batch_detail(batch));
    r.events.push_back({step_, "nonfinite",
                        "step " + std::to_string(step_) + ": " + tensor + " is not finite; " +
                            (skips ? "the batch was left out" : "training stopped, weights are as before the step"),
                        detail.dump()});
    anticipated_.erase(step_);
    if (skips) ++step_, ++n_skipped_;
    r.scalars = {{"nonfinite", 1}, {"skipped_steps", static_cast<double>(n_skipped_)}};
    return r;
}

namespace {

double median_of(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    const size_t half = values.size() / 2;
    return values.size() % 2 ? values[half] : 0.5 * (values[half - 1] + values[half]);
}

}  // namespace

// (loss - median) / (1.4826 MAD) of the last kDeviationWindow losses: standard deviations, were they normal; NaN before, and
// where they don't vary.
double Trainer::spike_z(double loss) const {
    if (recent_losses_.size() < kDeviationWindow) return NAN;
    const std::vector<double> last(recent_losses_.end() - static_cast<std::ptrdiff_t>(kDeviationWindow), recent_losses_.end());
    const double median = median_of(last);
    std::vector<double> distances;
    for (const double l : last) distances.push_back(std::abs(l - median));
    const double deviation = 1.4826 * median_of(distances);
    return deviation > 0 ? (loss - median) / deviation : NAN;
}

// Loss above threshold times the median of the window before it, or too many deviations above that of 50 steps. True when the
// state went back.
bool Trainer::saw_spike(StepReport& r, const TrainBatch& batch, const Norms& norms) {
    bool is_spike = false;
    char text[160];
    const double z = spike_z(r.loss);
    if (!std::isnan(z)) {
        r.scalars.push_back({"spike.z", z});
        is_spike = config_.spike_z > 0 && z > config_.spike_z;
        std::snprintf(text, sizeof text, "step %lld: loss %.4f lies %.1f deviations above the median of the last %zu steps",
                      static_cast<long long>(step_), r.loss, z, kDeviationWindow);
    }
    if (const auto n = static_cast<size_t>(config_.spike_window); recent_losses_.size() >= n) {
        const double median = median_of({recent_losses_.end() - static_cast<std::ptrdiff_t>(n), recent_losses_.end()});
        if (r.loss > config_.spike_threshold * median) {
            is_spike = true;
            std::snprintf(text, sizeof text, "step %lld: loss %.4f is %.2f times the median of the last %zu steps",
                          static_cast<long long>(step_), r.loss, r.loss / median, n);
        }
    }
    if (is_spike) r.events.push_back({step_, "spike", text, spike_detail(batch, norms)});
    recent_losses_.push_back(r.loss);
    if (recent_losses_.size() > std::max(static_cast<size_t>(config_.spike_window), kDeviationWindow))
        recent_losses_.erase(recent_losses_.begin());
    const bool may_roll = config_.anticipatory == AnticipatoryMode::triggered && step_ >= anticipating_until_;
    if (!is_spike || !may_roll || snapshots_.empty()) return false;
    roll_back(r);
    return true;
}

// Share of the last steps that were clipped; -1 until there are kClipWindow of them, or without clipping.
double Trainer::clip_rate(bool is_clipped) {
    constexpr size_t kClipWindow = 50;
    if (config_.clip == 0) return -1;
    recent_clips_.push_back(is_clipped);
    if (recent_clips_.size() > kClipWindow) recent_clips_.erase(recent_clips_.begin());
    if (recent_clips_.size() < kClipWindow) return -1;
    return static_cast<double>(std::count(recent_clips_.begin(), recent_clips_.end(), 1)) / static_cast<double>(kClipWindow);
}

// dead_experts.100 and dead_share.100: experts of the layers that count which no batch of the last 100 steps sent a token to;
// nothing until there were as many.
void Trainer::note_used_experts(const std::vector<LayerLoad>& loads, std::vector<Scalar>& scalars) {
    constexpr int64_t kLong = 100;
    if (experts_counted_from_ < 0) experts_counted_from_ = step_;
    experts_used_.resize(std::max(experts_used_.size(), loads.size()));
    std::vector<bool> is_counted = balanced_layers(model_);
    is_counted.resize(std::max(is_counted.size(), experts_used_.size()), true);
    int64_t n_dead = 0, n_experts = 0;
    for (size_t l = 0; l < experts_used_.size(); ++l) {
        const std::vector<double> chosen = l < loads.size() ? loads[l].chosen : std::vector<double>{};
        experts_used_[l].resize(std::max(experts_used_[l].size(), chosen.size()), step_ - 1);
        for (size_t e = 0; e < chosen.size(); ++e)
            if (chosen[e] > 0) experts_used_[l][e] = step_;
        if (!is_counted[l]) continue;
        n_experts += static_cast<int64_t>(experts_used_[l].size());
        for (const int64_t last : experts_used_[l]) n_dead += step_ - last >= kLong;
    }
    if (n_experts == 0 || step_ - experts_counted_from_ + 1 < kLong) return;
    scalars.push_back({"dead_experts.100", static_cast<double>(n_dead)});
    scalars.push_back({"dead_share.100", static_cast<double>(n_dead) / static_cast<double>(n_experts)});
}

// Share of the choices for one held-out batch that differ from the last time; -1 the first time.
double Trainer::churn_since_last(Ctx& ctx) {
    if (model_.n_experts < 2) return -1;
    ExpertChoices now = choices(ctx, data_->held_out(0), step_, false);
    const double share = probe_choices_.n_tokens == now.n_tokens ? churn(now, probe_choices_) : -1;
    probe_choices_ = std::move(now);
    return share;
}

// Choices for the batch `delta` steps ahead, by the weights of now; at the start of the mode, for all batches until then.
void Trainer::anticipate(Ctx& ctx) {
    const bool is_always = config_.anticipatory == AnticipatoryMode::always || config_.anticipatory == AnticipatoryMode::random;
    const bool is_on = (is_always && step_ >= config_.anticipatory_start) ||
                       (config_.anticipatory == AnticipatoryMode::triggered && step_ < anticipating_until_);
    if (!is_on) return;
    const int64_t last = step_ + config_.anticipatory_delta;
    const int64_t end = is_always ? config_.steps : std::min(anticipating_until_, config_.steps);
    for (int64_t s = step_; s <= last && s < end; ++s)
        if (!anticipated_.contains(s)) anticipated_[s] = choices(ctx, batch_of(s), s, has_mtp(s));
}

// What the forward pass of `step` would choose by the weights of now.
ExpertChoices Trainer::choices(Ctx& ctx, const TrainBatch& batch, int64_t step, bool with_mtp) {
    TrainingStep like;
    ask(like, step);
    DelayedScales scales;
    if (config_.fp8_activation_scale == ActivationScale::delayed) scales = delayed_scales(), like.delayed = &scales;
    return choose_experts(ctx, model_, *weights_, batch, with_mtp, &like);
}

std::vector<Scalar> Trainer::evaluate(std::stop_token stop) {
    if (!ranks_) return evaluate_here(stop);
    announce("evaluate");
    return evaluate_here({});
}

std::vector<Scalar> Trainer::evaluate_here(std::stop_token stop) {
    Means sums;
    Loads loads;
    for (int64_t i = 0; i < config_.eval_batches; ++i) {
        Means of_batch;
        if (!ranks_ || i % ranks_->size() == ranks_->rank()) of_batch = held_out_losses(i, stop, loads);
        if (ranks_) add_means("eval.loss.", of_batch, "eval.loss");
        for (const auto& [name, mean] : of_batch) sums[name].first += mean.first, sums[name].second += mean.second;
    }
    std::vector<Scalar> scalars;
    for (const auto& [name, mean] : sums)
        scalars.push_back({name, mean.second ? mean.first / static_cast<double>(mean.second) : 0});
    if (ranks_) add_loads_of_all(loads);
    std::vector<bool> is_counted = balanced_layers(model_);
    is_counted.resize(std::max(is_counted.size(), loads.size()), true);
    ScalarList list(scalars);
    add_loads(loads, is_counted, "eval.", list);
    return scalars;
}

// Summed losses and counts of one batch; its loads are added to `loads`.
Trainer::Means Trainer::held_out_losses(int64_t i, std::stop_token stop, Loads& loads) {
    Means sums;
    forget_values();
    Tape none(false, place_.gpu());
    Ctx ctx = context(none);
    ctx.stop = stop;
    const TrainBatch batch = data_->held_out(i);
    Pass pass;
    forward(ctx, batch, nullptr, pass);
    loads.resize(std::max(loads.size(), pass.asked.loads.size()));
    for (size_t l = 0; l < pass.asked.loads.size(); ++l) {
        const std::vector<double>& chosen = pass.asked.loads[l].chosen;
        loads[l].resize(std::max(loads[l].size(), chosen.size()));
        for (size_t e = 0; e < chosen.size(); ++e) loads[l][e] += chosen[e];
    }
    auto& [sum, n] = sums["eval.loss"];
    sum = pass.next.value * static_cast<double>(pass.next.n_counted), n = pass.next.n_counted;
    if (data_->domains().size() > 1)
        add_domains(*data_, batch, place_.read(pass.next.losses_T), dtype_of(config_), "eval.loss.", sums);
    return sums;
}

LossAndGradients Trainer::gradients(const TrainBatch& batch) { return gradients_of(batch, nullptr); }

LossAndGradients Trainer::gradients_of(const TrainBatch& batch, const Forced* forced) {
    forget_values();
    Ctx ctx = context(tape_);
    bind_active();
    Pass pass;
    forward(ctx, batch, forced, pass);
    tape_.backward(ctx);
    return {pass.next.value, pass.total};
}

void Trainer::change(const std::string& key, const Json& value) {
    TrainConfig changed = config_;
    ConfigFields f = fields(changed);
    f.set(key, value);
    if (!f.find(key)->is_live)
        throw_if_any({{"", key, value.dump(), "expected a field that may change in the middle of a run", ""}});
    std::vector<Issue> issues = validate(changed, "");
    add_rank_issues(changed, issues);
    add_gpu_issues(changed, issues);
    throw_if_any(issues);
    if (ranks_ && ranks_->rank() == 0) announce("change", key, value);
    config_ = changed;
}

}  // namespace vitrine
