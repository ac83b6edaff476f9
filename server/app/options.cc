#include "server/app/options.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <system_error>
#include <tuple>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "common/status_macros.h"
#include "server/app/machine.h"

namespace normlab::server {
namespace {

constexpr double kLeastWeight = 0.001;
constexpr double kMostWeight = 1000;
constexpr char kDatasets[] = "/usr/share/datasets";

absl::StatusOr<std::string> Absolute(absl::string_view flag, const std::string& path) {
  std::error_code error;
  std::filesystem::path absolute = std::filesystem::absolute(path, error);
  if (error) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag, "=", path, ": ", error.message(), "; give an absolute path"));
  }
  std::string text = absolute.lexically_normal().string();
  // So that paths can be put together with a slash.
  while (text.size() > 1 && text.back() == '/') {
    text.pop_back();
  }
  return text;
}

absl::StatusOr<std::vector<int>> ChooseCores(const RawOptions& raw, const Machine& machine) {
  if (raw.cores < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--cores=", raw.cores, " is negative; use 0 for all this process may use"));
  }
  if (raw.cores == 0) {
    return DefaultCores(machine);
  }
  const auto wanted = static_cast<size_t>(raw.cores);
  if (wanted <= machine.cores.size()) {
    return std::vector<int>(machine.cores.begin(), machine.cores.begin() + raw.cores);
  }
  if (raw.pin) {
    return absl::InvalidArgumentError(
        absl::StrCat("--cores=", raw.cores, " but this process may run on ", machine.cores.size(),
                     " only; use fewer, or --pin=false to let jobs share them"));
  }
  // Without pinning they are places, not cores.
  std::vector<int> places(wanted);
  for (size_t i = 0; i < wanted; ++i) {
    places[i] = static_cast<int>(i);
  }
  return places;
}

// Beside this program, as both are built; or in libexec beside its folder, as they are installed,
// because nobody runs it by hand.
std::string DefaultWorkerBinary() {
  std::error_code error;
  const std::filesystem::path folder =
      std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  const std::string installed =
      (folder.parent_path() / "libexec" / "normlab" / "normlab-worker").string();
  const std::string built = (folder / "normlab-worker").string();
  return access(built.c_str(), X_OK) != 0 && access(installed.c_str(), X_OK) == 0 ? installed
                                                                                  : built;
}

absl::StatusOr<std::string> ChooseWorkerBinary(const RawOptions& raw) {
  NORMLAB_ASSIGN_OR_RETURN(
      std::string path, Absolute("worker_binary", raw.worker_binary.empty() ? DefaultWorkerBinary()
                                                                            : raw.worker_binary));
  if (access(path.c_str(), X_OK) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("there is no worker program ", path,
                     " that can be run; build or install normlab-worker, or name it with "
                     "--worker_binary"));
  }
  return path;
}

absl::Status CheckPositive(absl::string_view flag, absl::Duration value) {
  if (value <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(absl::StrCat("--", flag, "=", absl::FormatDuration(value),
                                                   " is not positive; use for example 60s"));
  }
  return absl::OkStatus();
}

