// Byte-pair encoding: counts of pairs are kept up to date from merge to merge; only pieces that hold the pair are
// visited.
#include "experiments/curriculum/bpe_trainer.h"

#include <queue>
#include <unordered_map>

#include "engine/base/error.h"

namespace vitrine::curriculum {
namespace {

struct Word {
    std::vector<int> symbols;
    int64_t count;
};

uint64_t key_of(int left, int right) {
    return static_cast<uint64_t>(left) << 32 | static_cast<uint64_t>(right);
}

struct Pair {
    int64_t count = 0;
    std::vector<int> words;  // that held it at some time; may repeat
};

class Trainer {
  public:
    explicit Trainer(const PieceCounts& pieces) {
        for (int b = 0; b < 256; ++b) names_.push_back(std::string(1, static_cast<char>(b)));
        for (const auto& [text, count] : pieces) {
            Word w{{}, static_cast<int64_t>(count)};
            for (char c : text) w.symbols.push_back(static_cast<unsigned char>(c));
            words_.push_back(std::move(w));
            add_pairs(static_cast<int>(words_.size()) - 1, 1);
        }
        for (const auto& [key, pair] : pairs_) push(key);
    }

    std::vector<std::pair<std::string, std::string>> run(int n_tokens, const std::vector<std::string>& whole) {
        for (const std::string& text : whole) {
            int left = static_cast<unsigned char>(text[0]);
            for (size_t i = 1; i < text.size() && n_made_ < n_tokens; ++i)
                left = join(left, static_cast<unsigned char>(text[i]));
        }
        while (n_made_ < n_tokens) {
            const uint64_t key = best();
            if (pairs_[key].count < 2) break;
            join(static_cast<int>(key >> 32), static_cast<int>(key & 0xFFFFFFFF));
        }
        return merges_;
    }

  private:
    struct Entry {
        int64_t count;
        uint64_t key;
        bool operator<(const Entry& o) const { return count != o.count ? count < o.count : key > o.key; }
    };

    void push(uint64_t key) { queue_.push({pairs_[key].count, key}); }

    void add_pairs(int word, int64_t sign) {
        const Word& w = words_[static_cast<size_t>(word)];
        for (size_t i = 0; i + 1 < w.symbols.size(); ++i) {
            Pair& p = pairs_[key_of(w.symbols[i], w.symbols[i + 1])];
            p.count += sign * w.count;
            if (sign > 0 && (p.words.empty() || p.words.back() != word)) p.words.push_back(word);
        }
    }

    uint64_t best() {
        for (;;) {
            if (queue_.empty()) return 0;  // no pair is left: that of byte 0 with itself never occurs
            const Entry top = queue_.top();
            queue_.pop();
            if (top.count == pairs_[top.key].count) return top.key;
            if (pairs_[top.key].count > 0) push(top.key);
        }
    }

    // Makes the pair one token, if it is none yet, and returns its id.
    int join(int left, int right) {
        const uint64_t key = key_of(left, right);
        const auto known = joined_.find(key);
        if (known != joined_.end()) return known->second;
        merges_.emplace_back(names_[static_cast<size_t>(left)], names_[static_cast<size_t>(right)]);
        // The same bytes may be reached in two ways: one token.
        const auto [at, is_new] =
            ids_.emplace(merges_.back().first + merges_.back().second, static_cast<int>(names_.size()));
        if (is_new) names_.push_back(at->first), ++n_made_;
        joined_[key] = at->second;
        replace(key, left, right, at->second);
        return at->second;
    }

    void replace(uint64_t key, int left, int right, int merged) {
        std::vector<int> holders;
        holders.swap(pairs_[key].words);
        std::map<uint64_t, bool> touched;
        for (int index : holders) {
            Word& w = words_[static_cast<size_t>(index)];
            std::vector<int> next;
            for (size_t i = 0; i < w.symbols.size(); ++i) {
                const bool is_pair = i + 1 < w.symbols.size() && w.symbols[i] == left && w.symbols[i + 1] == right;
                next.push_back(is_pair ? merged : w.symbols[i]);
                i += is_pair;
            }
            if (next.size() == w.symbols.size()) continue;  // visited already
            add_pairs(index, -1);
            w.symbols = std::move(next);
            add_pairs(index, 1);
            for (size_t i = 0; i + 1 < w.symbols.size(); ++i)
                if (w.symbols[i] == merged || w.symbols[i + 1] == merged)
                    touched[key_of(w.symbols[i], w.symbols[i + 1])] = true;
        }
        for (const auto& [k, unused] : touched) push(k);
    }

    std::vector<std::pair<std::string, std::string>> merges_;
    std::vector<std::string> names_;
    std::unordered_map<std::string, int> ids_;  // of made tokens, by their bytes
    std::unordered_map<uint64_t, int> joined_;  // what a pair became
    int n_made_ = 0;
    std::vector<Word> words_;
    std::unordered_map<uint64_t, Pair> pairs_;
    std::priority_queue<Entry> queue_;
};

}  // namespace

std::vector<std::pair<std::string, std::string>> train_bpe(const PieceCounts& pieces, int n_tokens,
                                                           const std::vector<std::string>& whole) {
    return Trainer(pieces).run(n_tokens, whole);
}

}  // namespace vitrine::curriculum
