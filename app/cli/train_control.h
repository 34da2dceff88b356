// Lines on stdin that steer a run (engine/telemetry/run_control.h), read by a thread of their own.
#pragma once
#include <memory>
#include <vector>

#include "engine/telemetry/run_control.h"

namespace vitrine::cli {

// Owner: the thread that trains. Lines that are wrong are logged and left out; the end of the input is a stop.
class TrainControl {
  public:
    explicit TrainControl(bool is_on);
    std::vector<RunControl> take();  // those that came since
    void wait();                     // until one is there, at most a fifth of a second
    bool asks_to_stop() const;       // such a line is among those that were not taken yet
    bool is_paused = false, is_stopping = false;

  private:
    struct State;
    std::shared_ptr<State> state_;   // shared with the reading thread, which may outlive this
};

}  // namespace vitrine::cli
