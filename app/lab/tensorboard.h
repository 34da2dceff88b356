// Scalars as TensorBoard event files: TFRecord frames with masked CRC-32C around Event messages, encoded by hand.
//
// Formats: tensorflow/core/lib/io/record_writer, tensorflow/core/util/event.proto and framework/summary.proto (fields
// named in the .cpp). One folder is one run in TensorBoard.
#pragma once
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace vitrine {

uint32_t crc32c(std::string_view bytes);         // Castagnoli, reflected
uint32_t masked_crc32c(std::string_view bytes);  // rotated right by 15, plus 0xa282ead8
std::string tf_record(std::string_view data);    // length, its checksum, data, its checksum; little endian

class EventFile {
  public:
    // Creates folder/events.out.tfevents.<seconds>.<name>. The run's points have no times of their own: all get
    // `wall_time`, [s] since 1970; 0: now. Error(io).
    EventFile(const std::string& folder, const std::string& name, double wall_time = 0);
    ~EventFile();
    EventFile(const EventFile&) = delete;
    EventFile& operator=(const EventFile&) = delete;

    void scalar(int64_t step, std::string_view tag, float value);
    void close();  // Error(io) when not everything reached the file
    const std::string& path() const { return path_; }

  private:
    void write(std::string_view event);
    double wall_time_;
    std::string path_;
    std::FILE* file_ = nullptr;
    bool has_failed_ = false;
};

}  // namespace vitrine
