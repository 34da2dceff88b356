// Knobs, and how verdicts write numbers.
#include "experiments/experiment.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "engine/base/error.h"
#include "engine/telemetry/model_info.h"

namespace vitrine::lab {
namespace {

bool parse_number(const std::string& text, double& value) {
    char* end = nullptr;
    value = std::strtod(text.c_str(), &end);
    return !text.empty() && end == text.c_str() + text.size() && std::isfinite(value);
}

std::string joined(const std::vector<std::string>& words) {
    std::string s;
    for (const std::string& w : words) s += (s.empty() ? "" : ", ") + w;
    return s;
}

// What is wrong with a value, "" when nothing is.
std::string expected(const LabKnob& knob, const std::string& value) {
    if (!knob.choices.empty())
        return std::find(knob.choices.begin(), knob.choices.end(), value) == knob.choices.end()
                   ? "expected one of " + joined(knob.choices)
                   : "";
    if (knob.min == knob.max) return "";
    double number = 0;
    if (parse_number(value, number) && number >= knob.min && number <= knob.max) return "";
    char text[96];
    std::snprintf(text, sizeof text, "expected a number in [%g, %g]", knob.min, knob.max);
    return text;
}

}  // namespace

Knobs::Knobs(const LabInfo& info, const std::map<std::string, std::string>& given) {
    std::vector<Issue> issues;
    std::vector<std::string> names;
    for (const LabKnob& knob : info.knobs) names.push_back(knob.key), values_[knob.key] = knob.value;
    for (const auto& [key, value] : given) {
        const auto knob =
            std::find_if(info.knobs.begin(), info.knobs.end(), [&](const auto& k) { return k.key == key; });
        if (knob == info.knobs.end()) {
            const std::string near = nearest_name(key, names);
            issues.push_back({info.name, key, value,
                              (names.empty() ? "no knob" : "expected one of the knobs " + joined(names)) +
                                  (near.empty() ? "" : "; did you mean " + near + "?"),
                              ""});
            continue;
        }
        if (const std::string wish = expected(*knob, value); !wish.empty())
            issues.push_back({info.name, key, value, wish, ""});
        values_[key] = value;
        double now = 0, preset = 0;
        const bool are_numbers = knob->choices.empty() && parse_number(value, now) && parse_number(knob->value, preset);
        if (are_numbers ? now != preset : value != knob->value) changed_[key] = value;
    }
    throw_if_any(issues);
}

std::string Knobs::changed(std::initializer_list<std::string_view> but) const {
    std::vector<std::string> words;
    for (const auto& [key, value] : changed_)
        if (key != "size" && std::find(but.begin(), but.end(), key) == but.end()) words.push_back(key + " " + escaped(value));
    return joined(words);
}

const std::string& Knobs::text(const std::string& key) const {
    const auto found = values_.find(key);
    VITRINE_ASSERT(found != values_.end());
    return found->second;
}

double Knobs::number(const std::string& key) const {
    double value = 0;
    VITRINE_ASSERT(parse_number(text(key), value));
    return value;
}

int64_t Knobs::integer(const std::string& key) const {
    return std::llround(number(key));
}

std::string fixed(double value, int digits) {
    char text[64];
    std::snprintf(text, sizeof text, "%.*f", digits, value);
    return text;
}

std::string significant(double value, int digits) {
    if (value == 0) return "0";
    if (!std::isfinite(value)) return value > 0 ? "inf" : std::isnan(value) ? "nan" : "-inf";
    const int magnitude = static_cast<int>(std::floor(std::log10(std::abs(value))));
    if (magnitude < -4 || magnitude > 6) {
        char text[64];
        std::snprintf(text, sizeof text, "%.*e", digits - 1, value);
        return text;
    }
    const double unit = std::pow(10.0, magnitude - digits + 1);
    return fixed(std::round(value / unit) * unit, std::max(0, digits - 1 - magnitude));
}

std::string shortest(double value) {
    char text[64];
    std::snprintf(text, sizeof text, "%g", value);
    return text;
}

std::string percent(double share, int digits) {
    return fixed(100 * share, digits) + " %";
}

bool is_within_factor(double measured, double claimed, double factor) {
    return measured * claimed > 0 && std::abs(std::log(measured / claimed)) <= std::log(factor);
}

LabKnob number_knob(std::string key, std::string label, std::string value, double min, double max, std::string help,
                    bool is_logarithmic) {
    return {std::move(key), std::move(label), std::move(help), std::move(value), {}, min, max, is_logarithmic};
}

LabKnob choice_knob(std::string key, std::string label, std::vector<std::string> choices, std::string help) {
    const std::string first = choices.at(0);
    return {std::move(key), std::move(label), std::move(help), first, std::move(choices), 0, 0, false};
}

LabKnob text_knob(std::string key, std::string label, std::string value, std::string help, std::string when_empty) {
    return {std::move(key), std::move(label),     std::move(help), std::move(value), {}, 0, 0,
            false,          std::move(when_empty)};
}

LabKnob model_knob() {
    return text_knob("model", "Model", "", "folder of a checkpoint with a tokenizer; empty: the model that ships",
                     "the shipped one");
}

std::string model_folder(const Knobs& knobs, const Bench& bench) {
    const std::string& given = knobs.text("model");
    return given.empty() ? bench.shipped_model : given;
}

std::string model_words(const ModelInfo& i) {
    return " Model: " + i.name + ", " + fixed(static_cast<double>(i.n_params) / 1e6, 1) + " M parameters, " +
           fixed(static_cast<double>(i.weight_bytes) / 1e6, 1) + " MB.";
}

}  // namespace vitrine::lab
