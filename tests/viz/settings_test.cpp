// Settings on disk: written, read again, refused when damaged, and kept aside then.
#include "viz/shell/settings.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "engine/base/error.h"

namespace vitrine::viz {
namespace {
namespace fs = std::filesystem;

struct Folder {
    Folder() { fs::create_directories(path); }
    ~Folder() { fs::remove_all(path); }
    std::string path = ::testing::TempDir() + "vitrine_settings_test";
    std::string file = path + "/settings.json";
};

TEST(Settings, what_is_saved_is_read) {
    Folder f;
    Settings s;
    s.is_dark = false, s.font_scale = 1.3f, s.chat_ratio = 0.41f, s.panel = "Streams", s.mode = Mode::max;
    s.sampling.temperature = 0.7, s.sampling.seed = 12345, s.sampling.stop = {"END", "结束"};
    s.add_recent("/a"), s.add_recent("/b"), s.add_recent("/a");
    save_settings(s, f.file);
    std::string problem;
    const Settings read = load_settings(f.file, problem);
    EXPECT_EQ(problem, "");
    EXPECT_TRUE(read == s);
    EXPECT_EQ(read.recent_folders, (std::vector<std::string>{"/a", "/b"}));
    EXPECT_FALSE(read == Settings{});
}

TEST(Settings, a_missing_file_gives_the_defaults) {
    std::string problem;
    EXPECT_TRUE(load_settings("/nonexistent/settings.json", problem) == Settings{});
    EXPECT_EQ(problem, "");
}

TEST(Settings, a_damaged_file_is_kept_aside_and_told) {
    Folder f;
    for (const char* text :
         {"{\"dark\": tru", "[]", "{\"font_scale\": 99}", "{\"chat_ratoi\": 0.3}", "{\"recent_folders\": [1]}"}) {
        std::ofstream(f.file) << text;
        std::string problem;
        EXPECT_TRUE(load_settings(f.file, problem) == Settings{}) << text;
        EXPECT_NE(problem.find(f.file + ".bad"), std::string::npos) << problem;
        EXPECT_FALSE(fs::exists(f.file));
        EXPECT_TRUE(fs::exists(f.file + ".bad"));
    }
}

TEST(Settings, an_issue_names_key_value_and_what_was_expected) {
    try {
        Settings::parse("{\"font_scale\": 99, \"chat_ratoi\": 0.3}", "settings.json");
        FAIL();
    } catch (const Error& e) {
        const std::string what = e.what();
        EXPECT_NE(what.find("font_scale = 99"), std::string::npos) << what;
        EXPECT_NE(what.find("did you mean chat_ratio?"), std::string::npos) << what;
    }
}

}  // namespace
}  // namespace vitrine::viz
