// What a loaded tokenizer holds. Private to engine/text.
#pragma once
#include <array>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/text/added_tokens.h"
#include "engine/text/bpe.h"
#include "engine/text/pretokenizer.h"
#include "engine/text/tokenizer.h"

namespace vitrine::text {

// What an encode call writes to on its way.
struct EncodeBuffers {
    std::vector<AddedTokenSet::Cut> cuts, inner;
    PreTokenizer::Pieces pieces;
    Bpe::Scratch merging;
    std::vector<int32_t> piece;  // ids of one piece
    std::vector<int32_t> ids;    // the result
    std::vector<size_t> begin;   // its places

    size_t held_bytes() const {
        return (cuts.capacity() + inner.capacity()) * sizeof(AddedTokenSet::Cut) + pieces.held_bytes() +
               merging.held_bytes() + (piece.capacity() + ids.capacity()) * sizeof(int32_t) +
               begin.capacity() * sizeof(size_t);
    }
};

// The buffers of the last call, for the next one: malloc gives large blocks back to the system, and fresh pages cost
// more than the work on them. Any thread may use it; calls at the same time have buffers of their own.
class KeptBuffers {
  public:
    static constexpr size_t kMaxBytes = size_t{64} << 20;  // what is larger is given back

    std::unique_ptr<EncodeBuffers> take() {
        const std::lock_guard lock(mutex_);
        return spare_ ? std::move(spare_) : std::make_unique<EncodeBuffers>();
    }
    void give_back(std::unique_ptr<EncodeBuffers> buffers) {
        if (buffers->held_bytes() > kMaxBytes) return;
        const std::lock_guard lock(mutex_);
        spare_ = std::move(buffers);
    }

  private:
    std::mutex mutex_;
    std::unique_ptr<EncodeBuffers> spare_;
};

struct Tokenizer::Impl {
    struct Token {
        uint32_t offset = 0, n_bytes = 0;  // in `pool`
        bool is_present = false, is_special = false, is_added = false;
    };

    std::string file;
    std::string pool;           // the bytes of all tokens; never changed after loading (views point into it)
    std::vector<Token> tokens;  // by id
    std::unordered_map<std::string_view, int32_t>
        vocab;  // byte-level entries of the model's vocabulary, by their bytes
    std::unordered_map<std::string_view, int32_t> odd_vocab;  // its other entries (names of control tokens), as written
    std::array<int32_t, 256> id_of_byte{};
    Bpe bpe;
    bool ignore_merges = false;
    PreTokenizer pre_tokenizer;
    AddedTokenSet first_cut;   // normalized = false
    AddedTokenSet second_cut;  // normalized = true
    mutable KeptBuffers kept;

    std::string_view bytes_of(int32_t id) const {
        return std::string_view(pool).substr(tokens[id].offset, tokens[id].n_bytes);
    }
    std::optional<int32_t> find_vocab(std::string_view bytes) const {
        const auto it = vocab.find(bytes);
        return it == vocab.end() ? std::nullopt : std::optional<int32_t>(it->second);
    }
};

// Reads and checks the file's text (tokenizer_file.cpp).
std::unique_ptr<const Tokenizer::Impl> read_tokenizer(std::string_view json, const std::string& file);

}  // namespace vitrine::text
