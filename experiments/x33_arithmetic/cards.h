// Cards: a number that was said, what it multiplies out to, and whether that fits.
#pragma once
#include <string>
#include <vector>

namespace vitrine::lab {

struct Card {
    std::string said, calculation, result;
    bool holds;
    double value;  // the card's figure, for tests
};
std::vector<Card> arithmetic_cards();

}  // namespace vitrine::lab
