// Gradients under the names of the checkpoint's own file.
#include "engine/train/gradient_file.h"

#include <cstring>
#include <map>

namespace vitrine {
namespace {

// "….gate_up_proj[3].up": rows [I, 2I) of expert 3 of the fused tensor (engine/model/weights.cpp writes these names).
struct FusedPart {
    std::string name;
    int64_t expert = -1;
    enum class Part { whole, gate, up } part = Part::whole;
};
FusedPart fused_part(const std::string& name) {
    const size_t open = name.find('['), close = name.find(']');
    if (open == std::string::npos || close == std::string::npos) return {name};
    const std::string tail = name.substr(close + 1);
    return {name.substr(0, open), std::stoll(name.substr(open + 1)),
            tail == ".gate" ? FusedPart::Part::gate : tail == ".up" ? FusedPart::Part::up : FusedPart::Part::whole};
}

}  // namespace

std::vector<NamedGradient> gradients_by_file_name(Trainer& trainer) {
    std::vector<NamedGradient> all;
    std::map<std::string, size_t> fused;
    for (const Leaf& l : trainer.masters().leaves()) {
        if (l.gradient.empty()) continue;
        const FusedPart at = fused_part(l.param->name);
        const Shape& s = l.param->shape;
        const uint64_t bytes = static_cast<uint64_t>(s.count()) * dtype_bits(l.gradient.dtype) / 8;
        const HostBytes gradient = trainer.place().read(l.gradient);
        if (at.expert < 0) {
            NamedGradient g{at.name, {s.n.begin(), s.n.begin() + s.rank}, l.gradient.dtype, std::vector<std::byte>(bytes)};
            std::memcpy(g.bytes.data(), gradient.data, bytes);
            all.push_back(std::move(g));
            continue;
        }
        const bool is_half = at.part != FusedPart::Part::whole;
        const auto [place, is_new] = fused.try_emplace(at.name, all.size());
        const int64_t n_experts = trainer.model().n_experts, rows = is_half ? 2 * s[0] : s[0];
        if (is_new)
            all.push_back({at.name, {n_experts, rows, s[1]}, l.gradient.dtype,
                           std::vector<std::byte>(bytes * (is_half ? 2 : 1) * static_cast<uint64_t>(n_experts))});
        const uint64_t first = static_cast<uint64_t>(at.expert) * (is_half ? 2 : 1) + (at.part == FusedPart::Part::up ? 1 : 0);
        std::memcpy(all[place->second].bytes.data() + first * bytes, gradient.data, bytes);
    }
    return all;
}

TrainConfig plain_loss(TrainDType dtype, const std::string& token_file) {
    TrainConfig c;
    c.dtype = dtype, c.data = "tokens", c.tokens = token_file;
    c.balance = BalanceKind::none, c.mtp_weight = c.mtp_weight_in_decay = 0;
    return c;
}

}  // namespace vitrine
