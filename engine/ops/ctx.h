// What every op is handed: scratch memory, threads, the numeric mode, who watches, and when to stop.
#pragma once
#include <stop_token>

#include "engine/autograd/tape.h"
#include "engine/base/config/numerics.h"
#include "engine/base/ticks.h"
#include "engine/device/cuda/device.h"
#include "engine/device/pool.h"
#include "engine/telemetry/probes.h"
#include "engine/tensor/arena.h"

namespace vitrine {

struct TrainingStep;  // engine/ops/training.h
class ExpertRanks;    // engine/ops/moe/expert_ranks.h

// Time spent per kind of op and layer during a forward pass, for the Model view and `bench`. Owner: the engine thread.
enum class OpKind : uint8_t { embed, hyper, norm, linear, rope, compress, index, attend, route, moe, head, other, optimize, count };
const char* op_kind_name(OpKind k);

struct OpTimes {
    bool is_on = false;
    static constexpr int kMaxLayers = 128;
    double ms[static_cast<int>(OpKind::count)][kMaxLayers + 1] = {};  // last column: outside the layers
    // Of the inference path: matrix products (linear, moe), scores and sums of attention (attend), index scores (index).
    double multiply_adds[static_cast<int>(OpKind::count)] = {};
    Ticks clock;
    double total_multiply_adds() const;
    void clear();
};

struct Ctx {
    Arena& arena;
    Pool& pool;
    Numerics numerics = Numerics::exact;
    const Watch* watch = nullptr;     // nullptr: nobody looks
    ProbeSink* probes = nullptr;
    std::stop_token stop;
    OpTimes* times = nullptr;
    int layer = -1;                   // set by the model for probes and times

    // Whole sequences with master weights instead of caches and packed weights: set for training and its evaluation.
    Tape* tape = nullptr;
    DType dtype = DType::f32;         // of activations; f64 only with a tape
    TrainingStep* training = nullptr; // what a training step asks of the ops; may be null with a tape
    int active_experts = 0;           // routed experts per token instead of the trained number (router.h); 0: as trained
    ExpertRanks* expert_ranks = nullptr;  // set: other processes hold some of the routed experts; without a tape

    // Set: ops run on this GPU. Tensors and weights lie in its memory and `arena` hands it out. Without a tape, tokens and
    // positions come from cuda->step; with one, everything comes as arguments, and activations are f32.
    cuda::Device* cuda = nullptr;
    bool infers_on_gpu() const { return cuda && !tape; }
    // On a GPU with a tape: matrix products round their inputs to BF16 first and accumulate in FP32.
    bool has_bf16_products = false;
    // On a GPU: what op outputs are kept in. Everything that `reference` rounds to BF16 is held as BF16.
    DType activation() const { return is_reference() && !tape ? DType::bf16 : DType::f32; }

    bool wants(Probe p) const { return watch && watch->wants(p); }
    void count(OpKind kind, double multiply_adds) const {
        if (times && times->is_on) times->multiply_adds[static_cast<int>(kind)] += multiply_adds;
    }
    bool is_reference() const { return numerics == Numerics::reference; }
    void check_stop() const {
        if (stop.stop_requested()) throw Error(ErrorKind::cancelled, "cancelled");
    }
    // Publishes each row of x [T, ...] as one array of rows x cols per token (call only if wanted).
    void publish(Probe p, const Tensor& x, int rows, int cols) const;

  private:
    void publish_later(Probe p, const Tensor& x, int rows, int cols) const;  // from a GPU
};

// Adds the time until the end of the scope to ctx.times; what is recorded on the tape in between is known by the same kind.
class OpTimer {
  public:
    OpTimer(Ctx& ctx, OpKind kind) : times_(ctx.times && ctx.times->is_on ? ctx.times : nullptr), tape_(ctx.tape) {
        const int layer = ctx.layer < 0 ? OpTimes::kMaxLayers : ctx.layer;
        if (tape_) outer_ = tape_->label, tape_->label = {static_cast<int>(kind), layer};
        if (times_) kind_ = kind, layer_ = layer, start_ = times_->clock.now();
    }
    ~OpTimer() {
        if (tape_) tape_->label = outer_;
        if (times_) times_->ms[static_cast<int>(kind_)][layer_] += times_->clock.ms_since(start_);
    }
    OpTimer(const OpTimer&) = delete;
    OpTimer& operator=(const OpTimer&) = delete;

  private:
    OpTimes* times_;
    Tape* tape_;
    Tape::Label outer_;
    OpKind kind_{};
    int layer_ = 0;
    uint64_t start_ = 0;
};

}  // namespace vitrine
