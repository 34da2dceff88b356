// The window's place in a build without it (VITRINE_GUI=OFF): says so.
#include "app/cli/common.h"
#include "engine/base/error.h"
#include "engine/base/log.h"

namespace vitrine::cli {

int run_window(const Args& args) {
    log_info("This program was built without its window (VITRINE_GUI=OFF). Talking in the terminal instead.");
    return run_chat(args);
}

int run_drive(const Args&) {
    throw Error(ErrorKind::device,
                "this program was built without its window (VITRINE_GUI=OFF), so there is nothing to drive");
}

}  // namespace vitrine::cli
