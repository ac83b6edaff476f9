#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "normlab/v1/experiments.pb.h"
#include "normlab/v1/job.pb.h"

namespace normlab::server {

// An experiment and where its jobs stand, both as of one commit. Jobs have positions: cell by cell
// in the design's order, seed by seed within a cell.
struct StoredExperiment {
  // With counts and end_time, also those of its cells; without cells when they were not asked for.
  v1::Experiment experiment;
  // By position; STATE_UNSPECIFIED for a job that was deleted.
  std::vector<v1::Job::State> states;
};

struct ExperimentPage {
  std::vector<v1::Experiment> experiments;  // newest first, without cells
  std::string next_page_token;              // opaque keyset position; empty on the last page
};

// What became of a job of an experiment.
struct ExperimentResult {
  int64_t position = 0;
  v1::Job::State state = v1::Job::STATE_UNSPECIFIED;
  std::vector<double> last_values;  // of the series asked for; NaN where it has none
};

// The experiments of a Store: its threads and promises hold here too. An experiment's state is that
// of its jobs, so there is nothing that a crash could leave different from them.
class ExperimentStore {
 public:
  struct CreateResult {
    v1::Experiment experiment;  // complete
    bool created = false;       // false: an earlier call with the same request_id made it
  };
  using CreateCallback = absl::AnyInvocable<void(absl::StatusOr<CreateResult>) &&>;
  // Makes the job at a position.
  using JobMaker = absl::FunctionRef<v1::Job(size_t position)>;

  virtual ~ExperimentStore() = default;

  // Stores an experiment and all its jobs, which are QUEUED then, in one transaction. Both come with
  // names, owner and the jobs' experiment; the experiment's cells name the jobs, which come by
  // position and get creation times a microsecond apart. `make_job` is called for one position after
  // the other, before Create returns and on the caller's thread, where the rows are made: so there
  // is one of the jobs as a message at a time, and the writer's other work waits for the disk only.
  // `request_id` as for Store::CreateJob, apart from those of jobs.
  virtual void Create(v1::Experiment experiment,
                      size_t jobs,
                      JobMaker make_job,
                      std::string request_id,
                      std::string request_sha256,
                      CreateCallback done) = 0;

  // The experiment that Create made for this (owner, request_id); none: it was not used.
  // ALREADY_EXISTS: it was used with another hash; NOT_FOUND: the experiment was deleted.
  virtual absl::StatusOr<std::optional<v1::Experiment>> FindRequest(
      const std::string& owner,
      const std::string& request_id,
      const std::string& request_sha256) = 0;

  // Makes an experiment go away, at once and for good, and then its jobs, in slices; answers when
  // they are gone for everybody, too. A crash or an error in between only delays the jobs' end: they
  // cannot run any more. NOT_FOUND; FAILED_PRECONDITION: a job waits or runs.
  virtual void Delete(std::string id, absl::AnyInvocable<void(absl::Status) &&> done) = 0;

  // The same as Delete, waiting for the answer. Not from a callback or gRPC thread.
  absl::Status DeleteAndWait(std::string id);

  enum class Parts { kWithoutCells, kAll };
  // NOT_FOUND.
  virtual absl::StatusOr<StoredExperiment> Get(const std::string& id, Parts parts) = 0;
  // The states alone, as Get has them; of the experiment's own row nothing is read. NOT_FOUND.
  virtual absl::StatusOr<std::vector<v1::Job::State>> GetStates(const std::string& id) = 0;
  // NOT_FOUND.
  virtual absl::StatusOr<std::string> GetOwner(const std::string& id) = 0;
  // Of one owner, or of all. A page may be shorter than `page_size` and have a successor all the
  // same. INVALID_ARGUMENT: a page token that is not of this list.
  virtual absl::StatusOr<ExperimentPage> List(const std::optional<std::string>& owner,
                                              int page_size,
                                              const std::string& page_token) = 0;
  // State and last values of `series` (names) of up to `limit` jobs from `from_position` on, in
  // order, without deleted ones. Empty: there are no more. NOT_FOUND.
  virtual absl::StatusOr<std::vector<ExperimentResult>> ReadResults(
      const std::string& id,
      const std::vector<std::string>& series,
      int64_t from_position,
      int limit) = 0;
};

}  // namespace normlab::server
