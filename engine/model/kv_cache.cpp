// One sequence's cache: rings, entry blocks, kept states, and the count of their bytes.
#include "engine/model/kv_cache.h"

#include <algorithm>
#include <cstring>

#include "engine/device/cpu/formats.h"

namespace vitrine {

RowRing::RowRing(int64_t row_bytes, int64_t needed_rows, int64_t chunk, const std::shared_ptr<cuda::Device>& gpu)
    : row_bytes_(row_bytes), capacity_(needed_rows + kRollbackSlack + chunk), needed_(needed_rows) {
    if constexpr (kHasCuda)
        if (gpu) {
            gpu_ = std::make_shared<cuda::Buffer>(gpu, bytes());
            return;
        }
    data_.resize(bytes());
}

void RowRing::own_gpu_memory() {
    if constexpr (kHasCuda)
        if (gpu_) gpu_ = gpu_->clone(gpu_->bytes());
}

void RowRing::save(int64_t length, std::byte* to) const {
    for_each_stretch(length, [&](int64_t in_ring, int64_t in_saved, size_t bytes) {
        if constexpr (kHasCuda)
            if (gpu_) return gpu_->device().copy(to + in_saved, gpu_->data() + in_ring, bytes);
        std::memcpy(to + in_saved, data_.data() + in_ring, bytes);
    });
}

void RowRing::restore(int64_t length, const std::byte* from) {
    for_each_stretch(length, [&](int64_t in_ring, int64_t in_saved, size_t bytes) {
        if constexpr (kHasCuda)
            if (gpu_) return gpu_->device().copy(gpu_->data() + in_ring, from + in_saved, bytes);
        std::memcpy(data_.data() + in_ring, from + in_saved, bytes);
    });
}

EntryStore::EntryStore(int64_t row_bytes, const std::shared_ptr<cuda::Device>& gpu) : row_bytes_(row_bytes) {
    if constexpr (kHasCuda)
        if (gpu && row_bytes > 0)
            gpu_ = std::make_shared<cuda::Buffer>(gpu, static_cast<size_t>(gpu_capacity(0) * row_bytes_));
}

int64_t EntryStore::gpu_capacity(int64_t n_entries) {
    int64_t n = 1024;
    while (n < n_entries) n *= 2;
    return n;
}

void EntryStore::reserve(int64_t n_entries) {
    reserved_ = std::max(reserved_, n_entries);
    if constexpr (kHasCuda) {
        const auto bytes = static_cast<size_t>(gpu_capacity(reserved_) * row_bytes_);
        if (gpu_ && bytes > gpu_->bytes()) gpu_ = gpu_->clone(bytes);
    }
}

void EntryStore::own_gpu_memory() {
    if constexpr (kHasCuda)
        if (gpu_) gpu_ = gpu_->clone(gpu_->bytes());
}

std::byte* EntryStore::writable_row(int64_t i) {
    const auto block = static_cast<size_t>(i / kEntriesPerBlock);
    while (blocks_.size() <= block) blocks_.push_back(std::make_shared<Block>(kEntriesPerBlock * row_bytes_));
    if (blocks_[block].use_count() > 1) blocks_[block] = std::make_shared<Block>(*blocks_[block]);
    return blocks_[block]->data() + i % kEntriesPerBlock * row_bytes_;
}

void EntryStore::drop_from(int64_t n_entries) {
    blocks_.resize(std::min<size_t>(blocks_.size(), (n_entries + kEntriesPerBlock - 1) / kEntriesPerBlock));
}

SequenceCache::SequenceCache(const ModelConfig& config, Numerics numerics, std::shared_ptr<cuda::Device> gpu, bool has_drafter)
    : gpu_(std::move(gpu)), max_chunk_(gpu_ ? kMaxGpuChunk : kMaxChunk) {
    const bool packed = numerics == Numerics::reference;
    entry_format = {packed, config.head_dim, config.rope_dim};
    index_format = {packed, config.index_head_dim};
    for (const LayerConfig& l : config.layers) {
        LayerCache c;
        c.window = RowRing(entry_format.row_bytes(), config.sliding_window - 1, max_chunk_, gpu_);
        if (l.ratio > 0) {
            const int64_t o = l.kind() == LayerKind::csa ? 2 : 1;
            c.compressor = RowRing(2 * o * config.head_dim * 4, o * l.ratio, max_chunk_, gpu_);
            c.entries = EntryStore(entry_format.row_bytes(), gpu_);
            if (l.kind() == LayerKind::csa) {
                c.index_compressor = RowRing(2 * o * config.index_head_dim * 4, o * l.ratio, max_chunk_, gpu_);
                c.index_keys = EntryStore(index_format.row_bytes(), gpu_);
            }
        }
        layers.push_back(std::move(c));
        ratios_.push_back(l.ratio);
    }
    if (!has_drafter) return;
    const int64_t value_bytes = gpu_ && packed ? 2 : 4;  // what the GPU's streams are kept in: Ctx::activation
    LayerCache d;
    d.window = RowRing(entry_format.row_bytes(), config.sliding_window - 1, max_chunk_, gpu_);
    d.streams = RowRing(int64_t{config.hc_mult} * config.hidden_size * value_bytes, config.sliding_window, max_chunk_, gpu_);
    // Rows from before what is made again are read, in rows of the batch that nobody uses: they must be numbers.
    if constexpr (kHasCuda)
        if (gpu_) gpu_->clear(d.window.on_gpu(), d.window.bytes());
    layers.push_back(std::move(d));
}

void SequenceCache::truncate(int64_t n) {
    VITRINE_ASSERT(can_truncate_to(n));
    length = n;
    ahead = 0;
    drafter_length = std::min(drafter_length, std::max<int64_t>(0, n - 1));
    for (size_t i = 0; i < ratios_.size(); ++i) {
        if (ratios_[i] == 0) continue;
        layers[i].entries.drop_from(n / ratios_[i]);
        layers[i].index_keys.drop_from(n / ratios_[i]);
    }
}

void SequenceCache::will_write_to(int64_t end) {
    VITRINE_ASSERT(end <= length + max_chunk_);
    oldest_ = std::max(oldest_, end - kRollbackSlack - max_chunk_);
    for (size_t i = 0; i < ratios_.size() && gpu_; ++i) {
        if (ratios_[i] == 0) continue;
        layers[i].entries.reserve(end / ratios_[i]);
        if (layers[i].index_keys.row_bytes() > 0) layers[i].index_keys.reserve(end / ratios_[i]);
    }
}

cuda::LayerView SequenceCache::view(size_t l) const {
    const LayerCache& c = layers[l];
    return {c.window.on_gpu(),
            c.entries.on_gpu(),
            c.index_keys.on_gpu(),
            reinterpret_cast<float*>(c.compressor.on_gpu()),
            reinterpret_cast<float*>(c.index_compressor.on_gpu()),
            c.window.capacity(),
            c.compressor.capacity(),
            c.index_compressor.capacity(),
            c.streams.on_gpu(),
            c.streams.capacity()};
}

void SequenceCache::own_gpu_memory() {
    for (LayerCache& l : layers) {
        for (RowRing* r : l.rings()) r->own_gpu_memory();
        for (EntryStore* e : {&l.entries, &l.index_keys}) e->own_gpu_memory();
    }
}

void SequenceCache::store_entry(const float* entry, std::byte* row) const {
    if (entry_format.is_packed) cpu::pack_entry(entry_format, entry, row);
    else std::memcpy(row, entry, static_cast<size_t>(entry_format.row_bytes()));
}

void SequenceCache::store_index_key(const float* key, std::byte* row) const {
    if (index_format.is_packed) cpu::pack_index_key(index_format, key, row);
    else std::memcpy(row, key, static_cast<size_t>(index_format.row_bytes()));
}

uint64_t SequenceCache::State::bytes() const {
    uint64_t n = sizeof *this + rings.size();
    if constexpr (kHasCuda)
        if (gpu_rings) n += gpu_rings->bytes();
    return n;
}

SequenceCache::State SequenceCache::save() const {
    State s{length, drafter_length, oldest_, {}, {}, {}};
    int64_t bytes = 0;
    for (const LayerCache& l : layers)
        for (const RowRing* r : l.rings()) bytes += r->saved_bytes(length);
    std::byte* to = nullptr;
    if constexpr (kHasCuda)
        if (gpu_) {
            s.gpu_rings = std::make_shared<cuda::Buffer>(gpu_, static_cast<size_t>(bytes));
            to = s.gpu_rings->data();
        }
    if (!gpu_) {
        s.rings.resize(static_cast<size_t>(bytes));
        to = s.rings.data();
    }
    for (const LayerCache& l : layers) {
        for (const RowRing* r : l.rings()) r->save(length, to), to += r->saved_bytes(length);
        if (!gpu_) s.stores.push_back({l.entries, l.index_keys});
    }
    return s;
}

void SequenceCache::restore(const State& s) {
    length = s.length;
    ahead = 0;
    drafter_length = s.drafter_length;
    oldest_ = std::max({int64_t{0}, length - kRollbackSlack, s.oldest});
    const std::byte* from = s.rings.data();
    if constexpr (kHasCuda)
        if (gpu_) from = s.gpu_rings->data();
    for (size_t i = 0; i < layers.size(); ++i) {
        for (RowRing* r : layers[i].rings()) r->restore(length, from), from += r->saved_bytes(length);
        if (gpu_) continue;
        layers[i].entries = s.stores[i][0];
        layers[i].index_keys = s.stores[i][1];
    }
}

CacheReport SequenceCache::report(const ModelConfig& config) const {
    CacheReport r;
    r.n_tokens = length;
    const bool packed = entry_format.is_packed;
    const uint64_t entry = entry_row_bytes(config.head_dim, config.rope_dim, packed);
    const uint64_t key = index_key_row_bytes(config.index_head_dim, packed);
    const auto index = [](CacheKind k) { return static_cast<int>(k); };
    const auto chunk = static_cast<uint64_t>(max_chunk_);
    const auto ring = [chunk](uint64_t rows, uint64_t row) { return (rows + kRollbackSlack + chunk) * row; };
    const auto blocks = [this](int64_t n, const EntryStore& store, uint64_t row) {
        if (gpu_) return static_cast<uint64_t>(EntryStore::gpu_capacity(store.reserved())) * row;
        return static_cast<uint64_t>((n + kEntriesPerBlock - 1) / kEntriesPerBlock * kEntriesPerBlock) * row;
    };
    for (size_t i = 0; i < ratios_.size(); ++i) {
        const LayerCache& l = layers[i];
        const LayerConfig& lc = config.layers[i];
        const bool is_csa = lc.kind() == LayerKind::csa;
        LayerCacheBytes b;
        b.n_window_rows = std::min<int64_t>(length, config.sliding_window);
        b.allocated[index(CacheKind::window)] = l.window.bytes();
        b.expected[index(CacheKind::window)] = ring(config.sliding_window - 1, entry);
        if (lc.ratio > 0) {
            b.n_entries = length / lc.ratio;
            const CacheKind kind = is_csa ? CacheKind::csa_entries : CacheKind::hca_entries;
            const int64_t n_stored = (length + ahead) / lc.ratio;
            b.allocated[index(kind)] = l.entries.bytes();
            b.expected[index(kind)] = blocks(n_stored, l.entries, entry);
            b.allocated[index(CacheKind::index_keys)] = l.index_keys.bytes();
            b.expected[index(CacheKind::index_keys)] = is_csa ? blocks(n_stored, l.index_keys, key) : 0;
            const uint64_t o = is_csa ? 2 : 1, rows = o * lc.ratio;
            b.allocated[index(CacheKind::compressor_state)] = l.compressor.bytes() + l.index_compressor.bytes();
            b.expected[index(CacheKind::compressor_state)] =
                ring(rows, 8 * o * config.head_dim) + (is_csa ? ring(rows, 8 * o * config.index_head_dim) : 0);
        }
        r.layers.push_back(b);
    }
    if (has_drafter()) r.drafter_bytes = layers.back().window.bytes() + layers.back().streams.bytes();
    return r;
}

}  // namespace vitrine
