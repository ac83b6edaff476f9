#pragma once

#include <cstdint>

#include "engine/graph/graph.h"

namespace normlab::engine {

struct MemoryEstimate {
  int64_t parameters = 0;   // parameters, gradients, optimizer state, working copies
  int64_t activations = 0;  // training plan and evaluation plan
  int64_t data = 0;         // decoded data set, mapped
  int64_t fixed = 0;        // process, oneDNN code, buffers
  int64_t total() const;    // saturates
};

// Where convolutions may be computed by Winograd's algorithm, which needs much scratch memory.
enum class WinogradUse {
  kNever,
  kWide,    // where it pays: from 32 channels on, for the gradient of weights from 16
  kAlways,  // wherever it can be
};

struct MemoryInputs {
  int64_t batch_size = 0;
  int64_t evaluation_batch_size = 0;
  // Sizes of an incomplete last batch, which is planned too. 0: there is none; negative: unknown,
  // counted like a full one.
  int64_t last_batch_size = -1;
  int64_t evaluation_last_batch_size = -1;
  int optimizer_slots = 0;  // floats of optimizer state per parameter
  int64_t data_bytes = 0;
  int threads = 1;
  // Processes that train together, each with batches as above; all but the data set is counted for
  // each.
  int ranks = 1;
  bool bf16 = false;  // activations, and the weights that layers compute with
  WinogradUse winograd = WinogradUse::kWide;
  // Plans that probes need besides, on a model of their own; all are of training batches.
  bool probes = false;  // any at all
  bool probe_training = false;
  bool probe_unfused = false;
  bool probe_evaluation = false;
  int probe_vectors = 0;  // floats per parameter, besides parameters and gradients
};

// An upper estimate of the private memory of a training run, in bytes; saturates instead of
// overflowing.
MemoryEstimate EstimateMemory(const Graph& graph, const MemoryInputs& inputs);

}  // namespace normlab::engine
