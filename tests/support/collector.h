// A probe sink that keeps everything it is given, by name as in the reference vectors.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "engine/telemetry/probes.h"

namespace vitrine::test {

class Collector : public ProbeSink {
  public:
    // Row of `name` ("blocks.3.hook_out") for a token; empty when nothing was published.
    const std::vector<double>& row(const std::string& name, int token) const {
        static const std::vector<double> none;
        const auto it = rows_.find(name);
        if (it == rows_.end()) return none;
        const auto r = it->second.find(token);
        return r == it->second.end() ? none : r->second;
    }
    bool has(const std::string& name) const { return rows_.count(name) != 0; }
    const std::map<int, std::vector<double>>& rows(const std::string& name) const { return rows_.at(name); }
    void put(int token, Probe p, int layer, const float* data, int rows, int cols) override {
        keep(token, p, layer, data, rows * cols);
    }
    void put(int token, Probe p, int layer, const int32_t* data, int rows, int cols) override {
        keep(token, p, layer, data, rows * cols);
    }
    void clear() { rows_.clear(); }

  private:
    template <class T>
    void keep(int token, Probe p, int layer, const T* data, int n) {
        const ProbeInfo& info = probe_info(p);
        const std::string name = layer < 0 ? info.name : "blocks." + std::to_string(layer) + "." + info.name;
        rows_[name][token] = std::vector<double>(data, data + n);
    }
    std::map<std::string, std::map<int, std::vector<double>>> rows_;
};

}  // namespace vitrine::test
