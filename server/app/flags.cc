#include "server/app/flags.h"

#include <algorithm>

#include "absl/flags/flag.h"
#include "absl/flags/reflection.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"

#include "common/status_macros.h"
#include "server/app/byte_size.h"
#include "server/app/flag_values.h"

#include <spdlog/common.h>

ABSL_FLAG(std::string,
          data_dir,
          "",
          "Folder of the database and everything else that must survive; on a local disk. Empty: "
          "/var/lib/normlab for root, else ~/.local/share/normlab.");
ABSL_FLAG(std::string,
          work_dir,
          "",
          "Folder of attempts, checkpoints and decoded data sets. Empty: <data_dir>/work.");
ABSL_FLAG(std::vector<std::string>,
          data_roots,
          {},
          "Comma-separated folders below which a job's data files may lie. Empty: "
          "/usr/share/datasets and <data_dir>/datasets.");
ABSL_FLAG(std::string,
          listen,
          "127.0.0.1:7600",
          "HOST:PORT of the gRPC interface; port 0 picks a free one.");
ABSL_FLAG(std::string,
          http_listen,
          "127.0.0.1:7601",
          "HOST:PORT of /metrics, /healthz and /readyz; port 0 picks a free one.");
ABSL_FLAG(std::string,
          auth,
          "none",
          "How callers prove who they are: `none`, as long as both addresses are loopback ones, or "
          "`tokens`, which needs --tokens_file.");
ABSL_FLAG(std::string,
          tokens_file,
          "",
          "File of tokens, one line each as `normlab token new` prints it; read again when it "
          "changes.");
ABSL_FLAG(
    std::string,
    tls_cert,
    "",
    "Certificate chain of the gRPC interface (PEM), looked at every second, so that it can be "
    "renewed without a restart. Empty: no TLS.");
ABSL_FLAG(std::string, tls_key, "", "Private key of --tls_cert (PEM, without passphrase).");
ABSL_FLAG(std::string,
          tls_client_ca,
          "",
          "Certificates of authorities (PEM): only clients that show a certificate of one of them "
          "are let in. Empty: clients need none.");
ABSL_FLAG(bool,
          allow_plaintext,
          false,
          "Take tokens without TLS on an address that is not loopback. For a container whose port "
          "is published to the host's loopback only: whoever can listen to the network reads the "
          "tokens.");
ABSL_FLAG(double,
          requests_per_second,
          1000,
          "Calls that one owner may make, in the long run; twice as many at once. With "
          "--auth=tokens. 0: no limit.");
ABSL_FLAG(int32_t,
          streams_per_owner,
          1000,
          "Streams that one owner may have open. With --auth=tokens. 0: no limit.");
ABSL_FLAG(std::string,
          port_file,
          "",
          "File that gets the lines grpc=HOST:PORT and http=HOST:PORT once the server is ready. "
          "Empty: none.");
ABSL_FLAG(int32_t,
          cores,
          0,
          "Cores that jobs may use, all together. 0: the affinity mask, within the control groups' "
          "CPU quota.");
ABSL_FLAG(normlab::server::ByteSize,
          memory,
          {},
          "Memory that jobs may reserve, all together, in bytes or with a unit (12GiB). 0: nine "
          "tenths of the machine's or the control groups'.");
ABSL_FLAG(bool,
          pin,
          true,
          "Pin each worker to its own cores. false: for tests and shared machines.");
ABSL_FLAG(std::string,
          worker_binary,
          "",
          "Program that runs one job. Empty: normlab-worker beside this program, or where it is "
          "installed.");
ABSL_FLAG(absl::Duration,
          orphan_timeout,
          absl::Hours(24),
          "How long a worker goes on without reaching a server, for example 90m or 24h.");
ABSL_FLAG(absl::Duration,
          stream_write_timeout,
          absl::Seconds(60),
          "After how long a stream's reader that takes nothing is cut off, for example 60s.");
ABSL_FLAG(
    absl::Duration,
    drain_timeout,
    absl::Seconds(10),
    "How long SIGTERM waits for calls in progress, for example 10s; a second SIGTERM ends the "
    "waiting.");
ABSL_FLAG(double,
          retention_days,
          0,
          "Jobs go away, with their records and files, so many days after their end. 0: never.");
ABSL_FLAG(bool,
          accept_new_work_dir,
          false,
          "For one start: take --work_dir as it is although it is not the folder that the database "
          "knows. Jobs whose checkpoints were in the old one start from the beginning.");
ABSL_FLAG(bool,
          accept_new_database,
          false,
          "For one start: begin with a new database although --work_dir has files of jobs of "
          "another one.");
