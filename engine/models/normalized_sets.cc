#include "engine/models/normalized_sets.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"

#include "engine/spec/ranks.h"

namespace normlab::engine {
namespace {

// Of activations of order 1; below, hardly any value has a gradient left.
constexpr double kSmoothEpsilon = 0.01;

enum class Scope { kBatch, kGhost, kExample };

// What a node normalizes together.
struct Sets {
  Scope scope = Scope::kBatch;
  int64_t values_per_example = 0;
  int64_t ghost_size = 0;
  // Minus the mean and over the deviation; two values then always become -1 and +1.
  bool standardizes = true;
  double epsilon = 0;  // of those that may be of one value
};

// A function object over NodeKind; nullopt: the node normalizes no set.
struct FindSets {
  const Dims& in;

  int64_t area() const { return ElementCount(in) / in.front(); }

  using Found = std::optional<Sets>;

  Found operator()(const BatchNormNode&) const { return Sets{Scope::kBatch, area()}; }
  Found operator()(const BatchRenormNode&) const { return Sets{Scope::kBatch, area()}; }
  Found operator()(const NoisyBatchNormNode& node) const {
    return node.normalize ? Found(Sets{Scope::kBatch, area()}) : std::nullopt;
  }
  Found operator()(const GhostBatchNormNode& node) const {
    return Sets{Scope::kGhost, area(), node.size};
  }
  Found operator()(const LpBatchNormNode&) const {
    return Sets{.scope = Scope::kBatch, .values_per_example = area(), .standardizes = false};
  }
  Found operator()(const MeanOnlyBatchNormNode&) const {
    return Sets{.scope = Scope::kBatch, .values_per_example = area(), .standardizes = false};
  }
  Found operator()(const GroupNormNode& node) const {
    return Sets{Scope::kExample, ElementCount(in) / node.groups};
  }
  Found operator()(const RmsNormNode& node) const {
    return Sets{.scope = Scope::kExample,
                .values_per_example = ElementCount(in),
                .standardizes = false,
                .epsilon = node.epsilon};
  }
  Found operator()(const FilterResponseNode& node) const {
    return Sets{.scope = Scope::kExample,
                .values_per_example = area(),
                .standardizes = false,
                .epsilon = node.epsilon};
  }
  template <typename Other>
  Found operator()(const Other&) const {
    return std::nullopt;
  }
};

// The layer with the fewest values per example: the first to become degenerate.
struct Smallest {
  const Node* node = nullptr;
  Sets sets;
};

Smallest FindSmallest(const Graph& graph, Scope scope) {
  Smallest smallest;
  for (const Node& node : graph.nodes()) {
    const std::optional<Sets> sets = std::visit(FindSets{node.in}, node.kind);
    if (!sets.has_value() || sets->scope != scope) {
      continue;
    }
    const auto values = [](const Sets& s) {
      return s.values_per_example * std::max<int64_t>(s.ghost_size, 1);
    };
    if (smallest.node == nullptr || values(*sets) < values(smallest.sets)) {
      smallest = {&node, *sets};
    }
  }
  return smallest;
}

// `where`: "batch 2".
void Judge(const Smallest& smallest,
           int64_t values,
           Violation refusal,
           absl::string_view where,
           JobCheck& check) {
  if (values == 1) {
    check.violations.push_back(std::move(refusal));
  } else if (values == 2) {
    check.warnings.push_back(absl::StrCat(
        "layer ", smallest.node->name, " normalizes sets of only 2 values (", where, "): ",
        smallest.sets.standardizes
            ? "they become -1 and +1 whatever they were, and no gradient passes"
            : "a statistic of two values leaves little of what they were"));
  }
}

class Checking {
 public:
  Checking(const v1::JobSpec& resolved, const BuiltGraph& built, JobCheck& check)
      : resolved_(resolved), built_(built), check_(check) {}

  void Run() {
    CheckBatch();
    CheckGhosts();
    CheckExamples();
  }

 private:
  const NormalizerOrigin& OriginOf(const Smallest& smallest) const {
    return built_.normalizers.at(smallest.node->name);
  }
  // "bn1 of conv1 (12x4x4)"
  std::string Named(const Smallest& smallest) const {
    return absl::StrCat(smallest.node->name, " of ", OriginOf(smallest).layer, " (",
                        DimsToString(smallest.node->in), ")");
  }

  // Of the smallest set, in the last group of ranks.
  int64_t ValuesOf(const Smallest& smallest, int64_t batch) const {
    return smallest.sets.values_per_example * SmallestStatisticsBatch(resolved_, batch);
  }
  std::string OverRanks() const {
    const int64_t groups = StatisticsGroups(resolved_);
    return groups == 1 ? "" : absl::StrCat(" over ", groups, " separate shares");
  }

