// Ranks by MPI, through the module that is linked with it.
#include <dlfcn.h>

#include <filesystem>

#include "engine/base/error.h"
#include "engine/comm/communicator.h"
#include "engine/comm/mpi_calls.h"

namespace vitrine {
namespace {

class MpiRanks : public Communicator {
  public:
    explicit MpiRanks(const MpiCalls& calls) : calls_(calls) {}
    ~MpiRanks() override { calls_.finish(); }
    int rank() const override { return calls_.rank; }
    int size() const override { return calls_.size; }
    int rank_on_host() const override { return calls_.rank_on_host; }
    int size_on_host() const override { return calls_.size_on_host; }
    void broadcast(std::span<std::byte> bytes, int from) override { calls_.broadcast(bytes.data(), bytes.size(), from); }
    void barrier() override { calls_.barrier(); }
    void send(std::span<const std::byte> bytes, int to) override { calls_.send(bytes.data(), bytes.size(), to); }
    void receive(std::span<std::byte> bytes, int from) override { calls_.receive(bytes.data(), bytes.size(), from); }
    void end_all(int code) override {
        calls_.end_all(code);
        throw Error(ErrorKind::internal, "MPI was asked to end this process and returned");
    }

  protected:
    void exchange(const std::byte* from, std::byte* to, size_t n) override { calls_.exchange(from, to, n); }
    void gather(const std::byte* from, std::byte* to, size_t n) override { calls_.gather(from, to, n); }

  private:
    const MpiCalls& calls_;
};

}  // namespace

bool has_mpi() {
    return VITRINE_MPI_MODULE[0] != '\0';
}

std::unique_ptr<Communicator> mpi_ranks() {
    if (!has_mpi())
        throw Error(ErrorKind::bad_input, "this build has no MPI: install libopenmpi-dev and configure again (VITRINE_MPI)");
    // By its name: where an archive's libraries lie. By its path: in the folder that it was built in. Open MPI's own modules
    // look for its symbols among the global ones.
    const std::string built = VITRINE_MPI_MODULE, name = std::filesystem::path(built).filename().string();
    void* module = nullptr;
    std::string why;
    for (const std::string& file : {built, name}) {
        module = dlopen(file.c_str(), RTLD_NOW | RTLD_GLOBAL);
        if (module) break;
        const char* said = dlerror();
        why += std::string(why.empty() ? "" : "; ") + (said ? said : file.c_str());
    }
    if (!module) throw Error(ErrorKind::bad_input, "MPI can't be opened: " + why);
    const auto start = reinterpret_cast<StartMpi>(dlsym(module, kStartMpi));
    if (!start) throw Error(ErrorKind::bad_input, name + " is not of this build: it has no " + kStartMpi);
    const MpiCalls* calls = start();
    if (!calls) throw Error(ErrorKind::internal, "MPI was started before");
    return std::make_unique<MpiRanks>(*calls);
}

}  // namespace vitrine
