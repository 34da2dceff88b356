// A verdict as text for a terminal and as Markdown, and how it gets into a README.
#pragma once
#include <string>

#include "engine/telemetry/lab.h"

namespace vitrine::lab {

std::string to_text(const LabVerdict& v);     // tables in columns
std::string claim_text(const LabInfo& info);  // two lines: what is claimed, and what is known; beside what was measured
std::string to_markdown(const LabVerdict& v);

// README.md's text with what lies between the lines "<!-- result -->" and "<!-- end of result -->" replaced.
// Error(bad_input) when the marks are not there, in this order.
std::string with_result(const std::string& readme, const std::string& result, const std::string& file);
void update_readme(const std::string& file, const std::string& result);  // Error(io)

}  // namespace vitrine::lab
