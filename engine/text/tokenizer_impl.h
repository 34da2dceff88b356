// What a loaded tokenizer holds. Private to engine/text.
#pragma once
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/text/added_tokens.h"
#include "engine/text/bpe.h"
#include "engine/text/pretokenizer.h"
#include "engine/text/tokenizer.h"

namespace vitrine::text {

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
