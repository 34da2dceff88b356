// The program's version and the git revision it was built from: what --version prints and run records keep.
#pragma once

namespace vitrine {

const char* version();   // "0.1.0"
const char* revision();  // "8e188e7c1a", with "-dirty" when files differed; "no git revision" outside a clone

}  // namespace vitrine
