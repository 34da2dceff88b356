// The experiments that ship, as the run manager wants them.
#pragma once
#include "app/lab/catalogue.h"

namespace vitrine {

LabCatalogue shipped_catalogue();

}  // namespace vitrine