// Who may call, and over what: nothing leaves the machine without TLS and tokens.
absl::Status ResolveAccess(const RawOptions& raw, ServerOptions& options) {
  for (const auto& [flag, from, to] :
       {std::tuple<const char*, const std::string&, std::string&>{"tls_cert", raw.tls.certificate,
                                                                  options.tls.certificate},
        {"tls_key", raw.tls.key, options.tls.key},
        {"tls_client_ca", raw.tls.client_ca, options.tls.client_ca},
        {"tokens_file", raw.tokens_file, options.tokens_file}}) {
    if (!from.empty()) {
      NORMLAB_ASSIGN_OR_RETURN(to, Absolute(flag, from));
    }
  }
  NORMLAB_RETURN_IF_ERROR(CheckTlsFiles(options.tls));
  if (!(raw.requests_per_second >= 0) || std::isinf(raw.requests_per_second)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--requests_per_second=", raw.requests_per_second,
                     " is not a number of calls; use for example 1000, or 0 for no limit"));
  }
  if (raw.streams_per_owner < 0) {
    return absl::InvalidArgumentError(absl::StrCat("--streams_per_owner=", raw.streams_per_owner,
                                                   " is negative; use 0 for no limit"));
  }
  options.limits = {.requests_per_second = raw.requests_per_second,
                    .streams_per_owner = raw.streams_per_owner};
  if (raw.auth == "none") {
    if (!raw.tokens_file.empty()) {
      return absl::InvalidArgumentError(
          "--tokens_file has no meaning with --auth=none; give --auth=tokens as well");
    }
    NORMLAB_RETURN_IF_ERROR(RequireLoopback("listen", options.listen));
    return RequireLoopback("http_listen", options.http_listen);
  }
  if (raw.auth != "tokens") {
    return absl::InvalidArgumentError(
        absl::StrCat("--auth=", raw.auth, " is unknown; use none or tokens"));
  }
  if (raw.tokens_file.empty()) {
    return absl::InvalidArgumentError(
        "--auth=tokens needs --tokens_file; make one of the lines that `normlab token new` prints");
  }
  if (!options.listen.loopback && !options.tls.enabled() && !raw.allow_plaintext) {
    return absl::FailedPreconditionError(absl::StrCat(
        "--listen=", options.listen.ToString(),
        " is not a loopback address, and without TLS whoever can listen to the network reads the "
        "tokens; give --tls_cert and --tls_key, or --allow_plaintext for a container whose port is "
        "published to the host's loopback only"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::map<std::string, double>> ParseWeights(const std::vector<std::string>& texts) {
  std::map<std::string, double> weights;
  for (const std::string& text : texts) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(text, absl::MaxSplits('=', 1));
    double weight = 0;
    if (parts.first.empty() || !absl::SimpleAtod(parts.second, &weight) ||
        !(weight >= kLeastWeight && weight <= kMostWeight)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--owner_weight=", text, " is not NAME=W with a weight from ", kLeastWeight,
                       " to ", kMostWeight, "; write for example --owner_weight ann=2"));
    }
    if (!weights.emplace(parts.first, weight).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("--owner_weight names ", parts.first, " twice; keep one of the weights"));
    }
  }
  return weights;
}

absl::Status CheckNotNegative(absl::string_view flag, int64_t value) {
  if (value < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag, "=", value, " is negative; use 0 for no limit"));
  }
  return absl::OkStatus();
}

// Slurm's words go to programs as parts of their arguments.
absl::Status CheckSlurmWords(const SlurmWishes& wishes, const std::string& mpi) {
  if (mpi.empty()) {
    return absl::InvalidArgumentError(
        "--slurm_mpi is empty; give one of the kinds that `srun --mpi=list` shows");
  }
  for (const auto& [flag, value] :
       {std::pair<const char*, const std::string&>{"slurm_partition", wishes.partition},
        {"slurm_account", wishes.account},
        {"slurm_constraint", wishes.constraint},
        {"slurm_mpi", mpi}}) {
    if (std::any_of(value.begin(), value.end(),
                    [](char c) { return !absl::ascii_isgraph(static_cast<unsigned char>(c)); })) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--", flag, " has blanks or control characters; give it as sbatch would take it"));
    }
  }
  return absl::OkStatus();
}

