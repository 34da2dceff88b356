// What a function says that must fail.
#pragma once
#include <functional>
#include <string>

#include "engine/base/error.h"

namespace vitrine::test {

// The message of the Error that `f` throws, and its kind; "accepted" when it throws none.
inline std::string message_of(const std::function<void()>& f, ErrorKind* kind = nullptr) {
    try {
        f();
    } catch (const Error& e) {
        if (kind) *kind = e.kind();
        return e.what();
    }
    return "accepted";
}

}  // namespace vitrine::test
