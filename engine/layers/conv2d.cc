#include "engine/layers/conv2d.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "common/status_macros.h"

namespace normlab::engine {
namespace {

// [O,I,K,K], or [G,O/G,I/G,K,K]: the same numbers in the same order as [O,I/G,K,K].
Dims WeightDims(const Node& node, const ConvNode& conv) {
  if (conv.groups == 1) {
    return {conv.out_channels, node.in[0], conv.kernel, conv.kernel};
  }
  return {conv.groups, conv.out_channels / conv.groups, node.in[0] / conv.groups, conv.kernel,
          conv.kernel};
}

absl::StatusOr<ConvolutionChoice> FastestCandidate(const Runtime& runtime,
                                                   const ConvolutionProblem& problem,
                                                   ConvolutionPass pass,
                                                   const ConvolutionNeighbours& neighbours) {
  const auto candidates = ConvolutionCandidates(problem, pass, HasWinograd());
  ConvolutionChoice fastest = candidates[0];
  if (candidates.size() == 1) {
    return fastest;
  }
  double least = std::numeric_limits<double>::infinity();
  for (const ConvolutionChoice& candidate : candidates) {
    const absl::StatusOr<double> seconds =
        MeasureConvolution(runtime, problem, pass, candidate, neighbours);
    if (absl::IsUnimplemented(seconds.status())) {
      continue;
    }
    NORMLAB_RETURN_IF_ERROR(seconds.status());
    if (*seconds < least) {
      least = *seconds;
      fastest = candidate;
    }
  }
  return fastest;
}

// As an earlier start of the run measured it, else measured now.
absl::StatusOr<ConvolutionChoice> MeasuredChoice(const Planner& planner,
                                                 absl::string_view layer,
                                                 const ConvolutionProblem& problem,
                                                 ConvolutionPass pass,
                                                 const ConvolutionNeighbours& neighbours) {
  MeasuredChoices* const measured = planner.options().measured;
  const std::string key = absl::StrCat(problem.training ? "training" : "evaluation", " of ",
                                       problem.x[0], ": ", layer, " ", PassName(pass));
  if (measured != nullptr) {
    const auto known = measured->find(key);
    const auto candidates = ConvolutionCandidates(problem, pass, HasWinograd());
    if (const auto choice =
            known == measured->end() ? std::nullopt : ParseConvolutionChoice(known->second);
        choice.has_value() &&
        std::find(candidates.begin(), candidates.end(), *choice) != candidates.end()) {
      return *choice;
    }
  }
  NORMLAB_ASSIGN_OR_RETURN(const ConvolutionChoice fastest,
                           FastestCandidate(planner.runtime(), problem, pass, neighbours));
  if (measured != nullptr) {
    (*measured)[key] = ToString(fastest);
  }
  return fastest;
}

absl::StatusOr<ConvolutionChoice> Choose(const Planner& planner,
                                         absl::string_view layer,
                                         const ConvolutionProblem& problem,
                                         ConvolutionPass pass,
                                         const ConvolutionNeighbours& neighbours) {
  switch (planner.options().convolution) {
    case ConvolutionPolicy::kAuto:
      return ChooseConvolution(problem, pass, HasWinograd());
    case ConvolutionPolicy::kDirect:
      break;
    case ConvolutionPolicy::kWinograd:
      return ConvolutionCandidates(problem, pass, HasWinograd()).back();
    case ConvolutionPolicy::kMeasure:
      return MeasuredChoice(planner, layer, problem, pass, neighbours);
  }
  return ConvolutionChoice{ConvAlgorithm::kDirect, problem.type};
}

}  // namespace

Conv2dLayer::Conv2dLayer(const Node& node, const ConvNode& conv, const LayerParameters& parameters)
    : Layer(node.name),
      in_(node.in),
      out_(node.out),
      weight_dims_(WeightDims(node, conv)),
      geometry_{.kernel = conv.kernel, .stride = conv.stride, .padding = conv.padding},
      bias_(conv.bias),
      parameters_(parameters),
      weights_(node.name, conv.weights, weight_dims_, conv.out_channels, parameters) {}

absl::StatusOr<Op*> Conv2dLayer::PlanPass(Planner& planner,
                                          ConvolutionPass pass,
                                          const ConvolutionNeighbours& neighbours) {
  NORMLAB_ASSIGN_OR_RETURN(const ConvolutionChoice choice,
                           Choose(planner, name(), problem_, pass, neighbours));
  absl::StatusOr<Op> made = MakeConvolution(planner.runtime(), problem_, pass, choice);
  if (choice.algorithm != ConvAlgorithm::kDirect && absl::IsUnimplemented(made.status())) {
    made =
        MakeConvolution(planner.runtime(), problem_, pass, {ConvAlgorithm::kDirect, problem_.type});
  }
  return planner.Adopt(name(), PassName(pass), std::move(made));
}

absl::StatusOr<View> Conv2dLayer::PlanForward(Planner& planner, absl::Span<const View> inputs) {
  given_x_ = inputs[0];
  weights_.Plan(planner);
  problem_ = {.x = {planner.batch(), in_[0], in_[1], in_[2]},
              .w = weight_dims_,
              .y = {planner.batch(), out_[0], out_[1], out_[2]},
              .geometry = geometry_,
              .type = planner.options().type,
              .bias = bias_,
              .training = planner.training()};
  if (UsesSmall(planner, ConvolutionPass::kForward)) {
    small_forward_ = true;
    x_ = given_x_;
    NORMLAB_ASSIGN_OR_RETURN(const View w, weights_.For(planner, Layout::RowMajor(weight_dims_)));
    NORMLAB_ASSIGN_OR_RETURN(y_, small_->PlanForward(planner, given_x_, w, parameters_.bias));
    return y_;
  }
  NORMLAB_ASSIGN_OR_RETURN(
      Op * op, PlanPass(planner, ConvolutionPass::kForward, {.x = given_x_.layout, .d_y = {}}));
  NORMLAB_ASSIGN_OR_RETURN(x_,
                           planner.Convert(name(), given_x_, op->layout(Arg::kSource), forward_));
  NORMLAB_ASSIGN_OR_RETURN(w_, weights_.For(planner, op->layout(Arg::kWeights)));
  y_ = planner.Reserve(op->layout(Arg::kDestination));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kSource, x_.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kWeights, w_.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kBias, planner.Borrow(parameters_.bias, out_[0])));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDestination, y_.buffer));
  forward_.push_back(op);
  return y_;
}

