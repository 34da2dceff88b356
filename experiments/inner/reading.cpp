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

// Probes for as long as something is read.
class Watching {
  public:
    Watching(Engine& engine, Session& session, const Reader& reader)
        : watch_(engine.watch()), session_(session), before_(watch_.get()), sink_(reader) {
        watch_.set(reader.probes);
        session_.publish_to(&sink_);
    }
    ~Watching() {
        session_.publish_to(nullptr);
        watch_.set(before_);
    }
    Watching(const Watching&) = delete;
    Watching& operator=(const Watching&) = delete;

  private:
    Watch& watch_;
    Session& session_;
    ProbeSet before_;
    Sink sink_;
};

}  // namespace

void read_on(Engine& engine, Session& session, std::span<const int32_t> ids, const Reader& reader,
             std::stop_token stop) {
    const Watching watching(engine, session, reader);
    session.append(ids, stop);
}

void read(Engine& engine, const std::vector<int32_t>& ids, const Reader& reader, std::stop_token stop) {
    const auto session = engine.new_session();
    read_on(engine, *session, ids, reader, stop);
}

}  // namespace vitrine::inner
