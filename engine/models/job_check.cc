#include "engine/models/job_check.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include "engine/models/build_graph.h"
#include "engine/models/normalized_sets.h"
#include "engine/models/normalizer_node.h"
#include "engine/models/parallel_check.h"
#include "engine/models/probe_check.h"
#include "engine/spec/resolve.h"
#include "engine/spec/schedule_warnings.h"

namespace normlab::engine {
namespace {

using google::protobuf::FieldDescriptor;

// What an orthogonal initialization of all layers may take: some ten seconds, as of one layer of
// 4096x4096.
constexpr double kMaxOrthogonalOperations = 68719476736.0;
// Images have few channels and wide sides; the other way round they may have been saved as
// [N, H, W, C].
constexpr int32_t kFewChannels = 4;

// Calls `look` for every normalizer of the spec, with its field.
template <typename Look>
void ForEachNormalizer(const v1::JobSpec& resolved, const Look& look) {
  look("normalization", resolved.normalization());
  for (int i = 0; i < resolved.normalization_overrides_size(); ++i) {
    look(absl::StrCat("normalization_overrides[", i, "].normalization"),
         resolved.normalization_overrides(i).normalization());
  }
}

void WarnOfSettingsWithoutEffect(const v1::JobSpec& resolved, JobCheck& check) {
  const bool custom = resolved.model().has_custom();
  ForEachNormalizer(resolved, [&](const std::string& field, const v1::Normalizer& normalizer) {
    if (normalizer.placement() == v1::Placement::AFTER_ACTIVATION &&
        (custom || !HasPlacement(normalizer))) {
      check.warnings.push_back(
          absl::StrCat(field, ".placement is AFTER_ACTIVATION, which has no effect: ",
                       custom ? "in a custom model the order of the layers is what counts"
                              : absl::StrCat(NormalizerName(normalizer),
                                             " stands neither before nor after an activation")));
    }
  });
  if (!custom || resolved.normalization().has_none()) {
    return;
  }
  const auto& layers = resolved.model().custom().layers();
  if (std::none_of(layers.begin(), layers.end(),
                   [](const v1::CustomLayer& layer) { return layer.has_normalizer(); })) {
    check.warnings.push_back(
        absl::StrCat("normalization is ", NormalizerName(resolved.normalization()),
                     ", but the custom model has no normalizer layer, so nothing is normalized; "
                     "add {\"normalizer\": {}} where it shall act"));
  }
}

void WarnOfEpsilonZero(const v1::JobSpec& resolved, JobCheck& check) {
  ForEachNormalizer(resolved, [&](const std::string& field, const v1::Normalizer& normalizer) {
    const auto* reflection = normalizer.GetReflection();
    const FieldDescriptor* kind = reflection->GetOneofFieldDescriptor(
        normalizer, normalizer.GetDescriptor()->FindOneofByName("kind"));
    const FieldDescriptor* epsilon =
        kind == nullptr ? nullptr : kind->message_type()->FindFieldByName("epsilon");
    if (epsilon == nullptr) {
      return;
    }
    const google::protobuf::Message& settings = reflection->GetMessage(normalizer, kind);
    if (settings.GetReflection()->HasField(settings, epsilon) &&
        settings.GetReflection()->GetDouble(settings, epsilon) == 0) {
      check.warnings.push_back(absl::StrCat(
          field, ".", kind->name(),
          ".epsilon is 0: where a set is constant (a feature that is 0 "
          "in a whole batch, a dead unit) gradients grow by up to 1e19; use a small one, as the "
          "default, unless that cannot happen"));
    }
  });
}

void WarnOfSwappedDims(const v1::JobSpec& resolved, const DatasetShape& shape, JobCheck& check) {
  if (resolved.data().has_arrays() && !shape.dense && shape.width <= kFewChannels &&
      shape.channels > shape.width && shape.height > shape.width) {
    check.warnings.push_back(absl::StrCat(
        "the examples are read as ", shape.channels, " channels of ", shape.height, "x",
        shape.width, " ([N, C, H, W]); if they are images of ", shape.channels, "x", shape.height,
        " with ", shape.width,
        " channels last, save numpy.ascontiguousarray(x.transpose(0, 3, 1, 2)) instead"));
  }
}

void CheckOrthogonal(const v1::JobSpec& resolved, const Graph& graph, JobCheck& check) {
  if (!resolved.initializer().has_orthogonal()) {
    return;
  }
  double operations = 0;
  double most = 0;
  const ParameterSpec* largest = nullptr;
  for (const ParameterSpec& spec : graph.parameters()) {
    if (spec.role != ParameterRole::kWeight || spec.constant.has_value() || spec.std.has_value()) {
      continue;
    }
    const double rows = static_cast<double>(spec.dims.front());
    const double columns = static_cast<double>(spec.count) / rows;
    const double own = rows * columns * std::min(rows, columns);
    operations += own;
    if (own > most) {
      most = own;
      largest = &spec;
    }
  }
  if (operations > kMaxOrthogonalOperations) {
    check.violations.push_back(
        {"initializer.orthogonal",
         absl::StrCat("takes ", operations, " multiplications for this network (", most, " for ",
                      largest->name, ", ", DimsToString(largest->dims), "), but at most ",
                      kMaxOrthogonalOperations,
                      " are allowed; use another initializer, for example lecun_normal, or "
                      "narrower layers")});
  }
}

}  // namespace

JobCheck CheckJob(const v1::JobSpec& resolved, const DatasetShape& shape) {
  JobCheck check;
  check.violations = CheckData(resolved, shape);
  check.length = ComputeRunLength(resolved, shape);
  BuiltGraph built = BuildGraph(resolved, shape);
  check.violations.insert(check.violations.end(), built.violations.begin(), built.violations.end());
  if (built.graph.has_value()) {
    CheckNormalizedSets(resolved, built, check);
    CheckDataParallel(resolved, built, check);
    for (Violation& violation : CheckProbes(resolved, *built.graph, shape.train_examples)) {
      check.violations.push_back(std::move(violation));
    }
    CheckOrthogonal(resolved, *built.graph, check);
  }
  WarnOfSettingsWithoutEffect(resolved, check);
  WarnOfEpsilonZero(resolved, check);
  WarnOfSwappedDims(resolved, shape, check);
  if (resolved.convolution_algorithm() == v1::ConvolutionAlgorithm::MEASURE) {
    check.warnings.push_back(
        "convolution_algorithm is MEASURE: a repeated run, or one that starts again without a "
        "checkpoint, measures anew, may compute with other kernels and differ in the last digits; "
        "use AUTO for runs that repeat bit for bit");
  }
  for (std::string& warning : ScheduleWarnings(resolved, check.length)) {
    check.warnings.push_back(std::move(warning));
  }
  if (check.violations.empty()) {
    check.memory = EstimateJobMemory(resolved, *built.graph, shape);
    check.graph = std::move(built.graph);
  }
  return check;
}

}  // namespace normlab::engine
