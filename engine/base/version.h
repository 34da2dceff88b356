// The program's version and what it was built from: what --version prints and run records keep.
#pragma once

namespace vitrine {

const char* version();             // "0.1.0"
const char* revision();            // "8e188e7c1a", with "-dirty" when files differed; "no git revision" outside a clone
const char* gpu_kernels();         // the architectures that it has kernels for: "90a"; "none"
const char* why_no_gpu_kernels();  // with none: why, and how to have them

}  // namespace vitrine
