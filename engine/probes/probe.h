#pragma once

#include <cstdint>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/types/span.h"

#include "engine/checkpoint/safetensors.h"

namespace normlab::engine {

// What a probe is told of a step. Spans are the trainer's own arenas: a probe only reads them.
struct ProbeStep {
  int64_t step = 0;
  double learning_rate = 0;
  absl::Span<const float> parameters;  // before the update; in AfterUpdate: after it
  absl::Span<const float> gradients;   // of the loss on the step's batch, before the update
  double loss = 0;
};

// A diagnostic. Observes a training run: whatever it computes, it computes on a model of its own (ProbeWorkspace), so the
// run is bit-identical with and without it. Values depend on the step and the state of the run only, so that a resumed run
// repeats them. Not thread-safe: the trainer's thread calls.
class Probe {
 public:
  virtual ~Probe() = default;

  // Names of what it measures; fixed. Values are given in this order.
  virtual const std::vector<std::string>& series() const = 0;

  // Between the backward pass and the update of a step that is the probe's turn. `values`: one a series, NaN before;
  // what is not defined stays NaN.
  virtual void BeforeUpdate(const ProbeStep& step, absl::Span<double> values) = 0;
  // After that step's update.
  virtual void AfterUpdate(const ProbeStep& /*step*/, absl::Span<double> /*values*/) {}

  // Tensors that a resumed run needs to go on with equal numbers; they die with the probe.
  virtual std::vector<MutableTensor> state() { return {}; }
};

// A probe that looks at the final model only.
class FinalProbe {
 public:
  virtual ~FinalProbe() = default;
  virtual const std::vector<std::string>& series() const = 0;
  // False: stopped before the end.
  virtual bool AtEnd(absl::Span<const float> parameters,
                     absl::Span<const float> statistics,
                     const std::stop_token& stop,
                     absl::Span<double> values) = 0;
};

}  // namespace normlab::engine
