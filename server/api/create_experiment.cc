#include "server/api/create_experiment.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/ids.h"
#include "engine/spec/resolve.h"
#include "engine/spec/validate.h"
#include "server/api/admission.h"
#include "server/api/experiment_jobs.h"
#include "server/api/inspect_data.h"
#include "server/api/request_id.h"
#include "server/api/unary.h"
#include "server/domain/design.h"
#include "server/domain/experiment_errors.h"
#include "server/domain/names.h"
#include "server/domain/proto_time.h"

#include <spdlog/spdlog.h>

namespace normlab::server {
namespace {

constexpr size_t kMaxBaseBytes = size_t{64} << 10;
constexpr size_t kMaxDesignBytes = size_t{2} << 20;
// The answer has to fit into what gRPC clients take by default, 4 MiB.
constexpr size_t kMaxExperimentBytes = size_t{3500} << 10;
// Cells whose specs are checked in one turn on the pool.
constexpr size_t kCellsPerTurn = 32;
constexpr absl::Duration kDrainRetry = absl::Seconds(1);

// One call on its way through design, helper, admission and store. Each step runs on the pool, one
// after the other; the object lives as long as a step holds it.
class CreateExperimentCall : public std::enable_shared_from_this<CreateExperimentCall> {
 public:
  using Done = absl::AnyInvocable<void(absl::StatusOr<v1::Experiment>) &&>;

  CreateExperimentCall(Backend& backend,
                       Caller caller,
                       const v1::CreateExperimentRequest& request,
                       Done done)
      : backend_(backend),
        caller_(std::move(caller)),
        request_id_(request.request_id()),
        validate_only_(request.validate_only()),
        done_(std::move(done)) {
    experiment_.set_display_name(request.experiment().display_name());
    *experiment_.mutable_labels() = request.experiment().labels();
    *experiment_.mutable_base() = request.experiment().base();
    *experiment_.mutable_design() = request.experiment().design();
  }

  void Start() {
    if (backend_.draining.load()) {
      std::move(done_)(ShuttingDown(kDrainRetry));
      return;
    }
    if (const absl::Status status = CheckRequest(); !status.ok()) {
      std::move(done_)(status);
      return;
    }
    if (!backend_.experiment_creations.Take(caller_.owner)) {
      std::move(done_)(Overloaded(kOverloadRetry));
      return;
    }
    // Counted among the jobs' creations, for whose end a shutdown waits.
    backend_.creates_in_flight.fetch_add(1);
    if (!request_id_.empty() && !validate_only_) {
      request_sha256_ = RequestHash(experiment_);
      absl::StatusOr<std::optional<v1::Experiment>> earlier =
          backend_.store.experiments().FindRequest(caller_.owner, request_id_, request_sha256_);
      if (!earlier.ok()) {
        Finish(earlier.status());
        return;
      }
      if (earlier->has_value()) {
        Finish(**std::move(earlier));
        return;
      }
    }
    if (absl::Status health = backend_.store.Health(); absl::IsDataLoss(health)) {
      Finish(std::move(health));
      return;
    }
    Expand();
  }

 private:
  absl::Status CheckRequest() const {
    absl::Status status = CheckRequestId(request_id_);
    if (const size_t bytes = experiment_.base().ByteSizeLong();
        status.ok() && bytes > kMaxBaseBytes) {
      status = InvalidArgument("experiment.base",
                               absl::StrCat("has ", bytes, " bytes; use at most ", kMaxBaseBytes));
    }
    if (const size_t bytes = experiment_.design().ByteSizeLong();
        status.ok() && bytes > kMaxDesignBytes) {
      status = InvalidArgument("experiment.design",
                               absl::StrCat("has ", bytes, " bytes; use at most ", kMaxDesignBytes,
                                            ", for example with fewer or shorter values"));
    }
    return status;
  }

