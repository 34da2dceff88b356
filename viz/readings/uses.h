// When each compressed entry of one layer was last used, and how often: walked as the conversation grows.
#pragma once
#include <cstdint>
#include <vector>

#include "engine/telemetry/model_info.h"
#include "viz/readings/walk.h"

namespace vitrine::viz {

class EntryUses {
  public:
    struct Use {
        int64_t last = -1;  // index into the timeline of the last token that attended to the entry; -1: none recorded
        int64_t count = 0;
    };
    // CSA: an entry is used when it is chosen. HCA: every visible entry is used by every token.
    bool update(const Timeline& timeline, const Trace* trace, const ModelInfo& model, int layer);
    const std::vector<Use>& uses() const { return uses_; }  // [entry], as far as the walk came

  private:
    TimelineWalk walk_;
    const ModelInfo* model_ = nullptr;
    int layer_ = -1;
    std::vector<Use> uses_;
};

}  // namespace vitrine::viz
