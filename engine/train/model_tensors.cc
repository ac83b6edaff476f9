#include "engine/train/model_tensors.h"

#include <cstdint>

#include "absl/strings/str_cat.h"
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "common/sha256.h"
#include "engine/spec/ranks.h"
#include "engine/tensor/magnitude.h"

namespace normlab::engine {
namespace {

MutableTensor TensorView(const std::string& name,
                         const ParameterSpec& spec,
                         absl::Span<float> arena) {
  return {name, spec.dims,
          arena.subspan(static_cast<size_t>(spec.offset), static_cast<size_t>(spec.count))};
}

}  // namespace

std::vector<MutableTensor> ModelTensors(const Graph& graph, ModelState& model) {
  std::vector<MutableTensor> tensors;
  for (const ParameterSpec& spec : graph.parameters()) {
    tensors.push_back(TensorView(spec.name, spec, model.parameters.span()));
  }
  for (const ParameterSpec& spec : graph.state()) {
    tensors.push_back(TensorView(spec.name, spec, model.state.span()));
  }
  return tensors;
}

std::vector<WeightTarget> WeightTargets(const Graph& graph, ModelState& model) {
  std::vector<WeightTarget> targets;
  for (const ParameterSpec& spec : graph.parameters()) {
    targets.push_back({TensorView(spec.name, spec, model.parameters.span()), spec.role});
  }
  for (const ParameterSpec& spec : graph.state()) {
    targets.push_back({TensorView(spec.name, spec, model.state.span()), spec.role});
  }
  return targets;
}

std::vector<MutableTensor> OptimizerTensors(const Graph& graph, Optimizer& optimizer) {
  std::vector<MutableTensor> tensors;
  for (const OptimizerSlot& slot : optimizer.slots()) {
    for (const ParameterSpec& spec : graph.parameters()) {
      tensors.push_back(TensorView(absl::StrCat(slot.name, ".", spec.name), spec, slot.values));
    }
  }
  return tensors;
}

std::vector<MutableCounter> OptimizerCounters(Optimizer& optimizer) {
  std::vector<MutableCounter> counters;
  for (const OptimizerCounter& counter : optimizer.counters()) {
    counters.push_back({counter.name, counter.value});
  }
  return counters;
}

std::vector<ConstTensor> AsConst(const std::vector<MutableTensor>& tensors) {
  std::vector<ConstTensor> views;
  views.reserve(tensors.size());
  for (const MutableTensor& tensor : tensors) {
    views.push_back({tensor.name, tensor.dims, tensor.values});
  }
  return views;
}

std::vector<ConstCounter> AsConst(const std::vector<MutableCounter>& counters) {
  std::vector<ConstCounter> values;
  values.reserve(counters.size());
  for (const MutableCounter& counter : counters) {
    values.push_back({counter.name, *counter.value});
  }
  return values;
}

std::string WeightsSha256(const std::vector<MutableTensor>& tensors) {
  common::Sha256 digest;
  for (const MutableTensor& tensor : tensors) {
    digest.Update(tensor.values.data(), tensor.values.size() * sizeof(float));
  }
  return digest.FinishHex();
}

bool AllFinite(absl::Span<const float> values) {
  return LargestMagnitude(values.data(), static_cast<int64_t>(values.size())) < kInfinityBits;
}

std::string TrainingSpecSha256(const v1::JobSpec& resolved, bool batch_statistics) {
  v1::JobSpec spec = resolved;
  spec.clear_display_name();
  spec.clear_labels();
  spec.clear_priority();
  spec.clear_max_retries();
  spec.clear_time_limit();
  spec.clear_checkpoint();
  if (!batch_statistics || StatisticsGroups(resolved) == 1) {
    spec.clear_data_parallel();
  }
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    spec.SerializeToCodedStream(&coded);
  }
  return common::Sha256Hex(bytes);
}

}  // namespace normlab::engine
