// The script of `vitrine drive`.
#include "app/cli/script.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "engine/base/error.h"

namespace vitrine::cli {
namespace {

const std::vector<std::string> kVerbs = {"type", "key",  "click",  "hover",        "token", "layer", "view",
                                         "open", "wait", "expect", "expect-value", "set",   "shot",  "frames", "pace",
                                         "menu", "labels"};

const std::vector<std::string> kSettings = {"mode",  "temperature",        "top-k", "top-p",
                                            "min-p", "repetition-penalty", "seed",  "max-new-tokens"};

std::string trimmed(std::string_view s) {
    while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
    while (!s.empty() && (s.back() == ' ' || s.back() == '\t' || s.back() == '\r')) s.remove_suffix(1);
    return std::string(s);
}

bool parse_number(std::string_view s, double& v) {
    const auto [end, failure] = std::from_chars(s.data(), s.data() + s.size(), v);
    return failure == std::errc() && end == s.data() + s.size() && std::isfinite(v);
}

// "LABEL = X ± E"; the label may hold " = " itself.
bool parse_expected_value(Step& s) {
    const size_t equals = s.rest.rfind(" = ");
    if (equals == std::string::npos) return false;
    std::string right = s.rest.substr(equals + 3);
    size_t mark = right.find("±"), width = std::string_view("±").size();
    if (mark == std::string::npos) mark = right.find("+-"), width = 2;
    if (mark == std::string::npos) return false;
    s.label = trimmed(std::string_view(s.rest).substr(0, equals));
    return !s.label.empty() && parse_number(trimmed(std::string_view(right).substr(0, mark)), s.value) &&
           parse_number(trimmed(std::string_view(right).substr(mark + width)), s.tolerance) && s.tolerance >= 0;
}

// "" or what was expected.
std::string check(Step& s) {
    if (s.verb == "expect-value") return parse_expected_value(s) ? "" : "expected LABEL = X ± E";
    if (s.verb == "wait") {
        if (s.rest == "idle") return s.number = -1, "";
        return parse_number(s.rest, s.number) && s.number >= 0 && s.number <= 3600
                   ? ""
                   : "expected idle or seconds in [0, 3600]";
    }
    if (s.verb == "pace") return s.rest == "real" || s.rest == "fast" ? "" : "expected real or fast";
    if (s.verb == "token" || s.verb == "layer" || s.verb == "frames") {
        const bool is_whole =
            parse_number(s.rest, s.number) && s.number >= 0 && s.number < 1e9 && s.number == std::floor(s.number);
        return is_whole ? "" : "expected a whole number from 0";
    }
    if (s.verb == "set") {
        const size_t gap = s.rest.find(' ');
        s.label = s.rest.substr(0, gap);
        s.text = gap == std::string::npos ? "" : trimmed(std::string_view(s.rest).substr(gap));
        if (s.text.empty()) return "expected NAME VALUE";
        if (s.label == "mode")
            return s.text == "non-think" || s.text == "high" || s.text == "max" ? ""
                                                                                : "expected non-think, high or max";
        if (std::find(kSettings.begin(), kSettings.end(), s.label) == kSettings.end()) {
            const std::string near = nearest_name(s.label, kSettings);
            return "no such setting" + (near.empty() ? "" : "; did you mean " + near + "?");
        }
        return parse_number(s.text, s.number) ? "" : "expected a number";
    }
    return s.rest.empty() && s.verb != "labels" ? "expected something after the verb" : "";
}

}  // namespace

std::vector<Step> parse_script(std::string_view text, const std::string& file) {
    std::vector<Step> steps;
    std::vector<Issue> issues;
    int line = 0;
    while (!text.empty()) {
        const size_t end = std::min(text.find('\n'), text.size());
        const std::string one = trimmed(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
        ++line;
        if (one.empty() || one[0] == '#') continue;
        Step s;
        s.line = line;
        s.verb = one.substr(0, one.find_first_of(" \t"));
        s.rest = trimmed(std::string_view(one).substr(s.verb.size()));
        std::string expected;
        if (std::find(kVerbs.begin(), kVerbs.end(), s.verb) == kVerbs.end()) {
            const std::string near = nearest_name(s.verb, kVerbs);
            expected = "no such verb" + (near.empty() ? "" : "; did you mean " + near + "?");
        } else {
            expected = check(s);
        }
        if (!expected.empty()) issues.push_back({file, s.verb, s.rest, expected, "line " + std::to_string(line)});
        steps.push_back(std::move(s));
    }
    throw_if_any(issues);
    return steps;
}

}  // namespace vitrine::cli
