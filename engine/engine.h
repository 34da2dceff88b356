// The public face of the engine: a loaded model and its sessions. No Eigen, no CUDA, no threads of its own but the pool's.
//
// Engine and its Sessions belong to one thread (the engine thread); Watch may be changed from any thread.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "engine/base/config/interventions.h"
#include "engine/base/config/model_config.h"
#include "engine/base/config/numerics.h"
#include "engine/base/config/sampling.h"
#include "engine/base/config/weight_rounding.h"
#include "engine/telemetry/cache_report.h"
#include "engine/telemetry/chat.h"
#include "engine/telemetry/model_info.h"
#include "engine/telemetry/probes.h"
#include "engine/telemetry/trace.h"

namespace vitrine {

namespace text {
class Tokenizer;
struct ChatFormat;
}  // namespace text
struct OpTimes;
class Communicator;
class Session;

struct EngineOptions {
    Numerics numerics = Numerics::exact;
    int n_threads = 0;        // 0: one per core
    int64_t max_context = 0;  // [tokens]; 0: the config's max_position_embeddings, at most 1,048,576
    int gpu = kCpu;           // or the number of an NVIDIA GPU
    // Off: a tokenizer.json or chat.json that can't be used is a warning, and the model reads token ids alone.
    bool needs_text = true;
    // Routed experts per token in place of the trained number (0: as trained), for experiments. Hash-routed layers take
    // no more than their table holds. Error(bad_input): more than there are, or on a GPU more than trained.
    int active_experts = 0;
    // Parts of the weights to round in memory, in this order, for experiments.
    std::vector<WeightRounding> rounding;
    // Processes that share the routed experts, each with a contiguous share of every layer's: rank 0 loads, the others
    // serve_experts of the same folder. The same bits as one process on such a machine. Must outlive the engine.
    // Error(bad_input): more ranks than experts, weights to round. nullptr, or one rank: this process alone.
    Communicator* ranks = nullptr;
};

// A prompt that is continued with the most probable token each time, to the end token (which is kept) or this many.
struct GreedyRequest {
    std::vector<int32_t> prompt;
    int max_new_tokens = 256;
};

class Engine {
  public:
    // Error(bad_input) lists everything wrong with the folder at once. Nothing of the weights is copied. `stop` is read
    // between files, tensors and steps: Error(cancelled).
    static std::unique_ptr<Engine> load(const std::string& folder, const EngineOptions& options, std::stop_token stop = {});
    ~Engine();
    // On the ranks after the first: holds this rank's experts and works for rank 0's engine until that goes. Of the
    // options, threads, gpu and ranks are used. Errors as load's.
    static void serve_experts(const std::string& folder, const EngineOptions& options);

    const ModelConfig& config() const;
    const ModelInfo& info() const;
    Numerics numerics() const;
    // Sessions made before keep their numerics; make new ones. Error(bad_input) when the model can't run in it.
    void set_numerics(Numerics n);
    // Moves to GPU `gpu`, or to the CPU (kCpu). Sessions made before stay where they are; make new ones. Error(device)
    // when there is no such GPU, Error(bad_input) when experts are spread over ranks, Error(out_of_memory) with the
    // plan's numbers when the model can't fit; the engine stays where it was.
    void set_device(int gpu);
    // What it will take of that GPU's memory, beside what is free there, in one line; "" for the CPU and for a GPU that is not
    // there.
    std::string device_plan(int gpu) const;
    int device() const;
    const std::vector<RoundedWeights>& rounded() const;  // what EngineOptions::rounding came to, one for each
    const text::Tokenizer* tokenizer() const;    // nullptr when the folder has none, or none that can be used
    const text::ChatFormat& chat_format() const;
    Watch& watch();
    OpTimes& op_times();
    // From the next forward pass of any session on, until it is called with none ({}); what sessions hold by then
    // stays, so make new ones to compare. Error(bad_input) for what doesn't fit the model, and on a GPU.
    void set_interventions(const Interventions& edits);
    const Interventions& interventions() const;
    // can_draft: it keeps what the MTP module reads. Error(bad_input) when the model has none.
    std::unique_ptr<Session> new_session(bool can_draft = false);
    // Continues many prompts, `n_together` of them in each step of the model: for evaluation. Records nothing. The same ids as
    // sessions one by one, unless is_batch_invariant is off (generate_many, which also draws). `progress` gets the number of
    // finished ones. Error(cancelled).
    std::vector<std::vector<int32_t>> continue_greedily(const std::vector<GreedyRequest>& requests, int n_together,
                                                        std::stop_token stop = {},
                                                        const std::function<void(size_t)>& progress = {},
                                                        bool is_batch_invariant = true);
    TensorHistogram histogram(const std::string& tensor) const;

