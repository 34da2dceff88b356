// Effort prefixes by checkpoint.
#include <filesystem>

#include "engine/base/reader.h"
#include "engine/text/chat.h"
#include "engine/text/json_fields.h"
#include "engine/text/protocol.h"

namespace vitrine::text {
namespace {

constexpr uint64_t kMaxChatFile = 1 << 20;
constexpr uint64_t kMaxConfigFile = 16 << 20;

ChatFormat read_chat_file(const std::string& path) {
    const Json j = Json::parse(read_file(path, kMaxChatFile), path);
    if (!j.is_object()) refuse(path, "", shown(j), "expected an object");
    const Fields f{j, path, ""};
    const std::string format = f.string("format");
    if (format != "deepseek_v4") refuse(path, "format", format, "expected deepseek_v4");
    for (const auto& [key, value] : j.members()) {
        if (key == "format" || key == "effort_prefix" || key == "note") continue;
        const std::string near = nearest_name(key, {"format", "effort_prefix", "note"});
        refuse(path, key, shown(value), "unknown key" + (near.empty() ? "" : "; did you mean " + near + "?"));
    }
    ChatFormat c;
    c.source = path;
    const Json& prefixes = f.need("effort_prefix");
    if (!prefixes.is_object()) refuse(path, "effort_prefix", shown(prefixes), "expected an object of effort: text");
    for (const auto& [effort, text] : prefixes.members()) {
        if (!text.is_string()) refuse(path, "effort_prefix." + effort, shown(text), "expected a string");
        c.effort_prefix[effort] = text.as_string();
    }
    return c;
}

// Later releases carry the layers of a drafter behind the trunk: three entries, where the preview has one for MTP.
bool is_0731_or_later(const std::string& path) {
    JsonLimits limits;
    limits.max_bytes = kMaxConfigFile;
    const Json j = Json::parse(read_file(path, kMaxConfigFile), path, limits);
    const Json* ratios = j.find("compress_ratios");
    const Json* n_layers = j.find("num_hidden_layers");
    if (!ratios || !ratios->is_array() || !n_layers || n_layers->type() != Json::Type::integer) return false;
    return static_cast<int64_t>(ratios->size()) - n_layers->as_int() >= 3;
}

}  // namespace

ChatFormat preview_chat_format() {
    return {"DeepSeek-V4 preview", {{"high", ""}, {"max", std::string(effort_max_text())}}};
}

ChatFormat release_0731_chat_format() {
    return {"DeepSeek-V4 0731", {{"low", ""}, {"high", std::string(effort_max_text())}}};
}

ChatFormat load_chat_format(const std::string& folder) {
    namespace fs = std::filesystem;
    const fs::path dir(folder);
    std::error_code ignored;
    if (fs::exists(dir / "chat.json", ignored)) return read_chat_file((dir / "chat.json").string());
    return is_0731_or_later((dir / "config.json").string()) ? release_0731_chat_format() : preview_chat_format();
}

std::string ChatFormat::why_not(Mode mode) const {
    if (mode == Mode::non_think) return "";
    const std::string effort = RenderOptions::for_mode(mode).effort;
    if (effort_prefix.count(effort)) return "";
    std::string known;
    for (const auto& [name, text] : effort_prefix) known += (known.empty() ? "" : ", ") + name;
    return source + " has no text for effort " + effort + " (it has: " + (known.empty() ? "none" : known) +
           "); a chat.json beside config.json can give it under effort_prefix." + effort;
}

RenderOptions RenderOptions::for_mode(Mode mode) {
    RenderOptions o;
    o.is_thinking = mode != Mode::non_think;
    o.effort = mode == Mode::high ? "high" : mode == Mode::max ? "max" : "";
    return o;
}

}  // namespace vitrine::text
