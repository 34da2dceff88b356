// vitrine train --list and --experiment: the lab from the command line.
#pragma once
#include "app/cli/options.h"

namespace vitrine::cli {

// The command line names an experiment or asks for their list.
bool asks_for_experiment(const Args& args);
int run_experiment(const Args& args);

}  // namespace vitrine::cli
