// Reading tokenizer.json: every field is checked, what would change ids and isn't supported is refused by name.
#include <algorithm>
#include <array>

#include "engine/base/checked.h"
#include "engine/base/json.h"
#include "engine/base/utf8.h"
#include "engine/text/json_fields.h"
#include "engine/text/tokenizer_impl.h"

namespace vitrine::text {
namespace {

// GPT-2's alphabet: each byte has a printable character. Printable Latin-1 bytes stand for themselves, the other 68
// take U+0100, U+0101, ... in order.
struct ByteAlphabet {
    std::array<char32_t, 256> character{};
    std::array<int16_t, 0x144> byte{};

    ByteAlphabet() {
        byte.fill(-1);
        char32_t next = 0x100;
        for (int b = 0; b < 256; ++b) {
            const bool is_itself = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
            character[b] = is_itself ? b : next++;
            byte[character[b]] = static_cast<int16_t>(b);
        }
    }
    // The bytes that a byte-level entry stands for; false when a character is outside the alphabet.
    bool decode(std::string_view entry, std::string& out) const {
        out.clear();
        for (size_t i = 0; i < entry.size();) {
            const Utf8Step s = utf8_step(entry, i);
            if (s.code_point >= byte.size() || byte[s.code_point] < 0) return false;
            out += static_cast<char>(byte[s.code_point]);
            i += s.n_bytes;
        }
        return true;
    }
};

const ByteAlphabet& alphabet() {
    static const ByteAlphabet a;
    return a;
}

class FileReader {
  public:
    FileReader(const Json& root, const std::string& file)
        : root_(root), file_(file), t_(std::make_unique<Tokenizer::Impl>()) {
        t_->file = file;
    }

    std::unique_ptr<const Tokenizer::Impl> read() {
        if (!root_.is_object()) refuse(file_, "", shown(root_), "expected a JSON object");
        const Fields top{root_, file_, ""};
        top.must_be_unset("truncation", "expected null: truncating would drop text silently");
        top.must_be_unset("padding", "expected null: padding would add tokens");
        check_normalizer(top.find("normalizer"));
        check_decoder(top.need("decoder"), "decoder");
        if (const Json* p = top.find("post_processor")) check_post_processor(*p, "post_processor");
        t_->pre_tokenizer = PreTokenizer::from_json(top.need("pre_tokenizer"), file_);
        const Json& model = top.need("model");
        if (!model.is_object()) refuse(file_, "model", shown(model), "expected an object");
        const Fields m{model, file_, "model"};
        check_model_options(m);
        read_vocab(m.need("vocab"));
        read_added(top.find("added_tokens"));
        place_tokens();
        read_merges(m.need("merges"));
        return std::move(t_);
    }

  private:
    struct Entry {
        int32_t id;
        std::string bytes;
        bool is_byte_level, is_added, is_special;
    };
    struct Added {
        int32_t id;
        std::string name;
        bool is_special, strips_left, strips_right, is_normalized;
    };

    void check_normalizer(const Json* n) {
        if (!n) return;
        const Fields f{*n, file_, "normalizer"};
        if (n->is_object() && f.string("type") == "Sequence")
            if (const Json* list = f.find("normalizers"); list && list->is_array() && list->size() == 0) return;
        refuse(file_, "normalizer", n->is_object() ? f.string("type") : shown(*n),
               "expected null or an empty Sequence");
    }

    void check_decoder(const Json& d, const std::string& key) {
        if (!d.is_object()) refuse(file_, key, shown(d), "expected an object");
        const Fields f{d, file_, key};
        const std::string type = f.string("type");
        if (type == "ByteLevel") return;
        if (type == "Sequence")
            if (const Json* list = f.find("decoders"); list && list->is_array() && list->size() == 1)
                return check_decoder(list->items()[0], key + ".decoders[0]");
        refuse(file_, key + ".type", type, "expected ByteLevel");
    }

    // ByteLevel changes offsets only; a template is fine when it adds no token to a single text.
    void check_post_processor(const Json& p, const std::string& key) {
        if (!p.is_object()) refuse(file_, key, shown(p), "expected an object");
        const Fields f{p, file_, key};
        const std::string type = f.string("type");
        if (type == "ByteLevel") return;
        if (type == "Sequence") {
            const Json& list = f.need("processors");
            if (!list.is_array()) refuse(file_, f.path("processors"), shown(list), "expected an array");
            for (size_t i = 0; i < list.size(); ++i)
                check_post_processor(list.items()[i], f.path("processors") + "[" + std::to_string(i) + "]");
            return;
        }
        if (type == "TemplateProcessing") {
            const Json& single = f.need("single");
            if (single.is_array() && single.size() == 1 && single.items()[0].find("Sequence")) return;
            refuse(file_, f.path("single"), "", "expected the sequence alone: tokens come from the chat format only");
        }
        refuse(file_, f.path("type"), type, "expected ByteLevel, Sequence or TemplateProcessing that adds no token");
    }

