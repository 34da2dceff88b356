// Settings as JSON, checked when read.
#include "viz/shell/settings.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <functional>

#include "engine/base/error.h"
#include "engine/base/json.h"
#include "engine/base/reader.h"

namespace vitrine::viz {
namespace {

constexpr size_t kMaxBytes = 1 << 20, kMaxRecents = 12;
constexpr const char* kModes[] = {"non-think", "high", "max"};

// One key of the file: how it is read into and written from the settings. The only list of keys.
struct Field {
    const char* key;
    std::function<Json(const Settings&)> get;
    std::function<std::string(Settings&, const Json&)> set;  // "" when fine, else what was expected
};

Field flag(const char* key, bool Settings::*at) {
    return {key, [at](const Settings& s) { return Json(s.*at); },
            [at](Settings& s, const Json& v) -> std::string {
                if (!v.is_bool()) return "true or false";
                s.*at = v.as_bool();
                return "";
            }};
}

template <class T, class Owner>
Field number(const char* key, Owner owner, T lo, T hi) {
    return {key,
            [owner](const Settings& s) {
                if constexpr (std::is_integral_v<T>)
                    return Json(static_cast<int64_t>(owner(const_cast<Settings&>(s))));
                else
                    return Json(static_cast<double>(owner(const_cast<Settings&>(s))));
            },
            [owner, lo, hi](Settings& s, const Json& v) -> std::string {
                const std::string range = " in [" + std::to_string(lo) + ", " + std::to_string(hi) + "]";
                if constexpr (std::is_integral_v<T>) {
                    if (!v.is_integer() || v.as_double() < static_cast<double>(lo) ||
                        v.as_double() > static_cast<double>(hi))
                        return "an integer" + range;
                    owner(s) = static_cast<T>(v.as_int());
                } else {
                    if (!v.is_number() || !(v.as_double() >= lo && v.as_double() <= hi)) return "a number" + range;
                    owner(s) = static_cast<T>(v.as_double());
                }
                return "";
            }};
}

Json to_array(const std::vector<std::string>& all) {
    Json a = Json::array();
    for (const std::string& s : all) a.push(s);
    return a;
}

Field texts(const char* key, std::function<std::vector<std::string>&(Settings&)> at, size_t most) {
    return {key, [at](const Settings& s) { return to_array(at(const_cast<Settings&>(s))); },
            [at, most](Settings& s, const Json& v) -> std::string {
                const std::string expected = "an array of at most " + std::to_string(most) + " strings";
                if (!v.is_array() || v.size() > most) return expected;
                std::vector<std::string> all;
                for (const Json& item : v.items()) {
                    if (!item.is_string()) return expected;
                    all.push_back(item.as_string());
                }
                at(s) = std::move(all);
                return "";
            }};
}

Field mode_field() {
    return {"mode", [](const Settings& s) { return Json(kModes[static_cast<int>(s.mode)]); },
            [](Settings& s, const Json& v) -> std::string {
                for (int i = 0; i < 3; ++i)
                    if (v.is_string() && v.as_string() == kModes[i]) {
                        s.mode = static_cast<Mode>(i);
                        return "";
                    }
                return "\"non-think\", \"high\" or \"max\"";
            }};
}

Field panel_field() {
    return {"panel", [](const Settings& s) { return Json(s.panel); },
            [](Settings& s, const Json& v) -> std::string {
                if (!v.is_string()) return "the name of a view";
                s.panel = v.as_string();
                return "";
            }};
}

const std::vector<Field>& fields() {
    using S = Settings;
    static const std::vector<Field> all = {
        flag("dark", &S::is_dark),
        number<float>(
            "font_scale", [](S& s) -> float& { return s.font_scale; }, 0.6f, 3.0f),
        flag("reduced_motion", &S::has_reduced_motion),
        number<float>(
            "chat_ratio", [](S& s) -> float& { return s.chat_ratio; }, 0.05f, 0.95f),
        flag("chat_open", &S::is_chat_open),
        number<int>(
            "paint", [](S& s) -> int& { return s.paint; }, 0, 2),
        panel_field(),
        mode_field(),
        flag("thinking_open", &S::is_think_open),
        flag("enter_sends", &S::enter_sends),
        number<int>(
            "window_width", [](S& s) -> int& { return s.window_width; }, 320, 16384),
        number<int>(
            "window_height", [](S& s) -> int& { return s.window_height; }, 240, 16384),
        number<double>(
            "temperature", [](S& s) -> double& { return s.sampling.temperature; }, 0.0, 100.0),
        number<int>(
            "top_k", [](S& s) -> int& { return s.sampling.top_k; }, 0, 1 << 24),
        number<double>(
            "top_p", [](S& s) -> double& { return s.sampling.top_p; }, 1e-6, 1.0),
        number<double>(
            "min_p", [](S& s) -> double& { return s.sampling.min_p; }, 0.0, 0.999999),
        number<double>(
            "repetition_penalty", [](S& s) -> double& { return s.sampling.repetition_penalty; }, 0.1, 10.0),
        number<uint64_t>(
            "seed", [](S& s) -> uint64_t& { return s.sampling.seed; }, uint64_t{0}, uint64_t{1} << 53),
        number<int>(
            "max_new_tokens", [](S& s) -> int& { return s.sampling.max_new_tokens; }, 1, 1 << 20),
        texts(
            "stop", [](S& s) -> std::vector<std::string>& { return s.sampling.stop; }, 16),
        texts(
            "recent_folders", [](S& s) -> std::vector<std::string>& { return s.recent_folders; }, kMaxRecents),
    };
    return all;
}

}  // namespace

bool operator==(const Settings& a, const Settings& b) {
    return a.to_json() == b.to_json();
}

void Settings::add_recent(const std::string& folder) {
    std::erase(recent_folders, folder);
    recent_folders.insert(recent_folders.begin(), folder);
    if (recent_folders.size() > kMaxRecents) recent_folders.resize(kMaxRecents);
}

std::string Settings::to_json() const {
    Json all = Json::object();
    for (const Field& f : fields()) all.set(f.key, f.get(*this));
    return all.dump(2) + "\n";
}

Settings Settings::parse(const std::string& text, const std::string& file) {
    Settings s;
    std::vector<Issue> issues;
    std::vector<std::string> names;
    for (const Field& f : fields()) names.push_back(f.key);
    const Json all = Json::parse(text, file, {kMaxBytes, 8, 10000});
    if (!all.is_object()) issues.push_back({file, "", all.type_name(), "an object of settings", ""});
    if (all.is_object())
        for (const auto& [key, v] : all.members()) {
            const auto f = std::find_if(fields().begin(), fields().end(), [&](const Field& x) { return key == x.key; });
            if (f == fields().end()) {
                const std::string near = nearest_name(key, names);
                issues.push_back(
                    {file, key, v.dump(), near.empty() ? "a known setting" : "did you mean " + near + "?", ""});
            } else if (const std::string expected = f->set(s, v); !expected.empty()) {
                issues.push_back({file, key, v.dump(), expected, ""});
            }
        }
    throw_if_any(issues);
    return s;
}

Settings load_settings(const std::string& path, std::string& problem) {
    problem.clear();
    if (path.empty() || !std::filesystem::exists(path)) return {};
    try {
        return Settings::parse(read_file(path, kMaxBytes), path);
    } catch (const Error& e) {
        const std::string aside = path + ".bad";
        const bool is_moved = std::rename(path.c_str(), aside.c_str()) == 0;
        problem = "The settings could not be read, the defaults are used. " +
                  (is_moved ? "The file was kept as " + aside + ". "
                            : "It could not be moved aside: " + std::string(std::strerror(errno)) + ". ") +
                  e.what();
        return {};
    }
}

void save_settings(const Settings& s, const std::string& path) {
    write_file_atomic(path, s.to_json());
}

}  // namespace vitrine::viz
