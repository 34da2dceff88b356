// Collects every probe of a sequence and stacks it over tokens, in the shapes of tests/golden.
#pragma once
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/config/model_config.h"
#include "engine/telemetry/probes.h"
#include "engine/weights/checkpoint.h"

namespace vitrine::cli {

// Shapes: [T, ...] with one row per token, except entries (attn.compressor.hook_out, hook_weights), which have one row
// per entry, [S, ...]; hook_topk and its scores have min(index_topk, S) columns, hook_scores S. Where T tokens complete no
// entry these are there all the same, with no rows or no columns. Where tokens have rows of different length the short
// ones are filled: -1 (ids), -inf (index scores), 0 (the rest), at the end; hook_window_mass at the front, so that its
// last column is the token itself.
class DumpSink : public ProbeSink {
  public:
    void put(int token, Probe p, int layer, const float* data, int rows, int cols) override;
    void put(int token, Probe p, int layer, const int32_t* data, int rows, int cols) override;

    // The arrays point into this object: they live until the next call or its end.
    std::vector<NamedArray> arrays(int64_t n_tokens, const ModelConfig& config);

  private:
    struct Row {
        int64_t token;
        int rows, cols;
        size_t begin;  // in words
    };
    struct Column {
        std::vector<Row> rows;
        std::vector<uint32_t> words;  // bits of floats or int32
    };
    void put_words(int token, Probe p, int layer, const void* data, int rows, int cols);
    // n_cols: -1, or the number of columns whatever the rows have.
    std::vector<uint32_t> stacked(Probe p, Column& c, int64_t n_tokens, int64_t n_cols, std::vector<int64_t>& shape) const;
    std::map<std::pair<int, int>, Column> columns_;  // by (layer, probe)
    std::deque<std::vector<uint32_t>> storage_;
};

}  // namespace vitrine::cli
