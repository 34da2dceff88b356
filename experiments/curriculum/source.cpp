// Batches of packed conversations. A batch is a function of (seed, step); sequences are made in parallel.
#include "experiments/curriculum/source.h"

#include <algorithm>
#include <mutex>
#include <thread>

#include "engine/base/reader.h"
#include "engine/train/data/data.h"
#include "experiments/curriculum/mixture.h"

namespace vitrine::curriculum {
namespace {

// Mixtures hold a memory of words, so each thread borrows one.
class MixturePool {
  public:
    explicit MixturePool(Mixture first) : pattern_(std::move(first)) {}
    Mixture take() {
        const std::lock_guard lock(mutex_);
        if (free_.empty()) return pattern_;
        Mixture m = std::move(free_.back());
        free_.pop_back();
        return m;
    }
    void give(Mixture m) {
        const std::lock_guard lock(mutex_);
        free_.push_back(std::move(m));
    }

  private:
    std::mutex mutex_;
    Mixture pattern_;
    std::vector<Mixture> free_;
};

class CurriculumSource : public DataSource {
  public:
    CurriculumSource(const TrainConfig& c, const ModelConfig& model, std::shared_ptr<const text::Tokenizer> tokenizer)
        : seed_(static_cast<uint64_t>(c.seed)),
          n_sequences_(static_cast<size_t>(c.batch)),
          length_(static_cast<size_t>(c.sequence_length)),
          long_share_(c.long_share),
          learns_all_(c.loss_on == LossOn::all),
          tokenizer_(tokenizer),
          pool_(Mixture(mixture_from(c.mix, c.modes), model, tokenizer, text::load_chat_format(c.tokenizer))) {
        for (const DomainInfo& d : domains_table()) names_.emplace_back(d.name);
        constexpr uint64_t kMaxText = 64 << 20;
        for (const char* name : {"tokenizer.json", "chat.json"}) texts_ += read_file(c.tokenizer + "/" + name, kMaxText);
    }
    std::string fingerprint() const override { return fingerprint_of(texts_); }
    TrainBatch batch(int64_t step) const override { return make(Split::train, step); }
    TrainBatch held_out(int64_t index) const override { return make(Split::test, index); }
    int vocab_size() const override { return tokenizer_->n_ids(); }
    const std::vector<std::string>& domains() const override { return names_; }
    std::string text(std::span<const int32_t> ids) const override {
        return tokenizer_->decode({ids.begin(), ids.end()});
    }

  private:
    static const std::vector<DomainInfo>& domains_table() { return curriculum::domains(); }

    // Samples one after the other until what is left of the sequence holds none of a few further ones. Samples that are
    // longer than a sequence are left out.
    TrainBatch sequence(Mixture& mixture, Split split, uint64_t index) const {
        constexpr int kTries = 6;
        constexpr uint64_t kPerSequence = 1 << 16;
        TrainBatch b;
        uint64_t at = index * kPerSequence;
        constexpr size_t kShortestForLong = 256;
        Draws draw(CounterRng(mix64(seed_ ^ fnv1a64("curriculum/sequence")), at));
        if (length_ >= kShortestForLong && draw.chance(long_share_)) {
            const Sample s = mixture.long_sample(seed_, split, at, static_cast<int>(length_));
            if (s.tokens.ids.size() <= length_) add(b, s);
        }
        for (int tries = 0; tries < kTries;) {
            const Sample s = mixture.sample(seed_, split, at++);
            if (b.tokens.size() + s.tokens.ids.size() > length_) {
                tries += s.tokens.ids.size() <= length_;
                continue;
            }
            add(b, s);
        }
        return b;
    }
    void add(TrainBatch& b, const Sample& s) const {
        const std::vector<int32_t>& ids = s.tokens.ids;
        const auto begin = static_cast<int64_t>(b.tokens.size());
        b.samples.push_back({begin, begin + static_cast<int64_t>(ids.size()), s.domain()});
        b.tokens.insert(b.tokens.end(), ids.begin(), ids.end());
        for (size_t t = 0; t < ids.size(); ++t) {
            const bool counts = t + 1 < ids.size() && (learns_all_ || s.tokens.is_learnt[t + 1]);
            b.targets.push_back(counts ? ids[t + 1] : -1);
        }
    }
    TrainBatch make(Split split, int64_t step) const {
        std::vector<TrainBatch> rows(n_sequences_);
        const size_t n_threads = std::clamp<size_t>(std::thread::hardware_concurrency(), 1, (n_sequences_ + 3) / 4);
        const auto work = [&](size_t thread) {
            Mixture mixture = pool_.take();
            for (size_t i = thread; i < n_sequences_; i += n_threads)
                rows[i] = sequence(mixture, split, static_cast<uint64_t>(step) * n_sequences_ + i);
            pool_.give(std::move(mixture));
        };
        {
            std::vector<std::jthread> threads;
            for (size_t t = 1; t < n_threads; ++t) threads.emplace_back(work, t);
            work(0);
        }
        TrainBatch all;
        for (const TrainBatch& row : rows) {
            const auto begin = static_cast<int64_t>(all.tokens.size());
            all.tokens.insert(all.tokens.end(), row.tokens.begin(), row.tokens.end());
            all.targets.insert(all.targets.end(), row.targets.begin(), row.targets.end());
            for (const auto& s : row.samples) all.samples.push_back({begin + s.begin, begin + s.end, s.domain});
        }
        return all;
    }

    uint64_t seed_;
    size_t n_sequences_, length_;
    double long_share_;
    bool learns_all_;
    std::shared_ptr<const text::Tokenizer> tokenizer_;
    mutable MixturePool pool_;
    std::vector<std::string> names_;
    std::string texts_;  // of the tokenizer and the encoding
};

std::unique_ptr<DataSource> make(const TrainConfig& c, const ModelConfig& model) {
    return std::make_unique<CurriculumSource>(c, model, text::Tokenizer::load(c.tokenizer + "/tokenizer.json"));
}

}  // namespace

void add_task() {
    vitrine::add_task(
        {"curriculum", "generated exercises and chat in three modes (tokenizer=FOLDER, mix, modes)", nullptr, make});
}

}  // namespace vitrine::curriculum
