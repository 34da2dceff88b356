// vitrine: the window, or one of the subcommands below.
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <new>
#include <string>
#include <vector>

#include "app/cli/common.h"
#include "engine/base/error.h"
#include "engine/base/reader.h"

namespace {
using namespace vitrine;

struct Subcommand {
    const char* name;
    int (*run)(const cli::Args&);
    const char* summary;
};

// In the order of --help. The window is what runs without a name.
constexpr Subcommand kSubcommands[] = {
    {"window", cli::run_window, "the window (also without a subcommand)"},
    {"chat", cli::run_chat, "answer a prompt, or talk in the terminal"},
    {"compare", cli::run_compare, "one question in the three modes, side by side"},
    {"dump", cli::run_dump, "write logits and internals of a sequence to a file"},
    {"inspect", cli::run_inspect, "what is in a checkpoint folder"},
    {"train", cli::run_train, "train a model, or run the lab's experiments"},
    {"eval", cli::run_eval, "a model's scorecard on held-out exercises and chat"},
    {"curriculum", cli::run_curriculum, "samples of the generated data, and its tokenizer"},
    {"bench", cli::run_bench, "speed of decoding, prefill, reading and watching"},
    {"init", cli::run_init, "write a checkpoint with random weights"},
    {"drive", cli::run_drive, "run the program from a script"},
};

int print_help() {
    std::printf("%s\n\nusage: vitrine [SUBCOMMAND] [OPTIONS]\n\n", cli::version_line().c_str());
    for (const Subcommand& s : kSubcommands) std::printf("  %-10s %s\n", s.name, s.summary);
    std::printf(
        "\nvitrine SUBCOMMAND --help tells the options. vitrine [DIR] opens the window with a model.\n"
        "mpirun -n N vitrine chat|dump|bench|eval spreads a model's experts over N processes, vitrine train its "
        "batches.\n");
    return 0;
}

int run(std::vector<std::string> args) {
    const std::string first = args.empty() ? "" : args[0];
    if (first == "--help" || first == "-h" || first == "help") return print_help();
    if (first == "--version") return std::printf("%s\n", cli::version_line().c_str()), 0;
    for (const Subcommand& s : kSubcommands)
        if (first == s.name) return s.run({args.begin() + 1, args.end()});
    // A folder or an option is for the window; any other word is a subcommand that does not exist.
    std::error_code failed;
    if (!first.empty() && first[0] != '-' && first.find('/') == std::string::npos &&
        !std::filesystem::exists(first, failed)) {
        std::vector<std::string> names;
        for (const Subcommand& s : kSubcommands) names.emplace_back(s.name);
        const std::string near = nearest_name(first, names);
        throw cli::UsageError("unknown subcommand " + escaped(first) +
                              (near.empty() ? "" : "; did you mean " + near + "?"));
    }
    return cli::run_window(args);
}

}  // namespace

int main(int argc, char** argv) {
    // The one catch block of the command line. 0: done, 1: failed, 2: wrong command line or input.
    try {
        install_mapping_guard();
        const int code = run({argv + 1, argv + argc});
        errno = 0;  // what an earlier write met is in ferror alone
        if (std::fflush(stdout) != 0 || std::ferror(stdout))
            throw Error(ErrorKind::io, std::string("stdout can't be written") +
                                           (errno ? std::string(": ") + std::strerror(errno) : ""));
        return code;
    } catch (const cli::UsageError& e) {
        std::fprintf(stderr, "vitrine: %s\nTry 'vitrine --help' or 'vitrine SUBCOMMAND --help'.\n", e.what());
        return 2;
    } catch (const std::bad_alloc&) {
        std::fprintf(stderr, "vitrine: out of memory\n");
    } catch (const std::exception& e) {
        std::fprintf(stderr, "vitrine: %s\n", e.what());
        return cli::exit_code(e);
    }
    return 1;
}
