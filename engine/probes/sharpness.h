#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/probes/probe.h"
#include "engine/probes/probe_workspace.h"
#include "engine/tensor/arena.h"

namespace normlab::engine {

struct SharpnessOptions {
  int batches = 1;  // of the fixed set of examples
  int iterations = 20;
  // (2 + 2 momentum) of plain gradient descent on the whole training set; else the threshold is not reported.
  std::optional<double> stability_numerator;
  uint32_t seed = 0;
};

// The greatest eigenvalue of the Hessian of the training-mode loss on a fixed set of examples, by power iteration that
// starts from the last time's vector. H v comes from central differences of gradients, (g(w + e v) - g(w - e v)) / 2e with
// |v| = 1 and e = 1e-3 |w|. Should the eigenvalue of greatest magnitude be negative, the iteration goes on with the
// spectrum shifted by it. Costs two forward and backward passes an iteration and batch.
class SharpnessProbe final : public Probe {
 public:
  // The workspace must have training plans and outlive the probe.
  SharpnessProbe(ProbeWorkspace& workspace, const Graph& graph, const SharpnessOptions& options);

  const std::vector<std::string>& series() const override { return series_; }
  void BeforeUpdate(const ProbeStep& step, absl::Span<double> values) override;
  std::vector<MutableTensor> state() override;

 private:
  // gradient = mean over the fixed batches of the gradient at w + distance vector_; false: it overflowed.
  bool MeanGradient(const ProbeStep& step, double distance, absl::Span<float> gradient);
  // Of the vector v before an iteration.
  struct Product {
    double rayleigh = 0;  // v^T H v
    double norm = 0;      // ||H v||, at least |rayleigh|, and equal to it for an eigenvector only
  };

  // vector_ <- H vector_ + shift vector_, normalized. nullopt: overflow.
  std::optional<Product> Iterate(const ProbeStep& step, double distance, double shift);
  void Restart();

  ProbeWorkspace& workspace_;
  const Graph& graph_;
  const SharpnessOptions options_;
  std::vector<std::string> series_;
  Arena vector_;  // of norm 1
  Arena product_;
};

}  // namespace normlab::engine
