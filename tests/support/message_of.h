// What a function says that must fail.
#pragma once
#include <functional>
#include <string>

#include "engine/base/error.h"

namespace vitrine::test {

// The message of the Error that `f` throws; "accepted" when it throws none.
inline std::string message_of(const std::function<void()>& f) {
    try {
        f();
    } catch (const Error& e) {
        return e.what();
    }
    return "accepted";
}

}  // namespace vitrine::test
