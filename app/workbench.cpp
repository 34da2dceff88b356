// The program with its window.
#include "app/workbench.h"

#include <iterator>
#include <utility>
#include <vector>

#include "app/paths.h"
#include "engine/base/error.h"

namespace vitrine {
namespace {

// A folder that can't be had is no reason not to start: its problem is told in the window.
std::string folder_or_problem(std::string (*folder)(), std::vector<std::string>& problems) {
    try {
        return make_folder(folder());
    } catch (const Error& e) {
        problems.push_back(e.what());
        return "";
    }
}

}  // namespace

Workbench::Workbench(WorkbenchOptions options) {
    std::vector<std::string> problems;
    WorkerOptions worker;
    worker.engine = options.engine;
    if (options.is_remembered) {
        if (const std::string f = folder_or_problem(data_folder, problems); !f.empty()) {
            worker.store_path = f + "/conversations.sqlite";
            options.shell.export_folder = options.shell.picture_folder = f;
        }
        if (const std::string f = folder_or_problem(config_folder, problems); !f.empty())
            options.shell.settings_path = f + "/settings.json";
    }
    worker_ = std::make_unique<Worker>(std::move(worker), [waker = waker_] { waker->wake(); });
    shell_ = Shell::open(options.shell, *worker_, [this](Update& u) { return next_update(u); });
    {
        const std::lock_guard lock(waker_->mutex);
        waker_->shell = shell_.get();
    }
    shell_->snapshot().trace = worker_->trace();
    for (const std::string& p : problems)
        shell_->workspace().desk().say(Notice::Level::warning, "Not remembered: " + p);
    worker_->send(ListConversations{""});
    if (!options.model.empty()) {
        worker_->send(LoadModel{options.model});
        shell_->snapshot().is_loading = true;
    }
}

Workbench::~Workbench() {
    const std::lock_guard lock(waker_->mutex);
    waker_->shell = nullptr;
}

bool Workbench::next_update(Update& u) {
    if (pending_.empty()) {
        std::vector<Update> taken = worker_->take_reports();
        pending_.assign(std::make_move_iterator(taken.begin()), std::make_move_iterator(taken.end()));
    }
    if (pending_.empty()) return false;
    u = std::move(pending_.front());
    pending_.pop_front();
    return true;
}

}  // namespace vitrine
