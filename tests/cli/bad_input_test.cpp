// Inputs that are wrong, as a user meets them: one message that names file, key and what was expected; 2 at the end.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "engine/base/reader.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"

namespace vitrine {
namespace {

const std::string kSeedling = std::string(VITRINE_SOURCE_DIR) + "/assets/models/seedling";

class BadInput : public ::testing::Test {
  protected:
    std::string file(const std::string& name, const std::string& text) const {
        write_file_atomic(home_.file(name), text);
        return home_.file(name);
    }
    // Ends with `code` and says `part`, on stderr alone.
    void expect(const std::vector<std::string>& args, const std::string& part, int code = 2) const {
        const test::Run r = test::run_program(args, home_.path());
        std::string line;
        for (const std::string& a : args) line += a + " ";
        EXPECT_EQ(r.code, code) << line << "\n" << r.err;
        EXPECT_NE(r.err.find(part), std::string::npos) << line << "\n" << r.err;
        EXPECT_EQ(r.out, "") << line;
    }
    test::TempFolder home_;
};

TEST_F(BadInput, an_empty_path_or_name_is_not_a_missing_one) {
    expect({"chat", "-m", "", "-p", "hi"}, "-m needs a value: DIR");
    expect({"train", "--preset", "mix3-t1", "--steps", "1", "--run="}, "--run needs a value: DIR");
    expect({"dump", "-m", kSeedling, "--tokens", "", "--out", "x.npz"}, "--tokens needs a value: FILE.json");
    expect({"eval", "--tasks", ";;"}, "--tasks ;;: expected rows");
    expect({""}, "an empty word: expected DIR");
    EXPECT_EQ(
        test::run_program({"chat", "-m", kSeedling, "-p", "74*82=?", "--system", "", "-n", "1"}, home_.path()).code, 0);
}

TEST_F(BadInput, a_word_is_never_ignored) {
    expect({"eval", "-m", kSeedling, "--mode", "loud"}, "--mode loud: expected one of non-think|high|max");
    expect({"train", "--preset", "mix3-t1", "--arm", "a"}, "--arm goes with --experiment");
    expect({"train", "--preset", "mix3-t1", "--step", "3"}, "--step goes with --rewind");
    expect({"train", "--resume", "run", "--steps", "3"}, "--steps does not go with --resume");
    expect({"train", "--rewind", "a", "--step", "1", "--run", "b", "--seed", "3"}, "--seed does not go with --rewind");
    expect({"train", "--experiment", "X03", "--arm", "a", "--dtype", "f64"}, "--dtype does not go with --experiment");
    expect({"curriculum", "--skill", "latin", "--level", "0"}, "--level 0: expected 3 to 10 for latin");
    expect({"curriculum", "--domain", "search", "--level", "100"}, "--level 100: expected a level of one of these skills");
    expect({"chat", "-p", "x", "--device", "a\x1b[2J"}, "--device a\\x1B[2J: expected cpu");
}

TEST_F(BadInput, files_are_named_with_key_and_place) {
    const std::string list = file("list.json", "[[1, 2],\n [1.5, 4294967297]]");
    expect({"bench", "-m", kSeedling, "--sequences", "2", "--prompts", list},
           list + ": [1][0] = 1.5 (line 2, column 3): expected an integer in [0, 271]");
    expect({"bench", "-m", kSeedling, "--draft", "1", "--prompts", file("none.json", "[[]]")}, "[0] = []");
    const std::string config = file("config.json", "{\"train\": {}}");
    expect({"train", "--config", config}, config + ": key \"model\" is missing");
    expect({"train", "--config", file("number.json", "{\"model\": {}, \"train\": 3}")}, "number.json");
    expect({"train", "--config", home_.file("nothing.json")},
           "nothing.json: can't be opened: No such file or directory");
    expect({"chat", "-f", home_.path()}, "is not a regular file");
}

TEST_F(BadInput, defaults_of_sampling_are_an_object) {
    const std::string model = home_.file("model");
    std::filesystem::copy(kSeedling, model);
    write_file_atomic(model + "/generation_config.json", "[]");
    expect({"chat", "-m", model, "-p", "hi"}, "generation_config.json: an array: expected an object");
}

TEST_F(BadInput, sampling_is_checked_before_a_model_is_loaded) {
    expect({"chat", "-m", "nowhere", "-p", "hi", "--top-p", "0"}, "--top-p 0: expected a number in (0, 1]");
    expect({"compare", "-m", "nowhere", "-p", "hi", "--min-p", "1"}, "--min-p 1: expected a number in [0, 1)");
}

TEST_F(BadInput, a_tokenizer_with_more_ids_than_the_model_is_told) {
    const std::string model = home_.file("model");
    std::filesystem::copy(kSeedling, model);
    std::filesystem::copy(std::string(VITRINE_SOURCE_DIR) + "/assets/curriculum/tokenizer.json", model + "/tokenizer.json",
                          std::filesystem::copy_options::overwrite_existing);
    const test::Run r = test::run_program({"chat", "-m", model, "-p", "hi", "-n", "1"}, home_.path());
    EXPECT_NE(r.err.find("tokenizer.json: 2048 ids, the model has 272 (vocab_size)"), std::string::npos) << r.err;
}

TEST_F(BadInput, what_stdout_did_not_take_is_a_failure) {
    if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
    for (const std::string& words :
         {"inspect --json --quick " + kSeedling, "chat -n 1 -p hi -m " + kSeedling, std::string("--help")}) {
        const std::string line = std::string(VITRINE_PROGRAM) + " " + words + " >/dev/full 2>" + home_.file("err");
        EXPECT_EQ(WEXITSTATUS(std::system(line.c_str())), 1) << words;
        EXPECT_NE(read_file(home_.file("err"), 1 << 16).find("stdout can't be written"), std::string::npos) << words;
    }
}

TEST_F(BadInput, of_a_run_is_told_with_its_file) {
    const std::string run = home_.file("run");
    test::Run r = test::run_program({"train", "--preset", "mix3-t1", "--run", run, "--steps", "1", "--set", "batch=2"},
                                    home_.path());
    ASSERT_EQ(r.code, 0) << r.err;
    r = test::run_program({"train", "--resume", run}, home_.path());
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.err.find("finished, all 1 steps are made"), std::string::npos) << r.err;
    const std::string manifest = run + "/checkpoints/1/manifest.json", whole = read_file(manifest, 1 << 20);
    write_file_atomic(manifest, "{}");
    expect({"train", "--resume", run}, manifest + ": key \"version\" is missing");
    write_file_atomic(manifest, whole);
    const std::string database = run + "/metrics.sqlite";
    write_file_atomic(database, std::string(20000, 'x'));
    expect({"train", "--resume", run}, database + ": file is not a database");
}

}  // namespace
}  // namespace vitrine
