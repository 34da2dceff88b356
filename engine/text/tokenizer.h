// The tokenizer: text to token ids and back, as described by a tokenizer.json (byte-level BPE).
//
// Identical to Hugging Face `tokenizers` for what it accepts; what it doesn't accept is refused by name, never
// approximated. Source of the format: the files themselves and the behaviour of `tokenizers` 0.2x, against which
// tests/text has vectors.
//
// Accepted: model BPE (merges as "a b" or ["a", "b"], ignore_merges; every one of the 256 byte characters in the
// vocabulary; no dropout, byte_fallback, affixes); added tokens (cut out first, leftmost, longest; lstrip and rstrip;
// the ones with normalized = false before the others); normalizer null or an empty Sequence; pre-tokenizers of
// pretokenizer.h; decoder ByteLevel; post-processors that add nothing. Refused: single_word, truncation, padding,
// templates that add tokens, the rest.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/text/bpe.h"

namespace vitrine::text {

// Ids with the place of each in the repaired text: token k covers bytes [begin[k], begin[k + 1]) (begin has one entry
// more). Tokens of a removed stretch (a Split with behaviour Removed) leave a gap that belongs to the token before.
struct Encoding {
    std::string text;  // what was encoded: the input with ill-formed UTF-8 replaced by U+FFFD
    std::vector<int32_t> ids;
    std::vector<size_t> begin;
};

// Immutable once loaded; any thread may use it.
class Tokenizer {
  public:
    static constexpr uint64_t kMaxFileBytes = uint64_t{256} << 20;
    static constexpr int kMaxDepth = 32;
    static constexpr uint64_t kMaxVocab = uint64_t{1} << 22;  // also the bound of ids
    static constexpr uint64_t kMaxMerges = uint64_t{1} << 24;
    static constexpr uint64_t kMaxAddedTokens = uint64_t{1} << 20;
    static constexpr size_t kMaxTokenBytes = 65536;
    static constexpr size_t kMaxAddedTokenBytes = 256;  // searching for them costs text length × this at worst
    static constexpr size_t kMaxTextBytes = size_t{1} << 30;

    // Reads tokenizer.json. Throws Error(io) or Error(bad_input) naming file, key, value and what was expected.
    static std::shared_ptr<const Tokenizer> load(const std::string& path);
    // The same from text in memory; `file` is used in messages.
    static std::shared_ptr<const Tokenizer> parse(std::string_view json, const std::string& file);
    ~Tokenizer();

    // Ill-formed UTF-8 becomes U+FFFD first (maximal subparts, as Python's errors="replace"). No token is added. The
    // time is linear in the text but for a logarithmic factor inside one piece; the stack needed is constant.
    // Error(bad_input) above kMaxTextBytes. Names of added tokens inside `text` become those tokens.
    std::vector<int32_t> encode(std::string_view text, EncodeStats* stats = nullptr) const;
    Encoding encode_with_places(std::string_view text, EncodeStats* stats = nullptr) const;

    // The bytes of all tokens joined, then repaired to UTF-8. Special tokens appear by name unless skipped. Ids without
    // a token give nothing (has_token tells).
    std::string decode(const std::vector<int32_t>& ids, bool skip_special = false) const;
    std::string_view token_bytes(int32_t id) const;  // may be a part of a character; "" when there is no such token

    bool has_token(int32_t id) const;
    bool is_special(int32_t id) const;  // the file's flag: V4's own files set it for begin, end and pad only
    bool is_added(int32_t id) const;    // listed in added_tokens: cut from text before BPE
    std::optional<int32_t> id_of(std::string_view name) const;  // by the exact bytes of the token
    int32_t need_id(std::string_view name) const;               // Error(bad_input) naming file and token
    int32_t n_ids() const;                                      // largest id + 1
    const std::string& file() const;

    struct Impl;  // tokenizer_impl.h

  private:
    explicit Tokenizer(std::unique_ptr<const Impl> impl);
    std::unique_ptr<const Impl> impl_;
};

}  // namespace vitrine::text
