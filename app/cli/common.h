// What the subcommands share: the options that choose a model, and Ctrl-C.
#pragma once
#include <memory>
#include <stop_token>
#include <string>
#include <thread>

#include "app/cli/options.h"
#include "engine/base/config/numerics.h"
#include "engine/base/config/sampling.h"

namespace vitrine {
class Communicator;
class Engine;
struct EngineOptions;
}

namespace vitrine::cli {

// Of --device: kCpu, or a GPU's number; UsageError.
int gpu_number(const std::string& device);

struct ModelArgs {
    std::string folder, numerics = "exact", device = "cpu";  // folder empty: the shipped model
    int64_t context = 0, threads = 0;
    std::string folder_or_shipped() const;
    Numerics numerics_mode() const { return numerics == "reference" ? Numerics::reference : Numerics::exact; }
    int gpu() const { return gpu_number(device); }
    EngineOptions options() const;
};
void add_model_options(Options& options, ModelArgs& m);
// Loads and logs what was loaded, its warnings and the time it took. needs_text: as EngineOptions.
std::unique_ptr<Engine> load_engine(const ModelArgs& m, bool needs_text = true);
// The same with the routed experts spread over these ranks.
std::unique_ptr<Engine> load_engine(const ModelArgs& m, Communicator& ranks, bool needs_text = true);

struct SamplingArgs {
    Sampling sampling;
    // -1: not given, the model's own (generation_config.json).
    double temperature = -1, top_p = -1, min_p = -1, repetition_penalty = -1;
    int64_t max_new_tokens = 4096, top_k = -1;
    Sampling get(const Sampling& of_model) const;
};
void add_sampling_options(Options& options, SamplingArgs& s);

Mode mode_from_name(const std::string& name);
inline const std::vector<std::string> kModeNames = {"non-think", "high", "max"};

// What the program ends with: 2 where the command line or an input is wrong, 1 for what failed otherwise.
int exit_code(const std::exception& e);

// Turns Ctrl-C into a stop request for what is running; when nothing runs, or at the second one in a row, the program
// ends with 130. Make it before any other thread: it blocks the signal for all of them.
class Interrupt {
  public:
    Interrupt();
    ~Interrupt();
    std::stop_token begin();  // a fresh token for the next piece of work
    void end();               // nothing runs any more

  private:
    struct State;
    std::shared_ptr<State> state_;
    std::jthread thread_;
};

// Bytes for people: "272.1 MB" (powers of ten, as bandwidth is given).
std::string human_bytes(double bytes);

// One entry per subcommand; each returns the program's exit code and throws UsageError or Error.
int run_window(const Args& args);
int run_chat(const Args& args);
int run_compare(const Args& args);
int run_dump(const Args& args);
int run_inspect(const Args& args);
int run_train(const Args& args);
int run_bench(const Args& args);
int run_init(const Args& args);
int run_drive(const Args& args);
int run_curriculum(const Args& args);
int run_eval(const Args& args);

}  // namespace vitrine::cli
