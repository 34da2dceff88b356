// The two ways a shell can run; chosen by Shell::open.
#pragma once
#include <functional>
#include <memory>

#include "app/shell.h"

namespace vitrine {

std::unique_ptr<Shell> open_window(const ShellOptions& o, CommandSink& sink, std::function<bool(Update&)> next_update);
std::unique_ptr<Shell> open_headless(const ShellOptions& o, CommandSink& sink,
                                     std::function<bool(Update&)> next_update);

}  // namespace vitrine
