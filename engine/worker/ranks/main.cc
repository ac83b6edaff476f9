// normlab-worker-mpi: one rank of a run that several processes train together. mpirun or srun starts as many as the
// job's data_parallel.ranks.

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>

#include "common/worker_exit.h"
#include "engine/parallel/mpi/mpi_ranks.h"
#include "engine/worker/process_setup.h"
#include "engine/worker/run_command.h"
#include "engine/worker/signals.h"

namespace {

using normlab::engine::MpiRanks;

constexpr std::string_view kUsage =
    R"(normlab-worker-mpi trains one job of a Normlab server on several processes. The server, normlabd, starts it with
mpirun, or Slurm with srun --mpi=pmix; there is nothing to start by hand. See docs/parallel.md.

  normlab-worker-mpi --run       one rank of an attempt; the assignment comes on rank 0's standard input
  normlab-worker-mpi --version
)";

// What Open MPI's launcher removes when it ends by itself: the folder of its session, and the ranks'
// shared memory.
void RemoveLeftovers() {
  std::error_code ignored;
  if (const char* session = getenv("OMPI_MCA_orte_jobfam_session_dir"); session != nullptr) {
    std::filesystem::remove_all(session, ignored);
  }
  const char* job = getenv("OMPI_MCA_ess_base_jobid");
  if (job == nullptr) {
    return;
  }
  char part[32];
  std::snprintf(part, sizeof(part), ".%lx.", strtoul(job, nullptr, 10));
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm", ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("vader_segment.") && name.find(part) != std::string::npos) {
      std::filesystem::remove(entry.path(), ignored);
    }
  }
}

// Who started the ranks may be killed without a chance to end them; no rank outlives it.
void EndWithParent() {
  const auto pidfd = static_cast<int>(syscall(SYS_pidfd_open, getppid(), 0));
  if (pidfd < 0) {
    return;  // an old kernel: MPI notices by itself, a little later
  }
  std::thread([pidfd] {
    pollfd waiting = {.fd = pidfd, .events = POLLIN, .revents = 0};
    while (poll(&waiting, 1, -1) != 1) {
    }
    RemoveLeftovers();
    _exit(normlab::common::kExitFenced);
  }).detach();
}

int Run() {
  normlab::engine::SetUpProcess("normlab-rank");
  // MPI starts threads.
  normlab::engine::HoldSignals();
  EndWithParent();
  absl::StatusOr<std::unique_ptr<MpiRanks>> ranks = MpiRanks::Start();
  if (!ranks.ok()) {
    std::cerr << ranks.status().message() << "\n";
    return normlab::common::kExitUsage;
  }
  const auto world = (*ranks)->World();
  const int code = normlab::engine::RunRankCommand(STDIN_FILENO, *world);
  if (code != normlab::common::kExitDone) {
    // Without MPI_Finalize, which would wait for the others: MPI ends them instead.
    std::fflush(nullptr);
    _exit(code);
  }
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view command = argc == 2 ? argv[1] : "";
  if (command == "--run") {
    return Run();
  }
  if (command == "--version") {
    std::cout << "normlab-worker-mpi " << NORMLAB_VERSION << "\n";
    return normlab::common::kExitDone;
  }
  std::cerr << kUsage;
  return normlab::common::kExitUsage;
}
