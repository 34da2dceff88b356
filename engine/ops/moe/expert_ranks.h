// Routed experts spread over ranks: rank 0 runs the model, and the others answer with the rows of the experts that they
// hold.
//
// Rank r of N holds experts [E r / N, E (r + 1) / N) of every layer. Rank 0 sends a layer's input and routing to all;
// each works out its experts' rows; the rows come to rank 0, which adds them up in the order of one process. So the
// bits are those of one process on the same kind of machine, and everything else (attention, caches, probes, sampling)
// knows nothing of it. Owner: the engine thread of each rank.
#pragma once
#include <cstdint>

#include "engine/model/weights.h"
#include "engine/ops/ctx.h"
#include "engine/ops/router/router.h"

namespace vitrine {

class Communicator;

struct ExpertShare {
    int first = 0, end = 0;
    int count() const { return end - first; }
    bool holds(int64_t expert) const { return expert >= first && expert < end; }
};

// What rank 0 tells the others to take part in: one layer's call.
struct ExpertOrder {
    static constexpr int32_t kEnd = -1;
    int32_t layer = kEnd, n_tokens = 0, n_chosen = 0, numerics = 0;
};

class ExpertRanks {
  public:
    // Error(bad_input): more ranks than experts. `ranks` must outlive it.
    ExpertRanks(Communicator& ranks, const ModelConfig& c);
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

    // Rank 0: to all. The others: fills tensors of the order's shape.
    void spread(const Tensor& x_TD, const Routing& routing);
    void send_rows(const float* rows, int64_t count);  // to rank 0
    void receive_rows(float* rows, int64_t count, int from_rank);

  private:
    Communicator& ranks_;
    int rank_, size_, n_experts_;
};

// The weights that a rank reads: its share of every layer's routed experts, and on rank 0 all else.
ModelWeights weights_of_share(const ModelWeights& w, ExpertShare share, bool is_leader);
uint64_t bytes_of(const ModelWeights& w);  // packed, scales included

// Another rank's part of one layer's call, on the CPU.
void answer_moe(Ctx& ctx, const ExpertOrder& order, const MoeWeights& w, const ModelConfig& c);

}  // namespace vitrine
