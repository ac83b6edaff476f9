#include "tests/numeric/reference_normalizer_node.h"

#include <optional>
#include <utility>
#include <variant>

#include "engine/layers/reference_normalizers.h"

namespace normlab::engine {
namespace {

using reference::Divisor;
using reference::Tensor;

// A normalizer of sets.
struct Formula {
  reference::SetNormalizer sets;
  std::optional<double> running_update_rate;  // it has running statistics
  bool frozen = false;                        // which never change
  const BatchRenormNode* renorm = nullptr;
};

// A function object over NodeKind; nullopt: no normalizer of sets.
struct FindFormula {
  const reference::NormShape& shape;

  using Found = std::optional<Formula>;

  Formula Batch(double epsilon, double rate, Divisor divisor, int64_t examples) const {
    Formula formula;
    formula.sets.shape = shape;
    formula.sets.sets = reference::BatchSets(shape, examples);
    formula.sets.divisor = divisor;
    formula.sets.epsilon = epsilon;
    formula.running_update_rate = rate;
    return formula;
  }
  Formula Batch(const BatchNormNode& node) const {
    return Batch(node.epsilon, node.running_update_rate, Divisor::kDeviation, shape.batch);
  }
  Formula Example(double epsilon, int64_t groups, Divisor divisor) const {
    Formula formula;
    formula.sets.shape = shape;
    formula.sets.sets = reference::GroupSets(shape, groups);
    formula.sets.divisor = divisor;
    formula.sets.centred = divisor == Divisor::kDeviation;
    formula.sets.epsilon = epsilon;
    return formula;
  }

