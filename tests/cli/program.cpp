// Runs the built program.
#include "tests/cli/program.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <stdexcept>

namespace vitrine::test {
namespace {

std::array<int, 2> make_pipe() {
    std::array<int, 2> p;
    if (pipe2(p.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe");
    return p;
}

Run run_words(std::vector<std::string> words, std::vector<std::string> environment, const std::string& input) {
    const auto in = make_pipe(), out = make_pipe(), err = make_pipe();
    std::vector<char*> argv;
    for (std::string& w : words) argv.push_back(w.data());
    argv.push_back(nullptr);
    std::vector<char*> envp;
    for (std::string& e : environment) envp.push_back(e.data());
    envp.push_back(nullptr);
    const pid_t child = fork();
    if (child < 0) throw std::runtime_error("fork");
    if (child == 0) {
        dup2(in[0], 0), dup2(out[1], 1), dup2(err[1], 2);
        execve(argv[0], argv.data(), envp.data());
        _exit(127);
    }
    close(in[0]), close(out[1]), close(err[1]);
    Run r;
    // Inputs here are smaller than a pipe's buffer, so this does not wait for the program to read.
    if (write(in[1], input.data(), input.size()) != static_cast<ssize_t>(input.size()))
        throw std::runtime_error("write");
    close(in[1]);
    pollfd files[2] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
    for (int n_open = 2; n_open > 0;) {
        poll(files, 2, -1);
        for (int i = 0; i < 2; ++i) {
            if (files[i].fd < 0 || !files[i].revents) continue;
            char buffer[65536];
            const ssize_t n = read(files[i].fd, buffer, sizeof buffer);
            if (n > 0) {
                (i ? r.err : r.out).append(buffer, n);
            } else {
                files[i].fd = -1;
                --n_open;
            }
        }
    }
    close(out[0]), close(err[0]);
    int status = 0;
    waitpid(child, &status, 0);
    r.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return r;
}

// Nothing but what is listed here reaches the program.
std::vector<std::string> environment_in(const std::string& home) {
    return {"HOME=" + home, "PATH=/usr/bin:/bin", "LANG=C.UTF-8"};
}

}  // namespace

Run run_program(const std::vector<std::string>& args, const std::string& home, const std::string& input) {
    std::vector<std::string> words = {VITRINE_PROGRAM};
    words.insert(words.end(), args.begin(), args.end());
    return run_words(words, environment_in(home), input);
}

#ifdef VITRINE_MPIEXEC
// Containers run tests as root, lend fewer cores than there are ranks, and forbid reading another process's memory: Open MPI
// refuses the first two and trips over the third unless told. For version 4 (OMPI) and 5 (PRTE).
Run run_ranks(int n, const std::vector<std::string>& args, const std::string& home, const std::string& input) {
    std::vector<std::string> words = {VITRINE_MPIEXEC, "-n", std::to_string(n), VITRINE_PROGRAM};
    words.insert(words.end(), args.begin(), args.end());
    std::vector<std::string> environment = environment_in(home);
    for (const char* allowed : {"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "PRTE_ALLOW_RUN_AS_ROOT=1",
                                "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1", "OMPI_MCA_rmaps_base_oversubscribe=1",
                                "PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe",
                                "OMPI_MCA_hwloc_base_binding_policy=none", "OMPI_MCA_btl_vader_single_copy_mechanism=none"})
        environment.emplace_back(allowed);
    return run_words(words, environment, input);
}
#endif

}  // namespace vitrine::test
