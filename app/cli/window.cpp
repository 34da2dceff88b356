// vitrine, without a subcommand: the window.
#include <filesystem>

#include "app/cli/common.h"
#include "app/lab/shipped.h"
#include "app/paths.h"
#include "app/workbench.h"
#include "engine/base/error.h"
#include "engine/base/log.h"

namespace vitrine::cli {

int run_window(const Args& args) {
    ModelArgs model;
    std::string folder, runs;
    bool is_forgetful = false;
    Options o("", "[DIR] [OPTIONS]",
              "Opens the window. Without a display, talks in the terminal. vitrine --help lists the subcommands.");
    o.positional("DIR", &folder, "checkpoint folder, as -m", false);
    add_model_options(o, model);
    o.flag("--forget", &is_forgetful, "save neither conversations nor settings")
        .text("--runs", "DIR", &runs, "folder of the lab's runs (the XDG data folder's)");
    if (!o.parse(args)) return 0;
    if (!folder.empty() && !model.folder.empty()) throw UsageError("give the model's folder once");
    if (model.folder.empty()) model.folder = folder;

    const auto talk = [&](const std::string& why) {
        log_info(why + " Talking in the terminal instead.");
        Args rest = {"--numerics", model.numerics, "--device", model.device};
        if (!model.folder.empty()) rest.insert(rest.end(), {"-m", model.folder});
        if (model.context) rest.insert(rest.end(), {"-c", std::to_string(model.context)});
        if (model.threads) rest.insert(rest.end(), {"-t", std::to_string(model.threads)});
        return run_chat(rest);
    };
    if (!has_display()) return talk("There is no display (DISPLAY and WAYLAND_DISPLAY are not set).");

    WorkbenchOptions options;
    options.model = std::filesystem::absolute(model.folder_or_shipped()).string();
    options.engine = model.options();
    options.is_remembered = !is_forgetful;
    options.experiments = shipped_catalogue();
    if (!runs.empty()) options.runs_folder = std::filesystem::absolute(runs).string();
    try {
        Workbench workbench(options);
        while (workbench.frame()) {
        }
        return 0;
    } catch (const Error& e) {
        if (e.kind() != ErrorKind::device) throw;
        return talk(std::string("No window can be opened: ") + e.what() + ".");
    }
}

}  // namespace vitrine::cli
