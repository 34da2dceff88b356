// Runs forward passes on a GPU: uploads a step's tokens and addresses, replays captured steps, brings logits and probes back.
//
// Every function stands behind `if constexpr (kHasCuda)` at its callers. Owner: the engine thread.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <stop_token>
#include <vector>

#include "engine/model/v4.h"
#include "engine/ops/ctx.h"
#include "engine/ops/moe/expert_ranks.h"

namespace vitrine {

// What a model will take of a GPU's memory, in bytes.
struct GpuPlan {
    uint64_t weights = 0;
    uint64_t cache = 0;        // of one sequence of `context` tokens
    uint64_t activations = 0;  // of a chunk of kMaxGpuChunk tokens, and scratch: an estimate from above
    uint64_t free = 0;
    int64_t context = 0;
    uint64_t needed() const { return weights + cache + activations; }
};
GpuPlan gpu_plan(const ModelConfig& c, const ModelWeights& w, Numerics numerics, int64_t context, uint64_t free_bytes);

enum class Pass { forward, draft, draft_going_on, draft_keys };  // of model/v4.h; the last one has no logits

class GpuRunner {
  public:
    // Uploads the weights. Error(out_of_memory) with the plan's numbers, before anything is uploaded, when they can't
    // fit; Error(device) when GPU `index` is not there. ranks (may be null): only this rank's share of the routed
    // experts; all ranks at once.
    GpuRunner(int index, const ModelConfig& c, const ModelWeights& host, Numerics numerics,
              ExpertRanks* ranks = nullptr);
    ~GpuRunner();
    const std::shared_ptr<cuda::Device>& device() const { return device_; }

    struct Result {
        const float* logits;   // [n, V] on the host, until the next run
        int64_t n;             // 1 per segment, or all tokens
    };
    // What somebody watches, on its way: waits for it and hands it out. To be called before the next run but one.
    using Watched = std::function<void(ProbeSink&)>;
    // With ranks, a pass is not cancelled once it has begun, and what fails in it throws RanksLost.
    // ctx: numerics, watch, probes and stop are used; the rest is set here. Caches of the batch are this GPU's.
    // `meanwhile` (may be null) is called while the GPU computes. `later` null: what is watched has been handed out on
    // return. Else it may be left in *later, and the logits don't wait for it.
    Result run(Ctx ctx, const ModelConfig& c, const Batch& batch, LogitRows rows, Pass pass = Pass::forward,
               const std::function<void()>& meanwhile = {}, Watched* later = nullptr);

  private:
    struct Captured;
    struct Event;
    Result run_here(Ctx& ctx, const ModelConfig& c, const Batch& batch, LogitRows rows, Pass pass,
                    const std::function<void()>& meanwhile, Watched* later);
    void tell(const Ctx& ctx, const ModelConfig& c, Pass pass, int n_tokens, int step = -1, bool is_new = false);
    void place(const ModelConfig& c, const Batch& batch);
    Tensor run_once(Ctx& ctx, const ModelConfig& c, const Batch& batch, LogitRows rows, Pass pass);
    void hand_out(const Ctx& ctx);
    Watched watched(const std::shared_ptr<Captured>& step) const;
    std::shared_ptr<Captured> captured(Ctx& ctx, const ModelConfig& c, const Batch& batch, LogitRows rows, Pass pass);

    std::shared_ptr<cuda::Device> device_;
    ExpertRanks* ranks_ = nullptr;
    ModelWeights weights_;
    std::unique_ptr<Arena> arena_;
    Pool pool_{1};             // ops that ask for one find it idle
    std::vector<cuda::TokenAt> tokens_;
    std::shared_ptr<cuda::Buffer> step_;
    std::byte* pinned_ = nullptr;   // the step's table on its way to the GPU
    float* logits_ = nullptr;       // pinned
    size_t pinned_bytes_ = 0, logits_count_ = 0;
    std::unique_ptr<Event> logits_done_;
    std::map<std::vector<int64_t>, std::shared_ptr<Captured>> steps_;
};

}  // namespace vitrine
