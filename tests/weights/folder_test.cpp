// Checkpoint folders: an index that names wrong things, links that lead out, shards that are not what they should be.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "engine/model/config.h"
#include "engine/model/weights.h"
#include "engine/weights/checkpoint.h"
#include "tests/support/temp_folder.h"

namespace vitrine {
namespace {
namespace fs = std::filesystem;

class Folder : public testing::Test {
  protected:
    void shard(const std::string& name, const std::vector<std::string>& tensors) {
        const float zero = 0;
        std::vector<NamedArray> list;
        for (const auto& t : tensors) list.push_back({t, DType::f32, {1}, &zero, 4});
        fs::create_directories(root_ / fs::path(name).parent_path());
        write_safetensors((root_ / name).string(), list);
    }
    void index(const std::string& weight_map) {
        write("model.safetensors.index.json", "{\"weight_map\": {" + weight_map + "}}");
    }
    void write(const std::string& name, const std::string& text) const {
        std::ofstream(root_ / name, std::ios::binary) << text;
    }
    std::string verdict() const {
        try {
            return "accepted " + std::to_string(read_folder(root_.string()).size());
        } catch (const Error& e) {
            return e.what();
        }
    }
    void expect(const std::string& part) const {
        EXPECT_NE(verdict().find(part), std::string::npos) << verdict() << "\n  wanted: " << part;
    }
    test::TempFolder folder_;
    fs::path root_ = folder_.path();
};

TEST_F(Folder, OneFileOrAnIndex) {
    expect("expected model.safetensors or model.safetensors.index.json, found neither");
    write("pytorch_model.bin", "x");
    expect("pickled weights");
    shard("model.safetensors", {"a", "b"});
    expect("accepted 2");
    index("\"a\": \"model.safetensors\"");
    expect("expected one of them");
    fs::rename(root_ / "model.safetensors", root_ / "m1.safetensors");
    index("\"a\": \"m1.safetensors\", \"b\": \"m1.safetensors\"");
    expect("accepted 2");
    root_ /= "none";
    expect("it does not exist");
    root_ = folder_.file("m1.safetensors");
    expect("found a file");
}

TEST_F(Folder, NamesInTheIndex) {
    shard("m1.safetensors", {"a"});
    for (const char* name : {"../m1.safetensors", "/etc/passwd", "C:\\\\m1.safetensors", "sub/../m1.safetensors",
                             "sub/m1.safetensors", "m1.safetensors\\u0000", "m1\\u202e.safetensors", "", ".", "..",
                             "a\\u2215b.safetensors", "\\u001b[2J.safetensors"}) {
        index(std::string("\"a\": \"") + name + "\"");
        expect("weight_map.a");
        expect("line 1, column 22");
    }
    index("\"a\": \"weights.bin\"");
    expect("pickled weights can run code and are never read");
    index("\"a\": 7");
    expect("weight_map.a = an integer");
    index("\"a\": \"m1.safetensors\", \"a\": \"m1.safetensors\"");
    expect("duplicate key \"a\"");
    index("");
    expect("weight_map");
    write("model.safetensors.index.json", "[]");
    expect("weight_map = nothing");
    write("model.safetensors.index.json", "{\"weight_map\": []}");
    expect("weight_map = an array");
    index("\"a\": \"m1.safetensors\"");
    expect("accepted 1");
}

TEST_F(Folder, ShardsThatDisagree) {
    shard("m1.safetensors", {"a", "b"});
    shard("m2.safetensors", {"b", "c"});
    index("\"a\": \"m1.safetensors\", \"b\": \"m1.safetensors\"");
    expect("accepted 2");
    index("\"a\": \"m1.safetensors\", \"x\": \"m1.safetensors\"");
    expect("weight_map.x = m1.safetensors (line 1, column 45): expected the tensor in that file, it is not there");
    index("\"a\": \"m1.safetensors\", \"c\": \"m2.safetensors\"");
    expect("b = a second time: expected it only in ");
    shard("m2.safetensors", {"c"});
    index("\"a\": \"m2.safetensors\", \"c\": \"m1.safetensors\"");
    expect("weight_map.a = m2.safetensors");
    index("\"a\": \"m1.safetensors\", \"c\": \"m3.safetensors\"");
    expect("m3.safetensors: can't be opened: No such file or directory (named in model.safetensors.index.json)");
    fs::create_directory(root_ / "m3.safetensors");
    expect("not a regular file");
    fs::remove(root_ / "m3.safetensors");
    ASSERT_EQ(mkfifo((root_ / "m3.safetensors").c_str(), 0600), 0);
    expect("not a regular file");
}

TEST_F(Folder, LinksStayInside) {
    shard("outside/secret.safetensors", {"a"});
    root_ /= "model";
    fs::create_directory(root_);
    fs::create_symlink("../outside/secret.safetensors", root_ / "model.safetensors");
    expect("expected the link to end inside the model's folder");
    fs::remove(root_ / "model.safetensors");
    shard("data.safetensors", {"a"});
    fs::create_symlink("data.safetensors", root_ / "model.safetensors");
    expect("accepted 1");
    fs::remove(root_ / "model.safetensors");
    fs::create_symlink("model.safetensors", root_ / "model.safetensors");  // to itself
    expect("can't be opened");
    // a Hugging Face cache
    root_ = folder_.path();
    shard("models--org--name/blobs/0123abcd", {"a", "b"});
    shard("models--org--other/blobs/4567", {"a"});
    root_ /= "models--org--name/snapshots/main";
    fs::create_directories(root_);
    fs::create_symlink("../../blobs/0123abcd", root_ / "model.safetensors");
    expect("accepted 2");
    fs::remove(root_ / "model.safetensors");
    fs::create_symlink("../../../models--org--other/blobs/4567", root_ / "model.safetensors");
    expect("expected the link to end inside the model's folder");
}

TEST_F(Folder, ShardLimit) {
    std::string map;
    for (int i = 0; i < 4097; ++i)
        map += (i ? ", \"" : "\"") + std::to_string(i) + "\": \"m" + std::to_string(i) + ".safetensors\"";
    index(map);
    expect("weight_map = 4097 files: expected at most 4096");
    for (int i = 0; i < 4096; ++i) {  // empty tensors, written without waiting for the disk
        const std::string header =
            "{\"" + std::to_string(i) + "\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}";
        write("m" + std::to_string(i) + ".safetensors",
              std::string(1, static_cast<char>(header.size())) + std::string(7, '\0') + header);
    }
    index(map.substr(0, map.rfind(',')));
    expect("accepted 4096");
}

TEST_F(Folder, IndexLimit) {
    shard("m1.safetensors", {"a"});
    const std::string text = "{\"weight_map\": {\"a\": \"m1.safetensors\"}}";
    write("model.safetensors.index.json", text + std::string((64u << 20) - text.size(), ' '));
    expect("accepted 1");
    write("model.safetensors.index.json", text + std::string((64u << 20) - text.size() + 1, ' '));
    expect("67108865 bytes, at most 67108864");
}

// ---- files that change under us
// ------------------------------------------------------------------------------------------

class Shrinking : public testing::Test {
  protected:
    void SetUp() override {
        fs::copy(std::string(VITRINE_SOURCE_DIR) + "/tests/golden/flashlike", folder_.path(),
                 fs::copy_options::recursive);
    }
    fs::path file() const { return folder_.file("model.safetensors"); }
    test::TempFolder folder_;
};

double read_everything(const ModelWeights& w) {
    double sum = 0;
    for (const WeightScan& s : scan_weights(w)) sum += s.mean;
    return sum;
}

TEST_F(Shrinking, WhileInUse) {
    const ModelConfig config = read_config(folder_.path()).config;
    const std::string bytes = read_file(file().string(), 1 << 30);
    for (int i = 0; i < 50; ++i) {
        std::ofstream(file(), std::ios::binary) << bytes;
        const ModelWeights w = load_weights(folder_.path(), config);
        EXPECT_NO_THROW(throw_if_mapping_failed());
        const double before = read_everything(w);
        if (i % 2)
            fs::resize_file(file(), static_cast<uintmax_t>(i) * 40000);
        else
            std::ofstream(file(), std::ios::binary)
                << std::string(bytes.size(), static_cast<char>(i));  // replaced in place
        const double after = read_everything(w);                     // no SIGBUS
        EXPECT_NE(before, after) << i;
        EXPECT_THROW(throw_if_mapping_failed(), Error) << i;
    }
}

TEST_F(Shrinking, WhileLoading) {
    const ModelConfig config = read_config(folder_.path()).config;
    const std::string bytes = read_file(file().string(), 1 << 30);
    std::atomic<bool> done{false};
    std::thread writer([&] {
        for (unsigned i = 0; !done; ++i) {
            std::ofstream(file(), std::ios::binary) << bytes;
            fs::resize_file(file(), bytes.size() * (i % 7) / 7);
        }
    });
    int n_errors = 0;
    for (int i = 0; i < 50; ++i) {
        try {
            load_weights(folder_.path(), config);
        } catch (const Error& e) {
            EXPECT_TRUE(e.kind() == ErrorKind::io || e.kind() == ErrorKind::bad_input) << e.what();
            ++n_errors;
        }
    }
    done = true;
    writer.join();
    std::ofstream(file(), std::ios::binary) << bytes;
    EXPECT_NO_THROW(load_weights(folder_.path(), config));
    EXPECT_GT(n_errors, 0);
}

TEST(LoadingStops, BetweenFilesAndTensors) {
    std::stop_source stop;
    stop.request_stop();
    const std::string folder = std::string(VITRINE_SOURCE_DIR) + "/tests/golden/flashlike";
    const auto is_cancelled = [](const std::function<void()>& run) {
        try {
            run();
        } catch (const Error& e) {
            return e.kind() == ErrorKind::cancelled;
        }
        return false;
    };
    EXPECT_TRUE(is_cancelled([&] { read_folder(folder, stop.get_token()); }));
    EXPECT_TRUE(is_cancelled([&] { load_weights(folder, read_config(folder).config, stop.get_token()); }));
    EXPECT_FALSE(is_cancelled([&] { load_weights(folder, read_config(folder).config); }));
}

}  // namespace
}  // namespace vitrine
