#pragma once

#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "engine/data/mapped_dataset.h"
#include "engine/graph/graph.h"
#include "engine/probes/pass_times.h"
#include "engine/probes/probe.h"
#include "engine/probes/probe_workspace.h"
#include "engine/train/metric_sink.h"
#include "engine/train/network.h"

#include "normlab/v1/job.pb.h"
#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// All probes of a run, with what they compute with. Not thread-safe: for the trainer's thread. Does not own graph, model
// and data, which must outlive it.
class ProbeSet {
 public:
  // `resolved`: from Resolve, valid for this graph (CheckProbes). `measured`: of the trained networks, so that the probes'
  // compute with the same kernels. Errors as Network::Plan.
  static absl::StatusOr<std::unique_ptr<ProbeSet>> Plan(const v1::JobSpec& resolved,
                                                        const Graph& graph,
                                                        const ModelState& trained,
                                                        const MappedDataset& data,
                                                        MeasuredChoices* measured);

  // Names of all series; SeriesValue::series of a record is a position here plus `first_series`.
  const std::vector<std::string>& series() const { return series_; }
  // Whether a probe's turn is at this step.
  bool Due(int64_t step) const;

  // Before the forward pass of a step that is due.
  void BeforeForward();
  // Around the update of a step that is due, with a finite loss. `network`: the one that was trained on the step's batch.
  // `rest` of the arguments as ProbeStep has them.
  void BeforeUpdate(const ProbeStep& step, int64_t batch_size, Network& network);
  // Appends what the step gave to `record`.
  void AfterUpdate(const ProbeStep& step, uint32_t first_series, std::vector<SeriesValue>& record);
  // After the last update of a run that did not diverge: the probes of the final model.
  // False: stopped before the end.
  bool AtEnd(const ModelState& trained,
             const std::stop_token& stop,
             uint32_t first_series,
             std::vector<SeriesValue>& record);

  // State of the probes, for checkpoints.
  std::vector<MutableTensor> state();
  int64_t planned_bytes() const;
  // What the probes cost so far; `pass_seconds`: the trainer's median ThreadCpuSeconds of a forward and backward pass.
  std::vector<v1::ProbeCost> Costs(double pass_seconds) const;

 private:
  struct Entry {
    bool Due(int64_t step) const;

    std::string kind;  // the field of v1::Probe
    int64_t every = 0;
    bool needs_saved_parameters = false;
    std::unique_ptr<Probe> probe;  // one of the two
    std::unique_ptr<FinalProbe> final;
    size_t first = 0;  // of its series in series_
    std::vector<double> values;
    int64_t runs = 0;
    double seconds = 0;      // on the wall, of all runs
    double run_seconds = 0;  // CPU time of the run that goes on
    PassTimes times;         // CPU time of runs
  };

  ProbeSet() = default;
  void Add(Entry entry);

  std::unique_ptr<ProbeWorkspace> workspace_;
  std::vector<Entry> entries_;
  std::vector<std::string> series_;
};

}  // namespace normlab::engine
