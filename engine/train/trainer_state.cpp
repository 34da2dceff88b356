// The trainer's state: what a checkpoint holds, rolling back.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "engine/ops/squares/squares.h"
#include "engine/train/snapshot.h"
#include "engine/weights/checkpoint.h"

namespace vitrine {
namespace {

std::vector<int64_t> dims(const Shape& s) { return {s.n.begin(), s.n.begin() + s.rank}; }

Trainer::State::Array array_of(const std::string& name, const Tensor& t) {
    return {name, t.dtype, dims(t.shape), t.data, static_cast<uint64_t>(t.count()) * dtype_bits(t.dtype) / 8};
}

template <class T>
Json list_of(const std::vector<T>& values) {
    Json j = Json::array();
    for (const T& v : values) j.push(v);
    return j;
}

}  // namespace

// In one order: what weight_tensors() lists, by name. `data` is where it lies, on a GPU perhaps.
std::vector<Trainer::State::Array> Trainer::weight_arrays() {
    std::vector<State::Array> arrays;
    for (const Leaf& l : masters_.leaves()) arrays.push_back(array_of("weight/" + l.name, l.param->master));
    for (const Optimizer::Moment& m : optimizer_.moments()) arrays.push_back(array_of(m.name, m.value));
    return arrays;
}
std::vector<Tensor> Trainer::weight_tensors() {
    std::vector<Tensor> tensors;
    for (const Leaf& l : masters_.leaves()) tensors.push_back(l.param->master);
    for (const Optimizer::Moment& m : optimizer_.moments()) tensors.push_back(m.value);
    return tensors;
}

Json Trainer::counters() const {
    Json j = Json::object();
    j.set("step", step_), j.set("n_skipped", n_skipped_), j.set("anticipating_until", anticipating_until_);
    if (n_rollbacks_ > 0) j.set("n_rollbacks", n_rollbacks_);
    j.set("recent_losses", list_of(recent_losses_));
    j.set("recent_clips", list_of(recent_clips_));
    if (experts_counted_from_ >= 0) {
        Json used = Json::object(), layers = Json::array();
        for (const auto& steps : experts_used_) layers.push(list_of(steps));
        used.set("from", experts_counted_from_), used.set("layers", std::move(layers));
        j.set("experts_used", std::move(used));
    }
    Json largest = Json::object();
    for (const auto& [name, values] : recent_largest_) largest.set(name, list_of(values));
    if (!recent_largest_.empty()) j.set("recent_largest", std::move(largest));
    if (const GradientNoise& noise = noise_scale_.means; noise.trace != 0)
        j.set("gradient_noise", list_of(std::vector<double>{noise.trace, noise.square}));
    j.set("updates", list_of(const_cast<Optimizer&>(optimizer_).updates()));
    return j;
}

void Trainer::restore_counters(const Json& j, const std::string& file) {
    try {
        step_ = j.at("step").as_int(), n_skipped_ = j.at("n_skipped").as_int();
        anticipating_until_ = j.at("anticipating_until").as_int();
        const Json* rollbacks = j.find("n_rollbacks");
        n_rollbacks_ = rollbacks ? rollbacks->as_int() : 0;
        recent_losses_.clear();
        for (const Json& v : j.at("recent_losses").items()) recent_losses_.push_back(v.as_double());
        recent_clips_.clear();
        if (const Json* clips = j.find("recent_clips"))  // older checkpoints have none
            for (const Json& v : clips->items()) recent_clips_.push_back(v.as_int());
        experts_used_.clear(), experts_counted_from_ = -1;
        if (const Json* used = j.find("experts_used")) {
            experts_counted_from_ = used->at("from").as_int();
            for (const Json& layer : used->at("layers").items()) {
                experts_used_.emplace_back();
                for (const Json& v : layer.items()) experts_used_.back().push_back(v.as_int());
            }
        }
        recent_largest_.clear();
        if (const Json* largest = j.find("recent_largest"))
            for (const auto& [name, values] : largest->members())
                for (const Json& v : values.items()) {
                    const double x = v.as_double();
                    if (!(x >= 0 && x <= std::numeric_limits<float>::max()))
                        throw Error(ErrorKind::bad_input, "recent_largest." + escaped(name, 128) +
                                                              ": expected magnitudes, numbers from 0 to 3.4e38");
                    recent_largest_[name].push_back(x);
                }
        noise_scale_ = {};
        if (const Json* noise = j.find("gradient_noise")) {
            if (noise->items().size() != 2) throw Error(ErrorKind::bad_input, "gradient_noise: expected two numbers");
            noise_scale_.means = {noise->items()[0].as_double(), noise->items()[1].as_double()};
        }
        const auto& updates = j.at("updates").items();
        if (updates.size() != optimizer_.updates().size())
            throw Error(ErrorKind::bad_input, "updates: expected " + std::to_string(optimizer_.updates().size()) + " numbers");
        for (size_t i = 0; i < updates.size(); ++i) optimizer_.updates()[i] = updates[i].as_int();
    } catch (const Error& e) {
        const std::string name = escaped(file, 512) + ": ",
                          what = e.what();  // values know the file they were read from
        throw Error(e.kind(), what.starts_with(name) ? what : name + what);
    }
}

Trainer::State Trainer::state() {
    State s;
    s.arrays = weight_arrays();
    if (place_.gpu()) {
        const std::vector<Tensor> there = weight_tensors();
        for (size_t i = 0; i < there.size(); ++i) {
            s.owned.push_back(place_.read(there[i]).copy);
            s.arrays[i].data = s.owned.back().data();
        }
    }
    s.rest = counters();
    s.rest.set("config", to_json(config_));
    s.rest.set("data", data_->fingerprint());
    Json kept = Json::array();
    for (size_t i = 0; i < snapshots_.size(); ++i) {
        kept.push(snapshots_[i].counters);
        const auto here = weight_arrays();
        for (size_t a = 0; a < here.size(); ++a) {
            State::Array copy = here[a];
            copy.name = "rollback/" + std::to_string(i) + "/" + copy.name;
            copy.data = snapshots_[i].arrays[a].data();
            s.arrays.push_back(std::move(copy));
        }
    }
    s.rest.set("rollback", std::move(kept));
    const auto add = [&](const std::string& prefix, const ExpertChoices& choices) {
        for (size_t l = 0; l < choices.by_layer.size(); ++l) {
            const auto& ids = choices.by_layer[l];
            if (ids.empty()) continue;
            const int64_t k = static_cast<int64_t>(ids.size()) / choices.n_tokens;
            s.arrays.push_back({prefix + std::to_string(l), DType::i32, {choices.n_tokens, k}, ids.data(),
                                ids.size() * sizeof(int32_t)});
        }
    };
    for (const auto& [step, choices] : anticipated_) add("choices/" + std::to_string(step) + "/", choices);
    add("probe_choices/", probe_choices_);
    return s;
}

// The same names of data, other content: a tokenizer that was exchanged would make every token mean something else.
void Trainer::check_data(const Json& rest, const std::string& file) const {
    const Json *was = rest.find("data"), *config = rest.find("config");
    if (!was || !config || was->as_string() == data_->fingerprint()) return;  // older checkpoints have none
    const TrainConfig then = train_config_from_json(*config, file);
    if (then.data != config_.data || then.tokens != config_.tokens || then.tokenizer != config_.tokenizer) return;  // asked for
    throw_if_any({{file, "data", data_->fingerprint(),
                   "expected " + was->as_string() + ": the tokenizer or token file of data=" + config_.data +
                       " is not the one that this run was trained with", ""}});
}

void Trainer::restore(const std::map<std::string, State::Array>& arrays, const Json& rest, const std::string& file) {
    check_data(rest, file);
    std::vector<Issue> issues;
    auto copy = [&](const std::string& name, const State::Array& to, void* data, auto&& write) {
        const auto at = arrays.find(name);
        if (at == arrays.end() || at->second.bytes != to.bytes || at->second.dtype != to.dtype)
            issues.push_back({file, name, at == arrays.end() ? "(missing)" : dtype_name(at->second.dtype),
                              "expected " + std::string(dtype_name(to.dtype)) + " " + shape_text(to.shape), ""});
        else
            write(data, at->second.data, to.bytes);
    };
    const std::vector<State::Array> here = weight_arrays();
    for (const State::Array& a : here)
        copy(a.name, a, const_cast<void*>(a.data),
             [&](void* p, const void* from, size_t n) { place_.write(p, from, n); });
    masters_.changed();
    snapshots_.clear(), anticipated_.clear(), probe_choices_ = {};
    if (const Json* kept = rest.find("rollback"))
        for (const Json& c : kept->items()) {
            Snapshot s{c.at("step").as_int(), {}, c};
            for (const State::Array& a : here) {
                s.arrays.emplace_back(a.bytes);
                copy("rollback/" + std::to_string(snapshots_.size()) + "/" + a.name, a, s.arrays.back().data(), std::memcpy);
            }
            snapshots_.push_back(std::move(s));
        }
    for (const auto& [name, a] : arrays) {
        const bool is_probe = name.starts_with("probe_choices/");
        if ((!name.starts_with("choices/") && !is_probe) || a.shape.size() != 2) continue;
        ExpertChoices& choices = is_probe ? probe_choices_ : anticipated_[std::stoll(name.substr(8))];
        const auto layer = static_cast<size_t>(std::stoul(name.substr(name.rfind('/') + 1)));
        choices.n_tokens = a.shape[0];
        if (choices.by_layer.size() <= layer) choices.by_layer.resize(layer + 1);
        const auto* ids = static_cast<const int32_t*>(a.data);
        choices.by_layer[layer].assign(ids, ids + a.shape[0] * a.shape[1]);
    }
    throw_if_any(issues);
    restore_counters(rest, file);
}

// Every rollback_steps steps; the two newest, so that one of them is at least that old.
void Trainer::keep_snapshot() {
    if (config_.anticipatory != AnticipatoryMode::triggered || step_ % config_.rollback_steps != 0) return;
    if (!snapshots_.empty() && snapshots_.back().step == step_) return;
    Snapshot s{step_, {}, counters()};
    for (const Tensor& t : weight_tensors()) {
        const HostBytes b = place_.read(t);
        s.arrays.emplace_back(b.data, b.data + tensor_bytes(t));
    }
    if (snapshots_.size() == 2) snapshots_.erase(snapshots_.begin());
    snapshots_.push_back(std::move(s));
}

void Trainer::roll_back(StepReport& r) {
    const Snapshot& s = snapshots_.front();
    const std::vector<Tensor> here = weight_tensors();
    for (size_t i = 0; i < here.size(); ++i) place_.write(here[i].data, s.arrays[i].data(), s.arrays[i].size());
    masters_.changed();
    const int64_t n_before = n_rollbacks_;
    restore_counters(s.counters, "the state in memory");
    n_rollbacks_ = n_before + 1;
    anticipated_.clear();
    anticipating_until_ = std::max(step_ + config_.anticipatory_steps, r.step + 1);  // or the same batch would lead back forever
    r.status = StepReport::Status::rolled_back;
    Json detail = Json::object(), row = Json::object();
    for (const Scalar& scalar : r.scalars) row.set(scalar.name, std::isfinite(scalar.value) ? Json(scalar.value) : Json());
    detail.set("to", step_), detail.set("scalars", std::move(row));
    r.events.push_back({r.step, "rollback", "from step " + std::to_string(r.step) + " back to " + std::to_string(step_) +
                                                "; experts are chosen by older weights until step " +
                                                std::to_string(anticipating_until_), detail.dump()});
    const bool has_two = snapshots_.size() == 2;
    if (has_two) snapshots_.pop_back();  // it lies ahead now
}

Json Trainer::batch_detail(const TrainBatch& batch) const {
    Json b = Json::object(), domains = Json::object(), samples = Json::array();
    std::map<std::string, int64_t> counts;
    for (const auto& s : batch.samples) {
        ++counts[is_noise(step_) ? "random tokens" : data_->domains()[static_cast<size_t>(s.domain)]];
        if (samples.size() < 8)
            samples.push(data_->text({batch.tokens.data() + s.begin, static_cast<size_t>(std::min<int64_t>(s.end - s.begin, 64))}));
    }
    for (const auto& [name, n] : counts) domains.set(name, n);
    b.set("step", step_), b.set("seed", config_.seed), b.set("domains", std::move(domains)), b.set("samples", std::move(samples));
    return b;
}

// The batch, and where its gradients were largest.
std::string Trainer::spike_detail(const TrainBatch& batch, const Norms& norms) const {
    Json j = Json::object();
    j.set("batch", batch_detail(batch));

    std::map<int, double> by_layer;
    std::vector<std::pair<double, size_t>> by_leaf;
    for (size_t i = 0; i < norms.gradient_squares.size(); ++i) {
        by_layer[layer_of(masters_.leaves()[i].name, model_.n_layers())] += norms.gradient_squares[i];
        by_leaf.push_back({-norms.gradient_squares[i], i});
    }
    std::sort(by_leaf.begin(), by_leaf.end());
    std::vector<std::pair<double, int>> layers_sorted;
    for (const auto& [layer, square] : by_layer)
        if (layer >= 0) layers_sorted.push_back({-square, layer});
    std::sort(layers_sorted.begin(), layers_sorted.end());
    Json layers = Json::array(), matrices = Json::array();
    for (size_t i = 0; i < std::min<size_t>(5, layers_sorted.size()); ++i) {
        Json row = Json::object();
        row.set("layer", layers_sorted[i].second), row.set("grad_norm", std::sqrt(-layers_sorted[i].first));
        layers.push(std::move(row));
    }
    for (size_t i = 0; i < std::min<size_t>(8, by_leaf.size()); ++i) {
        const size_t leaf = by_leaf[i].second;
        const UpdateSums& u = norms.updates[leaf];
        Json row = Json::object();
        row.set("name", masters_.leaves()[leaf].name), row.set("grad_norm", std::sqrt(-by_leaf[i].first));
        row.set("update_ratio", u.weight > 0 ? std::sqrt(u.update / u.weight) : 0.0);
        matrices.push(std::move(row));
    }
    j.set("layers", std::move(layers)), j.set("matrices", std::move(matrices));
    return j.dump();
}

std::string Trainer::first_bad_weight() {
    Arena arena(place_.memory(), place_.alignment());
    Ctx ctx{arena, pool_};
    ctx.cuda = place_.gpu();
    for (const Leaf& l : masters_.leaves())
        if (!std::isfinite(sums_of_squares(ctx, std::vector{l.param->master})[0])) return l.name;
    return "";
}

}  // namespace vitrine
