// TensorBoard event files: known bytes, computed by an independent program.
#include "app/lab/tensorboard.h"

#include <gtest/gtest.h>

#include "engine/base/error.h"
#include "engine/base/reader.h"
#include "tests/support/temp_folder.h"

namespace vitrine {
namespace {

std::string hex(const std::string& bytes) {
    std::string out;
    for (const unsigned char b : bytes) {
        char two[3];
        std::snprintf(two, sizeof two, "%02x", b);
        out += two;
    }
    return out;
}

TEST(TensorBoard, checksum_of_the_standard_check_value) {
    EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
    EXPECT_EQ(crc32c(""), 0u);
}

TEST(TensorBoard, a_file_with_one_point_has_these_bytes) {
    const test::TempFolder folder;
    EventFile f(folder.path(), "run", 1.5);
    f.scalar(300, "loss", 0.25f);
    f.close();
    EXPECT_EQ(f.path(), folder.path() + "/events.out.tfevents.1.run");
    EXPECT_EQ(hex(read_file(f.path(), 1000)),
              "1800000000000000a37f4b2209000000000000f83f1a0d627261696e2e4576656e743a322a28646c"
              "1b000000000000001a0d9e1309000000000000f83f10ac022a0d0a0b0a046c6f7373150000803e9908deed");
}

TEST(TensorBoard, a_folder_that_is_not_there_is_named) {
    try {
        EventFile f("/nowhere/at/all", "run");
        FAIL();
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("/nowhere/at/all"), std::string::npos);
    }
}

}  // namespace
}  // namespace vitrine
