// A child process with a pipe to its standard input; what it complains of goes to a file. Never blocks its owner.
#pragma once
#include <sys/types.h>

#include <string>
#include <vector>

namespace vitrine {

class Child {
  public:
    // Runs words[0] (a path) with the rest as arguments; stderr is appended to `console`, stdout is thrown away.
    // Error(io).
    Child(const std::vector<std::string>& words, const std::string& console);
    // Closes the pipe, which asks it to stop. Does not wait: see wait().
    ~Child();
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    // One line to its input. False: it no longer listens, or its pipe is full.
    bool say(const std::string& line);
    bool is_running();  // reaps it when it has ended
    void close_input();
    void kill();                       // SIGKILL
    void wait(double seconds);         // until it has ended or the time is up
    std::string how_it_ended() const;  // "" while it runs and after exit code 0; "exit code 2", "killed by signal 9"

  private:
    pid_t pid_ = -1;
    int input_ = -1;
    int status_ = 0;
    bool has_ended_ = false;
};

}  // namespace vitrine
