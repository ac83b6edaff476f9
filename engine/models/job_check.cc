#include "engine/models/job_check.h"

#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"

#include "engine/models/build_graph.h"
#include "engine/spec/schedule_warnings.h"

namespace normlab::engine {
namespace {

// The batch-norm layer that averages over the fewest values of one example: the first to become
// degenerate.
struct SmallestSet {
  const Node* node = nullptr;
  int64_t values_per_example = 0;
};

SmallestSet FindSmallestSet(const Graph& graph) {
  SmallestSet smallest;
  for (const Node& node : graph.nodes()) {
    if (!std::holds_alternative<BatchNormNode>(node.kind)) {
      continue;
    }
    const int64_t values = ElementCount(node.in) / node.in.front();  // H*W, or 1 for dense features
    if (smallest.node == nullptr || values < smallest.values_per_example) {
      smallest = {&node, values};
    }
  }
  return smallest;
}

void CheckBatch(const SmallestSet& set,
                int64_t batch_size,
                const Violation& refusal,
                absl::string_view batch_text,
                JobCheck& check) {
  const int64_t values = set.values_per_example * batch_size;
  if (values == 1) {
    check.violations.push_back(refusal);
  } else if (values == 2) {
    check.warnings.push_back(absl::StrCat("layer ", set.node->name,
                                          " normalizes sets of only 2 values (", batch_text,
                                          "): they become -1 and +1 whatever they were, and no "
                                          "gradient passes; use larger batches"));
  }
}

void CheckNormalizedSets(const v1::JobSpec& resolved, const Graph& graph, JobCheck& check) {
  const SmallestSet set = FindSmallestSet(graph);
  if (set.node == nullptr) {
    return;
  }
  const RunLength& length = check.length;
  const int64_t batch_size = resolved.batch_size();
  if (length.train_examples >= batch_size) {
    const Violation refusal = {
        "batch_size",
        absl::StrCat("is ", batch_size, ", so layer ", set.node->name, " (",
                     DimsToString(set.node->in),
                     ") would normalize one value, which is always 0; use at least 2, or "
                     "normalization none")};
    CheckBatch(set, batch_size, refusal, absl::StrCat("batch ", batch_size), check);
  }
  if (length.last_batch_size > 0) {
    const Violation refusal = {
        "data.last_batch",
        absl::StrCat("is KEEP, and ", length.train_examples, " training examples in batches of ",
                     batch_size, " leave a last batch of ", length.last_batch_size,
                     ", in which layer ", set.node->name, " (", DimsToString(set.node->in),
                     ") would normalize one value, which is always 0; use DROP, or another "
                     "batch_size or train_limit")};
    CheckBatch(set, length.last_batch_size, refusal,
               absl::StrCat("last batch ", length.last_batch_size), check);
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
    CheckNormalizedSets(resolved, *built.graph, check);
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
