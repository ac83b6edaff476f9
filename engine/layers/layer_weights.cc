#include "engine/layers/layer_weights.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"
#include "engine/dnnl/data_type.h"

namespace normlab::engine {
namespace {

// Element [n, c, a] of an activation in a blocked layout, of either type.
double ElementAt(const View& view, const ChannelBlocking& shape, int64_t n, int64_t c, int64_t a) {
  const int64_t block_row = n * shape.blocks() + c / shape.block;
  const int64_t at = (block_row * shape.area + a) * shape.block + c % shape.block;
  return view.layout.type() == DataType::kF32
             ? view.floats()[at]
             : FromBf16(reinterpret_cast<const uint16_t*>(view.buffer->data)[at]);
}

// Mean and biased variance of every channel, in double: once in a run, so plain loops do.
std::vector<SetStatistics> ChannelStatistics(const View& view) {
  const ChannelBlocking shape = *view.layout.channel_blocking();
  const auto values = static_cast<double>(shape.batch * shape.area);
  std::vector<SetStatistics> statistics(static_cast<size_t>(shape.channels));
  for (int64_t c = 0; c < shape.channels; ++c) {
    const auto sum = [&](auto&& term) {
      double total = 0;
      for (int64_t n = 0; n < shape.batch; ++n) {
        for (int64_t a = 0; a < shape.area; ++a) {
          total += term(ElementAt(view, shape, n, c, a));
        }
      }
      return total;
    };
    SetStatistics& channel = statistics[static_cast<size_t>(c)];
    channel.mean = sum([](double x) { return x; }) / values;
    channel.magnitude =
        sum([&channel](double x) { return (x - channel.mean) * (x - channel.mean); }) / values;
  }
  return statistics;
}

}  // namespace

LayerWeights::LayerWeights(std::string name,
                           const WeightOptions& options,
                           const Dims& dims,
                           int64_t outputs,
                           const LayerParameters& parameters)
    : name_(std::move(name)),
      options_(options),
      dims_(dims),
      outputs_(outputs),
      parameters_(parameters),
      fan_in_(ElementCount(dims) / outputs) {}

void LayerWeights::Plan(Planner& planner) {
  switch (options_.transform) {
    case WeightTransform::kNone:
      weight_ = {Plain(), planner.Borrow(parameters_.weight, ElementCount(dims_))};
      return;
    case WeightTransform::kWeightNorm:
      normalization_ = std::make_unique<WeightNormalization>(outputs_, fan_in_);
      break;
    case WeightTransform::kStandardization:
      standardizer_ = std::make_unique<WeightStandardizer>(outputs_, fan_in_);
      break;
  }
  weight_ = planner.ReserveKept(Plain());
  planner.Record(
      name_, "weights",
      normalization_ != nullptr ? "normlab:weight_norm" : "normlab:weight_standardization");
}

absl::StatusOr<View> LayerWeights::For(Planner& planner, const Layout& wanted) {
  if (wanted == weight_.layout) {
    return weight_;
  }
  const View copy = planner.ReserveKept(wanted);
  NORMLAB_RETURN_IF_ERROR(
      planner.ConvertInto(name_, weight_, copy, refresh_, "reorder_weights", When::kAnyTime));
  return copy;
}

absl::StatusOr<View> LayerWeights::GradientFor(Planner& planner, const Layout& wanted) {
  d_weight_ = options_.transform == WeightTransform::kNone
                  ? View{Plain(), planner.Borrow(parameters_.d_weight, ElementCount(dims_))}
                  : planner.Reserve(Plain());
  if (wanted == d_weight_.layout) {
    return d_weight_;
  }
  const View copy = planner.Reserve(wanted);
  NORMLAB_RETURN_IF_ERROR(planner.ConvertInto(name_, copy, d_weight_, store_, "reorder_gradient"));
  return copy;
}

void LayerWeights::Refresh() {
  if (normalization_ != nullptr) {
    normalization_->Forward(parameters_.weight, parameters_.gain, weight_.floats());
  } else if (standardizer_ != nullptr) {
    standardizer_->Forward(parameters_.weight, weight_.floats());
  }
  RunAll(refresh_);
}

void LayerWeights::StoreGradient() {
  RunAll(store_);
  if (normalization_ != nullptr) {
    normalization_->Backward(parameters_.weight, parameters_.gain, d_weight_.floats(),
                             parameters_.d_weight, parameters_.d_gain);
  } else if (standardizer_ != nullptr) {
    standardizer_->Backward(parameters_.weight, d_weight_.floats(), parameters_.d_weight);
  }
}

void LayerWeights::BeginInitialization() {
  std::fill_n(parameters_.gain, outputs_, 1.0F);
  if (parameters_.bias != nullptr) {
    std::fill_n(parameters_.bias, outputs_, 0.0F);
  }
  Refresh();
}

void LayerWeights::Initialize(const View& y) {
  std::vector<float> unused_bias(static_cast<size_t>(outputs_));
  DataDependentScale(ChannelStatistics(y), parameters_.gain,
                     parameters_.bias != nullptr ? parameters_.bias : unused_bias.data());
  Refresh();
}

}  // namespace normlab::engine
