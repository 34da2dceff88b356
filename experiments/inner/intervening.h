// Interventions for as long as a scope lasts.
#pragma once
#include "engine/engine.h"

namespace vitrine::inner {

class Intervening {
  public:
    Intervening(Engine& engine, const Interventions& edits) : engine_(engine) { engine_.set_interventions(edits); }
    ~Intervening() { engine_.set_interventions({}); }
    Intervening(const Intervening&) = delete;
    Intervening& operator=(const Intervening&) = delete;

  private:
    Engine& engine_;
};

// One for each layer, none of which changes anything yet.
inline Interventions no_change(const ModelConfig& c) {
    Interventions e;
    e.layers.resize(static_cast<size_t>(c.n_layers()));
    return e;
}
// The same choice in all layers of a kind.
inline Interventions entries_of_all(const ModelConfig& c, LayerKind kind, EntryChoice choice, int topk = 0) {
    Interventions e = no_change(c);
    for (size_t l = 0; l < e.layers.size(); ++l)
        if (c.layers[l].kind() == kind) e.layers[l].entries = choice, e.layers[l].topk = topk;
    return e;
}

}  // namespace vitrine::inner
