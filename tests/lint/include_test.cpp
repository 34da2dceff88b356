// Who may include whom: docs/ARCHITECTURE.md, kept by reading every #include of the tree.
#include <gtest/gtest.h>

#include <map>
#include <regex>

#include "tests/lint/tree.h"

namespace vitrine::lint {
namespace {

struct Room {
    const char* folder;                 // the longest one that fits a file is its room
    std::vector<std::string> may_know;  // path prefixes, besides the room itself
};

// From the bottom up. A room lists all that it may know: nothing is inherited, so that a line can be read alone.
const std::vector<Room>& rooms() {
    static const std::vector<Room> all = {
        {"engine/base", {}},
        {"engine/telemetry", {"engine/base/"}},
        {"engine/tensor", {"engine/base/"}},
        {"engine/device", {"engine/base/", "engine/tensor/", "engine/comm/"}},
        {"engine/comm", {"engine/base/"}},
        {"engine/autograd", {"engine/base/", "engine/tensor/", "engine/device/", "engine/ops/ctx.h"}},
        // Ops take the model's plain structs (weights by role, the rings of a cache), and nothing of it that computes.
        {"engine/ops",
         {"engine/base/", "engine/telemetry/", "engine/tensor/", "engine/device/", "engine/comm/", "engine/autograd/",
          "engine/model/param.h", "engine/model/weights.h", "engine/model/kv_cache.h"}},
        {"engine/weights", {"engine/base/", "engine/telemetry/", "engine/tensor/", "engine/device/"}},
        {"engine/text", {"engine/base/", "engine/telemetry/"}},
        {"engine/model",
         {"engine/base/", "engine/telemetry/", "engine/tensor/", "engine/device/", "engine/autograd/", "engine/ops/",
          "engine/weights/"}},
        {"engine/infer", {"engine/"}},
        {"engine/train", {"engine/"}},
        {"viz", {"engine/base/", "engine/telemetry/"}},
        {"experiments",
         {"engine/engine.h", "engine/base/", "engine/telemetry/", "engine/model/config.h", "engine/model/weights.h",
          "engine/model/init.h", "engine/ops/", "engine/text/", "engine/infer/", "engine/train/"}},
        {"app",
         {"engine/engine.h", "engine/base/", "engine/telemetry/", "engine/text/", "engine/infer/", "engine/train/", "engine/model/",
          "engine/ops/ctx.h", "engine/device/", "engine/comm/", "engine/weights/", "viz/", "experiments/"}},
    };
    return all;
}

bool starts_with(const std::string& s, const std::string& prefix) {
    return s.rfind(prefix, 0) == 0;
}

const Room* room_of(const std::string& path) {
    const Room* best = nullptr;
    for (const Room& room : rooms())
        if (starts_with(path, room.folder + std::string("/")) &&
            (!best || std::string(best->folder).size() < std::string(room.folder).size()))
            best = &room;
    return best;
}

bool may_include(const std::string& from, const std::string& to) {
    if (from == "engine/engine.h") return starts_with(to, "engine/base/") || starts_with(to, "engine/telemetry/");
    const Room* room = room_of(from);
    if (!room) return starts_with(from, "engine/") ? starts_with(to, "engine/") : true;  // engine/*.cpp
    if (starts_with(to, room->folder + std::string("/"))) return true;
    for (const std::string& prefix : room->may_know)
        if (starts_with(to, prefix)) return true;
    return false;
}

// The files that a file includes by quotes, with their line numbers.
std::vector<std::pair<size_t, std::string>> includes_of(const File& file) {
    static const std::regex pattern(R"re(^\s*#\s*include\s*"([^"]+)")re");
    std::vector<std::pair<size_t, std::string>> found;
    std::smatch match;
    for (size_t i = 0; i < file.code.size(); ++i)
        if (std::regex_search(file.code[i], match, pattern)) found.push_back({i, match[1]});
    return found;
}

TEST(Includes, the_rule_itself_tells_right_from_wrong) {
    EXPECT_TRUE(may_include("engine/model/v4.cpp", "engine/ops/rope/rope.h"));
    EXPECT_TRUE(may_include("app/main.cpp", "viz/panel.h"));
    EXPECT_TRUE(may_include("viz/panels/cache_panel.cpp", "viz/snapshot.h"));
    EXPECT_FALSE(may_include("viz/panel.h", "engine/engine.h"));
    EXPECT_FALSE(may_include("viz/panels/x_panel.cpp", "engine/ops/rope/rope.h"));
    EXPECT_FALSE(may_include("viz/panels/x_panel.cpp", "engine/model/config.h"));
    EXPECT_FALSE(may_include("engine/base/error.h", "engine/telemetry/trace.h"));
    EXPECT_FALSE(may_include("engine/ops/ctx.h", "engine/model/config.h"));
    EXPECT_FALSE(may_include("engine/ops/attend/attend.cpp", "engine/model/v4.h"));
    EXPECT_FALSE(may_include("engine/engine.h", "engine/model/weights.h"));
    EXPECT_FALSE(may_include("engine/infer/session.cpp", "viz/snapshot.h"));
    EXPECT_FALSE(may_include("app/worker.cpp", "engine/ops/rope/rope.h"));
}

TEST(Includes, rooms_know_only_what_is_below_them) {
    Findings findings;
    for (const File& file : tree())
        if (file.is_cpp() && !file.is_test())
            for (const auto& [line, path] : includes_of(file))
                if (!may_include(file.path, path)) findings.add(file, line, "may not include " + path);
    EXPECT_TRUE(findings.text().empty()) << findings.text();
}

TEST(Includes, are_written_from_the_root) {
    Findings findings;
    std::map<std::string, bool> exists;
    for (const File& file : tree()) exists[file.path] = true;
    for (const File& file : tree())
        if (file.is_cpp())
            for (const auto& [line, path] : includes_of(file))
                if (!exists.count(path))
                    findings.add(file, line, path + " is no file of the tree; system headers take <>");
    EXPECT_TRUE(findings.text().empty()) << findings.text();
}

// Heavy headers stay out of ours: each would be paid for by everything that includes it.
TEST(Includes, headers_stay_light) {
    static const std::regex heavy(
        R"(#\s*include\s*<(Eigen/|nlohmann/|CLI/|gtest/|gmock/|hwy/|GLFW/|sqlite3|regex|iostream))");
    Findings findings;
    for (const File& file : tree())
        if (file.is_header() && !file.is_test())
            for (size_t i = 0; i < file.code.size(); ++i)
                if (std::regex_search(file.code[i], heavy))
                    findings.add(file, i, "heavy header in a header: " + file.code[i]);
    EXPECT_TRUE(findings.text().empty()) << findings.text();
}

}  // namespace
}  // namespace vitrine::lint
