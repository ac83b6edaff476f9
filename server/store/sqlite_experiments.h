#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "server/store/experiment_store.h"
#include "server/store/read_pool.h"
#include "server/store/write_op.h"

namespace normlab::server {

// The experiments of a SqliteStore, with its readers and its writer, which outlive the calls.
// Thread-safe.
class SqliteExperiments final : public ExperimentStore {
 public:
  using Submit = std::function<void(std::unique_ptr<WriteOp>)>;

  SqliteExperiments(ReadPool& reads, Submit submit, const common::Clock& clock);

  void Create(v1::Experiment experiment,
              size_t jobs,
              JobMaker make_job,
              std::string request_id,
              std::string request_sha256,
              CreateCallback done) override;
  absl::StatusOr<std::optional<v1::Experiment>> FindRequest(
      const std::string& owner,
      const std::string& request_id,
      const std::string& request_sha256) override;
  void Delete(std::string id, absl::AnyInvocable<void(absl::Status) &&> done) override;
  absl::StatusOr<StoredExperiment> Get(const std::string& id, Parts parts) override;
  absl::StatusOr<std::vector<v1::Job::State>> GetStates(const std::string& id) override;
  absl::StatusOr<std::string> GetOwner(const std::string& id) override;
  absl::StatusOr<ExperimentPage> List(const std::optional<std::string>& owner,
                                      int page_size,
                                      const std::string& page_token) override;
  absl::StatusOr<std::vector<ExperimentResult>> ReadResults(const std::string& id,
                                                            const std::vector<std::string>& series,
                                                            int64_t from_position,
                                                            int limit) override;

 private:
  ReadPool& reads_;
  const Submit submit_;
  const common::Clock& clock_;
};

}  // namespace normlab::server
