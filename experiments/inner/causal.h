// What the removal of experts costs each domain.
#pragma once
#include <stop_token>
#include <vector>

#include "experiments/forced_text.h"

namespace vitrine::inner {

using lab::ForcedText;
using lab::TextSum;

struct Selectivity {
    double own = 0, others = 0;      // increase of the loss [nat/token]: of a domain; mean of the other domains
    double lowest = 0, highest = 0;  // of `own`, 95 %, by drawing samples anew
    // `own` exceeds both 0 and three times `others` in 97.5 % of the draws: more than noise in either.
    bool is_selective = false;
    static constexpr double kTimes = 3;
    // Infinite when the others don't suffer at all, 0 when the domain itself doesn't.
    double ratio() const;
};
// `before`, `after`: losses of the same samples, by domain.
std::vector<Selectivity> selectivities(const std::vector<std::vector<TextSum>>& before,
                                       const std::vector<std::vector<TextSum>>& after, uint64_t seed);

class CausalStudy {
  public:
    // Reads the texts once. `engine` and `texts` outlive this.
    CausalStudy(Engine& engine, const std::vector<std::vector<ForcedText>>& texts, std::stop_token stop);
    // By domain, with these experts of layer `l` removed.
    std::vector<Selectivity> without(int l, const std::vector<int32_t>& experts, uint64_t seed) const;

  private:
    std::vector<std::vector<TextSum>> losses() const;
    Engine& engine_;
    const std::vector<std::vector<ForcedText>>& texts_;
    std::stop_token stop_;
    std::vector<std::vector<TextSum>> before_;
};

}  // namespace vitrine::inner
