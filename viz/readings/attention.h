// What a token's record says about where attention went in one layer, and which tokens made an entry.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/telemetry/model_info.h"
#include "engine/telemetry/trace.h"

namespace vitrine::viz {

// Token positions [begin, end) that an entry was pooled from. CSA: `overlapped` is the block before (empty for entry
// 0).
struct EntrySource {
    int64_t own_begin = 0, own_end = 0, overlapped_begin = 0, overlapped_end = 0;
    int64_t completed_at() const { return own_end - 1; }  // the token whose record holds the pooling weights
};
EntrySource entry_source(LayerKind kind, int ratio, int64_t entry);

struct AttendedEntry {
    int64_t entry = -1;
    int rank = 0;     // CSA: 1 = best index score; HCA: 0
    float score = 0;  // CSA: index score
    float mass = 0;   // share of attention, mean over heads or of one head
    bool has_mass = false;
};

struct AttentionReading {
    bool is_recorded = false;
    LayerKind kind = LayerKind::sliding;
    int ratio = 0;
    int64_t position = 0, n_entries = 0;         // entries visible to this token: floor((t+1)/ratio)
    int head = -1;                               // -1: mean over heads
    bool has_head = true;                        // false: this head was asked for and is not recorded
    float window = 0, compressed = 0, sink = 0;  // shares; they sum to 1
    std::vector<AttendedEntry> entries;          // CSA: chosen, best first; HCA: all, by entry
    int64_t window_begin = 0;                    // first position of window_mass
    std::vector<float> window_mass;              // mean over heads; empty: not recorded
    // CSA only.
    bool has_cut = false, left_some_out = false;
    float cut = 0;                                   // lowest chosen index score
    float highest_left_out = 0;                      // meaningful when left_some_out
    std::vector<float> all_scores;                   // by entry; empty: not recorded
    const AttendedEntry* find(int64_t entry) const;  // nullptr: not attended to
};

AttentionReading read_attention(const TokenRecord& record, const ModelInfo& model, int layer, int64_t position,
                                int head);

// Pooling weights of an entry from the record of the token that completed it; empty: not recorded. CSA: overlapped
// slots, then own; HCA: own.
std::vector<float> pooling_weights(const TokenRecord* completer, int layer);

// "Entry 17 (tokens 68-71) was chosen: score 3.21, cut at 2.98, rank 2 of 32, 4.1 % of attention."
std::string entry_sentence(const AttentionReading& r, int64_t entry);
std::string token_range(int64_t begin, int64_t end);  // "token 4", "tokens 68-71"

}  // namespace vitrine::viz
