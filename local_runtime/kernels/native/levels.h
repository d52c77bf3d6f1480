// Which instruction sets this processor has.
#pragma once

#include "context.h"

namespace fp {

// The best level up to `most` that this processor runs: 3 AVX-512 with VNNI, 2 AVX2, 0 none.
int level_up_to(int most);

Kernels kernels_of(int level);

}  // namespace fp
