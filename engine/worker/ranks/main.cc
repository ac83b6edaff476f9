// normlab-worker-mpi: one rank of a run that several processes train together. mpirun or srun starts as many as the
// job's data_parallel.ranks.

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <memory>
#include <string_view>
#include <thread>

#include "common/worker_exit.h"
#include "engine/parallel/mpi/mpi_ranks.h"
#include "engine/worker/process_setup.h"
#include "engine/worker/run_command.h"

namespace {

using normlab::engine::MpiRanks;

constexpr std::string_view kUsage =
    R"(normlab-worker-mpi trains one job of a Normlab server on several processes. The server, normlabd, starts it with
mpirun, or Slurm with srun --mpi=pmix; there is nothing to start by hand. See docs/parallel.md.

  normlab-worker-mpi --run       one rank of an attempt; the assignment comes on rank 0's standard input
  normlab-worker-mpi --version
)";

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
    _exit(normlab::common::kExitFenced);
  }).detach();
}

int Run() {
  normlab::engine::SetUpProcess("normlab-rank");
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
