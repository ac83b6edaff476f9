#include "engine/layers/normalization/effective_weights.h"

#include <algorithm>
#include <bit>
#include <vector>

namespace normlab::engine {
namespace {

// The numbers of a tensor in memory order, as floats.
std::vector<float> AsFloats(const View& view) {
  const auto count = static_cast<size_t>(view.layout.element_count());
  if (view.layout.type() == DataType::kF32) {
    return {view.floats(), view.floats() + count};
  }
  const auto* halves = reinterpret_cast<const uint16_t*>(view.buffer->data);
  std::vector<float> floats(count);
  std::transform(halves, halves + count, floats.begin(),
                 [](uint16_t half) { return std::bit_cast<float>(uint32_t{half} << 16U); });
  return floats;
}

}  // namespace

EffectiveWeights::EffectiveWeights(const WeightOptions& options,
                                   const Layout& plain,
                                   const LayerParameters& parameters)
    : transform_(options.transform),
      initializes_(options.transform == WeightTransform::kWeightNorm &&
                   options.data_dependent_init),
      plain_(plain),
      parameters_(parameters) {
  const int64_t outputs = plain.dims()[0];
  const int64_t fan_in = plain.element_count() / outputs;
  if (transform_ == WeightTransform::kWeightNorm) {
    normalization_ = std::make_unique<WeightNormalization>(outputs, fan_in);
  } else if (transform_ == WeightTransform::kStandardization) {
    standardizer_ = std::make_unique<WeightStandardizer>(outputs, fan_in);
  }
}

View EffectiveWeights::Plan(Planner& planner) {
  weights_ = transform_ == WeightTransform::kNone
                 ? View{plain_, planner.Borrow(parameters_.weight, plain_.element_count())}
                 : planner.ReserveKept(plain_);
  return weights_;
}

void EffectiveWeights::PrepareInitialization() const {
  const int64_t outputs = plain_.dims()[0];
  std::fill_n(parameters_.gain, outputs, 1.0F);
  if (parameters_.bias != nullptr) {
    std::fill_n(parameters_.bias, outputs, 0.0F);
  }
}

void EffectiveWeights::Initialize(const View& y) const {
  const ChannelBlocking blocking = *y.layout.channel_blocking();
  const std::vector<float> values = AsFloats(y);
  const std::vector<SetStatistics> outputs = BatchStatisticsOf(blocking, values.data());
  std::vector<float> bias(outputs.size());
  DataDependentScale(outputs, parameters_.gain, bias.data());
  if (parameters_.bias != nullptr) {
    std::copy(bias.begin(), bias.end(), parameters_.bias);
  }
}

void EffectiveWeights::Refresh() {
  if (normalization_ != nullptr) {
    normalization_->Forward(parameters_.weight, parameters_.gain, weights_.floats());
  } else if (standardizer_ != nullptr) {
    standardizer_->Forward(parameters_.weight, weights_.floats());
  }
}

void EffectiveWeights::Backward() {
  if (normalization_ != nullptr) {
    normalization_->Backward(parameters_.weight, parameters_.gain, parameters_.d_weight,
                             parameters_.d_weight, parameters_.d_gain);
  } else if (standardizer_ != nullptr) {
    standardizer_->Backward(parameters_.weight, parameters_.d_weight, parameters_.d_weight);
  }
}

}  // namespace normlab::engine
