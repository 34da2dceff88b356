// vitrine train --sweep: every combination of some values, spread over ranks or over threads, and a table at the end.
#pragma once
#include "app/cli/options.h"

namespace vitrine {
class Communicator;
}

namespace vitrine::cli {

bool asks_for_sweep(const Args& args);
// On rank 0, or in the only process: all of it. 0: every run has finished.
int run_sweep(const Args& args, Communicator& ranks);
// On the other ranks, by the same words: their share.
void run_sweep_share(const Args& args, Communicator& ranks);

}  // namespace vitrine::cli