ABSL_FLAG(
    std::vector<std::string>,
    owner_weight,
    {},
    "NAME=W: the weight of an owner's share of the cores; 1 without. May be repeated, or name "
    "several with commas between them.");
ABSL_FLAG(int32_t,
          owner_max_cores,
          0,
          "Cores that one owner's jobs may hold together. 0: no limit.");
ABSL_FLAG(int32_t, owner_max_running, 0, "Jobs of one owner that may run at a time. 0: no limit.");
ABSL_FLAG(
    int32_t,
    max_priority,
    0,
    "How much of a job's priority counts between owners; the rest orders its owner's own jobs. "
    "100: all of it, for owners who trust each other.");
ABSL_FLAG(int64_t,
          owner_max_queued,
          0,
          "Jobs of one owner that may wait; further ones are refused. 0: no limit.");
ABSL_FLAG(normlab::server::ByteSize,
          owner_max_queued_bytes,
          normlab::server::ByteSize{int64_t{512} << 20},
          "What the specs of one owner's waiting jobs may take in the database; further jobs are "
          "refused. 0: no limit.");
ABSL_FLAG(int64_t,
          queue_limit,
          10'000,
          "Jobs that may wait, all together; further ones are refused for the time being. 0: no "
          "limit.");
ABSL_FLAG(std::string,
          executor,
          "local",
          "What runs the jobs: `local`, processes of this machine, or `slurm`, jobs of the Slurm "
          "cluster that this machine belongs to.");
ABSL_FLAG(std::string,
          worker_listen,
          "",
          "HOST:PORT where workers on other machines reach this server, over TLS with --tls_cert, "
          "each with a secret of its own. With --executor=slurm; plaintext only on loopback.");
ABSL_FLAG(std::string,
          worker_address,
          "",
          "HOST:PORT that workers connect to; the certificate must be for it. Empty: "
          "--worker_listen.");
ABSL_FLAG(std::string,
          worker_ca,
          "",
          "Certificates of the authorities that vouch for --tls_cert (PEM), in a file that every "
          "node sees at the same path.");
ABSL_FLAG(absl::Duration,
          hello_timeout,
          absl::Minutes(2),
          "How long a worker that runs may take to plan its network and reach this server, for "
          "example 2m; then it is ended.");
ABSL_FLAG(std::string,
          slurm_partition,
          "",
          "Partition of jobs that name none. Empty: Slurm's default.");
ABSL_FLAG(std::string,
          slurm_account,
          "",
          "Account of jobs that name none. Empty: Slurm's default.");
ABSL_FLAG(std::string,
          slurm_constraint,
          "",
          "Features that nodes of jobs must have that name none.");
ABSL_FLAG(int32_t,
          slurm_max_attempts,
          1000,
          "Jobs that are handed over to Slurm at a time; the others wait here, in the order of "
          "priorities and shares.");
ABSL_FLAG(std::string,
          slurm_bin,
          "",
          "Folder of sbatch, squeue, scancel and scontrol, and on the nodes of srun. Empty: PATH.");
ABSL_FLAG(std::string,
          slurm_mpi,
          "pmix",
          "How srun starts the processes of jobs with data_parallel.ranks: one of the kinds that "
          "`srun --mpi=list` shows and the nodes' Open MPI understands.");
ABSL_FLAG(absl::Duration,
          slurm_poll,
          absl::Seconds(2),
          "How often Slurm is asked for the state of all jobs, for example 2s.");
ABSL_FLAG(bool,
          abandon_slurm_attempts,
          false,
          "With --executor=local on a data folder of which Slurm runs attempts still: give them up "
          "(the log names them, for scancel), and run their jobs here.");
ABSL_FLAG(
    bool,
    healthcheck,
    false,
    "Asks the server of this machine whether it takes jobs, says so and exits: 0 yes, 1 no. It "
    "is looked for at --http_listen, or where --port_file says.");
ABSL_FLAG(
    std::string,
    backup,
    "",
    "Copies --data_dir, as it is at one moment and with its checkpoints, into this new folder, "
    "and exits. The server may be running. The copy is a data folder: to restore, put it in "
    "place and start a server on it.");
ABSL_FLAG(std::string,
          log_level,
          "info",
          "trace, debug, info, warning or error; to stderr, in UTC.");

