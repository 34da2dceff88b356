// Names of phases.
#include "engine/telemetry/chat.h"

#include "engine/base/error.h"

namespace vitrine {

const char* phase_name(Phase p) {
    switch (p) {
        case Phase::prompt: return "prompt";
        case Phase::thinking: return "thinking";
        case Phase::answer: return "answer";
        case Phase::tool_call: return "tool call";
    }
    VITRINE_ASSERT(false);
    return "";
}

}  // namespace vitrine
