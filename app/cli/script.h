// The script of `vitrine drive`: one verb a line.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace vitrine::cli {

struct Step {
    int line = 0;
    std::string verb, rest;  // rest: the line after the verb, trimmed
    // of "expect-value LABEL = X ± E" (or "+- E")
    std::string label;
    double value = 0, tolerance = 0;
    // of "set NAME VALUE": the name is `label`, a number also `number`
    std::string text;
    // of "token N", "layer N", "frames N" and "wait SECONDS" (-1: idle)
    double number = 0;
};

// Empty lines and lines that begin with # are left out. Error(bad_input) lists every line that can't be understood.
std::vector<Step> parse_script(std::string_view text, const std::string& file);

}  // namespace vitrine::cli
