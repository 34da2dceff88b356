// The command line of one subcommand: parsing and help.
#include "app/cli/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <utility>

#include "engine/base/error.h"
#include "engine/base/version.h"

namespace vitrine::cli {
namespace {

std::vector<std::string> split_names(const std::string& names) {
    std::vector<std::string> out;
    size_t at = 0;
    while (at < names.size()) {
        const size_t comma = std::min(names.find(", ", at), names.size());
        out.push_back(names.substr(at, comma - at));
        at = comma + 2;
    }
    return out;
}

std::string shortest(double v) {
    char b[32];
    std::snprintf(b, sizeof b, "%g", v);
    return b;
}

[[noreturn]] void bad_value(const std::string& option, const std::string& value, const std::string& expected) {
    throw UsageError(option + " " + escaped(value) + ": expected " + expected);
}

template <class T>
T parsed(const std::string& option, const std::string& value, const std::string& expected) {
    T v{};
    const auto [end, failure] = std::from_chars(value.data(), value.data() + value.size(), v);
    if (failure != std::errc() || end != value.data() + value.size()) bad_value(option, value, expected);
    return v;
}

}  // namespace

std::string version_line() {
    return std::string("vitrine ") + version() + " (" + revision() + "; GPU kernels: " + gpu_kernels() + ")";
}

Options::Options(std::string name, std::string usage, std::string summary)
    : name_(std::move(name)), usage_(std::move(usage)), summary_(std::move(summary)) {}

Options& Options::add(const std::string& names, const std::string& value_name, const std::string& help, bool has_value,
                      std::function<void(const std::string&, const std::string&)> set) {
    options_.push_back({split_names(names), value_name, help, has_value, false, false, std::move(set)});
    return *this;
}

Options& Options::flag(const std::string& names, bool* target, const std::string& help) {
    return add(names, "", help, false, [target](const std::string&, const std::string&) { *target = true; });
}

Options& Options::text(const std::string& names, const std::string& value_name, std::string* target,
                       const std::string& help) {
    const bool may_be_empty = value_name == "TEXT";
    return add(names, value_name, help, true, [=](const std::string& o, const std::string& v) {
        if (v.empty() && !may_be_empty) throw UsageError(o + " needs a value: " + value_name);
        *target = v;
    });
}

Options& Options::list(const std::string& names, const std::string& value_name, std::vector<std::string>* target,
                       const std::string& help) {
    add(names, value_name, help, true, [target](const std::string&, const std::string& v) { target->push_back(v); });
    options_.back().is_list = true;
    return *this;
}

Options& Options::integer(const std::string& names, int64_t lowest, int64_t highest, int64_t* target,
                          const std::string& help) {
    const std::string range = "an integer in [" + std::to_string(lowest) + ", " + std::to_string(highest) + "]";
    return add(names, "N", help, true, [=](const std::string& o, const std::string& v) {
        const auto n = parsed<int64_t>(o, v, range);
        if (n < lowest || n > highest) bad_value(o, v, range);
        *target = n;
    });
}

Options& Options::counter(const std::string& names, uint64_t* target, const std::string& help) {
    return add(names, "N", help, true, [target](const std::string& o, const std::string& v) {
        *target = parsed<uint64_t>(o, v, "an integer in [0, 18446744073709551615]");
    });
}

Options& Options::number(const std::string& names, double lowest, double highest, double* target, const std::string& help,
                         Ends ends) {
    const bool has_lowest = ends != Ends::above_lowest, has_highest = ends != Ends::below_highest;
    const std::string range = std::string("a number in ") + (has_lowest ? "[" : "(") + shortest(lowest) + ", " +
                              shortest(highest) + (has_highest ? "]" : ")");
    return add(names, "X", help, true, [=](const std::string& o, const std::string& v) {
        const auto n = parsed<double>(o, v, range);
        if (!std::isfinite(n) || n < lowest || n > highest || (n == lowest && !has_lowest) || (n == highest && !has_highest))
            bad_value(o, v, range);
        *target = n;
    });
}

Options& Options::choice(const std::string& names, const std::vector<std::string>& choices, std::string* target,
                         const std::string& help) {
    std::string all;
    for (const std::string& c : choices) all += (all.empty() ? "" : "|") + c;
    return add(names, all, help, true, [=](const std::string& o, const std::string& v) {
        if (std::find(choices.begin(), choices.end(), v) == choices.end()) bad_value(o, v, "one of " + all);
        *target = v;
    });
}

Options& Options::positional(const std::string& name, std::string* target, const std::string& help, bool is_required) {
    positionals_.push_back({name, help, target, is_required});
    return *this;
}

Options::Option& Options::find(const std::string& name) {
    std::vector<std::string> known = {"--help", "--version"};
    for (Option& o : options_)
        for (const std::string& n : o.names) {
            if (n == name) return o;
            known.push_back(n);
        }
    const std::string near = nearest_name(name, known);
    throw UsageError("unknown option " + escaped(name) + (near.empty() ? "" : "; did you mean " + near + "?"));
}

bool Options::parse(const Args& args) {
    bool is_words_only = false;  // after "--"
    for (size_t i = 0; i < args.size(); ++i) {
        const std::string& word = args[i];
        if (!is_words_only && word == "--") {
            is_words_only = true;
        } else if (!is_words_only && (word == "--help" || word == "-h")) {
            std::fputs(help().c_str(), stdout);
            return false;
        } else if (!is_words_only && word == "--version") {
            std::printf("%s\n", version_line().c_str());
            return false;
        } else if (!is_words_only && word.size() > 1 && word[0] == '-') {
            const size_t equals = word.starts_with("--") ? word.find('=') : std::string::npos;
            const std::string given = word.substr(0, equals);
            Option& o = find(given);
            if (o.was_given && !o.is_list) throw UsageError(given + " was given twice");
            o.was_given = true;
            if (!o.has_value && equals != std::string::npos) throw UsageError(given + " takes no value");
            std::string value;
            if (o.has_value) {
                if (equals != std::string::npos)
                    value = word.substr(equals + 1);
                else if (++i < args.size())
                    value = args[i];
                else
                    throw UsageError(given + " needs a value: " + o.value_name);
            }
            o.set(given, value);
        } else {
            const auto p =
                std::find_if(positionals_.begin(), positionals_.end(), [](const auto& x) { return !x.was_given; });
            if (p == positionals_.end()) throw UsageError("unexpected word " + escaped(word));
            if (word.empty()) throw UsageError("an empty word: expected " + p->name);
            *p->target = word;
            p->was_given = true;
        }
    }
    for (const Positional& p : positionals_)
        if (p.is_required && !p.was_given) throw UsageError("missing " + p.name + ": " + p.help);
    return true;
}

bool Options::was_given(const std::string& name) const {
    for (const Option& o : options_)
        if (std::find(o.names.begin(), o.names.end(), name) != o.names.end()) return o.was_given;
    return false;
}

std::string Options::help() const {
    std::vector<std::pair<std::string, std::string>> rows;
    for (const Positional& p : positionals_) rows.emplace_back(p.name, p.help);
    for (const Option& o : options_) {
        std::string left;
        for (const std::string& n : o.names) left += (left.empty() ? "" : ", ") + n;
        rows.emplace_back(left + (o.has_value ? " " + o.value_name : ""), o.help);
    }
    rows.emplace_back("-h, --help", "this text");
    rows.emplace_back("--version", "the version");
    size_t width = 0;
    for (const auto& [left, right] : rows)
        if (left.size() <= 30) width = std::max(width, left.size());
    std::string s = "usage: vitrine" + (name_.empty() ? "" : " " + name_) + (usage_.empty() ? "" : " " + usage_) +
                    "\n\n" + summary_ + "\n\n";
    for (const auto& [left, right] : rows) {
        s += "  " + left;
        s += left.size() > width ? "\n" + std::string(width + 4, ' ') : std::string(width + 2 - left.size(), ' ');
        s += right + "\n";
    }
    return s;
}

}  // namespace vitrine::cli