// Workers on other machines: how they come here.
absl::Status ResolveWorkerListener(const RawOptions& raw,
                                   const TlsFiles& tls,
                                   RemoteOptions& remote) {
  if (raw.worker_listen.empty()) {
    return absl::InvalidArgumentError(
        "--executor=slurm needs --worker_listen=HOST:PORT, where the workers on Slurm's nodes "
        "reach "
        "this server; give an address of this machine that the nodes can connect to");
  }
  NORMLAB_ASSIGN_OR_RETURN(remote.worker_listen,
                           ResolveListenAddress("worker_listen", raw.worker_listen));
  if (remote.worker_listen.port == 0) {
    return absl::InvalidArgumentError(
        "--worker_listen needs a port of its own, not 0: workers outlive the server and come back "
        "to "
        "the same port of the next one; give for example 7602");
  }
  const bool any_address =
      remote.worker_listen.host == "0.0.0.0" || remote.worker_listen.host == "::";
  remote.worker_address = raw.worker_address;
  if (remote.worker_address.empty()) {
    if (any_address) {
      return absl::InvalidArgumentError(
          absl::StrCat("--worker_listen=", raw.worker_listen,
                       " is every address of this machine; say with --worker_address=HOST:PORT "
                       "which one workers shall connect to"));
    }
    remote.worker_address = raw.worker_listen;
  }
  if (!tls.enabled() && !remote.worker_listen.loopback) {
    return absl::FailedPreconditionError(absl::StrCat(
        "--worker_listen=", raw.worker_listen,
        " is not a loopback address, and without TLS whoever can listen to the network reads the "
        "workers' secrets; give --tls_cert, --tls_key and --worker_ca"));
  }
  if (tls.enabled()) {
    if (raw.worker_ca.empty()) {
      return absl::InvalidArgumentError(
          "--worker_listen with --tls_cert needs --worker_ca: the certificates of the authorities "
          "that vouch for it, in a file that every node sees at the same path");
    }
    NORMLAB_ASSIGN_OR_RETURN(remote.worker_ca, Absolute("worker_ca", raw.worker_ca));
    if (access(remote.worker_ca.c_str(), R_OK) != 0) {
      return absl::FailedPreconditionError(absl::StrCat(
          "--worker_ca=", remote.worker_ca, " cannot be read; give the authorities' file"));
    }
  } else if (!raw.worker_ca.empty()) {
    return absl::InvalidArgumentError(
        "--worker_ca has no meaning without --tls_cert and --tls_key; give them as well");
  }
  return absl::OkStatus();
}

absl::Status ResolveExecutor(const RawOptions& raw, ServerOptions& options) {
  NORMLAB_RETURN_IF_ERROR(CheckPositive("hello_timeout", raw.hello_timeout));
  options.hello_timeout = raw.hello_timeout;
  options.abandon_slurm_attempts = raw.abandon_slurm_attempts;
  if (raw.executor == "local") {
    const bool says_slurm = raw.slurm != SlurmWishes() || !raw.slurm_bin.empty() ||
                            raw.slurm_mpi != RawOptions().slurm_mpi;
    if (says_slurm || !raw.worker_listen.empty() || !raw.worker_address.empty() ||
        !raw.worker_ca.empty()) {
      return absl::InvalidArgumentError(
          "--slurm_..., --worker_listen, --worker_address and --worker_ca have no meaning with "
          "--executor=local; give --executor=slurm as well, or leave them out");
    }
    return absl::OkStatus();
  }
  if (raw.executor != "slurm") {
    return absl::InvalidArgumentError(
        absl::StrCat("--executor=", raw.executor, " is unknown; use local or slurm"));
  }
  if (raw.abandon_slurm_attempts) {
    return absl::InvalidArgumentError(
        "--abandon_slurm_attempts has no meaning with --executor=slurm, which takes them up; leave "
        "it out");
  }
  RemoteOptions& remote = options.remote.emplace();
  NORMLAB_RETURN_IF_ERROR(ResolveWorkerListener(raw, options.tls, remote));
  NORMLAB_RETURN_IF_ERROR(CheckSlurmWords(raw.slurm, raw.slurm_mpi));
  NORMLAB_RETURN_IF_ERROR(CheckPositive("slurm_poll", raw.slurm_poll));
  if (raw.slurm_max_attempts < 1) {
    return absl::InvalidArgumentError(absl::StrCat("--slurm_max_attempts=", raw.slurm_max_attempts,
                                                   " is not positive; use for example 1000"));
  }
  remote.slurm.wishes = raw.slurm;
  remote.slurm.max_attempts = raw.slurm_max_attempts;
  remote.slurm.poll_interval = raw.slurm_poll;
  remote.slurm.mpi = raw.slurm_mpi;
  if (!raw.slurm_bin.empty()) {
    NORMLAB_ASSIGN_OR_RETURN(remote.slurm.bin, Absolute("slurm_bin", raw.slurm_bin));
  }
  return absl::OkStatus();
}

}  // namespace

std::string DefaultDataDir() {
  if (geteuid() == 0) {
    return "/var/lib/normlab";
  }
  const char* xdg = std::getenv("XDG_DATA_HOME");
  if (xdg != nullptr && xdg[0] == '/') {
    return absl::StrCat(xdg, "/normlab");
  }
  const char* home = std::getenv("HOME");
  return home != nullptr && home[0] == '/' ? absl::StrCat(home, "/.local/share/normlab")
                                           : "normlab-data";
}