    struct Impl;

  private:
    Engine();
    void move_to(int gpu);
    std::unique_ptr<Impl> impl_;
    friend class Session;
};

inline constexpr int kMaxDrafts = 8;         // guessed tokens in one forward pass
inline constexpr int kRowsSideBySide = 16;   // rows of a forward pass up to which a GPU's products sum in one order

// What drafting came to: forward passes of the trunk by append_drafting, tokens that the module guessed, guesses that came.
struct DraftCounts {
    int64_t n_passes = 0, n_drafted = 0, n_accepted = 0;
};

// A mutable timeline of tokens that owns its cache and the logits after its last token. Must not outlive its Engine.
class Session {
  public:
    ~Session();
    int64_t length() const;
    const std::vector<int32_t>& tokens() const;
    int64_t max_context() const;

    // Feeds ids at the end, in chunks; logits() are those after the last. Error(cancelled) leaves the session at the end of the
    // last whole chunk; Error(bad_input) for an id outside the vocabulary or a context that is full, before anything is fed.
    // `progress` (may be null) is called after each chunk with the tokens done.
    void append(std::span<const int32_t> ids, std::stop_token stop = {}, const std::function<void(int64_t)>& progress = {});
    std::span<const float> logits() const;   // [V]; Error(internal) when the session is empty

    // The same as append({&id, 1}), to the bit, for a session that can draft: tokens, logits and records. In the same forward pass
    // the MTP module's n_drafts guesses of what follows (at most kMaxDrafts) are checked; while the next calls bring those very
    // ids, they cost no pass. Whatever else happens to the session forgets the rest of the guesses. A sink (publish_to) gets
    // the rows of wrong guesses too; a trace doesn't.
    void append_drafting(int32_t id, int n_drafts, std::stop_token stop = {});
    DraftCounts draft_counts() const;
    bool is_guessed(int32_t id) const;        // it is the first guess that is still open

    // Feeds ids[i] at the end of sessions[i] (different ones of one Engine, without trace or sink), all in one forward pass.
    // is_batch_invariant: every session has the bits that it would have alone, however many there are; a GPU then takes
    // kRowsSideBySide at a time, and a CPU with AMX in `reference` one less. Error(cancelled) leaves all as they were, but for
    // passes that were complete.
    static void append_each(std::span<Session* const> sessions, std::span<const int32_t> ids, bool is_batch_invariant = true,
                            std::stop_token stop = {});

    // Goes back to the first n tokens, any n in [0, length]; compressor and overlap state come along. Beyond the rings' slack a
    // kept state is restored and the rest is fed again (Error(cancelled) leaves the session at a shorter prefix). logits() are
    // those of token n-1 again (none for n = 0).
    void rewind(int64_t n, std::stop_token stop = {});
    // Goes back to the longest common prefix with `ids` that needs no feeding, keeping at least one id to feed, and returns its
    // length: the caller appends the rest.
    int64_t reuse_prefix(std::span<const int32_t> ids);
    std::unique_ptr<Session> fork() const;
    void keep_state();                        // a state to go back to cheaply, e.g. at the end of a turn

    CacheReport cache_report() const;

    // Records go to `trace` under `branch` (nullptr: nowhere). Rewinding cuts the branch.
    void record_to(std::shared_ptr<Trace> trace, uint64_t branch);
    // A sink that gets every wanted probe with absolute token positions (dump). nullptr: none.
    void publish_to(ProbeSink* sink);
    // On: the record of a token that was fed alone may come one pass late, filled by the host while a GPU computes the next
    // token, or by an idle thread of the pool. Nothing else differs. It comes at the latest when this is called again, the
    // session goes back, is told where to record, or ends; so whoever switches it on switches it off at the end of the answer.
    void let_records_lag(bool may_lag);

    struct Impl;

  private:
    Session();
    std::unique_ptr<Impl> impl_;
    friend class Engine;
};

}  // namespace vitrine
