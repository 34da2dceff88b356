// The trace: records, their file form, and the bounded store.
#include "engine/telemetry/trace.h"

#include <algorithm>
#include <cstring>

#include "engine/base/checked.h"
#include "engine/base/reader.h"

namespace vitrine {
namespace {
constexpr uint32_t kMagic = 0x52545631;  // "1VTR"
// No layer (-1) comes last, as it does in a forward pass.
uint32_t order(int layer, int probe) {
    return uint32_t{static_cast<uint16_t>(layer)} << 16 | static_cast<uint32_t>(probe);
}
}  // namespace

const TokenRecord::Entry* TokenRecord::find(Probe p, int layer) const {
    const auto it = std::lower_bound(entries_.begin(), entries_.end(), order(layer, p),
                                     [](const Entry& e, uint32_t key) { return order(e.layer, e.probe) < key; });
    return it != entries_.end() && it->probe == p && it->layer == layer ? &*it : nullptr;
}

ProbeView<float> TokenRecord::floats(Probe p, int layer) const {
    const Entry* e = find(p, layer);
    if (!e || probe_info(p).is_int) return {};
    const auto* data = reinterpret_cast<const float*>(words_.data() + e->offset);
    return {{data, size_t{e->rows} * e->cols}, static_cast<int>(e->rows), static_cast<int>(e->cols)};
}

ProbeView<int32_t> TokenRecord::ints(Probe p, int layer) const {
    const Entry* e = find(p, layer);
    if (!e || !probe_info(p).is_int) return {};
    const auto* data = reinterpret_cast<const int32_t*>(words_.data() + e->offset);
    return {{data, size_t{e->rows} * e->cols}, static_cast<int>(e->rows), static_cast<int>(e->cols)};
}

size_t TokenRecord::bytes() const { return sizeof *this + entries_.size() * sizeof(Entry) + words_.size() * 4; }

std::string TokenRecord::serialize() const {
    std::string s;
    const auto put = [&s](const void* p, size_t n) { s.append(static_cast<const char*>(p), n); };
    const uint32_t head[3] = {kMagic, static_cast<uint32_t>(entries_.size()), static_cast<uint32_t>(words_.size())};
    put(head, sizeof head);
    for (const Entry& e : entries_) {
        // The probe goes by name, so that a later catalog can still read the file.
        const std::string name = probe_info(static_cast<Probe>(e.probe)).name;
        const uint32_t fixed[5] = {static_cast<uint32_t>(name.size()), static_cast<uint32_t>(e.layer), e.rows, e.cols,
                                   e.offset};
        put(fixed, sizeof fixed);
        put(name.data(), name.size());
    }
    put(words_.data(), words_.size() * 4);
    return s;
}

std::shared_ptr<const TokenRecord> TokenRecord::parse(std::string_view blob, const std::string& file) {
    ByteReader in(file, reinterpret_cast<const std::byte*>(blob.data()), blob.size());
    const auto bad = [&](const std::string& what) {
        return Error(ErrorKind::bad_input, escaped(file, 512) + ": token record: " + what);
    };
    if (in.u32() != kMagic) throw bad("unknown format or version");
    const uint32_t n_entries = in.u32(), n_words = in.u32();
    if (n_entries > in.remaining() / 20 || n_words > in.remaining() / 4) throw bad("counts exceed the record's size");
    auto record = std::make_shared<TokenRecord>();
    for (uint32_t i = 0; i < n_entries; ++i) {
        const uint32_t name_size = in.u32();
        const uint32_t layer = in.u32(), rows = in.u32(), cols = in.u32(), offset = in.u32();
        const std::string_view name = in.bytes(name_size);
        if (Checked(offset) + Checked(rows) * Checked(cols) > Checked(n_words)) throw bad("an array leaves the record");
        if (static_cast<int32_t>(layer) < kNoLayer || static_cast<int32_t>(layer) > 4096) throw bad("layer out of range");
        for (int p = 0; p < kProbeCount; ++p)
            if (name == probe_info(static_cast<Probe>(p)).name)
                record->entries_.push_back({static_cast<uint16_t>(p), static_cast<int16_t>(layer), rows, cols, offset});
    }
    const std::string_view words = in.bytes(Checked(n_words) * 4);
    if (in.remaining() != 0) throw bad("bytes after the end");
    record->words_.resize(n_words);
    std::memcpy(record->words_.data(), words.data(), words.size());
    std::sort(record->entries_.begin(), record->entries_.end(), [](const Entry& a, const Entry& b) {
        return order(a.layer, a.probe) < order(b.layer, b.probe);
    });
    return record;
}

void RecordBuilder::begin(int n_tokens) {
    if (n_tokens != 1 || records_.size() != 1) {
        records_.clear();
        records_.resize(n_tokens);
    }
    for (TokenRecord& r : records_) r.entries_.clear(), r.words_.clear();
}

void RecordBuilder::append(int token, Probe p, int layer, const void* data, int rows, int cols) {
    TokenRecord& r = records_.at(token);
    const auto at = static_cast<uint32_t>(r.words_.size());
    r.entries_.push_back({static_cast<uint16_t>(p), static_cast<int16_t>(layer), static_cast<uint32_t>(rows),
                          static_cast<uint32_t>(cols), at});
    const auto* words = static_cast<const uint32_t*>(data);
    r.words_.insert(r.words_.end(), words, words + size_t(rows) * cols);
}

std::shared_ptr<const TokenRecord> RecordBuilder::finish(int token) {
    TokenRecord& r = records_.at(token);
    // Probes of a layer come nearly in their order, and layers do: few steps by insertion.
    auto& e = r.entries_;
    for (size_t i = 1; i < e.size(); ++i) {
        const TokenRecord::Entry moved = e[i];
        const uint32_t key = order(moved.layer, moved.probe);
        size_t to = i;
        for (; to > 0 && order(e[to - 1].layer, e[to - 1].probe) > key; --to) e[to] = e[to - 1];
        e[to] = moved;
    }
    return records_.size() == 1 ? std::make_shared<const TokenRecord>(r)
                                : std::make_shared<const TokenRecord>(std::move(r));
}

void Trace::put(uint64_t branch, int64_t position, std::shared_ptr<const TokenRecord> record) {
    const std::lock_guard lock(mutex_);
    const Key key{branch, position};
    const size_t added = record->bytes();
    auto& slot = records_[key];
    if (slot.second) by_age_.erase(slot.first), bytes_ -= slot.second->bytes();
    slot = {next_age_, std::move(record)};
    by_age_[next_age_++] = key;
    bytes_ += added;
    evict_locked();
}

void Trace::evict_locked() {
    // A record shared by two branches is counted in both: the budget errs on the safe side.
    while (bytes_ > max_bytes_ && by_age_.size() > 1) {
        const auto it = records_.find(by_age_.begin()->second);
        bytes_ -= it->second.second->bytes();
        records_.erase(it);
        by_age_.erase(by_age_.begin());
        ++n_dropped_;
    }
}

std::shared_ptr<const TokenRecord> Trace::get(uint64_t branch, int64_t position) const {
    const std::lock_guard lock(mutex_);
    const auto it = records_.find({branch, position});
    return it == records_.end() ? nullptr : it->second.second;
}

void Trace::fork(uint64_t from, uint64_t to, int64_t n_positions) {
    std::vector<std::pair<int64_t, std::shared_ptr<const TokenRecord>>> shared;
    {
        const std::lock_guard lock(mutex_);
        for (auto it = records_.lower_bound({from, 0}); it != records_.end() && it->first.first == from; ++it)
            if (it->first.second < n_positions) shared.emplace_back(it->first.second, it->second.second);
    }
    for (auto& [position, record] : shared) put(to, position, std::move(record));
}

void Trace::cut(uint64_t branch, int64_t n_positions) {
    const std::lock_guard lock(mutex_);
    for (auto it = records_.lower_bound({branch, n_positions}); it != records_.end() && it->first.first == branch;) {
        by_age_.erase(it->second.first);
        bytes_ -= it->second.second->bytes();
        it = records_.erase(it);
    }
}

size_t Trace::bytes() const {
    const std::lock_guard lock(mutex_);
    return bytes_;
}
int64_t Trace::n_dropped() const {
    const std::lock_guard lock(mutex_);
    return n_dropped_;
}

}  // namespace vitrine
