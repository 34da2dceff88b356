// Text from outside made safe and honest to draw: what the font system can't show, or what would deceive, becomes a
// visible tag.
#pragma once
#include <string>
#include <string_view>

namespace vitrine {

// Replaces, in text that is first repaired to UTF-8:
//  - code points above U+FFFF by "<U+1F600>" (the font atlas holds 16-bit code points only);
//  - control characters (C0 but tab and newline, DEL, C1), bidirectional controls, zero-width and invisible format
//  characters,
//    line and paragraph separators, private-use characters and non-characters by "<U+202E>" and the like;
//  - combining marks beyond the fourth in a row (they would cover neighbouring lines) by one "<+N marks>" tag.
// A carriage return before a newline is dropped, alone it becomes "<U+000D>". Length grows at most 9-fold.
std::string display_text(std::string_view text);

// For one-line places (token chips, list rows): as above, and newline becomes "\n", tab "\t", written out.
std::string display_line(std::string_view text);

}  // namespace vitrine
