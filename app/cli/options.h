// The command line of one subcommand: a table of options, parsed strictly, from which --help is printed.
//
// Not CLI11: its header costs more compile time per subcommand than all of them together, and the rules here are few.
#pragma once
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

namespace vitrine::cli {

// A wrong command line: the message goes to stderr and the program exits with 2.
class UsageError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

using Args = std::vector<std::string>;  // without the program's and the subcommand's name

enum class Ends { both, above_lowest, below_highest };  // of a range: whether its ends belong to it

class Options {
  public:
    // `usage`: what follows "vitrine NAME" in the usage line.
    Options(std::string name, std::string usage, std::string summary);

    // `names`: "-n, --n-predict". Values follow as the next word or after '='. Ranges are inclusive; a value outside is
    // a UsageError that says the range. Every option may be given once, lists any number of times.
    Options& flag(const std::string& names, bool* target, const std::string& help);
    // A TEXT may be empty; a DIR, FILE or NAME may not.
    Options& text(const std::string& names, const std::string& value_name, std::string* target,
                  const std::string& help);
    Options& list(const std::string& names, const std::string& value_name, std::vector<std::string>* target,
                  const std::string& help);
    Options& integer(const std::string& names, int64_t lowest, int64_t highest, int64_t* target,
                     const std::string& help);
    Options& counter(const std::string& names, uint64_t* target,
                     const std::string& help);  // any unsigned 64-bit number
    Options& number(const std::string& names, double lowest, double highest, double* target, const std::string& help,
                    Ends ends = Ends::both);
    Options& choice(const std::string& names, const std::vector<std::string>& choices, std::string* target,
                    const std::string& help);
    Options& positional(const std::string& name, std::string* target, const std::string& help, bool is_required = true);

    // False: --help or --version was printed to stdout and there is nothing to do.
    bool parse(const Args& args);
    bool was_given(const std::string& name) const;  // "--seed"
    std::string help() const;

  private:
    struct Option {
        std::vector<std::string> names;
        std::string value_name, help;
        bool has_value = true, is_list = false, was_given = false;
        std::function<void(const std::string& given_name, const std::string& value)> set;
    };
    struct Positional {
        std::string name, help;
        std::string* target;
        bool is_required, was_given = false;
    };
    Options& add(const std::string& names, const std::string& value_name, const std::string& help, bool has_value,
                 std::function<void(const std::string&, const std::string&)> set);
    Option& find(const std::string& name);
    std::string name_, usage_, summary_;
    std::vector<Option> options_;
    std::vector<Positional> positionals_;
};

std::string version_line();  // "vitrine 0.1.0 (revision)"

}  // namespace vitrine::cli
