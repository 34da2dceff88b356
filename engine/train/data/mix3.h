// The 48 ids of the task mix3: digits are their own value, letters follow.
#pragma once

namespace vitrine::mix3 {

enum Id : int {
    kFirstLetter = 10,  // 26 of them
    kBegin = 36,
    kEnd,
    kPlus,              // first of an addition, and between its summands
    kEquals,            // the answer follows
    kReverse,           // first of a reversal
    kAsk,               // first of a lookup, and before the key that is asked for
    kColon,
    kComma,
    kVocabSize = 48,    // 44 to 47 never occur
};
// begin, kind, 10 letters, =, 10 letters, end; a lookup of five pairs: 2 + 5 * 3 + 4 + 3 + 1 + 1 = 26.
constexpr int kLongestSample = 26;

}  // namespace vitrine::mix3
