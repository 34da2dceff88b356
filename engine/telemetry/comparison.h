// One question answered in the three modes: what each wrote and spent, and by phase, which experts it took and what its
// cache held. Plain data for the window, `vitrine compare` and tests alike.
#pragma once
#include <array>
#include <limits>
#include <string>
#include <vector>

#include "engine/telemetry/cache_report.h"
#include "engine/telemetry/chat.h"

namespace vitrine {

inline constexpr int kModes = 3;           // by static_cast<int>(Mode)
inline constexpr int kComparedPhases = 3;  // Phase::prompt, thinking, answer: a tool call belongs to the answer

// One phase of one mode's timeline.
struct PhaseMeasure {
    static constexpr int kMaxKept = 4096;
    int n_tokens = 0;   // in the timeline; the last one that was drawn is never read
    double ms = 0;      // reading (prompt) or writing them
    CacheReport cache;  // of everything read when the phase ended; no layers: nothing was read yet
    std::array<uint64_t, kCacheKinds>
        filled{};                  // bytes of it that hold something (filled_bytes); the allocator takes blocks
    int n_counted = 0;             // tokens whose choices are known
    std::vector<int64_t> loads;    // [L][E]: how often each expert was chosen
    std::vector<int16_t> choices;  // [n][L][K]: of the first kMaxKept of them, -1: none; what chance is worked out from
    uint64_t n_filled() const;     // sum of `filled`
    int64_t n_entries() const;     // compressed entries, over layers
};

struct ModeAnswer {
    enum class State : uint8_t { waiting, running, done, failed } state = State::waiting;
    std::string reasoning, content;
    std::string problem;  // failed: why
    TurnStats stats;
    std::array<PhaseMeasure, kComparedPhases> phases;
    const PhaseMeasure& at(Phase p) const { return phases[static_cast<size_t>(p)]; }
    int n_written() const { return stats.n_thinking + stats.n_answer; }  // the end token does not count
    double total_ms() const { return stats.prefill_ms + stats.decode_ms; }
};

struct PhaseRef {
    Mode mode;
    Phase phase;
};
struct PhasePair {
    PhaseRef a, b;
};
// What is compared: the phases of each mode in turn, then the same phase in two modes.
inline constexpr PhasePair kPhasePairs[] = {
    {{Mode::non_think, Phase::prompt}, {Mode::non_think, Phase::answer}},
    {{Mode::high, Phase::prompt}, {Mode::high, Phase::thinking}},
    {{Mode::high, Phase::thinking}, {Mode::high, Phase::answer}},
    {{Mode::max, Phase::prompt}, {Mode::max, Phase::thinking}},
    {{Mode::max, Phase::thinking}, {Mode::max, Phase::answer}},
    {{Mode::high, Phase::thinking}, {Mode::max, Phase::thinking}},
    {{Mode::non_think, Phase::answer}, {Mode::high, Phase::answer}},
    {{Mode::non_think, Phase::answer}, {Mode::max, Phase::answer}},
    {{Mode::high, Phase::answer}, {Mode::max, Phase::answer}},
};
inline constexpr int kPhasePairCount = static_cast<int>(std::size(kPhasePairs));
std::string pair_name(const PhasePair& p);  // "Think High: prompt, thinking"; "thinking: Think High, Think Max"

// How far two phases' expert loads are apart: total variation, half the sum of |share - share'|. 0: the same loads; 1:
// no expert in common. Few tokens differ by chance alone, so: the same after the tokens of both were dealt anew
// kShuffles times.
struct LoadDistance {
    double distance = std::numeric_limits<double>::quiet_NaN();  // NaN: a phase without tokens
    double chance =
        std::numeric_limits<double>::quiet_NaN();  // mean over the shuffles; NaN too: a phase beyond kMaxKept
    double chance_95 = std::numeric_limits<double>::quiet_NaN();  // 95 of 100 shuffles lie at or below
    bool is_known() const { return distance == distance; }
    bool has_chance() const { return chance_95 == chance_95; }
    bool exceeds_chance() const { return distance > chance_95; }
    bool is_within_chance() const { return distance <= chance_95; }
};
inline constexpr int kShuffles = 100;

struct Comparison {
    std::string question;
    int n_earlier_turns = 0;  // of the conversation, which every mode reads first
    Sampling sampling;
    int n_layers = 0, n_experts = 0, n_chosen = 0;
    std::array<ModeAnswer, kModes> modes;
    std::vector<LoadDistance> distances;  // [pair][L]
    const ModeAnswer& at(Mode m) const { return modes[static_cast<size_t>(m)]; }
    const PhaseMeasure& at(PhaseRef r) const { return at(r.mode).at(r.phase); }
    const LoadDistance& distance(int pair, int layer) const {
        return distances[static_cast<size_t>(pair) * n_layers + layer];
    }
    double mean_distance(int pair) const;  // over layers; NaN: not known
    bool is_finished() const;              // no mode waits or runs
};

// Counts of one layer, [E]; empty when nothing was counted.
std::vector<int64_t> layer_loads(const PhaseMeasure& m, int layer, int n_experts);
double total_variation(const std::vector<int64_t>& a, const std::vector<int64_t>& b);  // NaN when one sums to 0
// Fills `distances` from what is counted.
void measure_distances(Comparison& c);

}  // namespace vitrine
