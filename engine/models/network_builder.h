#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "engine/graph/graph.h"
#include "engine/models/build_graph.h"
#include "engine/models/normalizer_traits.h"

namespace normlab::engine {

ActivationKind ToActivationKind(v1::Activation::Kind kind);
PoolNode ToPoolNode(const v1::Pooling& pooling);
// channels * multiplier, rounded, at least 1.
int64_t ScaledChannels(int64_t channels, double multiplier);

// The normalizer of one weight layer.
struct NormalizerChoice {
  const v1::Normalizer* normalizer = nullptr;  // the spec's
  NormalizerOrigin origin;
  NormalizerTraits traits;
  bool after_activation = false;
};

// What the builders of model families share: appends layers to a graph, each with the normalizer
// that the spec chooses for it, until one does not fit, and turns that into a violation.
//
// Not thread-safe. The spec must outlive it.
class NetworkBuilder {
 public:
  // Makes a node's name from what it is: "bn", "gn", ..., or "act".
  using Namer = std::function<std::string(absl::string_view kind)>;

  NetworkBuilder(const v1::JobSpec& resolved, const DatasetShape& shape);

  // What the next layer reads when nothing else is said: the layer added last, or the input.
  const std::string& current() const { return current_; }
  void set_current(const std::string& node) { current_ = node; }
  const Dims& current_dims() const { return DimsOf(current_); }
  // Numbers that the network has to put out.
  int64_t outputs() const { return outputs_; }
  const v1::Normalizer& normalization() const { return spec_.normalization(); }
  // False: a violation was found, and what is added has no effect.
  bool ok() const { return violations_.empty(); }

  // The normalizer of a weight layer that may have one: the last override that matches its name,
  // else the job's.
  NormalizerChoice Choose(const std::string& layer);

  // Appends a node. `field`: what to blame when it does not fit.
  void Add(const std::string& field,
           const std::string& name,
           NodeKind kind,
           const std::vector<std::string>& inputs = {});
  // Weight layers with the bias and the weights that their normalizers want. `activation`: the one
  // that follows; it matters to normalizers that come after it.
  void AddLinear(const std::string& field,
                 const std::string& name,
                 int64_t outputs,
                 const NormalizerChoice& choice,
                 ActivationKind activation);
  void AddConvolution(const std::string& field,
                      const std::string& name,
                      ConvNode node,
                      const NormalizerChoice& choice,
                      ActivationKind activation);
  // Nothing when the choice has no node.
  void AddNormalizer(const NormalizerChoice& choice,
                     const std::string& name,
                     float initial_gamma = 1);
  // Nothing for the identity.
  void AddActivation(const std::string& name, ActivationKind activation);
  // Both, in the order that the choice says.
  void AddNormalizerAndActivation(const NormalizerChoice& choice,
                                  ActivationKind activation,
                                  const Namer& namer);
  // False, with a violation, when the data are no images.
  bool RequireImages(absl::string_view model);
  // Zeros around images that are smaller than size x size.
  void PadImages(int64_t size);
  // [C,H,W] -> [C*H*W]; nothing when the current shape is flat.
  void Flatten(const std::string& field);

  void Fail(const std::string& field, std::string description);
  // Appends the loss, checks that every override was used, and gives the network away.
  BuiltGraph Finish();

 private:
  const Dims& DimsOf(const std::string& node) const;
  // Weight norm has no node of its own; it is the weight layer's.
  void RememberWeightNorm(const NormalizerChoice& choice, const std::string& name);
  void AddLoss();
  void CheckOverrides();
  std::string WhyNoLayerMatches(const std::string& pattern) const;

  const v1::JobSpec& spec_;
  const int64_t outputs_;
  const bool has_targets_;
  Graph graph_;
  std::string current_ = kGraphInputName;
  std::vector<bool> used_overrides_;
  std::vector<std::string> normalized_layers_;
  std::map<std::string, NormalizerOrigin> normalizers_;
  std::vector<Violation> violations_;
};

}  // namespace normlab::engine
