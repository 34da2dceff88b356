// Log lines to stderr (or to a sink the app sets). Never the text of a chat; control bytes are escaped.
#pragma once
#include <string>

namespace vitrine {

enum class LogLevel { info, warning, error };
using LogSink = void (*)(LogLevel, const std::string&);
void set_log_sink(LogSink sink);  // nullptr: stderr. Set once at start-up, before threads.
void log_info(const std::string& text);
void log_warning(const std::string& text);
void log_error(const std::string& text);

}  // namespace vitrine
