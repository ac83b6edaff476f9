#pragma once

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "engine/parallel/communicator.h"

namespace normlab::engine {

// This process as a rank of an MPI job, from MPI_Init to MPI_Finalize. At most one in a process's
// life, made by its main thread, which alone may use it and its communicators.
//
// An error of MPI, the death of another rank among them, ends the process: MPI aborts the job.
class MpiRanks {
 public:
  // INTERNAL: MPI could not be initialized (usually it says why and ends the process itself).
  static absl::StatusOr<std::unique_ptr<MpiRanks>> Start();
  // Waits for all ranks to come here. Communicators must be gone.
  ~MpiRanks();
  MpiRanks(const MpiRanks&) = delete;
  MpiRanks& operator=(const MpiRanks&) = delete;

  // All ranks of the job. Collective.
  std::unique_ptr<Communicator> World();

 private:
  MpiRanks() = default;
};

}  // namespace normlab::engine
