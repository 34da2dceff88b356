// The engine: a loaded model, its numerics, and what it tells about itself.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>

#include "engine/base/display_text.h"
#include "engine/base/log.h"
#include "engine/base/stop.h"
#include "engine/comm/communicator.h"
#include "engine/infer/engine_impl.h"
#include "engine/infer/expert_server.h"
#include "engine/model/config.h"
#include "engine/model/generation_config.h"
#include "engine/model/interventions.h"
#include "engine/model/rounding.h"
#include "engine/model/variants.h"
#include "engine/text/chat.h"
#include "engine/text/protocol.h"
#include "engine/text/tokenizer.h"

namespace vitrine {
namespace {

constexpr int64_t kContextLimit = int64_t{1} << 20;

std::vector<std::vector<float>> router_bias(const ModelConfig& c, const ModelWeights& w) {
    std::vector<std::vector<float>> bias(c.n_layers());
    for (int l = 0; l < c.n_layers(); ++l) {
        if (c.layers[l].is_hash_routed) continue;
        bias[l].resize(c.n_experts);
        w.blocks[l].ffn.bias.widen_row(0, bias[l].data());
    }
    return bias;
}

std::string device_name(const Engine::Impl& e) {
    if constexpr (kHasCuda)
        if (e.gpu) return "cuda:" + std::to_string(e.gpu->device()->gpu().index) + " (" + e.gpu->device()->gpu().name + ")";
    return "CPU";
}

ModelInfo describe(const Engine::Impl& e, const std::string& folder) {
    ModelInfo i;
    i.folder = folder;
    i.name = std::filesystem::path(folder).lexically_normal().filename().string();
    if (i.name.empty()) i.name = std::filesystem::path(folder).lexically_normal().parent_path().filename().string();
    i.config = e.config;
    i.numerics = e.numerics;
    i.sampling = read_generation_config(folder);
    i.n_threads = e.pool.n_threads();
    i.kernels = cpu::kernels().name;
    i.device = device_name(e);
    i.gpu = e.info.gpu;
    for (const cuda::Gpu& g : cuda::gpus().found) i.gpus.push_back(g.name);
    i.tensors = e.weights.tensors;
    i.warnings = e.weights.warnings;
    i.n_params = e.weights.n_params;
    i.n_active_params = e.weights.n_active_params;
    i.weight_bytes = e.weights.bytes;
    i.has_tokenizer = e.tokenizer != nullptr;
    if (e.tokenizer) {
        i.vocabulary.resize(static_cast<size_t>(std::min(e.tokenizer->n_ids(), e.config.vocab_size)));
        for (size_t id = 0; id < i.vocabulary.size(); ++id)
            i.vocabulary[id] = display_text(e.tokenizer->token_bytes(static_cast<int32_t>(id)));
    }
    i.effort_release = e.chat_format.source;
    i.router_bias = router_bias(e.config, e.weights);
    return i;
}

void load_text(Engine::Impl& e, const std::string& folder) {
    e.tokenizer = text::Tokenizer::load(folder + "/tokenizer.json");
    e.chat_format = text::load_chat_format(folder);
    std::string missing;
    for (const std::string_view token :
         {text::kBos, text::kEos, text::kUser, text::kAssistant, text::kThinkStart, text::kThinkEnd})
        if (!e.tokenizer->id_of(token)) missing += (missing.empty() ? "" : ", ") + std::string(token);
    if (!missing.empty())
        e.weights.warnings.push_back(folder + "/tokenizer.json: no token " + missing +
                                     ": chat prompts hold them as plain text, which no DeepSeek-V4 model was trained on");
    if (e.tokenizer->n_ids() > e.config.vocab_size)
        e.weights.warnings.push_back(folder + "/tokenizer.json: " + std::to_string(e.tokenizer->n_ids()) +
                                     " ids, the model has " + std::to_string(e.config.vocab_size) +
                                     " (vocab_size): a prompt that needs one of the others is refused");
}

// What ends a text besides config.json's eos_token_id: those of generation_config.json, or the tokenizer's end token when
// neither file names one.
void add_end_ids(ModelConfig& c, const text::Tokenizer* tokenizer, const std::string& folder) {
    std::vector<int> ids = read_end_ids(folder, c.vocab_size);
    if (ids.empty() && c.eos_id < 0 && tokenizer) {
        const std::optional<int32_t> id = tokenizer->id_of(text::kEos);
        if (id && *id < c.vocab_size) ids.push_back(*id);
    }
    for (const int id : ids)
        if (!c.ends_text(id)) c.eos_id < 0 ? void(c.eos_id = id) : c.more_eos_ids.push_back(id);
}

int clamped_threads(int asked) {
    return std::clamp(asked > 0 ? asked : static_cast<int>(std::thread::hardware_concurrency()), 1, 256);
}

std::string megabytes(uint64_t bytes) {
    const uint64_t tenths = (bytes + 50'000) / 100'000;
    return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10);
}

// Who holds what, one line for each rank.
void tell_shares(const Engine::Impl& e, bool is_on_gpu) {
    const uint64_t all = bytes_of(e.weights);
    for (int r = 0; r < e.ranks->size(); ++r) {
        const ExpertShare s = e.ranks->share_of(r);
        const uint64_t mine = bytes_of(weights_of_share(e.weights, s, r == 0, is_on_gpu));
        log_info("rank " + std::to_string(r) + " of " + std::to_string(e.ranks->size()) + ": experts " +
                 std::to_string(s.first) + " to " + std::to_string(s.end - 1) + " of " +
                 std::to_string(e.config.n_experts) + " in every layer" + (r == 0 ? " and all else, " : ", ") +
                 megabytes(mine) + " of " + megabytes(all) + " MB of weights");
    }
}

}  // namespace

Engine::Engine() = default;
Engine::~Engine() = default;

std::unique_ptr<Engine> Engine::load(const std::string& folder, const EngineOptions& options, std::stop_token stop) {
    const auto start = std::chrono::steady_clock::now();
    throw_if_stopped(stop);
    install_mapping_guard();
    ParsedConfig parsed = read_config(folder);
    if (options.numerics == Numerics::reference)
        throw_if_any(validate_reference(parsed.config, folder + "/config.json"));
    std::unique_ptr<Engine> engine(new Engine);
    engine->impl_ = std::make_unique<Impl>(clamped_threads(options.n_threads));
    Impl& e = *engine->impl_;
    e.folder = folder;
    e.config = parsed.config;
    e.numerics = options.numerics;
    e.max_context = options.max_context > 0 ? options.max_context : std::min(parsed.config.max_position, kContextLimit);
    if (e.max_context > kContextLimit)
        throw Error(ErrorKind::bad_input, "context of " + std::to_string(e.max_context) + " tokens: expected at most " +
                                              std::to_string(kContextLimit));
    e.active_experts = options.active_experts;
    if (e.active_experts < 0 || e.active_experts > e.config.n_experts)
        throw Error(ErrorKind::bad_input, folder + ": active_experts is " + std::to_string(e.active_experts) +
                                              ": expected 1 to " + std::to_string(e.config.n_experts) + ", or 0: as trained");
    e.weights = load_weights(folder, e.config, stop);
    for (const WeightRounding& r : options.rounding) e.rounded.push_back(round_weights(e.weights, e.config, r));
    e.weights.warnings.insert(e.weights.warnings.begin(), parsed.warnings.begin(), parsed.warnings.end());
    throw_if_stopped(stop);
    if (std::filesystem::exists(folder + "/tokenizer.json")) {
        try {
            load_text(e, folder);
        } catch (const Error& error) {
            if (options.needs_text || error.kind() != ErrorKind::bad_input) throw;
            e.tokenizer = nullptr;
            e.weights.warnings.push_back(std::string(error.what()) + ": text is not used, token ids are");
        }
    }
    add_end_ids(e.config, e.tokenizer.get(), folder);
    throw_if_stopped(stop);
    if (options.ranks && options.ranks->size() > 1) {
        if (!options.rounding.empty())
            throw Error(ErrorKind::bad_input,
                        "weights are rounded in one process: expected no rounding with several ranks");
        e.ranks = std::make_unique<ExpertRanks>(*options.ranks, e.config);
        tell_shares(e, options.gpu != kCpu);
    }
    engine->move_to(options.gpu);
    e.info = describe(e, folder);
    e.info.load_ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    return engine;
}

void Engine::serve_experts(const std::string& folder, const EngineOptions& options) {
    install_mapping_guard();
    const ModelConfig config = read_config(folder).config;
    const ModelWeights weights = load_weights(folder, config);
    VITRINE_ASSERT(options.ranks && options.ranks->rank() > 0);
    ExpertRanks ranks(*options.ranks, config);
    if (options.gpu == kCpu) return answer_on_cpu(ranks, config, weights, clamped_threads(options.n_threads));
    if constexpr (kHasCuda)
        answer_on_gpu(ranks, config, weights, options.gpu);
    else
        throw Error(ErrorKind::device, "cuda:" + std::to_string(options.gpu) + ": " + cuda::gpus().why_none);
}

const ModelConfig& Engine::config() const { return impl_->config; }
const ModelInfo& Engine::info() const { return impl_->info; }
Numerics Engine::numerics() const { return impl_->numerics; }
const std::vector<RoundedWeights>& Engine::rounded() const { return impl_->rounded; }
const text::Tokenizer* Engine::tokenizer() const { return impl_->tokenizer.get(); }
const text::ChatFormat& Engine::chat_format() const { return impl_->chat_format; }
Watch& Engine::watch() { return impl_->watch; }
OpTimes& Engine::op_times() { return impl_->times; }

void Engine::set_numerics(Numerics n) {
    if (n == Numerics::reference) throw_if_any(validate_reference(impl_->config, impl_->info.folder + "/config.json"));
    impl_->numerics = impl_->info.numerics = n;
}

void Engine::set_interventions(const Interventions& edits) {
    Impl& e = *impl_;
    throw_if_any(validate(edits, e.config, e.info.folder));
    if (!edits.layers.empty() && device() != kCpu)
        throw Error(ErrorKind::bad_input, "interventions run on the CPU, and the model is on " + e.info.device);
    e.edits = edits;
}
const Interventions& Engine::interventions() const { return impl_->edits; }

void Engine::set_device(int gpu) {
    if (impl_->ranks && gpu != device())
        throw Error(ErrorKind::bad_input,
                    "the model's experts are spread over ranks: it stays on " + impl_->info.device);
    move_to(gpu);
}

void Engine::move_to(int gpu) {
    Impl& e = *impl_;
    if (gpu == device()) return;
    if (gpu != kCpu && !e.edits.layers.empty())
        throw Error(ErrorKind::bad_input, "interventions run on the CPU: end them before the model moves to a GPU");
    if (gpu != kCpu && e.active_experts > e.config.n_experts_per_tok)
        throw Error(ErrorKind::bad_input, "active_experts is " + std::to_string(e.active_experts) +
                                              ": a GPU takes at most the trained " +
                                              std::to_string(e.config.n_experts_per_tok));
    if (gpu == kCpu) {
        e.gpu = nullptr;
    } else if constexpr (kHasCuda) {
        throw_if_any(validate_gpu(e.config, e.folder + "/config.json"));
        if (const std::string plan = device_plan(gpu); !plan.empty()) log_info(plan);
        e.gpu = std::make_shared<GpuRunner>(gpu, e.config, e.weights, e.numerics, e.ranks.get());
    } else {
        throw Error(ErrorKind::device, "cuda:" + std::to_string(gpu) + ": " + cuda::gpus().why_none);
    }
    e.info.device = device_name(e);
    e.info.gpu = gpu;
}

std::string Engine::device_plan(int gpu) const {
    if constexpr (kHasCuda)
        for (const cuda::Gpu& g : cuda::gpus().found) {
            if (g.index != gpu) continue;
            const Impl& e = *impl_;
            const int64_t context = std::min<int64_t>(e.config.max_position, kMaxGpuChunk);
            const ModelWeights share =
                e.ranks ? weights_of_share(e.weights, e.ranks->share(), true, true) : ModelWeights{};
            const GpuPlan p = gpu_plan(e.config, e.ranks ? share : e.weights, e.numerics, context, g.free_bytes);
            const auto mb = [](uint64_t bytes) { return std::to_string(bytes / 1'000'000) + " MB"; };
            return g.name + ": weights " + mb(p.weights) + ", cache of " + std::to_string(p.context) + " tokens " + mb(p.cache) +
                   ", activations " + mb(p.activations) + " at most; " + mb(p.free) + " are free";
        }
    static_cast<void>(gpu);
    return "";
}

int Engine::device() const {
    if constexpr (kHasCuda)
        if (impl_->gpu) return impl_->gpu->device()->gpu().index;
    return kCpu;
}

std::unique_ptr<Session> Engine::new_session(bool can_draft) {
    throw_if_any(validate_session(impl_->config, impl_->info.folder + "/config.json"));
    if (can_draft && impl_->weights.mtp.empty())
        throw Error(ErrorKind::bad_input, impl_->info.folder + ": drafting needs an MTP module, and this model has none "
                                              "(num_nextn_predict_layers is " + std::to_string(impl_->config.n_mtp_layers) + ")");
    std::unique_ptr<Session> s(new Session);
    s->impl_ = std::make_unique<Session::Impl>(*impl_, can_draft);
    return s;
}

}  // namespace vitrine
