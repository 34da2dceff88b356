// The program with its window: owns the engine's thread and the shell, and connects them. Belongs to the UI thread.
#pragma once
#include <deque>
#include <memory>
#include <mutex>
#include <string>

#include "app/lab/run_manager.h"
#include "app/shell.h"
#include "app/worker.h"

namespace vitrine {

struct WorkbenchOptions {
    std::string model;  // loaded at the start; empty: none
    EngineOptions engine;
    ShellOptions shell;         // settings_path, export_folder and picture_folder empty: chosen here
    bool is_remembered = true;  // conversations and settings go to the XDG folders
    LabCatalogue experiments;   // of the lab
    std::string runs_folder;    // of the lab; empty: the XDG data folder's, or one that is deleted at the end
};

class Workbench {
  public:
    // Error(device) when no window can be opened. Everything else that is missing becomes a notice in the window.
    explicit Workbench(WorkbenchOptions options);
    ~Workbench();

    bool frame() { return shell_->frame(); }  // false: closed
    // Nothing is asked of the engine and every report was taken.
    bool is_idle() const { return !worker_->is_busy() && pending_.empty() && !(runs_ && runs_->is_busy()); }
    Shell& shell() { return *shell_; }
    Worker& worker() { return *worker_; }

  private:
    // Reports wake the window; both threads of the worker may do so while the shell is being taken down.
    struct Waker {
        std::mutex mutex;
        Shell* shell = nullptr;
        void wake() {
            const std::lock_guard lock(mutex);
            if (shell) shell->wake();
        }
    };
    // Requests go to the engine's thread or to the run manager.
    struct Requests : CommandSink {
        Workbench& w;
        explicit Requests(Workbench& workbench) : w(workbench) {}
        bool send(Command c) override { return w.worker_->send(std::move(c)); }
        void cancel() override { w.worker_->cancel(); }
        void set_watch(ProbeSet probes) override { w.worker_->set_watch(probes); }
        bool send_lab(LabCommand c) override { return w.runs_ && w.runs_->send(std::move(c)); }
    };
    bool next_update(Update& u);
    void open_lab(const WorkbenchOptions& options, std::vector<std::string>& problems);

    // Built in this order and taken down in the reverse.
    std::shared_ptr<Waker> waker_ = std::make_shared<Waker>();
    std::deque<Update> pending_;
    std::string borrowed_folder_;  // of runs; deleted at the end
    std::unique_ptr<Worker> worker_;
    std::unique_ptr<RunManager> runs_;
    Requests requests_{*this};
    std::unique_ptr<Shell> shell_;
};

}  // namespace vitrine
