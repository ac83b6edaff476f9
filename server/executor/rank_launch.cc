#include "server/executor/rank_launch.h"

#include <unistd.h>

#include <filesystem>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "common/status_macros.h"
#include "server/executor/local_process.h"

namespace normlab::server {

std::string RankWorker(const std::string& worker_binary) {
  return (std::filesystem::path(worker_binary).parent_path() / "normlab-worker-mpi").string();
}

absl::Status CheckRankWorker(const std::string& worker_binary) {
  const std::string worker = RankWorker(worker_binary);
  return access(worker.c_str(), X_OK) == 0
             ? absl::OkStatus()
             : absl::FailedPreconditionError(absl::StrCat(
                   "this server has no ", worker,
                   ", the worker of jobs with several processes; install normlab-worker-mpi "
                   "beside normlab-worker (and the package openmpi-bin)"));
}

absl::StatusOr<RankPrograms> FindRankPrograms(const std::string& worker_binary) {
  NORMLAB_RETURN_IF_ERROR(CheckRankWorker(worker_binary));
  RankPrograms programs;
  programs.worker = RankWorker(worker_binary);
  // Debian's name of Open MPI's launcher first: plain mpirun may be another MPI's.
  for (const char* name : {"mpirun.openmpi", "mpirun"}) {
    for (const char* folder : {"/usr/local/bin/", "/usr/bin/"}) {
      programs.mpirun = absl::StrCat(folder, name);
      if (access(programs.mpirun.c_str(), X_OK) == 0) {
        return programs;
      }
    }
  }
  return absl::FailedPreconditionError(
      "this server's machine has no mpirun, which starts jobs with several processes; install the "
      "package openmpi-bin");
}

std::vector<std::string> LocalRankCommand(const RankPrograms& programs,
                                          int ranks,
                                          int threads,
                                          const std::vector<int>& cores) {
  std::vector<std::string> argv = {programs.mpirun};
  if (geteuid() == 0) {
    argv.emplace_back("--allow-run-as-root");
  }
  // Which cores are whose is decided by the scheduler here. No ssh and no daemon is needed for one
  // machine; oob is the launcher's own channel.
  for (const char* argument :
       {"--oversubscribe", "--bind-to", "none", "--mca", "plm", "isolated", "--mca", "pml", "ob1",
        "--mca", "btl", "self,vader", "--mca", "oob_tcp_if_include", "lo"}) {
    argv.emplace_back(argument);
  }
  const auto add_ranks = [&](int count) { argv.insert(argv.end(), {"-np", absl::StrCat(count)}); };
  if (cores.empty()) {
    add_ranks(ranks);
    argv.insert(argv.end(), {programs.worker, "--run"});
    return argv;
  }
  for (int rank = 0; rank < ranks; ++rank) {
    if (rank > 0) {
      argv.emplace_back(":");
    }
    add_ranks(1);
    std::vector<int> own;
    for (int i = rank * threads; i < (rank + 1) * threads && i < static_cast<int>(cores.size());
         ++i) {
      own.push_back(cores[static_cast<size_t>(i)]);
    }
    argv.insert(argv.end(),
                {"-x", absl::StrCat("OMP_PLACES=", OpenMpPlaces(own)), programs.worker, "--run"});
  }
  return argv;
}

}  // namespace normlab::server
