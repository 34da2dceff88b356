// The one I/O error that waiting can mend.
#pragma once
#include "engine/base/error.h"

namespace vitrine {

// Nothing was written, or what was written does not count; the same call works once there is room.
class DiskFull : public Error {
  public:
    explicit DiskFull(const std::string& message) : Error(ErrorKind::io, message) {}
};

}  // namespace vitrine
