// Damaged copies of good files, the same for the same number on every machine.
#pragma once
#include <cstdint>
#include <string>

#include "engine/base/rng.h"

namespace vitrine::test {

class Mutator {
  public:
    Mutator(std::string_view format, uint64_t number) : rng_(number, fnv1a64(format)) {}
    uint64_t below(uint64_t n) { return n ? rng_.bits(at_++) % n : 0; }

    // Bits, bytes, integers at their edges, cuts, copies, splices: 1 to 4 of them.
    std::string bytes(std::string s);
    // The same for text, and what only JSON can suffer: numbers and strings exchanged, wrong types, keys twice, depth.
    std::string json(std::string s);

  private:
    void one_binary(std::string& s);
    void one_json(std::string& s);
    CounterRng rng_;
    uint64_t at_ = 0;
};

}  // namespace vitrine::test