  // Its own name and labels follow the rules of a spec's.
  std::vector<FieldViolation> CheckTexts() const {
    v1::JobSpec texts;
    texts.set_display_name(experiment_.display_name());
    *texts.mutable_labels() = experiment_.labels();
    std::vector<FieldViolation> violations;
    for (const engine::Violation& violation : engine::Validate(texts)) {
      if (Concerns({violation}, "display_name") || Concerns({violation}, "labels")) {
        violations.push_back({violation.field, violation.description});
      }
    }
    return violations;
  }

  void Expand() {
    std::vector<FieldViolation> violations = CheckTexts();
    design_ = ExpandDesign(experiment_.base(), experiment_.design());
    violations.insert(violations.end(), design_.violations.begin(), design_.violations.end());
    if (!violations.empty()) {
      Finish(InvalidExperiment(violations));
      return;
    }
    for (const DesignCell& cell : design_.cells) {
      v1::Cell& out = *experiment_.add_cells();
      out.mutable_values()->insert(cell.values.begin(), cell.values.end());
    }
    // Names of jobs take 27 bytes each.
    const size_t names = design_.cells.size() * design_.seeds.size() * 27;
    if (const size_t bytes = experiment_.ByteSizeLong() + names; bytes > kMaxExperimentBytes) {
      Finish(InvalidExperiment(
          {{"design",
            absl::StrCat("makes cells of ", bytes, " bytes, but an experiment has at most ",
                         kMaxExperimentBytes, "; use shorter values, or several experiments")}}));
      return;
    }
    const int64_t limit = backend_.options.queue_limits.jobs;
    if (const auto jobs = static_cast<int64_t>(design_.cells.size() * design_.seeds.size());
        limit > 0 && jobs > limit) {
      Finish(InvalidExperiment(
          {{"design", absl::StrCat("makes ", jobs, " jobs, but this server lets ", limit,
                                   " wait; use fewer values or seeds, or start normlabd with more "
                                   "--queue_limit")}}));
      return;
    }
    keys_ = LabelKeys(Fields());
    PlanInspections(0);
  }

  // The design's fields in the order of the cells' values; cells listed one by one have their own.
  std::vector<std::string> Fields() const {
    std::vector<std::string> fields;
    for (const DesignCell& cell : design_.cells) {
      for (const auto& [field, value] : cell.values) {
        if (std::find(fields.begin(), fields.end(), field) == fields.end()) {
          fields.push_back(field);
        }
      }
      if (experiment_.design().cells().empty()) {
        break;  // all alike
      }
    }
    return fields;
  }

  std::vector<std::string> KeysOf(const v1::Design& design, const DesignCell& cell) const {
    if (design.cells().empty()) {
      return keys_;
    }
    std::vector<std::string> fields;
    for (const auto& [field, value] : cell.values) {
      fields.push_back(field);
    }
    return LabelKeys(fields);
  }

  // Runs `turn` on the pool.
  void Continue(absl::AnyInvocable<void() &&> turn) {
    backend_.pool.Post([self = shared_from_this(), turn = std::move(turn)]() mutable {
      if (self->backend_.draining.load()) {
        self->Finish(ShuttingDown(kDrainRetry));
      } else {
        std::move(turn)();
      }
    });
  }

  // What the helper has to look at for the cells from `begin` on: most have the same data.
  void PlanInspections(size_t begin) {
    const size_t end = std::min(begin + kCellsPerTurn, design_.cells.size());
    for (size_t i = begin; i < end; ++i) {
      v1::JobSpec& spec = design_.cells[i].spec;
      spec.set_seed(design_.seeds.front());
      spec_violations_.push_back(engine::Validate(spec));
      std::optional<v1::HelperRequest> request =
          InspectionOf(spec, spec_violations_.back(), backend_.options);
      if (!request.has_value()) {
        inspections_.push_back(-1);
        continue;
      }
      const auto [known, added] = inspection_index_.emplace(
          request->inspect_data().SerializeAsString(), static_cast<int>(requests_.size()));
      if (added) {
        requests_.push_back(*std::move(request));
      }
      inspections_.push_back(known->second);
    }
    if (end < design_.cells.size()) {
      Continue([this, end] { PlanInspections(end); });
    } else {
      reports_.resize(requests_.size());
      Inspect(0);
    }
  }

