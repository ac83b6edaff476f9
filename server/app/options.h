#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "server/api/queue_gate.h"
#include "server/app/listen_address.h"
#include "server/app/tls.h"
#include "server/auth/authorizer.h"
#include "server/executor/slurm_executor.h"
#include "server/scheduler/policy.h"

namespace normlab::server {

// What the flags say, before anything is looked up.
struct RawOptions {
  std::string data_dir;
  std::string work_dir;
  std::string listen = "127.0.0.1:7600";
  std::string http_listen = "127.0.0.1:7601";
  int cores = 0;
  int64_t memory_bytes = 0;
  std::vector<std::string> data_roots;
  std::string worker_binary;
  bool pin = true;
  absl::Duration orphan_timeout = absl::Hours(24);
  double retention_days = 0;  // 0: for ever
  bool accept_new_work_dir = false;
  bool accept_new_database = false;
  std::string auth = "none";
  std::string tokens_file;
  TlsFiles tls;
  bool allow_plaintext = false;
  double requests_per_second = 1000;
  int streams_per_owner = 1000;
  absl::Duration stream_write_timeout = absl::Seconds(60);
  absl::Duration drain_timeout = absl::Seconds(10);
  std::string port_file;
  std::vector<std::string> owner_weights;  // NAME=W each
  int owner_max_cores = 0;
  int owner_max_running = 0;
  int32_t max_priority = 0;
  int64_t owner_max_queued = 0;
  int64_t owner_max_queued_bytes = int64_t{512} << 20;
  int64_t queue_limit = 10'000;
  std::string executor = "local";
  std::string worker_listen;
  std::string worker_address;
  std::string worker_ca;
  absl::Duration hello_timeout = absl::Minutes(2);
  SlurmWishes slurm;
  int slurm_max_attempts = 1000;
  std::string slurm_bin;
  std::string slurm_mpi = "pmix";
  absl::Duration slurm_poll = absl::Seconds(2);
  bool abandon_slurm_attempts = false;
};

// Where attempts run when it is not here.
struct RemoteOptions {
  ListenAddress worker_listen;
  std::string worker_address;  // what workers connect to, HOST:PORT
  std::string worker_ca;       // file; empty: they do so without TLS
  SlurmOptions slurm;          // but worker_binary, work_dir and server_id
};

// Everything a server needs to start, with defaults found out and all paths absolute.
struct ServerOptions {
  std::string data_dir;
  std::string work_dir;
  ListenAddress listen;
  ListenAddress http_listen;
  std::vector<int> cores;    // that jobs may use
  int64_t memory_bytes = 0;  // that jobs may reserve
  std::vector<std::string> data_roots;
  std::string worker_binary;
  bool pin = true;
  std::string tokens_file;  // empty: --auth=none
  TlsFiles tls;
  AccessLimits limits;  // with tokens
  absl::Duration orphan_timeout = absl::Hours(24);
  absl::Duration retention = absl::InfiniteDuration();
  bool accept_new_work_dir = false;
  bool accept_new_database = false;
  absl::Duration stream_write_timeout = absl::Seconds(60);
  absl::Duration drain_timeout = absl::Seconds(10);
  absl::Duration heartbeat_interval = absl::Seconds(5);
  std::string port_file;
  Sharing sharing;
  QueueLimits queue_limits;
  absl::Duration hello_timeout = absl::Minutes(2);
  std::optional<RemoteOptions> remote;  // --executor=slurm; none: jobs run here
  bool abandon_slurm_attempts = false;
};

// /var/lib/normlab for root, else $XDG_DATA_HOME/normlab or ~/.local/share/normlab.
std::string DefaultDataDir();

// Looks up what the flags leave open (machine, paths, addresses) and checks the rest.
// INVALID_ARGUMENT or FAILED_PRECONDITION, naming the flag and what to do.
absl::StatusOr<ServerOptions> ResolveOptions(const RawOptions& raw);

}  // namespace normlab::server
