// A plausible lab without processes: experiments, runs with curves and events, verdicts.
#pragma once
#include "engine/telemetry/lab.h"

namespace vitrine::viz::fake {

// Hyper-connections against mHC with three seeds (the last one runs), a rewound run, a spike with its batch; a
// calculation.
LabSnapshot lab();
LabSnapshot lab_without_runs();
// `n_runs` of two arms, each with `n_scalars` series of `n_points`, of which the experiment plots six.
LabSnapshot huge_lab(int n_runs, int n_points, int n_scalars);

}  // namespace vitrine::viz::fake
