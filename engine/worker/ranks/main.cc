// normlab-worker-mpi: one rank of a run that several processes train together. mpirun or srun starts as many as the
// job's data_parallel.ranks.

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
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
  normlab-worker-mpi [--server-ca FILE] --run-file FILE
                                 the same under srun, with the assignment in a file, which rank 0 removes; the
                                 authorities of the server's certificate in another
  normlab-worker-mpi --version
)";

// Ranks of one machine, at most.
constexpr int kMostSegments = 64;
// Of the files of this run's shared memory on this machine, without the rank; set once, before `has_segments`.
std::string segments;
std::atomic<bool> has_segments{false};

// Open MPI removes them when all ranks come to their end. Under srun nobody else does, and a rank cannot
// ask which they are: it has mapped its own.
void FindSegments() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const size_t path = line.find("/dev/shm/vader_segment.");
    const size_t rank = line.rfind('.');
    if (path == std::string::npos || rank == std::string::npos || rank < path) {
      continue;
    }
    segments = line.substr(path, rank - path + 1);
    has_segments.store(true);
    return;
  }
}

void RemoveSegments() {
  for (int i = 0; has_segments.load() && i < kMostSegments; ++i) {
    unlink((segments + std::to_string(i)).c_str());
  }
}

void OnTermination() {
  RemoveSegments();
  _exit(normlab::common::kExitRankTerminated);
}

// What Open MPI's launcher removes when it ends by itself: the folder of its session, and the ranks'
// shared memory.
void RemoveLeftovers() {
  std::error_code ignored;
  RemoveSegments();
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

// `assignment`: empty: it comes on standard input.
int Run(const std::string& assignment, const std::string& server_ca) {
  normlab::engine::SetUpProcess("normlab-rank");
  // MPI starts threads.
  normlab::engine::HoldSignals();
  EndWithParent();
  const normlab::engine::SignalWishes* signals =
      assignment.empty() ? nullptr : &normlab::engine::TakeSignals(OnTermination);
  absl::StatusOr<std::unique_ptr<MpiRanks>> ranks = MpiRanks::Start();
  if (!ranks.ok()) {
    std::cerr << ranks.status().message() << "\n";
    return normlab::common::kExitUsage;
  }
  const auto world = (*ranks)->World();
  int code = 0;
  if (signals == nullptr) {
    code = normlab::engine::RunRankCommand(STDIN_FILENO, *world);
  } else {
    FindSegments();
    std::at_quick_exit(RemoveSegments);
    code = normlab::engine::RunRankFileCommand(assignment, server_ca, *world, *signals);
  }
  if (code != normlab::common::kExitDone) {
    // Without MPI_Finalize, which would wait for the others: whoever started them ends them instead.
    RemoveSegments();
    std::fflush(nullptr);
    _exit(code);
  }
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view command = argc == 2 ? argv[1] : "";
  if (command == "--run") {
    return Run("", "");
  }
  if (argc == 3 && std::string_view(argv[1]) == "--run-file") {
    return Run(argv[2], "");
  }
  if (argc == 5 && std::string_view(argv[1]) == "--server-ca" &&
      std::string_view(argv[3]) == "--run-file") {
    return Run(argv[4], argv[2]);
  }
  if (command == "--version") {
    std::cout << "normlab-worker-mpi " << NORMLAB_VERSION << "\n";
    return normlab::common::kExitDone;
  }
  std::cerr << kUsage;
  return normlab::common::kExitUsage;
}