  // Asks the helper, one after the other.
  void Inspect(size_t index) {
    if (index == requests_.size()) {
      Admit(0);
      return;
    }
    backend_.helper.CallInTurn(
        caller_.owner, requests_[index], backend_.options.inspect_timeout,
        [self = shared_from_this(), index](absl::StatusOr<v1::HelperResponse> response) {
          self->Continue([self = self.get(), index, response = std::move(response)]() mutable {
            if (!response.ok()) {
              self->Finish(InspectionFailed(response.status(), self->backend_.options));
            } else if (!response->has_data()) {
              self->Finish(InternalError("the helper answered something else than a data report"));
            } else {
              self->reports_[index] = std::move(*response->mutable_data());
              self->Inspect(index + 1);
            }
          });
        });
  }

  void Admit(size_t begin) {
    const size_t end = std::min(begin + kCellsPerTurn, design_.cells.size());
    for (size_t i = begin; i < end; ++i) {
      const DesignCell& cell = design_.cells[i];
      const v1::DataReport* report =
          inspections_[i] < 0 ? nullptr : &reports_[static_cast<size_t>(inspections_[i])];
      Admission admission = server::Admit(cell.spec, spec_violations_[i], report, backend_.options);
      violations_.Add(static_cast<int64_t>(i), cell, admission.violations);
      design_.cells[i].spec = v1::JobSpec();  // the job has it
      if (violations_.empty() && !validate_only_) {
        AddJobs(i, std::move(admission.job));
      }
    }
    if (end < design_.cells.size()) {
      Continue([this, end] { Admit(end); });
    } else {
      Decide();
    }
  }

  // Jobs of a cell differ in little: what they have in common is kept serialized, a fraction of a
  // message, until the store takes one after the other.
  void AddJobs(size_t cell_index, v1::Job job) {
    v1::Cell& out = *experiment_.mutable_cells(static_cast<int>(cell_index));
    job.set_owner(caller_.owner);
    spec_bytes_ += QueueGate::SpecBytes(job) * static_cast<int64_t>(design_.seeds.size());
    for (size_t i = 0; i < design_.seeds.size(); ++i) {
      out.add_jobs(JobName(common::NewId(backend_.options.clock->Now())));
    }
    cell_jobs_.push_back(job.SerializeAsString());
    job.clear_spec();
    job.clear_resolved_spec();
    told_.push_back(std::move(job));
  }

  // The job at a position of `experiment`, which has its cells. Called for one after the other.
  v1::Job MakeJob(const v1::Experiment& experiment, size_t position) {
    const size_t cell_index = position / design_.seeds.size();
    const uint32_t seed = design_.seeds[position % design_.seeds.size()];
    if (position % design_.seeds.size() == 0) {
      keys_of_cell_ = KeysOf(experiment.design(), design_.cells[cell_index]);
      if (!job_of_cell_.ParseFromString(cell_jobs_[cell_index])) {
        return v1::Job();  // without a name, which the store refuses
      }
      cell_jobs_[cell_index] = std::string();
    }
    v1::Job job = job_of_cell_;
    job.mutable_spec()->set_seed(seed);
    job.mutable_resolved_spec()->set_seed(seed);
    job.set_name(JobAt(experiment, position));
    job.set_experiment(experiment.name());
    NameJob(experiment, design_.cells[cell_index], keys_of_cell_, seed, job);
    return job;
  }

  const std::string& JobAt(const v1::Experiment& experiment, size_t position) const {
    const auto seeds = static_cast<int>(design_.seeds.size());
    const auto at = static_cast<int>(position);
    return experiment.cells(at / seeds).jobs(at % seeds);
  }

