#include "engine/train/network_options.h"

namespace normlab::engine {
namespace {

ConvolutionPolicy PolicyOf(v1::ConvolutionAlgorithm::Kind algorithm) {
  switch (algorithm) {
    case v1::ConvolutionAlgorithm::DIRECT:
      return ConvolutionPolicy::kDirect;
    case v1::ConvolutionAlgorithm::WINOGRAD:
      return ConvolutionPolicy::kWinograd;
    case v1::ConvolutionAlgorithm::MEASURE:
      return ConvolutionPolicy::kMeasure;
    default:  // a valid, resolved spec has no other value than AUTO
      return ConvolutionPolicy::kAuto;
  }
}

}  // namespace

NetworkOptions OptionsOf(const v1::JobSpec& resolved,
                         const DatasetShape& shape,
                         Mode mode,
                         int64_t batch_size) {
  return {.batch_size = batch_size,
          .mode = mode,
          .classes = shape.targets == 0,
          .type = resolved.precision() == v1::Precision::BF16 ? DataType::kBf16 : DataType::kF32,
          .convolution = PolicyOf(resolved.convolution_algorithm()),
          .seed = resolved.seed(),
          .threads = resolved.threads()};
}

}  // namespace normlab::engine
