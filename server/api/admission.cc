#include "server/api/admission.h"

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

#include "engine/models/build_graph.h"
#include "engine/models/job_check.h"
#include "engine/spec/ranks.h"
#include "engine/spec/resolve.h"
#include "engine/spec/run_length.h"
#include "server/api/format.h"

namespace normlab::server {
namespace {

int64_t SaturatingSum(std::initializer_list<int64_t> terms) {
  int64_t sum = 0;
  for (const int64_t term : terms) {
    if (__builtin_add_overflow(sum, term, &sum)) {
      return std::numeric_limits<int64_t>::max();
    }
  }
  return sum;
}

void Append(const std::vector<engine::Violation>& more, std::vector<FieldViolation>& violations) {
  for (const engine::Violation& violation : more) {
    violations.push_back({violation.field, violation.description});
  }
}

std::optional<engine::DatasetShape> ShapeOf(const v1::JobSpec& resolved,
                                            const v1::DataReport* data) {
  // A set that is in order is kept, whatever else the helper found.
  if (data != nullptr && !data->data_cache().empty()) {
    return engine::DatasetShape{.channels = data->channels(),
                                .height = data->height(),
                                .width = data->width(),
                                .classes = data->classes(),
                                .train_examples = data->train_examples(),
                                .test_examples = data->test_examples(),
                                .targets = data->targets(),
                                .dense = data->dense(),
                                .floats = data->floats()};
  }
  return engine::KnownDatasetShape(resolved);
}

v1::DataSummary Summarize(const engine::DatasetShape& shape) {
  v1::DataSummary summary;
  summary.set_channels(shape.channels);
  summary.set_height(shape.height);
  summary.set_width(shape.width);
  summary.set_dense(shape.dense);
  summary.set_classes(shape.classes);
  summary.set_targets(shape.targets);
  summary.set_train_examples(shape.train_examples);
  summary.set_test_examples(shape.test_examples);
  summary.set_floats(shape.floats);
  return summary;
}

int64_t TotalBytes(const engine::MemoryEstimate& memory) {
  return SaturatingSum({memory.parameters, memory.activations, memory.data, memory.fixed});
}

// The largest batch, for training and evaluation, with which the job would need no more than
// `limit`; 0: none.
int32_t LargestBatchThatFits(v1::JobSpec resolved,
                             const engine::Graph& graph,
                             const engine::DatasetShape& shape,
                             int64_t limit) {
  const int32_t evaluation_batch = resolved.evaluation().batch_size();
  const auto fits = [&](int32_t batch) {
    resolved.set_batch_size(batch);
    resolved.mutable_evaluation()->set_batch_size(std::min(evaluation_batch, batch));
    return TotalBytes(engine::EstimateJobMemory(resolved, graph, shape)) <= limit;
  };
  int32_t fitting = 0;
  int32_t too_large = resolved.batch_size();
  while (too_large - fitting > 1) {
    const int32_t middle = fitting + (too_large - fitting) / 2;
    (fits(middle) ? fitting : too_large) = middle;
  }
  return fitting;
}

FieldViolation TooMuchMemory(const engine::JobCheck& check,
                             const v1::JobSpec& resolved,
                             const engine::DatasetShape& shape,
                             int64_t limit) {
  const std::string needed = absl::StrCat(
      FormatBytes(TotalBytes(check.memory)), " (parameters ", FormatBytes(check.memory.parameters),
      ", activations ", FormatBytes(check.memory.activations), ", data ",
      FormatBytes(check.memory.data), ", process ", FormatBytes(check.memory.fixed), ")");
  const int32_t batch = LargestBatchThatFits(resolved, *check.graph, shape, limit);
  if (batch > 0) {
    return DoesNotFitViolation(
        "batch_size", "memory", needed, FormatBytes(limit),
        absl::StrCat("it would fit with batch_size",
                     batch < resolved.evaluation().batch_size() ? " and evaluation.batch_size" : "",
                     " at most ", batch, ", or start normlabd with more --memory"));
  }
  return DoesNotFitViolation("model", "memory", needed, FormatBytes(limit),
                             "no batch_size helps: use fewer or narrower layers, or start normlabd "
                             "with more --memory");
}

void CheckFit(const engine::JobCheck& check,
              const v1::JobSpec& resolved,
              const engine::DatasetShape& shape,
              const ApiOptions& options,
              Admission& admission) {
  v1::Estimate& estimate = *admission.job.mutable_estimate();
  const int ranks = engine::RanksOf(resolved);
  estimate.set_cores(ranks * resolved.threads());
  estimate.set_memory_bytes(TotalBytes(check.memory));
  estimate.set_parameters(check.graph->parameter_count());
  estimate.set_multiply_adds(check.graph->multiply_adds());
  if (estimate.cores() > options.cores) {
    admission.violations.push_back(
        DoesNotFitViolation(ranks == 1 ? "threads" : "data_parallel.ranks", "cores",
                            absl::StrCat(estimate.cores()), absl::StrCat(options.cores),
                            absl::StrCat("use at most ", options.cores,
                                         ranks == 1 ? "" : " (data_parallel.ranks times threads)",
                                         ", or start normlabd with more --cores")));
  }
  if (ranks > 1 && !options.no_ranks_because.empty()) {
    admission.violations.push_back(FieldViolation{
        "data_parallel.ranks", absl::StrCat("is ", ranks, ", but ", options.no_ranks_because)});
  }
  if (estimate.memory_bytes() > options.memory_bytes) {
    admission.violations.push_back(TooMuchMemory(check, resolved, shape, options.memory_bytes));
  }
}

}  // namespace

bool Concerns(const std::vector<engine::Violation>& violations, absl::string_view part) {
  for (const engine::Violation& violation : violations) {
    absl::string_view rest = violation.field;
    if (absl::ConsumePrefix(&rest, part) && (rest.empty() || rest[0] == '.' || rest[0] == '[')) {
      return true;
    }
  }
  return false;
}

Admission Admit(const v1::JobSpec& spec,
                const std::vector<engine::Violation>& spec_violations,
                const v1::DataReport* data,
                const ApiOptions& options) {
  const v1::JobSpec resolved = engine::Resolve(spec);
  Admission admission;
  Append(spec_violations, admission.violations);
  if (spec.has_slurm() && !options.runs_on_slurm) {
    admission.violations.push_back({"slurm",
                                    "has no meaning on this server, which runs jobs on its own "
                                    "machine; leave it out, or submit "
                                    "to a server that was started with --executor=slurm"});
  }
  if (data != nullptr) {
    for (const v1::SpecViolation& violation : data->violations()) {
      admission.violations.push_back({violation.field(), violation.description()});
    }
  }

  const std::optional<engine::DatasetShape> shape = ShapeOf(resolved, data);
  if (shape.has_value() && spec_violations.empty()) {
    const engine::JobCheck check = engine::CheckJob(resolved, *shape);
    Append(check.violations, admission.violations);
    if (check.violations.empty()) {
      CheckFit(check, resolved, *shape, options, admission);
      admission.job.mutable_progress()->set_total_steps(check.length.total_steps);
      admission.job.mutable_progress()->set_total_epochs(
          static_cast<int32_t>(check.length.total_epochs));
      admission.job.mutable_warnings()->Add(check.warnings.begin(), check.warnings.end());
      *admission.job.mutable_data() = Summarize(*shape);
      if (data != nullptr) {
        admission.job.mutable_warnings()->MergeFrom(data->warnings());
      }
    }
  } else if (shape.has_value() && !Concerns(spec_violations, "model") &&
             !Concerns(spec_violations, "normalization")) {
    // Something else is wrong; the network can still be built, and what is wrong with it be told at
    // once.
    Append(engine::BuildGraph(resolved, *shape).violations, admission.violations);
  }

  admission.job.set_display_name(spec.display_name());
  *admission.job.mutable_labels() = spec.labels();
  admission.job.set_priority(spec.priority());
  *admission.job.mutable_spec() = spec;
  *admission.job.mutable_resolved_spec() = resolved;
  return admission;
}

}  // namespace normlab::server