absl::StatusOr<ServerOptions> ResolveOptions(const RawOptions& raw) {
  ServerOptions options;
  NORMLAB_ASSIGN_OR_RETURN(options.listen, ResolveListenAddress("listen", raw.listen));
  NORMLAB_ASSIGN_OR_RETURN(options.http_listen,
                           ResolveListenAddress("http_listen", raw.http_listen));
  NORMLAB_RETURN_IF_ERROR(ResolveAccess(raw, options));

  NORMLAB_ASSIGN_OR_RETURN(
      options.data_dir,
      Absolute("data_dir", raw.data_dir.empty() ? DefaultDataDir() : raw.data_dir));
  NORMLAB_ASSIGN_OR_RETURN(
      options.work_dir,
      Absolute("work_dir", raw.work_dir.empty() ? options.data_dir + "/work" : raw.work_dir));
  std::vector<std::string> roots = raw.data_roots;
  roots.erase(std::remove(roots.begin(), roots.end(), ""), roots.end());
  if (roots.empty()) {
    roots = {kDatasets, options.data_dir + "/datasets"};
  }
  for (const std::string& root : roots) {
    NORMLAB_ASSIGN_OR_RETURN(options.data_roots.emplace_back(), Absolute("data_roots", root));
  }
  NORMLAB_ASSIGN_OR_RETURN(options.worker_binary, ChooseWorkerBinary(raw));

  const Machine machine = DetectMachine();
  options.pin = raw.pin;
  NORMLAB_ASSIGN_OR_RETURN(options.cores, ChooseCores(raw, machine));
  options.memory_bytes = raw.memory_bytes > 0 ? raw.memory_bytes : DefaultMemory(machine);

  NORMLAB_RETURN_IF_ERROR(ResolveExecutor(raw, options));
  NORMLAB_RETURN_IF_ERROR(CheckPositive("orphan_timeout", raw.orphan_timeout));
  NORMLAB_RETURN_IF_ERROR(CheckPositive("stream_write_timeout", raw.stream_write_timeout));
  NORMLAB_RETURN_IF_ERROR(CheckPositive("drain_timeout", raw.drain_timeout));
  // Not: not a number.
  if (!(raw.retention_days >= 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--retention_days=", raw.retention_days,
                     ": give a number of days, for example 90, or 0 to keep every job"));
  }
  if (raw.retention_days > 0) {
    options.retention = absl::Hours(24) * raw.retention_days;
  }
  options.accept_new_work_dir = raw.accept_new_work_dir;
  options.accept_new_database = raw.accept_new_database;
  NORMLAB_ASSIGN_OR_RETURN(options.sharing.weights, ParseWeights(raw.owner_weights));
  NORMLAB_RETURN_IF_ERROR(CheckNotNegative("owner_max_cores", raw.owner_max_cores));
  NORMLAB_RETURN_IF_ERROR(CheckNotNegative("owner_max_running", raw.owner_max_running));
  NORMLAB_RETURN_IF_ERROR(CheckNotNegative("owner_max_queued", raw.owner_max_queued));
  NORMLAB_RETURN_IF_ERROR(CheckNotNegative("owner_max_queued_bytes", raw.owner_max_queued_bytes));
  NORMLAB_RETURN_IF_ERROR(CheckNotNegative("queue_limit", raw.queue_limit));
  options.sharing.owner_max_cores = raw.owner_max_cores;
  options.sharing.max_priority = raw.max_priority;
  options.sharing.owner_max_running = raw.owner_max_running;
  options.queue_limits = {.jobs = raw.queue_limit,
                          .jobs_per_owner = raw.owner_max_queued,
                          .bytes_per_owner = raw.owner_max_queued_bytes};
  options.orphan_timeout = raw.orphan_timeout;
  options.stream_write_timeout = raw.stream_write_timeout;
  options.drain_timeout = raw.drain_timeout;
  if (!raw.port_file.empty()) {
    NORMLAB_ASSIGN_OR_RETURN(options.port_file, Absolute("port_file", raw.port_file));
  }
  return options;
}

}  // namespace normlab::server
