// What a token's record says about where attention went in one layer.
#include "viz/readings/attention.h"

#include <algorithm>
#include <cmath>

#include "viz/widgets/number.h"

namespace vitrine::viz {
namespace {

void read_shares(AttentionReading& r, const TokenRecord& record, int layer) {
    const auto mean = record.floats(kShares, layer);
    const auto by_head = record.floats(kSharesHead, layer);
    if (r.head >= 0 && r.head < by_head.rows && by_head.cols >= 3) {
        r.window = by_head(r.head, 0), r.compressed = by_head(r.head, 1), r.sink = by_head(r.head, 2);
    } else if (mean.data.size() >= 3) {
        r.has_head = r.head < 0;
        r.window = mean[0], r.compressed = mean[1], r.sink = mean[2];
    } else {
        return;
    }
    r.is_recorded = true;
}

// Mass of the i-th attended entry: of one head when asked for and recorded, else the mean.
void read_masses(AttentionReading& r, const TokenRecord& record, int layer) {
    const auto mean = record.floats(kEntryMass, layer);
    const auto by_head = record.floats(kEntryMassHead, layer);
    const bool use_head = r.head >= 0 && r.head < by_head.rows;
    if (r.head >= 0 && !use_head) r.has_head = false;
    for (size_t i = 0; i < r.entries.size(); ++i) {
        AttendedEntry& e = r.entries[i];
        const size_t column = r.kind == LayerKind::hca ? static_cast<size_t>(e.entry) : static_cast<size_t>(e.rank - 1);
        if (use_head && column < static_cast<size_t>(by_head.cols)) {
            e.mass = by_head(r.head, static_cast<int>(column)), e.has_mass = true;
        } else if (!use_head && column < mean.data.size()) {
            e.mass = mean[column], e.has_mass = true;
        }
    }
}

void read_picks(AttentionReading& r, const TokenRecord& record, int layer) {
    const auto picks = record.ints(kIndexTopk, layer);
    const auto scores = record.floats(kIndexTopkScores, layer);
    for (size_t i = 0; i < picks.data.size(); ++i) {
        if (picks[i] < 0) continue;
        AttendedEntry e{.entry = picks[i], .rank = static_cast<int>(i) + 1};
        if (i < scores.data.size()) e.score = scores[i];
        r.entries.push_back(e);
    }
    const auto cut = record.floats(kIndexCut, layer);
    if (cut.data.size() >= 2 && !r.entries.empty()) {
        r.has_cut = true;
        r.cut = cut[0];
        r.left_some_out = std::isfinite(cut[1]);
        r.highest_left_out = cut[1];
    }
    const auto all = record.floats(kIndexScores, layer);
    r.all_scores.assign(all.data.begin(), all.data.end());
}

}  // namespace

EntrySource entry_source(LayerKind kind, int ratio, int64_t entry) {
    EntrySource s;
    s.own_begin = entry * ratio, s.own_end = s.own_begin + ratio;
    s.overlapped_begin = s.overlapped_end = s.own_begin;
    if (kind == LayerKind::csa && entry > 0) s.overlapped_begin = s.own_begin - ratio;
    return s;
}

const AttendedEntry* AttentionReading::find(int64_t entry) const {
    const auto it = std::find_if(entries.begin(), entries.end(), [entry](const auto& e) { return e.entry == entry; });
    return it == entries.end() ? nullptr : &*it;
}

AttentionReading read_attention(const TokenRecord& record, const ModelInfo& model, int layer, int64_t position,
                                int head) {
    AttentionReading r;
    if (layer < 0 || layer >= model.config.n_layers()) return r;
    const LayerConfig& config = model.config.layers[layer];
    r.kind = config.kind(), r.ratio = config.ratio, r.position = position, r.head = head;
    r.n_entries = r.ratio > 0 ? (position + 1) / r.ratio : 0;
    read_shares(r, record, layer);
    const auto window = record.floats(kWindowMass, layer);
    r.window_mass.assign(window.data.begin(), window.data.end());
    r.window_begin = position + 1 - static_cast<int64_t>(r.window_mass.size());
    if (r.window_mass.empty()) r.window_begin = std::max<int64_t>(0, position + 1 - model.config.sliding_window);
    if (r.kind == LayerKind::csa) read_picks(r, record, layer);
    if (r.kind == LayerKind::hca)
        for (int64_t e = 0; e < r.n_entries; ++e) r.entries.push_back({.entry = e});
    read_masses(r, record, layer);
    return r;
}

std::vector<float> pooling_weights(const TokenRecord* completer, int layer) {
    if (!completer) return {};
    const auto w = completer->floats(kEntryWeights, layer);
    return {w.data.begin(), w.data.end()};
}

std::string token_range(int64_t begin, int64_t end) {
    if (end - begin == 1) return "token " + std::to_string(begin);
    return "tokens " + std::to_string(begin) + "-" + std::to_string(end - 1);
}

std::string entry_sentence(const AttentionReading& r, int64_t entry) {
    const EntrySource source = entry_source(r.kind, r.ratio, entry);
    std::string s = "Entry " + std::to_string(entry) + " (" + token_range(source.own_begin, source.own_end) + ")";
    const AttendedEntry* e = r.find(entry);
    const std::string mass = e && e->has_mass ? ui::format_percent(e->mass) + " of attention" : "";
    if (entry >= r.n_entries) return s + " is not visible to this token: its block ends later.";
    if (r.kind == LayerKind::hca) return s + " is always kept" + (mass.empty() ? "" : ": " + mass) + ".";
    const std::string cut = r.has_cut ? ", cut at " + ui::format_number(r.cut) : "";
    if (e) {
        s += " was chosen: score " + ui::format_number(e->score) + cut + ", rank " + std::to_string(e->rank) + " of " +
             std::to_string(r.entries.size());
        return s + (mass.empty() ? "" : ", " + mass) + ".";
    }
    s += " was left out";
    if (static_cast<size_t>(entry) < r.all_scores.size())
        return s + ": score " + ui::format_number(r.all_scores[static_cast<size_t>(entry)]) + cut + ".";
    return s + (r.left_some_out ? ": its score is at most " + ui::format_number(r.highest_left_out) + cut + "." : ".");
}

}  // namespace vitrine::viz
