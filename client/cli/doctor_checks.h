#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "client/lib/client.h"

#include "normlab/v1/jobs.pb.h"
#include "normlab/v1/normalization.pb.h"

namespace normlab::client {

// What `normlab doctor` concludes from what it was answered. All functions are pure and
// thread-safe.

enum class Level { kOk, kWarning, kProblem };

struct Finding {
  std::string check;  // a word or two
  Level level = Level::kOk;
  std::string message;  // what was found
  std::string advice;   // what to do; empty when all is well
};

// OK, WARNING, PROBLEM.
std::string LevelName(Level level);
// The worst of them; kOk of none.
Level Worst(const std::vector<Finding>& findings);

// How long the server took; what the health service says.
Finding CheckConnection(const ServerProbe& probe, const std::string& server);
Finding CheckHealth(const ServerProbe& probe);
// This program's version against the server's, and the kinds that each knows.
Finding CheckVersion(const ServerProbe& probe, const std::string& client_version);
Finding CheckCaller(const ServerProbe& probe);
// Instruction set and oneDNN, as the server's helper process found them.
Finding CheckEngine(const ServerProbe& probe);
Finding CheckCapacity(const ServerProbe& probe);
// Whether jobs are started, as far as one that waits tells: `waiting` are some of those.
Finding CheckStarts(const absl::StatusOr<normlab::v1::ListJobsResponse>& waiting);
// One finding for each disk that the server tells of.
std::vector<Finding> CheckDisks(const ServerProbe& probe);
// The server's clock against the middle of the call.
Finding CheckClock(const ServerProbe& probe);
// `pem`: a certificate, `what` it is ("of the server"). Its time, seen from `now`.
Finding CheckCertificate(const std::string& what, const std::string& pem, absl::Time now);

// The request that makes a process of the engine start and compute, and what its answer has to be.
normlab::v1::NormalizeRequest WorkerProbeRequest();
Finding CheckWorker(const absl::StatusOr<normlab::v1::NormalizeResponse>& response);

// A data set that comes from files, and what validating a spec with it was answered.
struct DataSetAnswer {
  std::string name;
  absl::Status status;
  std::string description;  // of what was found; with an OK status
};
Finding CheckDataSets(const std::vector<DataSetAnswer>& answers,
                      const normlab::v1::ServerInfo& info);

}  // namespace normlab::client
