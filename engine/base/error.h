// Errors of the engine: one exception type, one description of a bad value, one assertion that throws.
//
// Bad input (config, file, prompt) is described by `Issue`s, collected and thrown together; a failed command (I/O, memory,
// device) is an `Error`; a bug is an `Error` of kind internal thrown by VITRINE_ASSERT. Nothing in engine/ aborts or exits.
#pragma once
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace vitrine {

enum class ErrorKind { bad_input, io, out_of_memory, device, cancelled, internal };

class Error : public std::runtime_error {
  public:
    Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
    ErrorKind kind() const { return kind_; }

  private:
    ErrorKind kind_;
};

// One thing that is wrong with an input. `value` and `where` may be empty. Every text is escaped and cut when printed.
struct Issue {
    std::string file;      // path as the user gave it
    std::string key;       // config key path, tensor name, ...
    std::string value;     // what was found
    std::string expected;  // what would have been right, with the allowed range
    std::string where;     // "line 3, column 7" or "byte 128"
    std::string to_string() const;  // "config.json: hidden_size = -4 (line 3, column 7): expected an integer in [1, 65536]"
};

// Throws Error(bad_input) listing up to 20 issues, one a line; returns if there are none.
void throw_if_any(const std::vector<Issue>& issues);

// Printable form of untrusted text: control and invalid bytes as \xNN, invisible and direction marks as <U+202E>, cut to
// `max_bytes` at a UTF-8 boundary with "...".
std::string escaped(std::string_view text, size_t max_bytes = 80);

// The candidate nearest to `word` by edit distance, or "" when none is near. Used for "did you mean".
std::string nearest_name(std::string_view word, const std::vector<std::string>& candidates);

[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);
#define VITRINE_ASSERT(x) ((x) ? void(0) : ::vitrine::assertion_failed(#x, __FILE__, __LINE__))

}  // namespace vitrine
