#include "server/app/start_executor.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "common/sha256.h"
#include "server/executor/local_process.h"
#include "server/executor/slurm_executor.h"

namespace normlab::server {
namespace {

// Of a hash: enough to tell the servers of one cluster apart.
constexpr size_t kServerIdCharacters = 8;

}  // namespace

absl::StatusOr<std::unique_ptr<Executor>> StartExecutor(const ServerOptions& options,
                                                        const std::string& work_mark) {
  if (!options.remote.has_value()) {
    return NewLocalProcessExecutor({.worker_binary = options.worker_binary});
  }
  SlurmOptions slurm = options.remote->slurm;
  slurm.worker_binary = options.worker_binary;
  slurm.work_dir = options.work_dir;
  slurm.server_ca_file = options.remote->worker_ca;
  slurm.server_id = common::Sha256Hex(absl::StrCat(work_mark, "\n", options.data_dir))
                        .substr(0, kServerIdCharacters);
  return NewSlurmExecutor(std::move(slurm));
}

}  // namespace normlab::server
