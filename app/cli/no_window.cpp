// The window's place in a build without it (VITRINE_GUI=OFF): says so and talks in the terminal.
#include "app/cli/common.h"
#include "engine/base/log.h"

namespace vitrine::cli {

int run_window(const Args& args) {
    log_info("This program was built without its window (VITRINE_GUI=OFF): talking in the terminal.");
    return run_chat(args);
}

}  // namespace vitrine::cli
