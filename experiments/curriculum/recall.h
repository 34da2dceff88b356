// Long texts: something is said once, much else follows, then it is asked for.
#pragma once
#include <vector>

#include "experiments/curriculum/item.h"

namespace vitrine::curriculum {

// One long prompt. Level: about how many tokens stand between what is said and the question. Between them lie exercises
// of other domains with their answers, and a few things of the same kind about others.
Item make_recall(Wish& w);
// The same, asking how often something was said: numbered notes of one kind strewn between other lines.
Item make_frequency(Wish& w);
// Notes from the first line to the last, some of each of three kinds: which kind is the most frequent? A few of the
// notes don't tell.
Item make_most_frequent(Wish& w);

// The same as a conversation: a first turn that says it (with a reply), and a last one that asks for it.
struct NoteAndQuestion {
    Item note, question;
};
NoteAndQuestion make_note(Wish& w);

}  // namespace vitrine::curriculum
