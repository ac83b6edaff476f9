#include "engine/models/build_graph.h"

#include <algorithm>

#include "engine/models/families.h"
#include "engine/spec/ranks.h"
#include "engine/spec/load_plan.h"
#include "engine/spec/optimizer_memory.h"

namespace normlab::engine {

BuiltGraph BuildGraph(const v1::JobSpec& resolved, const DatasetShape& shape) {
  NetworkBuilder builder(resolved, shape);
  const v1::Model& model = resolved.model();
  switch (model.kind_case()) {
    case v1::Model::kMlp:
      BuildMlp(model.mlp(), builder);
      break;
    case v1::Model::kCnn:
      BuildCnn(model.cnn(), builder);
      break;
    case v1::Model::kDeepLinear:
      BuildDeepLinear(model.deep_linear(), builder);
      break;
    case v1::Model::kVgg:
      BuildVgg(model.vgg(), builder);
      break;
    case v1::Model::kResnet:
      BuildResNet(model.resnet(), builder);
      break;
    case v1::Model::kCustom:
      BuildCustom(model.custom(), builder);
      break;
    case v1::Model::KIND_NOT_SET:
      builder.Fail("model", "is missing; name a model, for example {\"mlp\": {}}");
      break;
  }
  return builder.Finish();
}

namespace {

WinogradUse ToWinogradUse(v1::ConvolutionAlgorithm::Kind algorithm) {
  switch (algorithm) {
    case v1::ConvolutionAlgorithm::DIRECT:
      return WinogradUse::kNever;
    case v1::ConvolutionAlgorithm::WINOGRAD:
    case v1::ConvolutionAlgorithm::MEASURE:
      return WinogradUse::kAlways;
    default:  // AUTO; a valid, resolved spec has no other value
      return WinogradUse::kWide;
  }
}

// What ProbeSet::Plan makes.
void AddProbes(const v1::JobSpec& resolved, int64_t examples, MemoryInputs& inputs) {
  for (const v1::Probe& probe : resolved.probes()) {
    switch (probe.kind_case()) {
      case v1::Probe::kLandscape:
      case v1::Probe::kGradientNoise:
        inputs.probe_training = true;
        break;
      case v1::Probe::kCovariateShift:
        inputs.probe_training = true;
        inputs.probe_vectors += 1;
        break;
      case v1::Probe::kSharpness:
        inputs.probe_training = true;
        inputs.probe_vectors += 2;
        break;
      case v1::Probe::kGradientNorms:
        inputs.probe_unfused = true;
        inputs.probe_vectors += 1;
        break;
      case v1::Probe::kActivationStatistics:
        inputs.probe_unfused = true;
        break;
      case v1::Probe::kLossSurface:
        inputs.probe_evaluation = true;
        inputs.probe_vectors += 2;
        break;
      case v1::Probe::kScaleInvariance:
      case v1::Probe::kNormalizerParameters:
      case v1::Probe::KIND_NOT_SET:
        break;
    }
  }
  if (!resolved.probes().empty()) {
    inputs.probes = true;
    inputs.probe_vectors += 1;  // scratch
    // Two more orders of the training examples.
    inputs.data_bytes += int64_t{2} * 4 * examples;
  }
}

}  // namespace

MemoryEstimate EstimateJobMemory(const v1::JobSpec& resolved,
                                 const Graph& graph,
                                 const DatasetShape& shape) {
  const RunLength length = ComputeRunLength(resolved, shape);
  const int64_t evaluation_batch = std::min<int64_t>(resolved.evaluation().batch_size(),
                                                     std::max<int64_t>(length.test_examples, 1));
  MemoryInputs inputs;
  // A full batch that the training set does not fill is never planned.
  inputs.batch_size = length.train_examples >= resolved.batch_size() ? resolved.batch_size() : 0;
  inputs.last_batch_size = length.last_batch_size;
  inputs.evaluation_batch_size = evaluation_batch;
  inputs.evaluation_last_batch_size = length.test_examples % evaluation_batch;
  inputs.optimizer_slots = OptimizerSlotCount(resolved.optimizer());
  inputs.data_bytes = DecodedBytes(shape) + PlanLoading(resolved, shape).buffer_bytes;
  inputs.threads = resolved.threads();
  inputs.ranks = RanksOf(resolved);
  // The first rank's share is the largest.
  inputs.batch_size = ShareOf(inputs.batch_size, 0, inputs.ranks).count;
  inputs.last_batch_size = ShareOf(inputs.last_batch_size, 0, inputs.ranks).count;
  inputs.bf16 = resolved.precision() == v1::Precision::BF16;
  inputs.winograd = ToWinogradUse(resolved.convolution_algorithm());
  AddProbes(resolved, length.train_examples, inputs);
  return EstimateMemory(graph, inputs);
}

}  // namespace normlab::engine
