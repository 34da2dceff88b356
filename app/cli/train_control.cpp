// Lines on stdin that steer a run.
#include "app/cli/train_control.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "engine/base/error.h"
#include "engine/base/log.h"

namespace vitrine::cli {

struct TrainControl::State {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<RunControl> lines;

    void put(const RunControl& c) {
        const std::lock_guard lock(mutex);
        lines.push_back(c);
        changed.notify_all();
    }
    void read() {
        std::string line;
        for (int c; (c = std::getchar()) != EOF;) {
            if (c != '\n') {
                if (line.size() < 4096) line += static_cast<char>(c);
                continue;
            }
            try {
                put(parse_run_control(line));
            } catch (const Error& e) {
                log_warning(e.what());
            }
            line.clear();
        }
        put({RunControl::Do::stop, "", "", {}});  // whoever started the run is gone
    }
};

TrainControl::TrainControl(bool is_on) : state_(std::make_shared<State>()) {
    if (is_on) std::thread([state = state_] { state->read(); }).detach();
}

std::vector<RunControl> TrainControl::take() {
    const std::lock_guard lock(state_->mutex);
    return std::exchange(state_->lines, {});
}

bool TrainControl::asks_to_stop() const {
    const std::lock_guard lock(state_->mutex);
    return std::any_of(state_->lines.begin(), state_->lines.end(),
                       [](const RunControl& c) { return c.what == RunControl::Do::stop; });
}

void TrainControl::wait() {
    std::unique_lock lock(state_->mutex);
    state_->changed.wait_for(lock, std::chrono::milliseconds(200), [&] { return !state_->lines.empty(); });
}

}  // namespace vitrine::cli
