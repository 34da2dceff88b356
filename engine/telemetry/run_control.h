// What `vitrine train --control` takes on its standard input, one line each, read between steps:
//   pause | resume | step | stop | checkpoint | set KEY VALUE
//
// step: one more step, then paused again. stop: a checkpoint, then the end. set: a live field (lab_live_fields; `vitrine train
// --keys` marks them). All but checkpoint are recorded in the run as events. The end of the input means stop: whoever
// started the run is gone.
#pragma once
#include <string>
#include <string_view>

#include "engine/base/json.h"

namespace vitrine {

struct RunControl {
    enum class Do { pause, resume, step, stop, checkpoint, set } what = Do::pause;
    std::string key, text;  // of set: the value as it was written
    Json value;             // and as the field's kind reads it
};

// Error(bad_input) naming the line and what was expected; a value outside of its field's range is one.
RunControl parse_run_control(std::string_view line);
std::string run_control_line(const RunControl& c);  // without the line's end

}  // namespace vitrine
