// Paths that lead to no file one may read, as opposed to a disk that fails.
#pragma once
#include <string>

#include "engine/base/error.h"

namespace vitrine {

// Missing, a folder or a device, no right to read it.
class BadPath : public Error {
  public:
    explicit BadPath(const std::string& message) : Error(ErrorKind::bad_input, message) {}
};

// Throws BadPath or Error(io) for what open() left in errno.
[[noreturn]] void fail_to_open(const std::string& path, int number);

}  // namespace vitrine
