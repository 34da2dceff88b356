// Which weight is moved by what (v4-spec 10.2), the optimizers' memory, and the sign rule of the router's bias (10.1).
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/config/training_config.h"
#include "engine/model/masters.h"
#include "engine/ops/adamw/adamw.h"
#include "engine/ops/training.h"

namespace vitrine {

enum class MovedBy : uint8_t { adamw, muon, sign_rule };
MovedBy moved_by(const Leaf& leaf, OptimizerKind kind);
bool decays(const Leaf& leaf, DecayScope scope);

// Owns the moments of `masters`, which must outlive it. Owner: the thread that trains.
class Optimizer {
  public:
    Optimizer(OptimizerKind kind, Masters& masters);

    // One update of every leaf that is_active(leaf index), from its gradient times gradient_scale. Sums by leaf (zero elsewhere).
    std::vector<UpdateSums> step(Ctx& ctx, const TrainConfig& c, double lr, double gradient_scale,
                                 const std::function<bool(size_t)>& is_active);

    struct Moment {
        std::string name;     // "mean/layers.0.attn.wq_a.weight", "square/...", "momentum/..."
        Tensor value;
    };
    const std::vector<Moment>& moments() const { return moments_; }
    std::vector<int64_t>& updates() { return updates_; }  // by leaf
    const std::vector<int64_t>& updates() const { return updates_; }
    const Tensor& momentum(size_t leaf) const {
        return first_[leaf];
    }  // AdamW's mean or Muon's sum; empty: the sign rule's
    const Tensor& square(size_t leaf) const { return second_[leaf]; }  // AdamW's, else empty
    OptimizerKind kind() const { return kind_; }
    uint64_t bytes() const { return bytes_; }

  private:
    uint64_t aligned(uint64_t n_bytes) const;
    Tensor add_moment(const char* kind, const Leaf& leaf, std::byte*& at);
    OptimizerKind kind_;
    Masters& masters_;
    std::vector<Tensor> first_, second_;  // by leaf: mean and square, or momentum and nothing
    std::vector<int64_t> updates_;
    std::vector<Moment> moments_;
    std::shared_ptr<std::byte> memory_;
    uint64_t bytes_ = 0;
};

// b_e += speed * sign(mean load - load_e), for every router bias whose layer left loads in this step.
void move_router_biases(Masters& masters, const std::vector<LayerLoad>& loads, int n_trunk_layers, double speed);

// QK-clip (Kimi K2, arXiv 2507.20534), for a key that all heads share and that is the value too: the query projection of a head
// whose largest logit exceeds `top` shrinks by top / logit, its key stays. Returns how many heads shrank.
int clip_query_projections(Masters& masters, const std::vector<HeadLogits>& logits, int n_trunk_layers, double top);

// Part of a model that a weight belongs to, for scalars by group: "embedding", "head", "attention", "compressor", "indexer",
// "router", "experts", "hyper", "norms", "vectors".
const char* weight_group(const Leaf& leaf);
// Layer of "layers.N.…" and "mtp.K.…" (n_trunk_layers + K); -1: neither.
int layer_of(const std::string& name, int n_trunk_layers);

}  // namespace vitrine
