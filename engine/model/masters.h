// Trainable weights: a master copy of every parameter, the leaves of the tape.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/autograd/tape.h"
#include "engine/model/place.h"
#include "engine/model/weights.h"

namespace vitrine {

// What an optimizer needs to know of a parameter (v4-spec 10.2).
enum class ParamRole : uint8_t {
    embedding, head,    // embed.weight, head.weight
    matrix,             // projections, compressors, indexer, gate, experts, MTP projections, hc fn
    norm,               // RMSNorm weights
    hyper_bias,         // hc base and scale, hc_head fn, base, scale
    vector,             // attention sinks, compressor position biases (ape)
    router_bias,        // moved by the sign rule alone: never a leaf of the tape
};
const char* param_role_name(ParamRole r);

struct Leaf {
    std::string name;        // official name (v4-spec 7.1)
    Param* param;            // its `master` is set and its `view` shows it
    ParamRole role;
    int n_matrices = 1;      // logically independent ones, stacked along rows (wo_a: one per group)
    Tensor gradient;         // the master's dtype and shape; empty for router_bias
};

// Owns masters and gradients; `weights` must not move. Tables (tid2eid) stay as they are, or are copied to the GPU.
class Masters {
  public:
    // Copies every parameter, widened to `dtype` (f32 or f64; on a GPU f32), to `place`. A layer's experts lie at equal distances.
    // Error(out_of_memory) with the bytes.
    // keeps_bf16, on a GPU: matrices have BF16 copies (Param::bf16), which the optimizer writes along with the masters.
    Masters(ModelWeights& weights, const ModelConfig& config, DType dtype, const Place& place = Place{}, bool keeps_bf16 = false);
    std::vector<Leaf>& leaves() { return leaves_; }
    const std::vector<Leaf>& leaves() const { return leaves_; }
    void bind(Tape& tape) const;   // all gradients
    void clear_gradients();
    void clear_gradients(const std::function<bool(size_t)>& which) const;  // of these leaves, neighbours at once
    void changed() { is_stale_ = true; }  // masters were written by another than the optimizer
    void refresh(Ctx& ctx);               // BF16 copies, if they are stale: before they are multiplied
    Tensor gradients() const;  // all of them, one after the other, with what aligns them between
    const Place& place() const { return place_; }
    uint64_t master_bytes() const { return master_bytes_; }
    uint64_t gradient_bytes() const { return gradient_bytes_; }

  private:
    void write_widened(const Param& p, const Tensor& master) const;
    void move_table(Param& p);
    void place_copies();
    std::vector<Leaf> leaves_;
    Place place_;
    std::shared_ptr<std::byte> memory_, copies_;
    bool is_stale_ = false;
    std::vector<std::shared_ptr<std::byte>> tables_;
    uint64_t master_bytes_ = 0, gradient_bytes_ = 0;
    std::byte* gradients_ = nullptr;
    DType dtype_;
};

}  // namespace vitrine
