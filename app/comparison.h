// One question answered in the three modes, one after the other, each in a session of its own that reads the same context.
#pragma once
#include <functional>
#include <stop_token>

#include "engine/telemetry/comparison.h"

namespace vitrine {

class ConversationTree;
class Engine;

// Answers the user's turn `asked` of `tree`, which stays as it is, and so does any session there is. `changed` (may be null) is
// told after every token. A mode that can't be answered (no such mode in the folder's chat.json, a full context) says so in its
// place and the others go on; cancelled: the mode that runs ends "stopped", the rest is failed. Error(bad_input) without a
// tokenizer or for a sampling that can't be; Error(device), Error(out_of_memory) as the engine throws them.
//
// Times hold what the engine's watch publishes besides: compare modes with each other, not with `vitrine bench`. The model is run
// once before, so that the first mode does not pay for pages that are read for the first time. Engine thread.
Comparison compare_modes(Engine& engine, const ConversationTree& tree, int64_t asked, const Sampling& sampling,
                         const std::function<void(const Comparison&)>& changed, std::stop_token stop);

}  // namespace vitrine
