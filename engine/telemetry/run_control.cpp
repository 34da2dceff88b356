// The lines that steer a training run.
#include "engine/telemetry/run_control.h"

#include <algorithm>
#include <vector>

#include "engine/base/config/training_config.h"
#include "engine/base/error.h"

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

Json value_of(std::string_view line, const std::string& key, const std::string& text) {
    TrainConfig any;
    ConfigFields all = fields(any);
    const ConfigField* field = all.find(key);
    if (!field || !field->is_live) {
        std::string keys;
        for (const ConfigField& f : all.all())
            if (f.is_live) keys += std::string(keys.empty() ? "" : ", ") + f.name;
        fail(line, "a live field: " + keys);
    }
    try {
        all.set(key + "=" + text);
    } catch (const Error&) {
        fail(line, key + " to be " + field->expected().substr(std::string_view("expected ").size()));
    }
    return field->get();
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
        c.key = words[1], c.text = words[2], c.value = value_of(line, c.key, c.text);
        return c;
    }
    fail(line, "pause, resume, step, stop, checkpoint or set KEY VALUE");
}

std::string run_control_line(const RunControl& c) {
    const std::string word = kWords[static_cast<int>(c.what)];
    return c.what == RunControl::Do::set ? word + " " + c.key + " " + c.text : word;
}

}  // namespace vitrine