  void CheckBatch() {
    const Smallest smallest = FindSmallest(*built_.graph, Scope::kBatch);
    if (smallest.node == nullptr) {
      return;
    }
    const RunLength& length = check_.length;
    const int64_t batch_size = resolved_.batch_size();
    if (length.train_examples >= batch_size) {
      Judge(smallest, ValuesOf(smallest, batch_size),
            {"batch_size",
             absl::StrCat("is ", batch_size, OverRanks(), ", so layer ", Named(smallest),
                          " would normalize one value, which is always 0; use at least ",
                          2 * StatisticsGroups(resolved_), ", or normalization none")},
            absl::StrCat("batch ", batch_size, OverRanks()), check_);
    }
    if (length.last_batch_size > 0) {
      Judge(smallest, ValuesOf(smallest, length.last_batch_size),
            {"data.last_batch",
             absl::StrCat(LastBatchText(), OverRanks(), ", in which layer ", Named(smallest),
                          " would normalize one value, which is always 0; use DROP, or another "
                          "batch_size or train_limit")},
            absl::StrCat("last batch ", length.last_batch_size, OverRanks()), check_);
    }
  }

  void CheckGhosts() {
    const Smallest smallest = FindSmallest(*built_.graph, Scope::kGhost);
    if (smallest.node == nullptr) {
      return;
    }
    const int64_t size = smallest.sets.ghost_size;
    const std::string field = absl::StrCat(OriginOf(smallest).field, ".ghost_batch.ghost_size");
    Judge(smallest, smallest.sets.values_per_example * size,
          {field, absl::StrCat("is ", size, ", so layer ", Named(smallest),
                               " would normalize one value, which is always 0; use at least 2")},
          absl::StrCat("ghost batches of ", size), check_);
    const int64_t last = check_.length.last_batch_size;
    for (const Node& node : built_.graph->nodes()) {
      const auto* ghost = std::get_if<GhostBatchNormNode>(&node.kind);
      if (ghost != nullptr && last % ghost->size != 0) {
        check_.violations.push_back(
            {"data.last_batch",
             absl::StrCat(LastBatchText(), ", which the ghost batches of ", ghost->size,
                          " examples in layer ", node.name,
                          " do not divide; use DROP, or another batch_size or train_limit")});
        return;
      }
    }
  }

  // x/sqrt(x^2 + epsilon): a smooth function of x, but for a small epsilon its sign alone.
  void CheckRootOfOneValue(const Smallest& smallest) {
    if (smallest.sets.epsilon < kSmoothEpsilon) {
      check_.violations.push_back(
          {OriginOf(smallest).field,
           absl::StrCat("would normalize one value per set in layer ", Named(smallest),
                        ", which with epsilon ", smallest.sets.epsilon, " is always ",
                        "+1 or -1; use an epsilon of at least ", kSmoothEpsilon,
                        " (with 1 it is much like tanh), or normalization_overrides to give this "
                        "layer another normalizer (batch or layer)")});
    } else {
      check_.warnings.push_back(absl::StrCat("layer ", Named(smallest),
                                             " normalizes sets of one value: they become ",
                                             "x/sqrt(x^2 + ", smallest.sets.epsilon, ")"));
    }
  }

  void CheckExamples() {
    const Smallest smallest = FindSmallest(*built_.graph, Scope::kExample);
    if (smallest.node == nullptr) {
      return;
    }
    if (!smallest.sets.standardizes && smallest.sets.values_per_example == 1) {
      CheckRootOfOneValue(smallest);
      return;
    }
    const NormalizerOrigin& origin = OriginOf(smallest);
    const bool has_groups = origin.kind == "group" || origin.kind == "weight_standardization";
    Judge(smallest, smallest.sets.values_per_example,
          {origin.field,
           absl::StrCat("would normalize one value per set in layer ", Named(smallest),
                        ", which is always 0; use normalization_overrides to give this layer "
                        "another normalizer (batch or layer)",
                        has_groups ? ", or fewer groups" : "")},
          "per example", check_);
  }

  std::string LastBatchText() const {
    return absl::StrCat("is KEEP, and ", check_.length.train_examples,
                        " training examples in batches of ", resolved_.batch_size(),
                        " leave a last batch of ", check_.length.last_batch_size);
  }

  const v1::JobSpec& resolved_;
  const BuiltGraph& built_;
  JobCheck& check_;
};

}  // namespace

void CheckNormalizedSets(const v1::JobSpec& resolved, const BuiltGraph& built, JobCheck& check) {
  Checking(resolved, built, check).Run();
}

}  // namespace normlab::engine
