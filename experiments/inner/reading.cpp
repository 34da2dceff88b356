// Reading with probes.
#include "experiments/inner/reading.h"

#include "engine/engine.h"

namespace vitrine::inner {
namespace {

class Sink : public ProbeSink {
  public:
    explicit Sink(const Reader& r) : reader_(r) {}
    void put(int token, Probe p, int layer, const float* x, int rows, int cols) override {
        if (reader_.floats) reader_.floats(token, p, layer, x, rows * cols);
    }
    void put(int token, Probe p, int layer, const int32_t* x, int rows, int cols) override {
        if (reader_.ints) reader_.ints(token, p, layer, x, rows * cols);
    }

  private:
    const Reader& reader_;
};

// The set of probes for as long as something is read.
class Watching {
  public:
    Watching(Watch& watch, ProbeSet s) : watch_(watch), before_(watch.get()) { watch_.set(s); }
    ~Watching() { watch_.set(before_); }
    Watching(const Watching&) = delete;
    Watching& operator=(const Watching&) = delete;

  private:
    Watch& watch_;
    ProbeSet before_;
};

}  // namespace

void read(Engine& engine, const std::vector<int32_t>& ids, const Reader& reader, std::stop_token stop) {
    const Watching watching(engine.watch(), reader.probes);
    Sink sink(reader);
    const auto session = engine.new_session();
    session->publish_to(&sink);
    session->append(ids, stop);
}

}  // namespace vitrine::inner
