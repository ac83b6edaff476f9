#include "server/api/create_job.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "common/ids.h"
#include "common/status_macros.h"
#include "engine/spec/validate.h"
#include "server/api/admission.h"
#include "server/api/format.h"
#include "server/api/inspect_data.h"
#include "server/api/request_id.h"
#include "server/api/unary.h"
#include "server/domain/errors.h"
#include "server/domain/names.h"

#include <spdlog/spdlog.h>

namespace normlab::server {
namespace {

// Far more than any honest spec has; it bounds what the creations in flight hold together.
constexpr size_t kMaxSpecBytes = size_t{64} << 10;
// Each holds a spec and its resolved form.
constexpr int kMaxCreatesInFlight = 2048;
constexpr absl::Duration kDrainRetry = absl::Seconds(1);

// One call on its way through helper and store. Each step runs on the pool, one after the other;
// the object lives as long as a step holds it.
class CreateJobCall : public std::enable_shared_from_this<CreateJobCall> {
 public:
  using Done = absl::AnyInvocable<void(absl::StatusOr<v1::Job>) &&>;

  CreateJobCall(Backend& backend, Caller caller, const v1::CreateJobRequest& request, Done done)
      : backend_(backend),
        caller_(std::move(caller)),
        request_id_(request.request_id()),
        validate_only_(request.validate_only()),
        spec_(request.job().spec()),
        done_(std::move(done)) {}

  void Start() {
    if (backend_.draining.load()) {
      std::move(done_)(ShuttingDown(kDrainRetry));
      return;
    }
    if (const absl::Status status = CheckRequestId(request_id_); !status.ok()) {
      std::move(done_)(status);
      return;
    }
    if (const size_t bytes = spec_.ByteSizeLong(); bytes > kMaxSpecBytes) {
      std::move(done_)(InvalidArgument(
          "job.spec", absl::StrCat("has ", bytes, " bytes; use at most ", kMaxSpecBytes,
                                   ", for example with fewer labels")));
      return;
    }
    if (backend_.creates_in_flight.fetch_add(1) >= kMaxCreatesInFlight) {
      backend_.creates_in_flight.fetch_sub(1);
      std::move(done_)(Overloaded(kOverloadRetry));
      return;
    }
    if (!request_id_.empty() && !validate_only_) {
      // A retry gets the first answer whatever has changed since: the data may be gone, or the
      // machine smaller.
      absl::StatusOr<std::optional<v1::Job>> earlier =
          backend_.store.FindRequest(caller_.owner, request_id_, RequestHash(spec_));
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
      // Nothing should be added to a damaged database.
      Finish(std::move(health));
      return;
    }
    violations_ = engine::Validate(spec_);
    std::optional<v1::HelperRequest> inspection =
        InspectionOf(spec_, violations_, backend_.options);
    if (!inspection.has_value()) {
      Decide(nullptr);
      return;
    }
    Inspect(*std::move(inspection));
  }

 private:
  void Inspect(v1::HelperRequest request) {
    backend_.helper.CallInTurn(
        caller_.owner, std::move(request), backend_.options.inspect_timeout,
        [self = shared_from_this()](absl::StatusOr<v1::HelperResponse> response) {
          self->backend_.pool.Post([self, response = std::move(response)] {
            if (!response.ok()) {
              self->Finish(self->HelperFailed(response.status()));
            } else if (!response->has_data()) {
              self->Finish(InternalError("the helper answered something else than a data report"));
            } else {
              self->Decide(&response->data());
            }
          });
        });
  }

  // Says which part failed; what is wrong with the spec itself comes first, because it can be
  // mended.
  absl::Status HelperFailed(const absl::Status& failure) const {
    if (!violations_.empty()) {
      return InvalidSpec(Admit(spec_, violations_, nullptr, backend_.options).violations);
    }
    return InspectionFailed(failure, backend_.options);
  }

  void Decide(const v1::DataReport* data) {
    Admission admission = Admit(spec_, violations_, data, backend_.options);
    if (!admission.violations.empty()) {
      Finish(InvalidSpec(admission.violations));
      return;
    }
    admission.job.set_owner(caller_.owner);
    if (validate_only_) {
      admission.job.set_state(v1::Job::QUEUED);
      Finish(std::move(admission.job));
      return;
    }
    const int64_t bytes = QueueGate::SpecBytes(admission.job);
    if (const absl::Status place = backend_.queue_gate.Reserve(caller_.owner, 1, bytes);
        !place.ok()) {
      Finish(place);
      return;
    }
    admission.job.set_name(JobName(common::NewId(backend_.options.clock->Now())));
    backend_.store.CreateJob(
        std::move(admission.job), request_id_, RequestHash(spec_),
        [self = shared_from_this(), bytes](absl::StatusOr<Store::CreateResult> result) {
          self->backend_.queue_gate.Release(self->caller_.owner, 1, bytes);
          // Serializing the answer is not the writer thread's work.
          self->backend_.pool.Post(
              [self, result = std::move(result)]() mutable { self->Stored(std::move(result)); });
        });
  }

  void Stored(absl::StatusOr<Store::CreateResult> result) {
    if (!result.ok()) {
      Finish(result.status());
      return;
    }
    if (result->created) {
      spdlog::info("{} QUEUED: {} step(s), {} core(s), {}", result->job.name(),
                   result->job.progress().total_steps(), result->job.estimate().cores(),
                   FormatBytes(result->job.estimate().memory_bytes()));
      backend_.observer.OnTransition(v1::Job::QUEUED,
                                     v1::FailureReason::FAILURE_REASON_UNSPECIFIED);
      backend_.controller.JobChanged(result->job);
    }
    Finish(std::move(result->job));
  }

  void Finish(absl::StatusOr<v1::Job> answer) {
    backend_.creates_in_flight.fetch_sub(1);
    std::move(done_)(std::move(answer));
  }

  Backend& backend_;
  const Caller caller_;
  const std::string request_id_;
  const bool validate_only_;
  const v1::JobSpec spec_;
  std::vector<engine::Violation> violations_;
  Done done_;
};

}  // namespace

void StartCreateJob(Backend& backend,
                    const Caller& caller,
                    const v1::CreateJobRequest& request,
                    absl::AnyInvocable<void(absl::StatusOr<v1::Job>) &&> done) {
  std::make_shared<CreateJobCall>(backend, caller, request, std::move(done))->Start();
}

}  // namespace normlab::server
