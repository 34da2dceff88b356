// Streaming from tokens to text: only whole UTF-8 comes out, however tokens cut characters.
#pragma once
#include <string>
#include <string_view>

namespace vitrine::text {

// Bytes that can't become part of a character turn into U+FFFD as soon as that is certain; what may still be completed
// is held (at most 3 bytes). The pieces joined with finish() equal repaired_utf8 of all bytes joined. One stream, one
// thread.
class Detokenizer {
  public:
    std::string push(std::string_view token_bytes);  // see Tokenizer::token_bytes
    std::string finish();                            // an unfinished character becomes U+FFFD; ready for a new stream
    std::string_view held() const { return held_; }

  private:
    std::string held_;
};

}  // namespace vitrine::text