absl::StatusOr<View> Conv2dLayer::PlanBackward(Planner& planner, const View& d_y, bool wants_d_x) {
  NORMLAB_RETURN_IF_ERROR(PlanBackwardWeights(planner, d_y));
  if (!wants_d_x) {
    return View();
  }
  planner.Tick();  // so that the passes share memory
  return PlanBackwardData(planner, d_y);
}

absl::Status Conv2dLayer::PlanBackwardWeights(Planner& planner, const View& d_y) {
  if (UsesSmall(planner, ConvolutionPass::kBackwardWeights)) {
    small_weights_ = true;
    NORMLAB_ASSIGN_OR_RETURN(const View d_w,
                             weights_.GradientFor(planner, Layout::RowMajor(weight_dims_)));
    return small_->PlanBackwardWeights(planner, given_x_, d_y, d_w, parameters_.d_bias);
  }
  NORMLAB_ASSIGN_OR_RETURN(Op * op, PlanPass(planner, ConvolutionPass::kBackwardWeights,
                                             {.x = x_.layout, .d_y = d_y.layout}));
  // Whichever of the two already lies as wanted; else from what the forward pass read, which is no
  // larger.
  const View& source = given_x_.layout == op->layout(Arg::kSource) ? given_x_ : x_;
  NORMLAB_ASSIGN_OR_RETURN(
      const View x, planner.Convert(name(), source, op->layout(Arg::kSource), backward_weights_));
  NORMLAB_ASSIGN_OR_RETURN(
      const View d_out,
      planner.Convert(name(), d_y, op->layout(Arg::kDiffDestination), backward_weights_));
  NORMLAB_ASSIGN_OR_RETURN(const View d_w,
                           weights_.GradientFor(planner, op->layout(Arg::kDiffWeights)));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kSource, x.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDiffDestination, d_out.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDiffWeights, d_w.buffer));
  NORMLAB_RETURN_IF_ERROR(
      planner.Bind(*op, Arg::kDiffBias, planner.Borrow(parameters_.d_bias, out_[0])));
  backward_weights_.push_back(op);
  return absl::OkStatus();
}

absl::StatusOr<View> Conv2dLayer::PlanBackwardData(Planner& planner, const View& d_y) {
  if (UsesSmall(planner, ConvolutionPass::kBackwardData)) {
    small_data_ = true;
    return small_->PlanBackwardData(planner, d_y);
  }
  NORMLAB_ASSIGN_OR_RETURN(
      Op * op, PlanPass(planner, ConvolutionPass::kBackwardData, {.x = {}, .d_y = d_y.layout}));
  NORMLAB_ASSIGN_OR_RETURN(
      const View d_out,
      planner.Convert(name(), d_y, op->layout(Arg::kDiffDestination), backward_data_));
  View w = w_;
  if (op->layout(Arg::kWeights) != w_.layout) {
    NORMLAB_ASSIGN_OR_RETURN(w, weights_.For(planner, op->layout(Arg::kWeights)));
  }
  const View d_x = planner.Reserve(op->layout(Arg::kDiffSource));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDiffDestination, d_out.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kWeights, w.buffer));
  NORMLAB_RETURN_IF_ERROR(planner.Bind(*op, Arg::kDiffSource, d_x.buffer));
  backward_data_.push_back(op);
  return d_x;
}

bool Conv2dLayer::UsesSmall(const Planner& planner, ConvolutionPass pass) {
  const ConvolutionPolicy policy = planner.options().convolution;
  if ((policy != ConvolutionPolicy::kAuto && policy != ConvolutionPolicy::kMeasure) ||
      !SmallImageConvolution::Fits(problem_, pass)) {
    return false;
  }
  if (small_ == nullptr) {
    small_ = std::make_unique<SmallImageConvolution>(name(), problem_);
  }
  return true;
}

void Conv2dLayer::ParametersChanged() {
  weights_.Refresh();
  RefreshSmall();
}

void Conv2dLayer::RefreshSmall() const {
  if (small_ != nullptr) {
    small_->Refresh();
  }
}

void Conv2dLayer::Forward() {
  RunAll(forward_);
  if (small_forward_) {
    small_->Forward();
  }
}

void Conv2dLayer::Backward() {
  RunAll(backward_weights_);
  if (small_weights_) {
    small_->BackwardWeights();
  }
  weights_.StoreGradient();
  RunAll(backward_data_);
  if (small_data_) {
    small_->BackwardData();
  }
}

}  // namespace normlab::engine
