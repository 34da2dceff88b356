// Leaving long work when somebody asks for it.
#pragma once
#include <stop_token>

#include "engine/base/error.h"

namespace vitrine {

// Error(cancelled) once a stop was asked for.
inline void throw_if_stopped(const std::stop_token& stop) {
    if (stop.stop_requested()) throw Error(ErrorKind::cancelled, "cancelled");
}

}  // namespace vitrine
