// Runs the built program as a user would: arguments in; stdout, stderr and exit code out.
#pragma once
#include <string>
#include <vector>

namespace vitrine::test {

struct Run {
    int code = -1;  // 128 + signal when it was killed
    std::string out, err;
};

// Without a display, with HOME and the XDG folders in `home`. `input` goes to stdin.
Run run_program(const std::vector<std::string>& args, const std::string& home, const std::string& input = "");

// The same by mpirun, in n processes; `input` goes to rank 0. Only in tests that are built where MPI is.
Run run_ranks(int n, const std::vector<std::string>& args, const std::string& home, const std::string& input = "");

}  // namespace vitrine::test
