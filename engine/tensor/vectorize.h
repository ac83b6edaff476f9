#pragma once

// NORMLAB_VECTORIZE and NORMLAB_INLINE, which random streams need as well as kernels.
#include "common/vectorize.h"  // IWYU pragma: export
