// Routed experts spread over ranks: rank 0 runs the model, and the others answer with the rows of the experts that they
// hold.
//
// Rank r of N holds experts [E r / N, E (r + 1) / N) of every layer. Rank 0 sends a layer's input and routing to all;
// each works out its experts' rows; the rows come to rank 0, which adds them up in the order of one process. So the
// bits are those of one process on the same kind of machine, and everything else (attention, caches, probes, sampling)
// knows nothing of it. Owner: the engine thread of each rank.
#pragma once
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

#include "engine/model/weights.h"
#include "engine/ops/ctx.h"
#include "engine/ops/router/router.h"

namespace vitrine {

class Communicator;
namespace cuda {
class NcclSums;
}

struct ExpertShare {
    int first = 0, end = 0;
    int count() const { return end - first; }
    bool holds(int64_t expert) const { return expert >= first && expert < end; }
};

// What rank 0 tells the others to take part in.
struct ExpertOrder {
    // layer: one layer's call (CPU). pass, draft: all calls of a pass of the trunk or drafter (GPU).
    enum What : int32_t { end, layer, pass, draft };
    int32_t what = end, layer_number = 0, n_tokens = 0, n_chosen = 0, numerics = 0;
    // On a GPU: a captured step's number, and whether it is run once and captured first.
    int32_t step = -1, is_new_step = 0;
};

// Rank 0 failed while others took part: they can't go on. No Error, which callers may take for one command's failure.
struct RanksLost : std::runtime_error {
    explicit RanksLost(const std::exception& why)
        : std::runtime_error(std::string(why.what()) + "; the other ranks can't go on") {}
};

class ExpertRanks {
  public:
    // Error(bad_input): more ranks than experts. `ranks` must outlive it.
    ExpertRanks(Communicator& ranks, const ModelConfig& c);
    // From then on calls run on this GPU. By all ranks at once; Error(device): NCCL isn't there, or ranks share a GPU.
    void use_gpu(std::shared_ptr<cuda::Device> device);
    // Rank 0 lets the others go, unless an error is on its way.
    ~ExpertRanks();
    ExpertRanks(const ExpertRanks&) = delete;
    ExpertRanks& operator=(const ExpertRanks&) = delete;

    bool leads() const { return rank_ == 0; }
    int size() const { return size_; }
    ExpertShare share_of(int rank) const;
    ExpertShare share() const { return share_of(rank_); }

    void tell(const ExpertOrder& order);  // rank 0
    ExpertOrder next_order();             // the others: waits for it

    // ---- on the CPU
    // Rank 0: to all. The others: fills tensors of the order's shape.
    void spread(const Tensor& x_TD, const Routing& routing);
    void send_rows(const float* rows, int64_t count);  // to rank 0
    void receive_rows(float* rows, int64_t count, int from_rank);

    // ---- on a GPU: queued on its stream. Rows of other ranks' experts must be zero here.
    void spread_on_gpu(const Tensor& x_TD, const Routing& routing);
    void gather_on_gpu(const Tensor& rows);

  private:
    Communicator& ranks_;
    int rank_, size_, n_experts_;
    std::shared_ptr<cuda::Device> gpu_;  // before what works there
    std::shared_ptr<cuda::NcclSums> nccl_;
};

// The weights that a rank reads: its share of every layer's routed experts, and on rank 0 all else. On a GPU every rank
// has the shared experts too: how a token's rows are worked out there depends on their number.
ModelWeights weights_of_share(const ModelWeights& w, ExpertShare share, bool is_leader, bool is_on_gpu);
uint64_t bytes_of(const ModelWeights& w);  // packed, scales included

// Another rank's part of one layer's call, on the CPU.
void answer_moe(Ctx& ctx, const ExpertOrder& order, const MoeWeights& w, const ModelConfig& c);

}  // namespace vitrine