namespace normlab::server {
namespace {

struct Group {
  const char* title;
  std::vector<const char*> flags;
};

const std::vector<Group>& Groups() {
  static const auto& groups = *new std::vector<Group>{
      {"Where things are kept",
       {"data_dir", "work_dir", "data_roots", "retention_days", "accept_new_work_dir",
        "accept_new_database"}},
      {"Where it listens", {"listen", "http_listen", "port_file"}},
      {"Who may call",
       {"auth", "tokens_file", "tls_cert", "tls_key", "tls_client_ca", "allow_plaintext",
        "requests_per_second", "streams_per_owner"}},
      {"What jobs may use",
       {"cores", "memory", "pin", "worker_binary", "orphan_timeout", "hello_timeout"}},
      {"How owners share it",
       {"owner_weight", "max_priority", "owner_max_cores", "owner_max_running", "owner_max_queued",
        "owner_max_queued_bytes", "queue_limit"}},
      {"Running jobs on other machines",
       {"executor", "worker_listen", "worker_address", "worker_ca", "slurm_partition",
        "slurm_account", "slurm_constraint", "slurm_max_attempts", "slurm_bin", "slurm_mpi",
        "slurm_poll", "abandon_slurm_attempts"}},
      {"Behaviour", {"stream_write_timeout", "drain_timeout", "log_level"}},
      {"Instead of running", {"healthcheck", "backup"}}};
  return groups;
}

constexpr char kIntroduction[] =
    "normlabd: accepts experiment jobs over gRPC, trains them on this machine's cores, streams "
    "their\nmetrics and keeps everything durable. Clients: the `normlab` command, or any gRPC "
    "client\n(normlab.v1, with reflection).\n\nUsage: normlabd [--flag=value ...]\n";

constexpr char kClosing[] =
    "\nOther\n  --help, --version\n\nSIGTERM or SIGINT ends the server cleanly: running jobs write "
    "a "
    "checkpoint and go on from it at\nthe next start on the same data folder. Flags may also stand "
    "in a file: "
    "--flagfile=FILE.\n";

// Breaks at spaces.
std::string Wrapped(absl::string_view text, size_t width, absl::string_view indent) {
  std::string out;
  size_t column = 0;
  for (const absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    if (column == 0 || column + 1 + word.size() > width) {
      absl::StrAppend(&out, column == 0 ? "" : "\n", indent, word);
      column = word.size();
    } else {
      absl::StrAppend(&out, " ", word);
      column += 1 + word.size();
    }
  }
  return out;
}

// absl would print its own help, in no order, with every flag of every library.
CommandLineAction RequestedAction(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const absl::string_view argument = argv[i];
    if (argument == "--") {
      break;
    }
    if (argument == "--help" || argument == "-help" || argument == "-h") {
      return CommandLineAction::kHelp;
    }
    if (argument == "--version" || argument == "-version") {
      return CommandLineAction::kVersion;
    }
  }
  return CommandLineAction::kRun;
}

// absl takes the last of a flag that is repeated. Takes all of that one out of `arguments` and
// returns them as one, with commas; empty: there was none.
std::string JoinRepeated(absl::string_view flag, std::vector<char*>& arguments) {
  const std::string name = absl::StrCat("--", flag);
  std::vector<absl::string_view> values;
  std::vector<char*> rest;
  for (size_t i = 0; i < arguments.size(); ++i) {
    absl::string_view argument = arguments[i];
    if (i > 0 && argument == "--") {
      rest.insert(rest.end(), arguments.begin() + static_cast<std::ptrdiff_t>(i), arguments.end());
      break;
    }
    if (i > 0 && argument == name && i + 1 < arguments.size()) {
      values.emplace_back(arguments[++i]);
    } else if (i > 0 && absl::ConsumePrefix(&argument, name + "=")) {
      values.push_back(argument);
    } else {
      rest.push_back(arguments[i]);
    }
  }
  arguments = std::move(rest);
  return values.empty() ? std::string() : absl::StrCat(name, "=", absl::StrJoin(values, ","));
}

}  // namespace