    void check_model_options(const Fields& m) {
        if (const Json* type = m.find("type"); type && (!type->is_string() || type->as_string() != "BPE"))
            refuse(file_, "model.type", shown(*type), "expected BPE");
        if (const Json* d = m.find("dropout"); d && !(d->is_number() && d->as_double() == 0))
            refuse(file_, "model.dropout", shown(*d), "expected null: ids must not depend on chance");
        m.must_be_unset("byte_fallback", "expected false: a byte-level vocabulary has every byte");
        m.must_be_unset("continuing_subword_prefix", "expected null");
        m.must_be_unset("end_of_word_suffix", "expected null");
        t_->ignore_merges = m.flag("ignore_merges", false);
    }

    int32_t id_from(const Json& j, const std::string& key) {
        if (j.type() == Json::Type::integer && j.as_int() >= 0 &&
            j.as_int() < static_cast<int64_t>(Tokenizer::kMaxVocab))
            return static_cast<int32_t>(j.as_int());
        refuse(file_, key, shown(j), "expected an id in [0, " + std::to_string(Tokenizer::kMaxVocab - 1) + "]");
    }

    void read_vocab(const Json& vocab) {
        if (!vocab.is_object()) refuse(file_, "model.vocab", shown(vocab), "expected an object of token: id");
        if (vocab.size() > Tokenizer::kMaxVocab)
            refuse(file_, "model.vocab", std::to_string(vocab.size()) + " entries",
                   "expected at most " + std::to_string(Tokenizer::kMaxVocab));
        by_name_.reserve(vocab.size());
        entries_.reserve(vocab.size());
        std::string bytes;
        for (const auto& [name, value] : vocab.members()) {
            const int32_t id = id_from(value, "model.vocab[" + name + "]");
            if (name.empty() || name.size() > Tokenizer::kMaxTokenBytes)
                refuse(file_, "model.vocab", name,
                       "expected tokens of 1 to " + std::to_string(Tokenizer::kMaxTokenBytes) + " bytes");
            const bool is_byte_level = alphabet().decode(name, bytes);
            by_name_.emplace(name, id);
            entries_.push_back({id, is_byte_level ? bytes : name, is_byte_level, false, false});
        }
    }

    void read_added(const Json* list) {
        if (!list) return;
        if (!list->is_array() || list->size() > Tokenizer::kMaxAddedTokens)
            refuse(file_, "added_tokens", shown(*list), "expected an array of at most 2^20 tokens");
        for (size_t i = 0; i < list->size(); ++i) {
            const Json& a = list->items()[i];
            const std::string key = "added_tokens[" + std::to_string(i) + "]";
            if (!a.is_object()) refuse(file_, key, shown(a), "expected an object");
            const Fields f{a, file_, key};
            const std::string name = f.string("content");
            if (name.empty() || name.size() > Tokenizer::kMaxAddedTokenBytes)
                refuse(file_, f.path("content"), name,
                       "expected 1 to " + std::to_string(Tokenizer::kMaxAddedTokenBytes) + " bytes");
            if (f.flag("single_word", false)) refuse(file_, f.path("single_word"), "true", "expected false");
            const int32_t id = id_from(f.need("id"), f.path("id"));
            if (const auto it = by_name_.find(name); it != by_name_.end() && it->second != id)
                refuse(file_, f.path("id"), std::to_string(id),
                       "expected " + std::to_string(it->second) + ", the id of " + escaped(name) + " in model.vocab");
            std::string as_bytes;
            if (alphabet().decode(name, as_bytes) && as_bytes != name && by_name_.count(name))
                refuse(file_, f.path("content"), name,
                       "expected a name that is not the byte-level form of other bytes");
            added_.push_back({id, name, f.flag("special", false), f.flag("lstrip", false), f.flag("rstrip", false),
                              f.flag("normalized", true)});
        }
    }

