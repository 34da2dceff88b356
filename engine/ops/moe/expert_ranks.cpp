// Routed experts spread over ranks.
#include "engine/ops/moe/expert_ranks.h"

#include <exception>

#include "engine/base/error.h"
#include "engine/comm/communicator.h"
#include "engine/device/cuda/nccl.h"

namespace vitrine {
namespace {

std::span<std::byte> bytes(const Tensor& t) {
    return {static_cast<std::byte*>(t.data), static_cast<size_t>(t.count()) * dtype_bits(t.dtype) / 8};
}

}  // namespace

ExpertRanks::ExpertRanks(Communicator& ranks, const ModelConfig& c)
    : ranks_(ranks), rank_(ranks.rank()), size_(ranks.size()), n_experts_(c.n_experts) {
    if (size_ > n_experts_)
        throw Error(ErrorKind::bad_input, std::to_string(size_) + " processes, and the model has " +
                                              std::to_string(n_experts_) +
                                              " routed experts: expected at most one process per expert");
}

ExpertRanks::~ExpertRanks() {
    if (leads() && std::uncaught_exceptions() == 0) tell({});
}

ExpertShare ExpertRanks::share_of(int rank) const {
    const auto begin = [&](int r) { return static_cast<int>(int64_t{n_experts_} * r / size_); };
    return {begin(rank), begin(rank + 1)};
}

void ExpertRanks::tell(const ExpertOrder& order) {
    ExpertOrder sent = order;
    ranks_.broadcast(std::as_writable_bytes(std::span(&sent, 1)));
}

ExpertOrder ExpertRanks::next_order() {
    ExpertOrder order;
    ranks_.broadcast(std::as_writable_bytes(std::span(&order, 1)));
    return order;
}

void ExpertRanks::spread(const Tensor& x_TD, const Routing& routing) {
    for (const Tensor* t : {&x_TD, &routing.indices_TK, &routing.weights_TK}) ranks_.broadcast(bytes(*t));
}

void ExpertRanks::send_rows(const float* rows, int64_t count) {
    ranks_.send(std::as_bytes(std::span(rows, static_cast<size_t>(count))), 0);
}

void ExpertRanks::receive_rows(float* rows, int64_t count, int from_rank) {
    ranks_.receive(std::as_writable_bytes(std::span(rows, static_cast<size_t>(count))), from_rank);
}

void ExpertRanks::use_gpu(std::shared_ptr<cuda::Device> device) {
    gpu_ = std::move(device);
    if constexpr (kHasCuda) {
        if (const std::string why = cuda::why_no_nccl(*gpu_, ranks_); !why.empty())
            throw Error(ErrorKind::device, "experts spread over GPUs go by NCCL: " + why);
        nccl_ = std::make_shared<cuda::NcclSums>(*gpu_, ranks_);
    }
}

void ExpertRanks::spread_on_gpu(const Tensor& x_TD, const Routing& routing) {
    if constexpr (kHasCuda) {
        const std::span<std::byte> blocks[] = {bytes(x_TD), bytes(routing.indices_TK), bytes(routing.weights_TK)};
        nccl_->broadcast(blocks);
    } else {
        static_cast<void>(x_TD), static_cast<void>(routing);
    }
}

void ExpertRanks::gather_on_gpu(const Tensor& rows) {
    if constexpr (kHasCuda)
        nccl_->sum_to_first(rows.data, static_cast<size_t>(rows.count()), rows.dtype);
    else
        static_cast<void>(rows);
}

ModelWeights weights_of_share(const ModelWeights& w, ExpertShare share, bool is_leader, bool is_on_gpu) {
    ModelWeights mine = is_leader ? w : ModelWeights{};
    mine.blocks.resize(w.blocks.size()), mine.mtp.resize(w.mtp.size());
    const auto take = [&](MoeWeights& to, const MoeWeights& from) {
        to.experts.assign(from.experts.begin() + share.first, from.experts.begin() + share.end);
        if (is_leader || is_on_gpu) to.shared = from.shared;
    };
    for (size_t l = 0; l < w.blocks.size(); ++l) take(mine.blocks[l].ffn, w.blocks[l].ffn);
    for (size_t i = 0; i < w.mtp.size(); ++i) take(mine.mtp[i].block.ffn, w.mtp[i].block.ffn);
    return mine;
}

uint64_t bytes_of(const ModelWeights& w) {
    uint64_t n = 0;
    for_each_param(w, [&](const Param& p) { n += p.empty() ? 0 : p.view.bytes(); });
    return n;
}

}  // namespace vitrine
