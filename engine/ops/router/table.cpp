// The routers by their name in the configuration.
#include "engine/base/error.h"
#include "engine/ops/router/choice.h"

namespace vitrine {

Choose choice_of(RouterKind kind) {
    switch (kind) {
        case RouterKind::topk_bias:
            return choose_topk_bias;
        case RouterKind::topk:
            return choose_topk;
        case RouterKind::top_p:
            return choose_top_p;
    }
    throw Error(ErrorKind::internal, "a router that is not in the table");
}

}  // namespace vitrine
