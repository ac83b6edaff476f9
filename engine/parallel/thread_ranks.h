#pragma once

#include <memory>
#include <vector>

#include "engine/parallel/communicator.h"

namespace normlab::engine {

// Communicators of `size` ranks that are threads of this process, in the order of ranks: for tests,
// and for measuring what the arithmetic of ranks does without any network. Each is for one thread;
// all must be used, since every call is collective. They share what they need.
std::vector<std::unique_ptr<Communicator>> MakeThreadRanks(int size);

}  // namespace normlab::engine