  void Decide() {
    if (!violations_.empty()) {
      Finish(InvalidExperiment(violations_.Take(static_cast<int64_t>(design_.cells.size()))));
      return;
    }
    experiment_.set_owner(caller_.owner);
    if (validate_only_) {
      Finish(std::move(experiment_));
      return;
    }
    const size_t jobs = design_.cells.size() * design_.seeds.size();
    const auto places = static_cast<int64_t>(jobs);
    if (const absl::Status place = backend_.queue_gate.Reserve(caller_.owner, places, spec_bytes_);
        !place.ok()) {
      Finish(place);
      return;
    }
    experiment_.set_name(ExperimentName(common::NewId(backend_.options.clock->Now())));
    // The other one goes to the store.
    const v1::Experiment experiment = experiment_;
    const auto make_job = [&](size_t position) { return MakeJob(experiment, position); };
    backend_.store.experiments().Create(
        std::move(experiment_), jobs, make_job, request_id_, request_sha256_,
        [self = shared_from_this(), places](absl::StatusOr<ExperimentStore::CreateResult> result) {
          self->backend_.queue_gate.Release(self->caller_.owner, places, self->spec_bytes_);
          self->backend_.pool.Post(
              [self, result = std::move(result)]() mutable { self->Stored(std::move(result)); });
        });
  }

  void Stored(absl::StatusOr<ExperimentStore::CreateResult> result) {
    if (!result.ok()) {
      Finish(result.status());
      return;
    }
    if (result->created) {
      spdlog::info("{} created: {} cell(s), {} job(s)", result->experiment.name(),
                   result->experiment.cells_size(), told_.size() * design_.seeds.size());
      const absl::Time create_time = FromTimestamp(result->experiment.create_time());
      for (size_t i = 0; i < told_.size() * design_.seeds.size(); ++i) {
        // As the store has it, but for the specs, which the scheduler reads when it needs them.
        v1::Job& job = told_[i / design_.seeds.size()];
        job.set_name(JobAt(result->experiment, i));
        job.set_experiment(result->experiment.name());
        job.set_state(v1::Job::QUEUED);
        *job.mutable_create_time() =
            ToTimestamp(create_time + absl::Microseconds(static_cast<int64_t>(i)));
        *job.mutable_queue_time() = result->experiment.create_time();  // the same for all
        backend_.observer.OnTransition(v1::Job::QUEUED,
                                       v1::FailureReason::FAILURE_REASON_UNSPECIFIED);
        backend_.controller.JobChanged(job);
      }
    }
    Finish(std::move(result->experiment));
  }

  void Finish(absl::StatusOr<v1::Experiment> answer) {
    backend_.experiment_creations.Return(caller_.owner);
    backend_.creates_in_flight.fetch_sub(1);
    std::move(done_)(std::move(answer));
  }

  Backend& backend_;
  const Caller caller_;
  const std::string request_id_;
  const bool validate_only_;
  std::string request_sha256_;
  v1::Experiment experiment_;
  ExpandedDesign design_;
  std::vector<std::string> keys_;  // of labels, for the fields of the axes
  // By cell.
  std::vector<std::vector<engine::Violation>> spec_violations_;
  std::vector<int> inspections_;  // index into reports_; -1: the data section is wrong already
  // What the helper is asked, each once.
  std::map<std::string, int> inspection_index_;
  std::vector<v1::HelperRequest> requests_;
  std::vector<v1::DataReport> reports_;
  CellViolations violations_;
  // By cell: its job without a name, serialized; and without specs, for the scheduler.
  std::vector<std::string> cell_jobs_;
  std::vector<v1::Job> told_;
  int64_t spec_bytes_ = 0;  // of all jobs
  // Of the cell whose jobs are being made.
  v1::Job job_of_cell_;
  std::vector<std::string> keys_of_cell_;
  Done done_;
};

}  // namespace

void StartCreateExperiment(Backend& backend,
                           const Caller& caller,
                           const v1::CreateExperimentRequest& request,
                           absl::AnyInvocable<void(absl::StatusOr<v1::Experiment>) &&> done) {
  std::make_shared<CreateExperimentCall>(backend, caller, request, std::move(done))->Start();
}

}  // namespace normlab::server