    // Lays out tokens by id. An added token replaces the vocabulary's entry of its id when the names are the same.
    void place_tokens() {
        const size_t n_vocab = entries_.size();
        for (const Added& a : added_) entries_.push_back({a.id, a.name, false, true, a.is_special});
        int32_t largest = -1;
        Checked n_bytes = 0;
        for (const Entry& e : entries_) largest = std::max(largest, e.id), n_bytes = n_bytes + e.bytes.size();
        t_->tokens.resize(static_cast<size_t>(largest) + 1);
        t_->pool.reserve(n_bytes.to<size_t>());
        for (size_t i = 0; i < entries_.size(); ++i) {
            const Entry& e = entries_[i];
            auto& token = t_->tokens[e.id];
            if (token.is_present &&
                !(e.is_added && !token.is_added && by_name_.count(e.bytes) && by_name_.at(e.bytes) == e.id))
                refuse(file_, i < n_vocab ? "model.vocab" : "added_tokens", e.bytes + ": " + std::to_string(e.id),
                       "two tokens have this id (the other is " + escaped(t_->bytes_of(e.id)) + "), expected one");
            token = {Checked(t_->pool.size()).to<uint32_t>(), static_cast<uint32_t>(e.bytes.size()), true,
                         e.is_special, e.is_added};
            t_->pool += e.bytes;
        }
        for (size_t i = 0; i < n_vocab; ++i) {
            const Entry& e = entries_[i];
            if (!t_->tokens[e.id].is_added)
                (e.is_byte_level ? t_->vocab : t_->odd_vocab).emplace(t_->bytes_of(e.id), e.id);
        }
        std::vector<AddedToken> first, second;
        for (const Added& a : added_)
            (a.is_normalized ? second : first)
                .push_back({a.id, t_->bytes_of(a.id), a.is_special, a.strips_left, a.strips_right, a.is_normalized});
        t_->first_cut = AddedTokenSet(std::move(first));
        t_->second_cut = AddedTokenSet(std::move(second));
        find_bytes();
    }

    void find_bytes() {
        for (int b = 0; b < 256; ++b) {
            std::string name;
            append_utf8(name, alphabet().character[b]);
            const auto it = by_name_.find(name);
            if (it == by_name_.end())
                refuse(file_, "model.vocab", name,
                       "byte " + std::to_string(b) + " has no token; expected all 256 byte characters");
            t_->id_of_byte[b] = it->second;
        }
    }

    int32_t merge_part(std::string_view name, const std::string& key) {
        const auto it = by_name_.find(std::string(name));
        if (it == by_name_.end()) refuse(file_, key, std::string(name), "expected a token of model.vocab");
        return it->second;
    }

    void read_merges(const Json& list) {
        if (!list.is_array()) refuse(file_, "model.merges", shown(list), "expected an array");
        if (list.size() > Tokenizer::kMaxMerges)
            refuse(file_, "model.merges", std::to_string(list.size()) + " entries",
                   "expected at most " + std::to_string(Tokenizer::kMaxMerges));
        std::vector<Merge> merges;
        merges.reserve(list.size());
        std::string whole;
        for (size_t i = 0; i < list.size(); ++i) {
            const Json& j = list.items()[i];
            const std::string key = "model.merges[" + std::to_string(i) + "]";
            std::string_view left, right;
            if (j.is_string()) {
                const std::string_view s = j.as_string();
                const size_t space = s.find(' ');
                if (space == std::string_view::npos || s.find(' ', space + 1) != std::string_view::npos)
                    refuse(file_, key, j.as_string(), "expected two tokens with one space between them");
                left = s.substr(0, space), right = s.substr(space + 1);
            } else if (j.is_array() && j.size() == 2 && j.items()[0].is_string() && j.items()[1].is_string()) {
                left = j.items()[0].as_string(), right = j.items()[1].as_string();
            } else {
                refuse(file_, key, shown(j), "expected \"left right\" or [\"left\", \"right\"]");
            }
            whole.assign(left).append(right);
            merges.push_back({merge_part(left, key), merge_part(right, key), merge_part(whole, key)});
        }
        int64_t duplicate = -1;
        t_->bpe = Bpe(std::move(merges), &duplicate);
        if (duplicate >= 0)
            refuse(file_, "model.merges[" + std::to_string(duplicate) + "]", "",
                   "this pair stands earlier in the list too");
    }

    const Json& root_;
    const std::string& file_;
    std::unique_ptr<Tokenizer::Impl> t_;
    std::unordered_map<std::string, int32_t> by_name_;  // as written in model.vocab
    std::vector<Entry> entries_;
    std::vector<Added> added_;
};

}  // namespace

std::unique_ptr<const Tokenizer::Impl> read_tokenizer(std::string_view json, const std::string& file) {
    JsonLimits limits;
    limits.max_bytes = Tokenizer::kMaxFileBytes;
    limits.max_depth = Tokenizer::kMaxDepth;
    limits.max_values = size_t{1} << 26;  // 2^24 merges as pairs and 2^22 entries, with room
    return FileReader(Json::parse(json, file, limits), file).read();
}

}  // namespace vitrine::text
