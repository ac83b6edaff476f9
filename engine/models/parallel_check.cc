#include "engine/models/parallel_check.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <variant>

#include "absl/strings/str_cat.h"

#include "engine/spec/ranks.h"

namespace normlab::engine {
namespace {

constexpr char kRanks[] = "data_parallel.ranks";

// Probes that read nothing but the weights and the gradient, which are those of the whole batch on
// every rank.
bool LooksAtWeightsAlone(v1::Probe::KindCase kind) {
  return kind == v1::Probe::kScaleInvariance || kind == v1::Probe::kNormalizerParameters;
}

// "1 rank", "2 ranks"
std::string Count(int64_t count, absl::string_view what) {
  return absl::StrCat(count, " ", what, count == 1 ? "" : "s");
}

struct NeedsFirstBatch {
  bool operator()(const LinearNode& node) const { return node.weights.data_dependent_init; }
  bool operator()(const ConvNode& node) const { return node.weights.data_dependent_init; }
  template <typename Other>
  bool operator()(const Other&) const {
    return false;
  }
};

class ParallelCheck {
 public:
  ParallelCheck(const v1::JobSpec& resolved, const BuiltGraph& built, JobCheck& check)
      : resolved_(resolved), built_(built), check_(check), ranks_(RanksOf(resolved)) {}

  void Run() {
    CheckLastBatch();
    for (const Node& node : built_.graph->nodes()) {
      if (const auto* noisy = std::get_if<NoisyBatchNormNode>(&node.kind)) {
        Refuse(FieldOf(node, noisy->normalize ? "noisy_batch" : "noise"),
               "draws its noise over one process's batch; use another normalizer, or "
               "data_parallel.ranks 1");
        return;
      }
      if (const auto* ghost = std::get_if<GhostBatchNormNode>(&node.kind);
          ghost != nullptr && !CheckGhosts(node, ghost->size)) {
        return;
      }
      if (std::visit(NeedsFirstBatch(), node.kind)) {
        Refuse(FieldOf(node, "weight") + ".data_dependent_init",
               absl::StrCat("initializes layer ", node.name,
                            " from one process's first batch; set it to false, or "
                            "data_parallel.ranks to 1"));
        return;
      }
    }
    CheckProbes();
  }

 private:
  void Refuse(std::string field, std::string description) {
    check_.violations.push_back({std::move(field), std::move(description)});
  }

  std::string FieldOf(const Node& node, absl::string_view kind) const {
    const auto found = built_.normalizers.find(node.name);
    return found == built_.normalizers.end()
               ? "normalization"
               : absl::StrCat(found->second.field, ".",
                              found->second.kind.empty() ? kind : found->second.kind);
  }

  void CheckLastBatch() {
    const int64_t last = check_.length.last_batch_size;
    if (last > 0 && last < ranks_) {
      Refuse(kRanks,
             absl::StrCat("is ", ranks_, ", but data.last_batch is KEEP and the last batch ",
                          "of an epoch has ", Count(last, "example"),
                          ", fewer than ranks; use data.last_batch DROP, at most ",
                          Count(last, "rank"), ", or another batch_size"));
    }
  }

  // False: refused.
  bool CheckGhosts(const Node& node, int64_t size) {
    const std::string field = FieldOf(node, "ghost_batch");
    if (StatisticsGroupOf(resolved_) > 1) {
      Refuse(field,
             "normalizes parts of one rank's share, but data_parallel.statistics_group asks for "
             "statistics over several; use batch, or statistics_group 1");
      return false;
    }
    const int64_t last = check_.length.last_batch_size;
    for (const int64_t batch : {int64_t{resolved_.batch_size()}, last}) {
      if (batch % (ranks_ * size) != 0) {
        Refuse(absl::StrCat(field, ".ghost_size"),
               absl::StrCat("is ", size, ", but ", ranks_, " ranks cut a batch of ", batch,
                            " into shares that ghost batches do not divide; ",
                            GhostAdvice(size, batch == last)));
        return false;
      }
    }
    return true;
  }

  // What to do about ghosts of `size` that do not fit. Names the size even where it stays: the one of a
  // spec that says none follows batch_size.
  std::string GhostAdvice(int64_t size, bool last_batch_alone) const {
    const int64_t batch = resolved_.batch_size();
    const int64_t last = check_.length.last_batch_size;
    if (batch % ranks_ == 0 && last % ranks_ == 0) {
      const int64_t shares = std::gcd(batch, last) / ranks_;
      for (int64_t fits = std::min(size, shares); fits > 1; --fits) {
        if (shares % fits == 0) {
          return absl::StrCat("use ghost_size ", fits);
        }
      }
    }
    if (last_batch_alone && batch % (ranks_ * size) == 0) {
      return "use data.last_batch DROP";
    }
    return absl::StrCat("set ghost_size to ", size, " and use a batch_size that ", ranks_ * size,
                        " divides", last > 0 ? ", and data.last_batch DROP" : "");
  }

  void CheckProbes() {
    for (int i = 0; i < resolved_.probes_size(); ++i) {
      if (!LooksAtWeightsAlone(resolved_.probes(i).kind_case())) {
        Refuse(absl::StrCat("probes[", i, "]"),
               "looks at batches, of which every rank has a share only; with data_parallel.ranks "
               "above 1 there are scale_invariance and normalizer_parameters");
      }
    }
  }

  const v1::JobSpec& resolved_;
  const BuiltGraph& built_;
  JobCheck& check_;
  const int64_t ranks_;
};

struct DependsOnBatch {
  bool operator()(const BatchNormNode&) const { return true; }
  bool operator()(const NoisyBatchNormNode& node) const { return node.normalize; }
  bool operator()(const BatchRenormNode&) const { return true; }
  bool operator()(const GhostBatchNormNode&) const { return true; }
  bool operator()(const LpBatchNormNode&) const { return true; }
  bool operator()(const MeanOnlyBatchNormNode&) const { return true; }
  template <typename Other>
  bool operator()(const Other&) const {
    return false;
  }
};

}  // namespace

void CheckDataParallel(const v1::JobSpec& resolved, const BuiltGraph& built, JobCheck& check) {
  if (RanksOf(resolved) > 1) {
    ParallelCheck(resolved, built, check).Run();
    if (StatisticsGroupOf(resolved) > 1 && !HasBatchStatistics(*built.graph)) {
      check.warnings.push_back(absl::StrCat(
          "data_parallel.statistics_group is ", StatisticsGroupOf(resolved),
          ", which has no effect: no layer takes statistics over a batch; leave it out, "
          "or use a normalization that does, such as batch"));
    }
  }
}

bool HasBatchStatistics(const Graph& graph) {
  return std::any_of(graph.nodes().begin(), graph.nodes().end(),
                     [](const Node& node) { return std::visit(DependsOnBatch(), node.kind); });
}

}  // namespace normlab::engine