  Found operator()(const BatchNormNode& node) const { return Batch(node); }
  Found operator()(const NoisyBatchNormNode& node) const {
    return node.normalize ? Found(Batch(node.batch)) : std::nullopt;
  }
  Found operator()(const BatchRenormNode& node) const {
    Formula formula = Batch(node.batch);
    formula.renorm = &node;
    return formula;
  }
  Found operator()(const GhostBatchNormNode& node) const {
    return Batch(node.batch.epsilon, node.batch.running_update_rate, Divisor::kDeviation,
                 node.size);
  }
  Found operator()(const LpBatchNormNode& node) const {
    const Divisor divisor = node.power == LpBatchNormNode::Power::kOne ? Divisor::kMeanAbsolute
                            : node.power == LpBatchNormNode::Power::kTwo
                                ? Divisor::kRootMeanSquare
                                : Divisor::kMaximumAbsolute;
    return Batch(node.batch.epsilon, node.batch.running_update_rate, divisor, shape.batch);
  }
  Found operator()(const MeanOnlyBatchNormNode& node) const {
    return Batch(0, node.running_update_rate, Divisor::kOne, shape.batch);
  }
  Found operator()(const FrozenBatchNormNode& node) const {
    Formula formula = Batch(node.batch);
    formula.frozen = true;
    return formula;
  }
  Found operator()(const GroupNormNode& node) const {
    return Example(node.epsilon, node.groups, Divisor::kDeviation);
  }
  Found operator()(const RmsNormNode& node) const {
    return Example(node.epsilon, 1, Divisor::kRootMeanSquare);
  }
  Found operator()(const FilterResponseNode& node) const {
    return Example(node.epsilon, shape.channels, Divisor::kRootMeanSquare);
  }
  template <typename Other>
  Found operator()(const Other&) const {
    return std::nullopt;
  }
};

template <typename... Kinds>
bool IsOneOf(const NodeKind& kind) {
  return (std::holds_alternative<Kinds>(kind) || ...);
}

reference::NormShape ShapeOf(const Node& node, int64_t batch) {
  return {batch, node.in[0], ElementCount(node.in) / node.in[0]};
}

// The formula with the values and, where it does not take the sets' own, the statistics.
std::optional<Formula> FormulaOf(const Node& node,
                                 const NormalizerPass& pass,
                                 const NormalizerValues& values,
                                 const Tensor& x) {
  const reference::NormShape shape = ShapeOf(node, pass.batch);
  std::optional<Formula> formula = std::visit(FindFormula{shape}, node.kind);
  if (!formula.has_value()) {
    return formula;
  }
  reference::SetNormalizer& sets = formula->sets;
  sets.gamma = values.gamma;
  sets.beta = values.beta;
  sets.tau = values.tau;
  if (formula->running_update_rate.has_value() && (formula->frozen || !pass.training)) {
    sets.given = values.running;
  } else if (formula->renorm != nullptr) {
    sets.renorm = reference::RenormOf(sets, x, values.running, formula->renorm->r_max,
                                      formula->renorm->d_max);
  }
  return formula;
}

std::optional<reference::Noise> NoiseOf(const Node& node, const NormalizerPass& pass) {
  const auto* noisy = std::get_if<NoisyBatchNormNode>(&node.kind);
  if (noisy == nullptr || !pass.training) {
    return std::nullopt;
  }
  return reference::DrawNoise(
      pass.seed, node.name, pass.step, ShapeOf(node, pass.batch),
      {noisy->mean_range, noisy->deviation_range, noisy->mean_jitter, noisy->deviation_jitter});
}

// UpdatedRunning also for mean-only batch norm, which has no second statistic.
reference::Statistics Updated(const Formula& formula,
                              const Tensor& x,
                              reference::Statistics running) {
  const bool mean_only = running.var.empty();
  if (mean_only) {
    running.var.assign(running.mean.size(), 1.0);
  }
  reference::SetNormalizer own = formula.sets;
  own.renorm.clear();
  running = reference::UpdatedRunning(own, x, *formula.running_update_rate, running);
  if (mean_only) {
    running.var.clear();
  }
  return running;
}

}  // namespace

bool IsNormalizer(const NodeKind& kind) {
  return IsOneOf<BatchNormNode, NoisyBatchNormNode, BatchRenormNode, GhostBatchNormNode,
                 LpBatchNormNode, MeanOnlyBatchNormNode, FrozenBatchNormNode, GroupNormNode,
                 RmsNormNode, FilterResponseNode, DynamicTanhNode>(kind);
}

NormalizerOutput ReferenceNormalizerForward(const Node& node,
                                            const NormalizerPass& pass,
                                            const NormalizerValues& values,
                                            const Tensor& x) {
  NormalizerOutput output = {x, values.running};
  if (std::holds_alternative<DynamicTanhNode>(node.kind)) {
    output.y = reference::DynamicTanhForward(ShapeOf(node, pass.batch), values.alpha[0],
                                             values.gamma, values.beta, x);
    return output;
  }
  if (const std::optional<Formula> formula = FormulaOf(node, pass, values, x)) {
    output.y = reference::Forward(formula->sets, x);
    if (formula->running_update_rate.has_value() && !formula->frozen && pass.training) {
      output.running = Updated(*formula, x, values.running);
    }
  }
  if (const std::optional<reference::Noise> noise = NoiseOf(node, pass)) {
    for (size_t i = 0; i < output.y.size(); ++i) {
      output.y[i] = noise->scale[i] * output.y[i] + noise->shift[i];
    }
  }
  return output;
}

NormalizerNodeGradients ReferenceNormalizerBackward(const Node& node,
                                                    const NormalizerPass& pass,
                                                    const NormalizerValues& values,
                                                    const Tensor& x,
                                                    const Tensor& d_y) {
  if (std::holds_alternative<DynamicTanhNode>(node.kind)) {
    reference::DynamicTanhGradients d = reference::DynamicTanhBackward(
        ShapeOf(node, pass.batch), values.alpha[0], values.gamma, x, d_y);
    return {std::move(d.d_x), std::move(d.d_gamma), std::move(d.d_beta), {}, {d.d_alpha}};
  }
  Tensor d = d_y;
  if (const std::optional<reference::Noise> noise = NoiseOf(node, pass)) {
    for (size_t i = 0; i < d.size(); ++i) {
      d[i] *= noise->scale[i];
    }
  }
  const std::optional<Formula> formula = FormulaOf(node, pass, values, x);
  if (!formula.has_value()) {
    return {std::move(d), {}, {}, {}, {}};
  }
  reference::NormalizerGradients gradients = reference::Backward(formula->sets, x, d);
  return {std::move(gradients.d_x),
          std::move(gradients.d_gamma),
          std::move(gradients.d_beta),
          std::move(gradients.d_tau),
          {}};
}

}  // namespace normlab::engine
