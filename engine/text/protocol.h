// The protocol texts of assets/protocol (see its README.md), compiled in.
#pragma once
#include <string_view>

namespace vitrine::text {

std::string_view effort_max_text();   // 476 bytes, ends in two line feeds
std::string_view tools_block_text();  // with "{SCHEMAS}" once, where one JSON object per line goes

// Tokens of the format (v4-spec 8.1). U+FF5C and U+2581 are part of the names.
inline constexpr std::string_view kBos = "<｜begin▁of▁sentence｜>";
inline constexpr std::string_view kEos = "<｜end▁of▁sentence｜>";
inline constexpr std::string_view kUser = "<｜User｜>";
inline constexpr std::string_view kAssistant = "<｜Assistant｜>";
inline constexpr std::string_view kLatestReminder = "<｜latest_reminder｜>";
inline constexpr std::string_view kThinkStart = "<think>";
inline constexpr std::string_view kThinkEnd = "</think>";
inline constexpr std::string_view kDsml = "｜DSML｜";

}  // namespace vitrine::text
