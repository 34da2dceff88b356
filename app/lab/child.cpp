// A child process with a pipe to its standard input.
#include "app/lab/child.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "engine/base/error.h"

namespace vitrine {
namespace {

struct FileActions {
    FileActions() { posix_spawn_file_actions_init(&a); }
    ~FileActions() { posix_spawn_file_actions_destroy(&a); }
    posix_spawn_file_actions_t a;
};
struct Attributes {
    Attributes() { posix_spawnattr_init(&a); }
    ~Attributes() { posix_spawnattr_destroy(&a); }
    posix_spawnattr_t a;
};

}  // namespace

Child::Child(const std::vector<std::string>& words, const std::string& console) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) throw Error(ErrorKind::io, std::string("pipe: ") + std::strerror(errno));
    FileActions files;
    posix_spawn_file_actions_adddup2(&files.a, ends[0], 0);
    posix_spawn_file_actions_addopen(&files.a, 1, "/dev/null", O_WRONLY,
                                     0);  // a line per step, which the folder has too
    posix_spawn_file_actions_addopen(&files.a, 2, console.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    // A group of its own: Ctrl+C in the terminal of the window reaches the window, which asks its runs to stop.
    Attributes how;
    posix_spawnattr_setflags(&how.a, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setpgroup(&how.a, 0);
    sigset_t defaults;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_setsigdefault(&how.a, &defaults);
    std::vector<char*> argv;
    for (const std::string& w : words) argv.push_back(const_cast<char*>(w.c_str()));
    argv.push_back(nullptr);
    const int code = posix_spawn(&pid_, words[0].c_str(), &files.a, &how.a, argv.data(), environ);
    close(ends[0]);
    if (code != 0) {
        close(ends[1]);
        throw Error(ErrorKind::io, escaped(words[0], 512) + ": " + std::strerror(code));
    }
    input_ = ends[1];
    fcntl(input_, F_SETFL, O_NONBLOCK);
}

Child::~Child() {
    close_input();
    is_running();
}

void Child::close_input() {
    if (input_ >= 0) close(input_);
    input_ = -1;
}

bool Child::say(const std::string& line) {
    if (input_ < 0 || !is_running()) return false;
    // Lines are shorter than PIPE_BUF: written whole or not at all. A reader that is gone raises SIGPIPE, which is held
    // back here.
    sigset_t pipe_signal, before;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    const std::string bytes = line + "\n";
    const ssize_t n = write(input_, bytes.data(), bytes.size());
    if (n < 0 && errno == EPIPE) {
        const timespec now{};
        sigtimedwait(&pipe_signal, nullptr, &now);
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return n == static_cast<ssize_t>(bytes.size());
}

bool Child::is_running() {
    if (has_ended_ || pid_ < 0) return false;
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) != pid_) return true;
    status_ = status, has_ended_ = true;
    return false;
}

void Child::kill() {
    if (is_running()) ::kill(pid_, SIGKILL);
}

void Child::wait(double seconds) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    while (is_running() && std::chrono::steady_clock::now() < until)
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
}

std::string Child::how_it_ended() const {
    if (!has_ended_) return "";
    if (WIFSIGNALED(status_)) return "killed by signal " + std::to_string(WTERMSIG(status_));
    const int code = WEXITSTATUS(status_);
    return code == 0 ? "" : "exit code " + std::to_string(code);
}

}  // namespace vitrine