absl::StatusOr<CommandLine> ParseFlags(int argc, char** argv) {
  CommandLine line;
  line.action = RequestedAction(argc, argv);
  if (line.action != CommandLineAction::kRun) {
    return line;
  }
  std::vector<char*> arguments(argv, argv + argc);
  std::string weights = JoinRepeated("owner_weight", arguments);
  if (!weights.empty()) {
    arguments.insert(arguments.begin() + 1, weights.data());
  }
  NORMLAB_RETURN_IF_ERROR(SetFlags(
      std::vector<std::string>(arguments.begin() + (arguments.empty() ? 0 : 1), arguments.end()),
      HelpFlagNames()));
  RawOptions& options = line.options;
  options.data_dir = absl::GetFlag(FLAGS_data_dir);
  options.work_dir = absl::GetFlag(FLAGS_work_dir);
  options.data_roots = absl::GetFlag(FLAGS_data_roots);
  options.listen = absl::GetFlag(FLAGS_listen);
  options.http_listen = absl::GetFlag(FLAGS_http_listen);
  options.auth = absl::GetFlag(FLAGS_auth);
  options.tokens_file = absl::GetFlag(FLAGS_tokens_file);
  options.tls.certificate = absl::GetFlag(FLAGS_tls_cert);
  options.tls.key = absl::GetFlag(FLAGS_tls_key);
  options.tls.client_ca = absl::GetFlag(FLAGS_tls_client_ca);
  options.allow_plaintext = absl::GetFlag(FLAGS_allow_plaintext);
  options.requests_per_second = absl::GetFlag(FLAGS_requests_per_second);
  options.streams_per_owner = absl::GetFlag(FLAGS_streams_per_owner);
  options.port_file = absl::GetFlag(FLAGS_port_file);
  options.cores = absl::GetFlag(FLAGS_cores);
  options.memory_bytes = absl::GetFlag(FLAGS_memory).bytes;
  options.pin = absl::GetFlag(FLAGS_pin);
  options.worker_binary = absl::GetFlag(FLAGS_worker_binary);
  options.orphan_timeout = absl::GetFlag(FLAGS_orphan_timeout);
  options.retention_days = absl::GetFlag(FLAGS_retention_days);
  options.accept_new_work_dir = absl::GetFlag(FLAGS_accept_new_work_dir);
  options.accept_new_database = absl::GetFlag(FLAGS_accept_new_database);
  options.stream_write_timeout = absl::GetFlag(FLAGS_stream_write_timeout);
  options.drain_timeout = absl::GetFlag(FLAGS_drain_timeout);
  options.owner_weights = absl::GetFlag(FLAGS_owner_weight);
  options.owner_max_cores = absl::GetFlag(FLAGS_owner_max_cores);
  options.owner_max_running = absl::GetFlag(FLAGS_owner_max_running);
  options.max_priority = absl::GetFlag(FLAGS_max_priority);
  options.owner_max_queued = absl::GetFlag(FLAGS_owner_max_queued);
  options.owner_max_queued_bytes = absl::GetFlag(FLAGS_owner_max_queued_bytes).bytes;
  options.queue_limit = absl::GetFlag(FLAGS_queue_limit);
  options.executor = absl::GetFlag(FLAGS_executor);
  options.worker_listen = absl::GetFlag(FLAGS_worker_listen);
  options.worker_address = absl::GetFlag(FLAGS_worker_address);
  options.worker_ca = absl::GetFlag(FLAGS_worker_ca);
  options.hello_timeout = absl::GetFlag(FLAGS_hello_timeout);
  options.slurm.partition = absl::GetFlag(FLAGS_slurm_partition);
  options.slurm.account = absl::GetFlag(FLAGS_slurm_account);
  options.slurm.constraint = absl::GetFlag(FLAGS_slurm_constraint);
  options.slurm_max_attempts = absl::GetFlag(FLAGS_slurm_max_attempts);
  options.slurm_bin = absl::GetFlag(FLAGS_slurm_bin);
  options.slurm_mpi = absl::GetFlag(FLAGS_slurm_mpi);
  options.slurm_poll = absl::GetFlag(FLAGS_slurm_poll);
  options.abandon_slurm_attempts = absl::GetFlag(FLAGS_abandon_slurm_attempts);
  line.log_level = absl::GetFlag(FLAGS_log_level);
  line.backup = absl::GetFlag(FLAGS_backup);
  if (absl::GetFlag(FLAGS_healthcheck)) {
    line.action = CommandLineAction::kHealthCheck;
  } else if (!line.backup.empty()) {
    line.action = CommandLineAction::kBackUp;
  }
  // spdlog takes any other word for "off".
  if (spdlog::level::from_str(line.log_level) == spdlog::level::off) {
    return absl::InvalidArgumentError(absl::StrCat("--log_level=", line.log_level,
                                                   " is none of trace, debug, info, warning and "
                                                   "error; use one of them"));
  }
  return line;
}

std::string HelpText() {
  std::string text = kIntroduction;
  for (const Group& group : Groups()) {
    absl::StrAppend(&text, "\n", group.title, "\n");
    for (const char* name : group.flags) {
      const absl::CommandLineFlag* flag = absl::FindCommandLineFlag(name);
      const std::string value = flag->DefaultValue();
      absl::StrAppend(&text, "  --", name, "=", value.empty() ? "\"\"" : value, "\n");
      absl::StrAppend(&text, Wrapped(flag->Help(), 90, "      "), "\n");
    }
  }
  return text + kClosing;
}

std::vector<std::string> HelpFlagNames() {
  std::vector<std::string> names;
  for (const Group& group : Groups()) {
    names.insert(names.end(), group.flags.begin(), group.flags.end());
  }
  return names;
}

}  // namespace normlab::server
