// The trainer over several ranks: shares of a batch, sums of what they leave, and who follows whom.
#include <algorithm>
#include <bit>
#include <cmath>
#include <type_traits>

#include "engine/base/log.h"
#include "engine/comm/communicator.h"
#include "engine/device/cuda/rank_sums.h"
#include "engine/model/config.h"
#include "engine/model/roles.h"
#include "engine/train/fresh.h"
#include "engine/train/pass.h"
#include "engine/train/share.h"

namespace vitrine {
namespace {

constexpr size_t kMaxMessage = 64 << 20;

Json received(Communicator& ranks) {
    std::string text;
    ranks.broadcast(text);
    return Json::parse(text, "a message of rank 0", {.max_bytes = kMaxMessage});
}

// The largest over ranks of each value: every rank fills its own row of zeros, and the sum shows all rows to all.
void raise_to_largest(Communicator& ranks, std::vector<double>& values) {
    const size_t n = values.size();
    std::vector<double> rows(n * static_cast<size_t>(ranks.size()));
    std::copy(values.begin(), values.end(), rows.begin() + static_cast<std::ptrdiff_t>(n * static_cast<size_t>(ranks.rank())));
    ranks.sum(std::span<double>(rows));
    for (size_t r = 0; r < static_cast<size_t>(ranks.size()); ++r)
        for (size_t i = 0; i < n; ++i) values[i] = r == 0 ? rows[i] : std::max(values[i], rows[r * n + i]);
}

}  // namespace

// What would be another rank's, or another batch's, if it were computed from a share.
void Trainer::add_rank_issues(const TrainConfig& c, std::vector<Issue>& issues) const {
    if (!ranks_) return;
    const auto need = [&](bool is_met, const char* key, const std::string& expected) {
        if (!is_met) issues.push_back({"", key, "", "expected " + expected + " when training over several ranks", ""});
    };
    need(c.batch >= ranks_->size(), "batch", "at least " + std::to_string(ranks_->size()) + ", one sequence for each rank,");
    need(c.metrics == MetricsLevel::few, "metrics", "few");
    need(c.anticipatory == AnticipatoryMode::off, "anticipatory", "off");
    need(c.sharpness_every == 0, "sharpness_every", "0");
    need(!c.fp8_activations || c.fp8_activation_scale == ActivationScale::row, "fp8_activation_scale", "row");
    if (place_.gpu()) need(c.balance != BalanceKind::auxiliary, "balance", "another than auxiliary on GPUs");
}

// ---- a step

// Leaves this rank's sequences in `batch` and returns what it must know of the others.
Trainer::Whole Trainer::take_share(TrainBatch& batch) const {
    Whole w;
    w.batch.ranks = ranks_, w.batch.n_tokens = static_cast<int64_t>(batch.tokens.size());
    for (const TrainBatch::Sample& s : batch.samples) w.batch.lengths.push_back(s.end - s.begin);
    w.n_next = n_counted(batch.targets), w.n_second = n_counted(batch.second_targets());
    batch = share_of(batch, ranks_->rank(), ranks_->size());
    return w;
}

// Losses and loads of this rank's share become the batch's.
void Trainer::add_parts(Pass& p) {
    std::vector<double*> parts{&p.next.value, &p.second.value};
    for (AuxiliaryLoss& l : p.asked.losses) parts.push_back(&l.value);
    for (LayerLoad& l : p.asked.loads) {
        for (double& n : l.chosen) parts.push_back(&n);
        for (double& n : l.affinity) parts.push_back(&n);
    }
    std::vector<double> values;
    for (const double* v : parts) values.push_back(*v);
    ranks_->sum(std::span<double>(values));
    for (size_t i = 0; i < parts.size(); ++i) *parts[i] = values[i];
    const bool has_second = !p.second_targets.empty();
    p.next.n_counted = p.whole->n_next, p.second.n_counted = has_second ? p.whole->n_second : 0;
    for (HeadLogits& h : p.asked.head_logits) raise_to_largest(*ranks_, h.largest);
}

void Trainer::add_gradients() {
    const Tensor all = masters_.gradients();
    with_real(all.dtype, [&](auto real) {
        using T = decltype(real);
        const std::span<T> here(all.as<T>(), static_cast<size_t>(all.count()));
        if constexpr (kHasCuda && std::is_same_v<T, float>)
            if (place_.gpu()) return rank_sums_->sum(here.data(), here.size());
        ranks_->sum(here);
    });
}

void Trainer::add_loads_of_all(Loads& loads) const {
    const auto n_layers = static_cast<size_t>(model_.n_layers()) + weights_->mtp.size();
    const auto n_experts = static_cast<size_t>(model_.n_experts);
    std::vector<double> values(n_layers * n_experts);
    for (size_t l = 0; l < loads.size(); ++l)
        std::copy(loads[l].begin(), loads[l].end(), values.begin() + static_cast<std::ptrdiff_t>(l * n_experts));
    ranks_->sum(std::span<double>(values));
    loads.assign(n_layers, {});
    for (size_t l = 0; l < n_layers; ++l) {
        const double* row = values.data() + l * n_experts;
        if (std::any_of(row, row + n_experts, [](double n) { return n > 0; })) loads[l].assign(row, row + n_experts);
    }
}

// Sums and counts by domain, and under the name `all` if there is one.
void Trainer::add_means(const std::string& prefix, Means& sums, const std::string& all) const {
    std::vector<std::string> names;
    if (!all.empty()) names.push_back(all);
    for (const std::string& d : data_->domains()) names.push_back(prefix + d);
    std::vector<double> values;
    for (const std::string& name : names) {
        const auto at = sums.find(name);
        values.push_back(at == sums.end() ? 0 : at->second.first);
        values.push_back(at == sums.end() ? 0 : static_cast<double>(at->second.second));
    }
    ranks_->sum(std::span<double>(values));
    sums.clear();
    for (size_t i = 0; i < names.size(); ++i)
        if (values[2 * i + 1] > 0) sums[names[i]] = {values[2 * i], static_cast<int64_t>(values[2 * i + 1])};
}

// Ranks move the same weights by the same gradients; where their sums of squares differ they have drifted apart, and nothing
// that they would compute together means anything.
void Trainer::check_agreement(const std::vector<UpdateSums>& sums) const {
    double mine = 0;
    for (const UpdateSums& u : sums) mine += u.weight + u.update;
    std::vector<double> all(static_cast<size_t>(ranks_->size()));
    all[static_cast<size_t>(ranks_->rank())] = mine;
    ranks_->sum(std::span<double>(all));
    for (size_t r = 1; r < all.size(); ++r)
        if (std::bit_cast<uint64_t>(all[r]) != std::bit_cast<uint64_t>(all[0]))
            throw Error(ErrorKind::internal, "step " + std::to_string(step_) + ": the weights of rank " + std::to_string(r) +
                                                 " are no longer rank 0's: expected the same build on processors of one kind");
}

// ---- leading and following

void Trainer::announce(const std::string& what, const std::string& key, const Json& value) {
    if (ranks_->rank() != 0) return;
    Json j = Json::object();
    j.set("do", what);
    if (!key.empty()) j.set("key", key), j.set("value", value);
    std::string text = j.dump();
    ranks_->broadcast(text);
}

void Trainer::invite() {
    if (!ranks_) return;
    VITRINE_ASSERT(ranks_->rank() == 0);
    ModelConfig model = model_;
    model.n_mtp_layers = static_cast<int>(weights_->mtp.size());
    Json j = Json::object();
    j.set("model", config_to_json(model)), j.set("train", to_json(config_)), j.set("data", data_->fingerprint());
    std::string text = j.dump();
    ranks_->broadcast(text);
    share_state();
}

std::unique_ptr<Trainer> Trainer::join(Communicator& ranks, int n_threads, int gpu) {
    const std::string from = "a message of rank 0";
    const Json j = received(ranks);
    const ModelConfig model = parse_config(j.at("model").as_string(), from).config;
    const TrainConfig c = train_config_from_json(j.at("train"), from);
    auto t = std::make_unique<Trainer>(model, fresh_weights(model, c), c, n_threads, gpu, &ranks);  // values come next
    if (const std::string& data = j.at("data").as_string(); data != t->data_->fingerprint())
        throw Error(ErrorKind::bad_input, "data=" + c.data + ": rank " + std::to_string(ranks.rank()) + " reads " +
                                              t->data_->fingerprint() + ", expected " + data + " as rank 0 does");
    t->share_state();
    return t;
}

// Weights, moments, tables and counters of rank 0.
void Trainer::share_state() {
    const bool leads = ranks_->rank() == 0;
    if constexpr (kHasCuda)
        if (place_.gpu()) {
            rank_sums_ = std::make_shared<cuda::RankSums>(*place_.gpu(), *ranks_);
            if (leads) log_info(std::to_string(ranks_->size()) + " GPUs, gradients by " + rank_sums_->way());
        }
    const auto share = [&](const Tensor& t) {
        HostBytes here = place_.read(t);
        std::vector<std::byte> bytes(here.data, here.data + tensor_bytes(t));
        ranks_->broadcast(std::span<std::byte>(bytes));
        if (!leads) place_.write(t.data, bytes.data(), bytes.size());
    };
    for (const Tensor& t : weight_tensors()) share(t);
    masters_.changed();
    std::vector<Tensor> tables;
    auto visit = [&](const std::string&, Param& p, const Shape& shape, Storage storage) {
        if (storage == Storage::table && !p.empty()) tables.push_back({const_cast<void*>(p.view.data), p.view.dtype, shape});
    };
    const bool has_mtp = !weights_->mtp.empty();
    trunk_roles(*weights_, model_, visit);
    if (has_mtp) mtp_roles(*weights_, model_, visit);
    for (const Tensor& t : tables) share(t);
    std::string text = leads ? counters().dump() : "";
    ranks_->broadcast(text);
    if (!leads) restore_counters(Json::parse(text, "rank 0", {.max_bytes = kMaxMessage}), "rank 0");
}

void Trainer::follow() {
    VITRINE_ASSERT(ranks_ && ranks_->rank() > 0);
    for (;;) {
        const Json j = received(*ranks_);
        const std::string& what = j.at("do").as_string();
        if (what == "step")
            step_here({});
        else if (what == "evaluate")
            evaluate_here({});
        else if (what == "change")
            change(j.at("key").as_string(), j.at("value"));
        else if (what == "dismiss")
            return;
        else
            throw Error(ErrorKind::internal, "rank 0 asked for " + escaped(what));
    }
}

void Trainer::dismiss() {
    if (ranks_) announce("dismiss");
}

}  // namespace vitrine
