#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "common/clock.h"
#include "server/store/store.h"

#include "normlab/v1/job.pb.h"
#include "normlab/v1/records.pb.h"
#include "normlab/v1/worker.pb.h"

// For tests: a store in a folder of its own, and its asynchronous calls as waiting ones.
namespace normlab::server::testing {

// A folder below the tests' temporary one, removed with everything in it at the end.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A fresh id, later ones sorting later.
std::string TestId(int number);
// A job as the API would hand it to the store.
v1::Job TestJob(const std::string& id, const std::string& owner = "local");

absl::StatusOr<Store::CreateResult> CreateAndWait(Store& store,
                                                  v1::Job job,
                                                  const std::string& request_id = "",
                                                  const std::string& request_sha256 = "");
absl::StatusOr<Store::AppendResult> AppendAndWait(Store& store,
                                                  const AttemptKey& attempt,
                                                  v1::WorkerReport report);

// Brings a QUEUED job to RUNNING under its next attempt, whose key it returns.
AttemptKey StartAttempt(Store& store, const std::string& job_id, int64_t start_step = 0);

// Reports of one attempt, numbered as they are made.
class Reporter {
 public:
  explicit Reporter(int64_t next_number = 1) : next_number_(next_number) {}

  v1::WorkerReport& report() { return report_; }
  // Defines a series in the attempt's ids.
  Reporter& Define(uint32_t id, const std::string& name);
  // A block of consecutive rows: steps and, row by row, values.
  Reporter& Block(const std::vector<uint32_t>& series,
                  const std::vector<int64_t>& steps,
                  const std::vector<double>& values);
  Reporter& Log(const std::string& text);
  Reporter& Outcome(v1::Job::State state, int64_t steps = 0);
  // The report so far, with the next number; starts an empty one.
  v1::WorkerReport Take();

 private:
  int64_t next_number_;
  v1::WorkerReport report_;
};

// Every point of a job as the records tell it, in their order, with the check that sequences have
// no gap: (sequence, series name, step, value).
struct StoredPoint {
  int64_t sequence = 0;
  std::string series;
  int64_t step = 0;
  double value = 0;
  bool operator==(const StoredPoint&) const = default;
};
std::vector<StoredPoint> AllPoints(Store& store, const std::string& job_id);

// All records of a job as one batch.
v1::RecordBatch AllRecords(Store& store, const std::string& job_id, int64_t after_sequence = 0);

}  // namespace normlab::server::testing
