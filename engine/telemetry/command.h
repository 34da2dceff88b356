// Every request to the engine thread, and everything it reports back. Plain values, moved through bounded queues.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "engine/telemetry/cache_report.h"
#include "engine/telemetry/chat.h"
#include "engine/telemetry/comparison.h"
#include "engine/telemetry/lab.h"
#include "engine/telemetry/model_info.h"
#include "engine/telemetry/trace.h"

namespace vitrine {

// ---- requests (any thread -> engine thread), run one at a time in order
struct LoadModel { std::string folder; };
struct SetNumerics { Numerics numerics; };
struct SetDevice { int gpu; };                                                   // kCpu, or the number of an NVIDIA GPU
struct NewConversation { std::string system; };
struct OpenConversation { int64_t id; };
struct DeleteConversation { int64_t id; };
struct RenameConversation { int64_t id; std::string title; };
struct ListConversations { std::string search; };
struct SetSystemPrompt { std::string text; };
struct SendMessage { std::string text; Mode mode; Sampling sampling; };
struct Regenerate { int64_t turn; Mode mode; Sampling sampling; };             // a new sibling of an assistant's turn
struct EditTurn { int64_t turn; std::string text; Mode mode; Sampling sampling; };  // a new sibling; a user's turn is answered
// A question in the three modes, each from the same context, beside the conversation, which stays as it is. turn != 0: the user's
// turn of this number after what came before it; else `text`, after the conversation so far.
struct CompareModes { int64_t turn; std::string text; Sampling sampling; };
struct SelectSibling { int64_t turn; int sibling; };
struct RecomputeToken { TokenRef token; ProbeSet probes; };                    // records that fell out, or deeper probes
struct ExportConversation { std::string path; bool is_json; };
struct MakeHistogram { std::string tensor; };
struct SaveNow {};
using Command = std::variant<LoadModel, SetNumerics, SetDevice, NewConversation, OpenConversation, DeleteConversation,
                             RenameConversation, ListConversations, SetSystemPrompt, SendMessage, Regenerate, EditTurn,
                             CompareModes, SelectSibling, RecomputeToken, ExportConversation, MakeHistogram, SaveNow>;

// Where panels put requests. `cancel` and `set_watch` bypass the queue and act between tokens, layers and chunks.
class CommandSink {
  public:
    virtual ~CommandSink() = default;
    virtual bool send(Command c) = 0;           // false: the queue is full (shown to the user)
    virtual void cancel() = 0;
    virtual void set_watch(ProbeSet probes) = 0;
    virtual bool send_lab(LabCommand) { return false; }  // to the run manager; false: there is none, or its queue is full
};

// ---- reports (engine thread -> UI thread)
struct ModelLoaded {
    std::shared_ptr<const ModelInfo> info;
    bool knows_curriculum = false;   // its tokenizer is that of experiments/curriculum: it can be asked what is learnt there
};
struct ConversationChanged { std::shared_ptr<const Conversation> conversation; };
struct ConversationsListed { std::vector<ConversationSummary> list; };
struct TimelineStarted { std::shared_ptr<const Timeline> timeline; };          // a generation's rendered prompt
struct TokensAppended { int64_t turn; std::vector<TokenInfo> tokens; std::string reasoning_delta, content_delta; };
struct Progress { std::string what; int64_t done = 0, total = 0; };            // loading, prefill
struct Finished { int64_t turn; TurnStats stats; };                            // the engine is idle after it
struct ComparisonChanged { std::shared_ptr<const Comparison> comparison; };    // as far as it came
struct CacheChanged { CacheReport report; };
struct OpTimesChanged { std::vector<std::string> kinds; std::vector<std::vector<double>> ms_by_kind_and_layer; int n_tokens; };
struct Meters { double tokens_per_s = 0, watching_cost_percent = -1; };        // -1: not known yet
struct HistogramMade { TensorHistogram histogram; };
struct RecordReady { TokenRef token; };
struct Notice { enum class Level { info, warning, error } level; std::string text; };
struct Idle {};
using Update = std::variant<ModelLoaded, ConversationChanged, ConversationsListed, TimelineStarted, TokensAppended, Progress,
                            Finished, ComparisonChanged, CacheChanged, OpTimesChanged, Meters, HistogramMade, RecordReady, Notice,
                            Idle, LabUpdate>;

}  // namespace vitrine
