// A model from nothing, in memory.
#include "engine/train/fresh.h"

#include <algorithm>
#include <functional>
#include <thread>

#include "engine/base/rng.h"
#include "engine/device/pool.h"
#include "engine/model/config.h"
#include "engine/model/residual/residual.h"
#include "engine/model/roles.h"

namespace vitrine {
namespace {

struct Values {
    std::unique_ptr<float[]> floats;  // nobody writes them before they are drawn, in the threads that draw
    std::vector<int64_t> ids;
};
constexpr int64_t kPiece = 1 << 18;  // values drawn by a thread at a time

bool ends(const std::string& s, const char* tail) { return s.ends_with(tail); }

// Values [begin, end) of a tensor.
void fill(const std::string& name, const Shape& shape, const ModelConfig& c, const TrainConfig& t, float* x, int64_t begin,
          int64_t end) {
    const bool is_up = ends(name, ".w3.weight"), is_aligned = t.init_aligned > 0 && (is_up || ends(name, ".w1.weight"));
    const std::string stream = is_up && is_aligned ? name.substr(0, name.size() - 9) + "w1.weight" : name;
    const CounterRng rng(static_cast<uint64_t>(t.seed), fnv1a64(stream));
    if (ends(name, "norm.weight")) return std::fill(x + begin, x + end, 1.0f);
    if (start_hyper_weight(c, name, t.init_alpha, t.init_identity, {x, static_cast<size_t>(shape.count())})) return;  // small
    if (shape.rank != 2 || ends(name, ".ape"))  // sinks, position and selection biases
        return std::fill(x + begin, x + end, 0.0f);
    double deviation = t.init_std;
    if (name == "embed.weight") deviation *= t.init_embedding;
    if (name.find("hc_") != std::string::npos) deviation *= t.init_hyper;
    if (is_aligned) deviation *= t.init_aligned;
    for (int64_t i = begin; i < end; ++i) x[i] = static_cast<float>(deviation) * rng.normal(static_cast<uint64_t>(i));
    const bool is_router = ends(name, ".ffn.gate.weight");
    for (int64_t i = begin; is_router && i < std::min(shape[1], end); ++i) x[i] *= static_cast<float>(t.init_router_skew);
}

// For each token K different experts: the first K of a shuffle.
void fill_table(const std::string& name, const ModelConfig& c, const TrainConfig& t, const Shape& shape, std::vector<int64_t>& x) {
    const CounterRng rng(static_cast<uint64_t>(t.seed), fnv1a64(name));
    std::vector<int64_t> experts(static_cast<size_t>(c.n_experts));
    for (int64_t token = 0; token < shape[0]; ++token) {
        for (size_t e = 0; e < experts.size(); ++e) experts[e] = static_cast<int64_t>(e);
        for (int64_t k = 0; k < shape[1]; ++k) {
            const uint64_t left = experts.size() - static_cast<uint64_t>(k);
            std::swap(experts[static_cast<size_t>(k)],
                      experts[static_cast<size_t>(k) + rng.bits(static_cast<uint64_t>(token * shape[1] + k)) % left]);
            x[static_cast<size_t>(token * shape[1] + k)] = experts[static_cast<size_t>(k)];
        }
    }
}

}  // namespace

ModelWeights fresh_weights(const ModelConfig& config, const TrainConfig& train) {
    throw_if_any(validate(config, "the model"));
    ModelWeights w;
    std::vector<std::function<void()>> fills;  // a value depends on nothing but its tensor's name and its place: in any order
    auto visit = [&](const std::string& name, Param& p, const Shape& shape, Storage storage) {
        auto values = std::make_shared<Values>();
        const auto n = static_cast<size_t>(shape.count());
        const bool is_table = storage == Storage::table;
        if (is_table) {
            values->ids.resize(n);
            fills.push_back([=, &config, &train] { fill_table(name, config, train, shape, values->ids); });
        } else {
            values->floats = std::make_unique_for_overwrite<float[]>(n);
            for (int64_t i = 0; i < shape.count(); i += kPiece)
                fills.push_back([=, &config, &train] {
                    fill(name, shape, config, train, values->floats.get(), i, std::min(i + kPiece, shape.count()));
                });
        }
        p.name = name, p.shape = shape;
        p.view.data = is_table ? static_cast<const void*>(values->ids.data()) : values->floats.get();
        p.view.dtype = is_table ? DType::i64 : DType::f32;
        p.view.out = shape.rank == 2 ? shape[0] : 1, p.view.in = shape.rank == 2 ? shape[1] : shape[0];
        p.owner = values;
        w.bytes += n * (is_table ? 8 : 4);
    };
    trunk_roles(w, config, visit);
    if (config.n_mtp_layers > 0) mtp_roles(w, config, visit);
    Pool pool(std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
    pool.parallel_for(static_cast<int64_t>(fills.size()), 1, [&](int64_t f0, int64_t f1) {
        for (int64_t f = f0; f < f1; ++f) fills[static_cast<size_t>(f)]();
    });
    const ParamCount count = count_params(config);
    w.n_params = count.total, w.n_active_params = count.active;
    return w;
}

}  // namespace vitrine
