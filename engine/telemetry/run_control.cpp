// The lines that steer a training run.
#include "engine/telemetry/run_control.h"

#include <charconv>
#include <cmath>
#include <vector>

#include "engine/base/error.h"
#include "engine/telemetry/lab.h"

namespace vitrine {
namespace {

constexpr const char* kWords[] = {"pause", "resume", "step", "stop", "checkpoint", "set"};

std::vector<std::string_view> words_of(std::string_view line) {
    std::vector<std::string_view> words;
    size_t at = 0;
    while ((at = line.find_first_not_of(" \t\r\n", at)) != std::string_view::npos) {
        const size_t end = std::min(line.size(), line.find_first_of(" \t\r\n", at));
        words.push_back(line.substr(at, end - at));
        at = end;
    }
    return words;
}

[[noreturn]] void fail(std::string_view line, const std::string& expected) {
    throw Error(ErrorKind::bad_input, "control: " + escaped(line, 80) + ": expected " + expected);
}

double value_of(std::string_view line, std::string_view key, std::string_view text) {
    const LabLiveField* field = nullptr;
    std::string keys;
    for (const LabLiveField& f : lab_live_fields()) {
        if (key == f.key) field = &f;
        keys += (keys.empty() ? "" : ", ") + f.key;
    }
    if (!field) fail(line, "a live field: " + keys);
    double v = 0;
    const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), v);
    char range[96];
    std::snprintf(range, sizeof range, "%s to be a number in [%g, %g]", field->key.c_str(), field->min, field->max);
    if (failed != std::errc() || end != text.data() + text.size() || !(v >= field->min && v <= field->max))
        fail(line, range);
    return v;
}

}  // namespace

RunControl parse_run_control(std::string_view line) {
    const std::vector<std::string_view> words = words_of(line);
    RunControl c;
    for (int i = 0; i < 6; ++i) {
        if (words.empty() || words[0] != kWords[i]) continue;
        c.what = static_cast<RunControl::Do>(i);
        if (c.what != RunControl::Do::set) {
            if (words.size() != 1) fail(line, std::string(words[0]) + " alone");
            return c;
        }
        if (words.size() != 3) fail(line, "set KEY VALUE");
        c.key = words[1], c.value = value_of(line, words[1], words[2]);
        return c;
    }
    fail(line, "pause, resume, step, stop, checkpoint or set KEY VALUE");
}

std::string run_control_line(const RunControl& c) {
    const std::string word = kWords[static_cast<int>(c.what)];
    if (c.what != RunControl::Do::set) return word;
    char value[32];
    const auto end = std::to_chars(value, value + sizeof value, c.value).ptr;  // shortest that reads back the same
    return word + " " + c.key + " " + std::string(value, end);
}

}  // namespace vitrine
