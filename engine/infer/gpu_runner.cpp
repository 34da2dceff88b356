// Runs forward passes on a GPU.
#include "engine/infer/gpu_runner.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/infer/gpu_capture.h"
#include "engine/model/upload.h"
#include "engine/ops/deliveries.h"
#include "engine/ops/linear/linear.h"

namespace vitrine {
namespace {

constexpr size_t kMaxSteps = 64;  // captured steps that are kept
constexpr uint64_t kCachedWeights = uint64_t{1} << 30;  // of larger models a token reads more than a GPU's caches hold

// Capacity buckets: a captured step serves every length up to the next power of two.
int64_t bucket(int64_t length) {
    int64_t n = 1024;
    while (n < length) n *= 2;
    return n;
}

// Lets a kernel of the graph start while the one before it still runs; each waits by itself (after_previous).
void overlap_kernels(cudaGraph_t graph, const cuda::Device& device) {
#if CUDART_VERSION >= 13000
    size_t n = 0;
    device.check(cudaGraphGetEdges(graph, nullptr, nullptr, nullptr, &n), "reading a captured step");
    std::vector<cudaGraphNode_t> from(n), to(n);
    std::vector<cudaGraphEdgeData> edges(n);
    device.check(cudaGraphGetEdges(graph, from.data(), to.data(), edges.data(), &n), "reading a captured step");
    const auto is_kernel = [](cudaGraphNode_t node) {
        cudaGraphNodeType type{};
        return cudaGraphNodeGetType(node, &type) == cudaSuccess && type == cudaGraphNodeTypeKernel;
    };
    for (size_t i = 0; i < n; ++i) {
        if (!is_kernel(from[i]) || !is_kernel(to[i])) continue;
        device.check(cudaGraphRemoveDependencies(graph, &from[i], &to[i], &edges[i], 1), "joining kernels of a step");
        cudaGraphEdgeData edge{};
        edge.type = cudaGraphDependencyTypeProgrammatic;
        edge.from_port = cudaGraphKernelNodePortProgrammatic;
        device.check(cudaGraphAddDependencies(graph, &from[i], &to[i], &edge, 1), "joining kernels of a step");
    }
#else
    static_cast<void>(graph), static_cast<void>(device);
#endif
}

}  // namespace

cudaGraphExec_t capture_step(cuda::Device& device, bool may_overlap, const std::function<void()>& queue) {
    cudaGraph_t graph = nullptr;
    device.check(cudaStreamBeginCapture(device.stream(), cudaStreamCaptureModeThreadLocal),
                 "beginning to capture a step");
    try {
        queue();
    } catch (...) {
        cudaStreamEndCapture(device.stream(), &graph);
        if (graph) cudaGraphDestroy(graph);
        throw;
    }
    device.check(cudaStreamEndCapture(device.stream(), &graph), "capturing a step");
    cudaGraphExec_t exec = nullptr;
    cudaError_t status = cudaSuccess;
    try {
        if (may_overlap && device.gpu().compute_capability >= 90) overlap_kernels(graph, device);
        status = cudaGraphInstantiate(&exec, graph, 0);
    } catch (...) {
        cudaGraphDestroy(graph);
        throw;
    }
    cudaGraphDestroy(graph);
    device.check(status, "making a captured step");
    return exec;
}

struct GpuRunner::Event {
    cudaEvent_t at = nullptr;
    explicit Event(const cuda::Device& device) {
        device.check(cudaEventCreateWithFlags(&at, cudaEventDisableTiming), "making an event");
    }
    ~Event() { cudaEventDestroy(at); }
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
    void record(const cuda::Device& device) const { device.check(cudaEventRecord(at, device.stream()), "recording an event"); }
    void wait(const cuda::Device& device) const { device.check(cudaEventSynchronize(at), "running a step"); }
};

// A step as a CUDA graph, and where its results lie. What is watched is measured and gathered after it, op by op, so that logits
// don't wait for that.
struct GpuRunner::Captured {
    explicit Captured(const std::shared_ptr<cuda::Device>& d)
        : device(d), deliveries(std::make_shared<cuda::Deliveries>(*d)), watched_done{Event(*d), Event(*d)} {}
    std::shared_ptr<cuda::Device> device;   // before what needs it to go
    cudaGraphExec_t exec = nullptr;
    int number = 0;  // for other ranks
    Tensor logits;
    std::shared_ptr<cuda::Deliveries> deliveries;
    Event watched_done[2];                  // by turn
    ~Captured() {
        if (exec) cudaGraphExecDestroy(exec);
    }
};

GpuRunner::GpuRunner(int index, const ModelConfig& c, const ModelWeights& all, Numerics numerics, ExpertRanks* ranks)
    : device_(std::make_shared<cuda::Device>(index)), ranks_(ranks) {
    const ModelWeights host = ranks ? weights_of_share(all, ranks->share(), true, true) : all;
    const GpuPlan plan = gpu_plan(c, host, numerics, std::min<int64_t>(c.max_position, kMaxGpuChunk), device_->free_bytes());
    if (plan.needed() > plan.free)
        throw Error(ErrorKind::out_of_memory,
                    "the model does not fit on " + device_->gpu().name + ": weights " + std::to_string(plan.weights) +
                        " bytes, cache of " + std::to_string(plan.context) + " tokens " + std::to_string(plan.cache) +
                        ", activations " + std::to_string(plan.activations) + ", together " + std::to_string(plan.needed()) +
                        "; free " + std::to_string(plan.free));
    weights_ = cuda::upload(host, device_);
    device_->reads_weights_once = plan.weights > kCachedWeights;
    arena_ = std::make_unique<Arena>(device_->memory(), 256);
    logits_done_ = std::make_unique<Event>(*device_);
    if (ranks_) ranks_->use_gpu(device_);
}

GpuRunner::~GpuRunner() {
    cudaStreamSynchronize(device_->stream());
    steps_.clear();
    if (pinned_) cudaFreeHost(pinned_);
    if (logits_) cudaFreeHost(logits_);
}

// The step's table: tokens, then last rows, then views, each aligned.
void GpuRunner::place(const ModelConfig& c, const Batch& batch) {
    const size_t n_tokens = batch.tokens.size(), n_sequences = batch.segments.size();
    const size_t n_layers = c.layers.size() + 1;  // the drafter's, empty where a sequence has none
    const size_t views_at = 0, tokens_at = n_layers * n_sequences * sizeof(cuda::LayerView);
    const size_t rows_at = tokens_at + n_tokens * sizeof(cuda::TokenAt), bytes = rows_at + n_sequences * sizeof(int32_t);
    if (bytes > pinned_bytes_) {
        device_->sync();
        steps_.clear();  // they know the old addresses
        pinned_bytes_ = std::max(2 * bytes, size_t{1} << 18);
        if (pinned_) cudaFreeHost(std::exchange(pinned_, nullptr));
        device_->check(cudaMallocHost(&pinned_, pinned_bytes_), "reserving host memory for a step");
        step_ = std::make_shared<cuda::Buffer>(device_, pinned_bytes_);
    }
    tokens_.resize(n_tokens);
    cuda::Step step{reinterpret_cast<const cuda::TokenAt*>(step_->data() + tokens_at),
                    reinterpret_cast<const cuda::LayerView*>(step_->data() + views_at),
                    reinterpret_cast<const int32_t*>(step_->data() + rows_at),
                    static_cast<int>(n_tokens), static_cast<int>(n_sequences), 0};
    auto* views = reinterpret_cast<cuda::LayerView*>(pinned_ + views_at);
    auto* last = reinterpret_cast<int32_t*>(pinned_ + rows_at);
    for (size_t s = 0; s < n_sequences; ++s) {
        const Segment& segment = batch.segments[s];
        last[s] = static_cast<int32_t>(segment.end - 1);
        for (int64_t t = segment.begin; t < segment.end; ++t)
            tokens_[static_cast<size_t>(t)] = {batch.tokens[t], static_cast<int32_t>(s), segment.position + t - segment.begin};
        for (size_t l = 0; l < n_layers; ++l)
            views[l * n_sequences + s] = l < segment.cache->layers.size() ? segment.cache->view(l) : cuda::LayerView{};
        step.longest = std::max(step.longest, segment.position + segment.end - segment.begin);
    }
    std::memcpy(pinned_ + tokens_at, tokens_.data(), n_tokens * sizeof(cuda::TokenAt));
    device_->upload(step_->data(), pinned_, bytes);
    device_->step = step;
}

void GpuRunner::hand_out(const Ctx& ctx) {
    cuda::Deliveries& d = device_->deliveries();
    if (d.empty()) return;
    d.gather();
    device_->sync();
    d.hand_out(tokens_, *ctx.probes);
    d.clear();
}

Tensor GpuRunner::run_once(Ctx& ctx, const ModelConfig& c, const Batch& batch, LogitRows rows, Pass pass) {
    arena_->clear();
    device_->deliveries().waiting_mix = nullptr;  // of a pass that was cancelled
    device_->deliveries().mixing = nullptr;
    if (pass == Pass::forward) return forward(ctx, c, weights_, batch, rows);
    if (pass != Pass::draft_keys) return draft(ctx, c, weights_, batch, pass == Pass::draft_going_on);
    draft_keys(ctx, c, weights_, batch);
    return {};
}

// The captured step for this batch, or null when it is to be run op by op.
std::shared_ptr<GpuRunner::Captured> GpuRunner::captured(Ctx& ctx, const ModelConfig& c, const Batch& batch, LogitRows rows,
                                                         Pass pass) {
    const auto n_tokens = static_cast<int64_t>(batch.tokens.size());
    const int64_t n_rows = pass == Pass::forward ? n_tokens : n_tokens * c.hc_mult;  // of the widest product
    if (n_rows > cuda::kFewRows || batch.forced) return nullptr;
    device_->step.longest = bucket(device_->step.longest);
    const std::vector<int64_t> key{n_tokens,
                                   device_->step.n_sequences,
                                   device_->step.longest,
                                   static_cast<int64_t>(ctx.watch ? ctx.watch->get() : kNoProbes),
                                   static_cast<int64_t>(ctx.numerics),
                                   static_cast<int64_t>(rows),
                                   static_cast<int64_t>(pass),
                                   std::any_of(batch.segments.begin(), batch.segments.end(),
                                               [](const Segment& s) { return s.cache->has_drafter(); }),
                                   ctx.active_experts};
    if (steps_.size() >= kMaxSteps && !steps_.contains(key)) steps_.clear();
    const auto number = static_cast<int>(steps_.size());
    auto& step = steps_[key];
    tell(ctx, c, pass, static_cast<int>(n_tokens), step ? step->number : number, !step);
    if (step) return step;

    // Once op by op, so that everything that is allocated once is there; the rows it writes are written again.
    run_once(ctx, c, batch, rows, pass);
    device_->deliveries().clear();
    auto fresh = std::make_shared<Captured>(device_);
    fresh->number = number;
    device_->sync();
    const auto others = device_->exchange_deliveries(fresh->deliveries);
    try {
        fresh->exec = capture_step(*device_, !ranks_, [&] { fresh->logits = run_once(ctx, c, batch, rows, pass); });
    } catch (...) {
        device_->exchange_deliveries(others);
        throw;
    }
    device_->exchange_deliveries(others);
    step = std::move(fresh);
    return step;
}

// What the step's last gather brings.
GpuRunner::Watched GpuRunner::watched(const std::shared_ptr<Captured>& step) const {
    return [step, tokens = tokens_, turn = step->deliveries->turn()](ProbeSink& sink) {
        step->watched_done[turn].wait(*step->device);
        step->deliveries->hand_out(tokens, sink, turn);
    };
}

void GpuRunner::tell(const Ctx& ctx, const ModelConfig& c, Pass pass, int n_tokens, int step, bool is_new) {
    if (!ranks_ || pass == Pass::draft_keys) return;
    const int k = ctx.active_experts > 0 ? std::min(ctx.active_experts, c.n_experts_per_tok) : c.n_experts_per_tok;
    ranks_->tell({pass == Pass::forward ? ExpertOrder::pass : ExpertOrder::draft, 0, n_tokens, k,
                  static_cast<int32_t>(ctx.numerics), step, is_new});
}

GpuRunner::Result GpuRunner::run(Ctx ctx, const ModelConfig& c, const Batch& batch, LogitRows rows, Pass pass,
                                 const std::function<void()>& meanwhile, Watched* later) {
    if (!ranks_) return run_here(ctx, c, batch, rows, pass, meanwhile, later);
    ctx.check_stop();
    ctx.stop = {};
    try {
        return run_here(ctx, c, batch, rows, pass, meanwhile, later);
    } catch (const std::exception& e) {
        throw RanksLost(e);
    }
}

GpuRunner::Result GpuRunner::run_here(Ctx& ctx, const ModelConfig& c, const Batch& batch, LogitRows rows, Pass pass,
                                      const std::function<void()>& meanwhile, Watched* later) {
    const int64_t n = pass == Pass::draft_keys       ? 0
                      : rows == LogitRows::all ? static_cast<int64_t>(batch.tokens.size())
                                             : static_cast<int64_t>(batch.segments.size());
    device_->check(cudaSetDevice(device_->gpu().index), "choosing it");  // another one may have been opened since
    for (const Segment& s : batch.segments) s.cache->will_write_to(s.position + s.end - s.begin);
    // No times by op: the host only queues them, and a captured step has none.
    Ctx on_gpu{*arena_, pool_, ctx.numerics, ctx.watch, ctx.probes, ctx.stop, nullptr, -1};
    on_gpu.cuda = device_.get();
    on_gpu.active_experts = ctx.active_experts, on_gpu.expert_ranks = ranks_;
    device_->after_block = nullptr;  // of a pass that was cancelled
    place(c, batch);
    const std::shared_ptr<Captured> step = captured(on_gpu, c, batch, rows, pass);
    Tensor logits;
    if (step) {
        device_->check(cudaGraphLaunch(step->exec, device_->stream()), "starting a captured step");
        logits = step->logits;
    } else {
        tell(on_gpu, c, pass, static_cast<int>(batch.tokens.size()));
        if (meanwhile) meanwhile();  // first: what this pass brings is handed out block by block
        device_->deliveries().clear();
        device_->after_block = [&] { hand_out(on_gpu); };
        logits = run_once(on_gpu, c, batch, rows, pass);
        device_->after_block = nullptr;
    }
    const size_t count = n == 0 ? 0 : static_cast<size_t>(logits.count());
    if (count > logits_count_) {
        if (logits_) cudaFreeHost(std::exchange(logits_, nullptr));
        device_->check(cudaMallocHost(&logits_, count * sizeof(float)), "reserving host memory for logits");
        logits_count_ = count;
    }
    device_->download(logits_, logits.data, count * sizeof(float));
    logits_done_->record(*device_);
    Watched left;
    if (!step) {
        hand_out(on_gpu);
    } else if (!step->deliveries->empty()) {
        step->deliveries->gather();
        step->watched_done[step->deliveries->turn()].record(*device_);
        left = watched(step);
    }
    if (step && meanwhile) meanwhile();
    logits_done_->wait(*device_);
    if (left && later) *later = std::move(left);
    else if (left) left(*ctx.probes);
    return {logits_, n};
}

GpuPlan gpu_plan(const ModelConfig& c, const ModelWeights& w, Numerics numerics, int64_t context, uint64_t free_bytes) {
    GpuPlan p;
    p.weights = cuda::upload_bytes(w);
    p.context = context;
    p.free = free_bytes;
    const uint64_t entry = entry_row_bytes(c.head_dim, c.rope_dim, numerics == Numerics::reference);
    const uint64_t key = index_key_row_bytes(c.index_head_dim, numerics == Numerics::reference);
    const auto ring = [](int64_t rows) { return static_cast<uint64_t>(rows + kRollbackSlack + kMaxGpuChunk); };
    for (const LayerConfig& l : c.layers) {
        p.cache += ring(c.sliding_window) * entry;
        if (l.ratio == 0) continue;
        const bool is_csa = l.kind() == LayerKind::csa;
        const uint64_t o = is_csa ? 2 : 1, rows = ring(static_cast<int64_t>(o) * l.ratio);
        const auto entries = static_cast<uint64_t>(EntryStore::gpu_capacity(context / l.ratio));
        p.cache += rows * 8 * o * c.head_dim + entries * entry;
        if (is_csa) p.cache += rows * 8 * o * c.index_head_dim + entries * key;
    }
    const auto chunk = static_cast<uint64_t>(std::min<int64_t>(context, kMaxGpuChunk));
    const uint64_t row =
        4 *
        (12 * static_cast<uint64_t>(c.hc_mult * c.hidden_size) + 4 * static_cast<uint64_t>(c.n_heads * c.head_dim) +
         static_cast<uint64_t>(c.n_experts_per_tok + 1) * static_cast<uint64_t>(3 * c.expert_width + c.hidden_size));
    p.activations = chunk * row + (uint64_t{512} << 20) + static_cast<uint64_t>(c.vocab_size) * 4;
    return p;
}

}  // namespace vitrine
