// The program with its window.
#include "app/workbench.h"

#include <filesystem>
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
    open_lab(options, problems);
    shell_ = Shell::open(options.shell, requests_, [this](Update& u) { return next_update(u); });
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

// Without a folder for runs the rest of the window works.
void Workbench::open_lab(const WorkbenchOptions& options, std::vector<std::string>& problems) {
    RunManagerOptions lab;
    std::error_code failed;
    lab.program = std::filesystem::read_symlink("/proc/self/exe", failed).string();
    lab.folder = options.runs_folder;
    try {
        if (lab.folder.empty() && options.is_remembered) lab.folder = data_folder() + "/runs";
        if (lab.folder.empty()) lab.folder = borrowed_folder_ = temporary_folder("vitrine-runs");
        runs_ = std::make_unique<RunManager>(lab, options.experiments, [waker = waker_] { waker->wake(); });
    } catch (const Error& e) {
        problems.push_back(e.what());
    }
}

Workbench::~Workbench() {
    {
        const std::lock_guard lock(waker_->mutex);
        waker_->shell = nullptr;
    }
    runs_.reset();  // asks its runs to stop and waits a little
    std::error_code ignored;
    if (!borrowed_folder_.empty()) std::filesystem::remove_all(borrowed_folder_, ignored);
}

bool Workbench::next_update(Update& u) {
    if (pending_.empty()) {
        std::vector<Update> taken = worker_->take_reports();
        pending_.assign(std::make_move_iterator(taken.begin()), std::make_move_iterator(taken.end()));
        if (runs_)
            for (LabUpdate& change : runs_->take()) pending_.emplace_back(std::move(change));
    }
    if (pending_.empty()) return false;
    u = std::move(pending_.front());
    pending_.pop_front();
    return true;
}

}  // namespace vitrine
