// Ranks after the first, each with a GPU of its own: rows of their experts, queued for a whole pass at a time.
#include <cuda_runtime.h>

#include <map>

#include "engine/infer/expert_server.h"
#include "engine/infer/gpu_capture.h"
#include "engine/model/upload.h"
#include "engine/ops/deliveries.h"
#include "engine/ops/moe/moe.h"

namespace vitrine {
namespace {

class GpuServer {
  public:
    GpuServer(ExpertRanks& ranks, const ModelConfig& c, const ModelWeights& w, int gpu)
        : ranks_(ranks),
          config_(c),
          device_(std::make_shared<cuda::Device>(gpu)),
          weights_(uploaded(w)),
          arena_(device_->memory(), 256) {
        ranks_.use_gpu(device_);
    }
    ~GpuServer() {
        cudaStreamSynchronize(device_->stream());
        for (const auto& [number, exec] : steps_) cudaGraphExecDestroy(exec);
    }
    GpuServer(const GpuServer&) = delete;
    GpuServer& operator=(const GpuServer&) = delete;

    // Captures whenever rank 0 does: what NCCL queues must be captured on all ranks or on none.
    void answer(const ExpertOrder& order) {
        if (order.step < 0) return queue(order);
        if (order.is_new_step) {
            queue(order);
            device_->sync();
            const cudaGraphExec_t exec = capture_step(*device_, false, [&] { queue(order); });
            if (const auto old = steps_.find(order.step); old != steps_.end()) cudaGraphExecDestroy(old->second);
            steps_[order.step] = exec;
        }
        device_->check(cudaGraphLaunch(steps_.at(order.step), device_->stream()), "starting a captured step");
    }

  private:
    ModelWeights uploaded(const ModelWeights& w) const {
        const ModelWeights mine = weights_of_share(w, ranks_.share(), false, true);
        const uint64_t bytes = cuda::upload_bytes(mine), free = device_->free_bytes();
        if (bytes > free)
            throw Error(ErrorKind::out_of_memory, "this rank's experts do not fit on " + device_->gpu().name + ": " +
                                                      std::to_string(bytes) + " bytes; free " + std::to_string(free));
        return cuda::upload(mine, device_);
    }
    void queue(const ExpertOrder& order) {
        arena_.clear();
        Ctx ctx{arena_, pool_, static_cast<Numerics>(order.numerics)};
        ctx.cuda = device_.get(), ctx.expert_ranks = &ranks_;
        const bool is_draft = order.what == ExpertOrder::draft;
        const size_t n = weights_.blocks.size(), first = is_draft ? n : 0, end = is_draft ? n + 1 : n;
        for (size_t l = first; l < end; ++l) {
            const Arena::Scope scratch(arena_);
            ctx.layer = static_cast<int>(l);
            const Tensor x_TD = arena_.make(ctx.activation(), {order.n_tokens, config_.hidden_size});
            const Routing routing{arena_.make(DType::i32, {order.n_tokens, order.n_chosen}),
                                  arena_.make(DType::f32, {order.n_tokens, order.n_chosen})};
            cuda::moe(ctx, x_TD, routing, experts_of_layer(weights_, l), config_);
        }
    }

    ExpertRanks& ranks_;
    const ModelConfig& config_;
    std::shared_ptr<cuda::Device> device_;
    ModelWeights weights_;
    Arena arena_;
    Pool pool_{1};
    std::map<int, cudaGraphExec_t> steps_;
};

}  // namespace

void answer_on_gpu(ExpertRanks& ranks, const ModelConfig& c, const ModelWeights& w, int gpu) {
    GpuServer server(ranks, c, w, gpu);
    for (;;) {
        const ExpertOrder order = ranks.next_order();
        if (order.what == ExpertOrder::end) return;
        server.answer(order);
    }
}

}  // namespace vitrine
