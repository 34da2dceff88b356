// Reading and writing files: bounds, special files, atomic replacement, names, and files that shrink while mapped.
#include "engine/base/reader.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/support/message_of.h"

namespace vitrine {
namespace {

using test::message_of;

namespace fs = std::filesystem;

class Reader : public testing::Test {
  protected:
    void SetUp() override {
        folder_ = fs::path(testing::TempDir()) / ("reader-" + std::to_string(getpid()));
        fs::create_directories(folder_);
    }
    void TearDown() override { fs::remove_all(folder_); }
    std::string path(const std::string& name) const { return (folder_ / name).string(); }
    void write(const std::string& name, const std::string& bytes) const {
        std::ofstream(path(name), std::ios::binary) << bytes;
    }
    fs::path folder_;
};

TEST_F(Reader, ReadsUpToTheLimit) {
    write("a", "12345");
    EXPECT_EQ(read_file(path("a"), 6), "12345");
    EXPECT_EQ(read_file(path("a"), 5), "12345");
    EXPECT_NE(message_of([&] { read_file(path("a"), 4); }).find("5 bytes, at most 4"), std::string::npos);
    EXPECT_NE(message_of([&] { read_file(path("none"), 4); }).find("No such file"), std::string::npos);
    write("empty", "");
    EXPECT_EQ(read_file(path("empty"), 0), "");
}

TEST_F(Reader, RefusesSpecialFiles) {
    ASSERT_EQ(mkfifo(path("fifo").c_str(), 0600), 0);
    for (const std::string& p : {path("fifo"), folder_.string(), std::string("/dev/zero")}) {
        EXPECT_NE(message_of([&] { read_file(p, 100); }).find("not a regular file"), std::string::npos) << p;
        EXPECT_NE(message_of([&] { MappedFile::open(p); }).find("not a regular file"), std::string::npos) << p;
    }
}

TEST_F(Reader, WritesAtomically) {
    write_file_atomic(path("w"), "one");
    write_file_atomic(path("w"), "two");
    EXPECT_EQ(read_file(path("w"), 10), "two");
    EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 1);  // no temporary left
    EXPECT_NE(message_of([&] { write_file_atomic(path("no/such/w"), "x"); }).find("No such file"), std::string::npos);
    fs::create_directory(path("dir"));
    EXPECT_NE(message_of([&] { write_file_atomic(path("dir"), "x"); }).find("can't be put in place"), std::string::npos);
    EXPECT_EQ(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()), 2);
}

TEST_F(Reader, CursorStaysInside) {
    const unsigned char raw[] = {1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 128, 63, 9};
    ByteReader r("f", reinterpret_cast<const std::byte*>(raw), sizeof raw);
    EXPECT_EQ(r.u64(), 0x0807060504030201u);
    EXPECT_EQ(r.f32(), 1.0f);
    EXPECT_NE(message_of([&] { r.u32(); }).find("f: byte 12: needs 4 more bytes, found 1"), std::string::npos);
    EXPECT_NE(message_of([&] { r.bytes(UINT64_MAX); }).find("found 1"), std::string::npos);
    EXPECT_EQ(r.u8(), 9);
    EXPECT_EQ(r.remaining(), 0u);
}

TEST_F(Reader, MapsAndNoticesChange) {
    write("m", "hello");
    const auto f = MappedFile::open(path("m"));
    EXPECT_EQ(f->size(), 5u);
    EXPECT_EQ(std::memcmp(f->data(), "hello", 5), 0);
    EXPECT_NO_THROW(f->check_unchanged());
    EXPECT_NO_THROW(throw_if_mapping_failed());
    fs::resize_file(path("m"), 3);
    EXPECT_NE(message_of([&] { f->check_unchanged(); }).find("changed from 5 to 3 bytes"), std::string::npos);
}

// A process that touches a page of a shrunk file gets SIGBUS: fifty times it must become an error that names the file.
TEST_F(Reader, ShrinkingFileIsAnError) {
    install_mapping_guard();
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    for (int i = 0; i < 50; ++i) {
        write("s", std::string(page * 8, 'x'));
        const auto f = MappedFile::open(path("s"));
        fs::resize_file(path("s"), page * static_cast<size_t>(i % 8) + (i % 3));
        uint64_t sum = 0;
        for (size_t k = 0; k < f->size(); k += 64)
            sum += static_cast<uint64_t>(*(volatile const std::byte*)(f->data() + k));
        EXPECT_LT(sum, 8 * page / 64 * 'x');
        EXPECT_NE(message_of(throw_if_mapping_failed).find("/s: "), std::string::npos);
    }
    EXPECT_NO_THROW(throw_if_mapping_failed());  // every failed mapping is closed again
}

// Whoever handled SIGBUS before gets it: the default action kills, a sanitizer reports and exits.
TEST(ReaderDeathTest, ForeignBusErrorStillKills) {
    EXPECT_DEATH(
        {
            install_mapping_guard();
            raise(SIGBUS);
        },
        "");
}

TEST(FileName, Rules) {
    for (const char* good : {"model.safetensors", "model-00001-of-00003.safetensors", "a b", "模型.json", ".hidden"})
        EXPECT_EQ(bad_file_name_reason(good), "") << good;
    const std::string long_name(256, 'a');
    for (const std::string& bad : {std::string(),
                                   std::string("."),
                                   std::string(".."),
                                   std::string("../x"),
                                   std::string("/abs"),
                                   std::string("a/b"),
                                   std::string("a\\b"),
                                   std::string("C:x"),
                                   std::string("a..b"),
                                   std::string("a\0b", 3),
                                   std::string("a\nb"),
                                   std::string("\x7F"),
                                   std::string("a\xE2\x80\xAE"
                                               "b"),
                                   std::string("a\xE2\x88\x95"
                                               "b"),
                                   std::string("\xC2\x85"),
                                   std::string("\xFF"),
                                   std::string("\xED\xA0\x80"),
                                   std::string("\xC0\xAF"),
                                   std::string(" a"),
                                   std::string("a."),
                                   long_name})
        EXPECT_NE(bad_file_name_reason(bad), "") << bad;
    EXPECT_EQ(bad_file_name_reason(std::string(255, 'a')), "");
}

TEST(CheckedSizes, Throw) {
    EXPECT_THROW(Checked(UINT64_MAX) + 1, Error);
    EXPECT_THROW(Checked(4194305) * 4194305 * 211106198978564u, Error);  // wraps to 4 with plain arithmetic
    EXPECT_THROW(Checked(1) - 2, Error);
    EXPECT_THROW(Checked(1) / 0, Error);
    EXPECT_THROW(round_up(Checked(UINT64_MAX), 64), Error);
    EXPECT_THROW(Checked(1ull << 31).to<int32_t>(), Error);
    EXPECT_EQ(ceil_div(Checked(129), 128).value(), 2u);
}

}  // namespace
}  // namespace vitrine
