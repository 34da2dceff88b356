// Everything a panel may draw from. Owned and changed by the UI thread only; filled by draining the engine's reports.
#pragma once
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/telemetry/command.h"

namespace vitrine::viz {

// Which badge a view carries.
enum class Source { none, live, recorded, projected };

struct NoticeLine {
    Notice notice;
    double time = 0;  // [s] since start
};

struct Snapshot {
    std::shared_ptr<const ModelInfo> model;             // null: none loaded
    bool knows_curriculum = false;                      // ModelLoaded's
    std::shared_ptr<const Conversation> conversation;   // the finished part; null: none
    std::vector<ConversationSummary> conversations;
    Timeline timeline;                                  // prompt and generated tokens of the current context
    std::shared_ptr<const Trace> trace;
    std::shared_ptr<const Comparison> comparison;       // of the three modes; null: none was made with this model
    CacheReport cache;
    OpTimesChanged times;
    Meters meters;
    Progress progress;
    std::map<std::string, TensorHistogram> histograms;
    std::deque<NoticeLine> notices;
    LabSnapshot lab;
    // The turn that is being generated.
    bool is_generating = false, is_loading = false;
    bool is_comparing = false;                          // the three modes: the conversation stays as it is
    int64_t live_turn = 0;
    std::string live_reasoning, live_content;
    std::vector<TokenInfo> live_tokens;
    uint64_t version = 0;                               // grows with every applied report
    uint64_t timeline_version = 0;                      // grows when the timeline is replaced, not when it is appended to
    double time = 0;                                    // [s] since start, of this frame

    // Applies one report. Called between frames.
    void apply(Update update);
};

// The answer that a token belongs to, or was read for; nullptr: none that is shown.
const Turn* answer_of(const Snapshot& s, TokenRef token);
// The folder of the model that read this token, when another one is loaded: its record can't be read with the names, layers and
// biases of that one. "": the loaded one, or not known.
std::string other_model(const Snapshot& s, TokenRef token);

// The one cursor (window.md): a token, a layer and, where it applies, a head, an expert, an entry, selected once, everywhere.
struct Cursor {
    TokenRef token;
    int layer = 0;
    int head = -1;       // -1: mean over heads
    int expert = -1, entry = -1;
    bool is_live = true;  // follows the newest token
    TokenRef hover;       // preview; position -1: none
};

}  // namespace vitrine::viz
