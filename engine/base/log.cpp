// Log lines to stderr or to the app's sink.
#include "engine/base/log.h"

#include <cstdio>

#include "engine/base/error.h"

namespace vitrine {
namespace {
LogSink g_sink = nullptr;
void emit(LogLevel level, const std::string& text) {
    if (g_sink) return g_sink(level, text);
    static const char* const prefix[] = {"", "warning: ", "error: "};
    std::fprintf(stderr, "%s%s\n", prefix[static_cast<int>(level)], escaped(text, 4096).c_str());
}
}  // namespace

void set_log_sink(LogSink sink) { g_sink = sink; }
void log_info(const std::string& text) { emit(LogLevel::info, text); }
void log_warning(const std::string& text) { emit(LogLevel::warning, text); }
void log_error(const std::string& text) { emit(LogLevel::error, text); }

}  // namespace vitrine
