#include "engine/models/build_graph.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

#include "engine/spec/load_plan.h"
#include "engine/spec/optimizer_memory.h"

namespace normlab::engine {
namespace {

ActivationKind ToActivationKind(v1::Activation::Kind kind) {
  switch (kind) {
    case v1::Activation::SIGMOID:
      return ActivationKind::kSigmoid;
    case v1::Activation::TANH:
      return ActivationKind::kTanh;
    case v1::Activation::IDENTITY:
      return ActivationKind::kIdentity;
    default:  // a valid, resolved spec has no other value
      return ActivationKind::kRelu;
  }
}

// Appends layers to a graph until one does not fit, and turns that into a violation.
class Builder {
 public:
  Builder(const v1::JobSpec& resolved, const DatasetShape& shape, ActivationKind activation)
      : normalization_(resolved.normalization()),
        activation_(activation),
        classes_(shape.classes),
        graph_(InputDims(shape)) {}

  void AddBlock(const std::string& field, const v1::ConvolutionBlock& block) {
    Add(absl::StrCat(field, ".kernel"), absl::StrCat("conv", ++convolutions_),
        ConvNode{.out_channels = block.channels(),
                 .kernel = block.kernel(),
                 .stride = block.stride(),
                 .padding = block.padding(),
                 .bias = WeightLayerHasBias()});
    AddNormalizerAndActivation(field);
    if (block.has_pooling()) {
      const v1::Pooling& pooling = block.pooling();
      Add(absl::StrCat(field, ".pooling.window"), absl::StrCat("pool", ++pools_),
          PoolNode{
              .kind = pooling.kind() == v1::Pooling::AVERAGE ? PoolKind::kAverage : PoolKind::kMax,
              .window = pooling.window(),
              .stride = pooling.stride()});
    }
  }

  void AddHidden(const std::string& field, const google::protobuf::RepeatedField<int32_t>& hidden) {
    Add(field, "flatten", FlattenNode{});
    for (int i = 0; i < hidden.size(); ++i) {
      const std::string layer_field = absl::StrCat(field, "[", i, "]");
      Add(layer_field, absl::StrCat("fc", ++dense_),
          LinearNode{.out = hidden.Get(i), .bias = WeightLayerHasBias()});
      AddNormalizerAndActivation(layer_field);
    }
    // The last layer has no normalizer, and keeps its bias.
    Add(field, "head", LinearNode{.out = classes_, .bias = true});
    Add(field, "loss", SoftmaxCrossEntropyNode{});
  }

  BuiltGraph Take() {
    BuiltGraph built;
    if (violations_.empty()) {
      built.graph = std::move(graph_);
    }
    built.violations = std::move(violations_);
    return built;
  }

 private:
  // A normalizer with a beta makes a bias redundant. Batch norm subtracts the batch's mean, so that
  // a bias before it has no effect on anything even when it is not affine: none there either.
  bool WeightLayerHasBias() const { return !normalization_.has_batch(); }

  void AddNormalizerAndActivation(const std::string& field) {
    ++weight_layers_;
    if (normalization_.has_batch()) {
      const v1::BatchNorm& batch = normalization_.batch();
      Add(field, absl::StrCat("bn", weight_layers_),
          BatchNormNode{.epsilon = batch.epsilon(),
                        .running_update_rate = batch.running_update_rate(),
                        .affine = batch.affine()});
    }
    if (activation_ != ActivationKind::kIdentity) {
      Add(field, absl::StrCat("act", weight_layers_), ActivationNode{.kind = activation_});
    }
  }

  void Add(const std::string& field, std::string name, NodeKind kind) {
    if (!violations_.empty()) {
      return;  // every later shape would be a guess
    }
    const absl::Status status = graph_.Add(std::move(name), std::move(kind));
    if (!status.ok()) {
      violations_.push_back({field, std::string(status.message())});
    }
  }

  const v1::Normalizer& normalization_;
  const ActivationKind activation_;
  const int64_t classes_;
  Graph graph_;
  std::vector<Violation> violations_;
  int convolutions_ = 0;
  int pools_ = 0;
  int dense_ = 0;
  int weight_layers_ = 0;
};

}  // namespace

BuiltGraph BuildGraph(const v1::JobSpec& resolved, const DatasetShape& shape) {
  const v1::Model& model = resolved.model();
  if (model.has_mlp()) {
    Builder builder(resolved, shape, ToActivationKind(model.mlp().activation()));
    builder.AddHidden("model.mlp.hidden", model.mlp().hidden());
    return builder.Take();
  }
  if (model.has_cnn()) {
    Builder builder(resolved, shape, ToActivationKind(model.cnn().activation()));
    for (int i = 0; i < model.cnn().blocks_size(); ++i) {
      builder.AddBlock(absl::StrCat("model.cnn.blocks[", i, "]"), model.cnn().blocks(i));
    }
    builder.AddHidden("model.cnn.hidden", model.cnn().hidden());
    return builder.Take();
  }
  return {.graph = std::nullopt,
          .violations = {{"model", "is missing; name a model, for example {\"mlp\": {}}"}}};
}

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
  return EstimateMemory(graph, inputs);
}

}  // namespace normlab::engine
