#pragma once

#include <string>
#include <vector>

#include "engine/graph/weight_layers.h"
#include "engine/probes/probe.h"
#include "engine/probes/probe_workspace.h"

namespace normlab::engine {

// Norms of gradients, weights and updates, in all and by layer. |dL/dz|, z the layer's output before its normalizer, comes
// from a forward and backward pass of the unfused network; the rest costs no pass.
class GradientNormsProbe final : public Probe {
 public:
  // The workspace must save parameters, have unfused plans, and outlive the probe.
  GradientNormsProbe(ProbeWorkspace& workspace, std::vector<WeightLayer> layers);

  const std::vector<std::string>& series() const override { return series_; }
  void BeforeUpdate(const ProbeStep& step, absl::Span<double> values) override;
  void AfterUpdate(const ProbeStep& step, absl::Span<double> values) override;

 private:
  ProbeWorkspace& workspace_;
  const std::vector<WeightLayer> layers_;
  const std::vector<TensorRange> weights_;  // of the whole network
  std::vector<std::string> series_;
};

// What scale invariance does to weights before a normalizer (van Laarhoven 2017): the cosine of weights and their
// gradient, 0 where the loss does not depend on the weights' scale, and the effective learning rate, rate / |w|^2.
class ScaleInvarianceProbe final : public Probe {
 public:
  explicit ScaleInvarianceProbe(std::vector<WeightLayer> layers);

  const std::vector<std::string>& series() const override { return series_; }
  void BeforeUpdate(const ProbeStep& step, absl::Span<double> values) override;

 private:
  const std::vector<WeightLayer> layers_;
  std::vector<std::string> series_;
};

// Mean, deviation (biased), minimum and maximum of every gamma and beta.
class NormalizerParametersProbe final : public Probe {
 public:
  explicit NormalizerParametersProbe(const std::vector<AffineNormalizer>& normalizers);

  const std::vector<std::string>& series() const override { return series_; }
  void BeforeUpdate(const ProbeStep& step, absl::Span<double> values) override;

 private:
  std::vector<TensorRange> ranges_;
  std::vector<std::string> series_;
};

}  // namespace normlab::engine
