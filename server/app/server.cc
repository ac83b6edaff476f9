#include "server/app/server.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

#include "common/atomic_file.h"
#include "common/clock.h"
#include "common/status_macros.h"
#include "server/api/format.h"
#include "server/app/grpc_listeners.h"
#include "server/app/health_probe.h"
#include "server/app/slurm_leftovers.h"
#include "server/app/start_executor.h"
#include "server/app/version.h"
#include "server/app/worker_socket.h"
#include "server/domain/errors.h"
#include "server/executor/helper_process.h"
#include "server/executor/rank_launch.h"
#include "server/monitor/disk.h"
#include "server/scheduler/start_options.h"
#include "server/scheduler/work_folder.h"

#include <spdlog/spdlog.h>

namespace normlab::server {
namespace {

// Handlers wait for the disk more than they compute.
constexpr int kHandlerThreads = 8;
constexpr int kStreamThreads = 4;
constexpr size_t kMaxWaitingCalls = 1024;
constexpr absl::Duration kPollInterval = absl::Milliseconds(20);
// For a listener's connections to close after the last call. A client that sleeps before it tries
// again does not notice that it should close, and a call it makes on that connection meanwhile
// would end CANCELLED: so this is shorter than the delay that drained streams and refused calls ask
// for.
constexpr absl::Duration kCloseGrace = absl::Milliseconds(300);
constexpr absl::Duration kDrainRetry = absl::Seconds(1);
static_assert(kCloseGrace < kDrainRetry);

// Of one job.
constexpr int kMostRemoteCores = 1024;
constexpr int64_t kMostRemoteBytes = int64_t{16} << 40;

std::chrono::system_clock::time_point After(absl::Duration wait) {
  return absl::ToChronoTime(absl::Now() + wait);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Start(ServerOptions options, ServerParts parts) {
  std::unique_ptr<Server> server(new Server(std::move(options)));
  NORMLAB_RETURN_IF_ERROR(server->StartParts(std::move(parts)));
  NORMLAB_RETURN_IF_ERROR(server->StartListeners());
  // Last, as it starts jobs: nothing that could fail comes after it but the port file.
  NORMLAB_RETURN_IF_ERROR(server->controller_->Start());
  SetServing(*server->public_listener_, true);
  server->started_.store(true);
  NORMLAB_RETURN_IF_ERROR(server->WritePortFile());
  spdlog::info("normlabd {} is ready: gRPC on {}, HTTP on {}", Version(), server->grpc_address_,
               server->http_address_);
  return server;
}

Server::~Server() {
  Shutdown();
}

absl::Status Server::StartParts(ServerParts parts) {
  NORMLAB_RETURN_IF_ERROR(MakeFolder(options_.data_dir, 0700));
  NORMLAB_ASSIGN_OR_RETURN(DataDirLock lock, DataDirLock::Acquire(options_.data_dir));
  lock_ = std::make_unique<DataDirLock>(std::move(lock));
  const std::string cache_dir = options_.work_dir + "/cache";
  const std::string log_dir = options_.data_dir + "/log";
  // Without its disk a mount point is root's as a rule: the server starts all the same, and says so.
  if (options_.accept_new_work_dir || !IsAnotherWorkFolder(options_.data_dir, options_.work_dir)) {
    NORMLAB_RETURN_IF_ERROR(MakeFolder(options_.work_dir, 0700));
    NORMLAB_RETURN_IF_ERROR(MakeFolder(cache_dir, 0700));
  }
  NORMLAB_RETURN_IF_ERROR(MakeFolder(log_dir, 0700));
  // A place for a user's own data sets, there before anybody looks for it.
  NORMLAB_RETURN_IF_ERROR(MakeFolder(options_.data_dir + "/datasets", 0755));
  NORMLAB_ASSIGN_OR_RETURN(socket_path_, PrepareWorkerSocket(options_.data_dir));
  spdlog::info("data in {}, work in {}, {} core(s) [{}], {} of memory for jobs", options_.data_dir,
               options_.work_dir, options_.cores.size(), absl::StrJoin(options_.cores, ","),
               FormatBytes(options_.memory_bytes));

  metrics_ = std::make_unique<Metrics>(Version());
  NORMLAB_RETURN_IF_ERROR(StartAuthorizer());
  // Early, so that a taken port is noticed before anything is touched, and the start can be
  // watched.
  NORMLAB_ASSIGN_OR_RETURN(http_,
                           HttpServer::Start({.host = options_.http_listen.host,
                                              .port = options_.http_listen.port,
                                              .metrics = [this] { return metrics_->Scrape(); },
                                              .ready = [this] { return Ready(); }}));
  ListenAddress http = options_.http_listen;
  http.port = http_->port();
  http_address_ = http.ToString();

  const WorkFolderOptions work_folder = {.data_dir = options_.data_dir,
                                         .work_dir = options_.work_dir,
                                         .accept_new_work_dir = options_.accept_new_work_dir,
                                         .accept_new_database = options_.accept_new_database};
  NORMLAB_RETURN_IF_ERROR(CheckDatabaseIsThere(work_folder));
  hub_ = std::make_unique<Hub>();
  NORMLAB_ASSIGN_OR_RETURN(store_, Store::Open({.data_dir = options_.data_dir,
                                                .work_dir = options_.work_dir,
                                                .retention = options_.retention}));
  store_->SetCommitListener(
      [this](const std::string& job_id, int64_t last_sequence, bool terminal) {
        hub_->Published(job_id, last_sequence, terminal);
      });
  store_->SetCommitObserver(
      [this](double seconds, int operations) { metrics_->OnCommit(seconds, operations); });
  pool_ = std::make_unique<WorkPool>(kHandlerThreads, kMaxWaitingCalls);
  readiness_ = std::make_unique<ReadinessSampler>(*pool_, [this] {
    return ReadinessSampler::Sample{
        .ready = Ready().ok(), .work_disk = SampleOwnDisk(options_.work_dir, options_.data_dir)};
  });
  stream_pool_ = std::make_unique<WorkPool>(kStreamThreads, kMaxWaitingCalls);
  streams_ = std::make_unique<StreamRegistry>(
      StreamRegistry::Options{.write_timeout = options_.stream_write_timeout,
                              .on_cut_off = [this] { metrics_->OnSlowReaderCutOff(); }});

  if (parts.helper == nullptr) {
    NORMLAB_ASSIGN_OR_RETURN(parts.helper,
                             NewHelperProcess({.worker_binary = options_.worker_binary,
                                               .log_path = log_dir + "/helper.log"}));
  }
  helper_ = std::make_unique<HelperGate>(std::move(parts.helper));
  if (parts.normalizer == nullptr) {
    NORMLAB_ASSIGN_OR_RETURN(parts.normalizer,
                             NewHelperProcess({.worker_binary = options_.worker_binary,
                                               .log_path = log_dir + "/normalizer.log"}));
  }
  normalizer_ = std::make_unique<HelperGate>(std::move(parts.normalizer));
  NORMLAB_ASSIGN_OR_RETURN(work_mark_, ClaimWorkFolder(*store_, work_folder));
  // Jobs that start do not wait for the data of jobs that are submitted, nor the other way round. Among
  // themselves they wait for as long as it takes.
  if (parts.starter == nullptr) {
    NORMLAB_ASSIGN_OR_RETURN(parts.starter,
                             NewHelperProcess({.worker_binary = options_.worker_binary,
                                               .log_path = log_dir + "/starter.log",
                                               .timeout_from_sending = true}));
  }
  starter_ = std::make_unique<HelperGate>(std::move(parts.starter));
  if (!options_.remote.has_value()) {
    NORMLAB_RETURN_IF_ERROR(CheckSlurmLeftovers(*store_, options_.abandon_slurm_attempts));
  }
  executor_ = std::move(parts.executor);
  if (executor_ == nullptr) {
    NORMLAB_ASSIGN_OR_RETURN(executor_, StartExecutor(options_, work_mark_));
  }
  // Where attempts run elsewhere, whoever runs them knows what there is, and says so.
  const bool elsewhere = options_.remote.has_value();
  const std::string worker_target =
      elsewhere ? options_.remote->worker_address : absl::StrCat("unix:", socket_path_);
  const int most_cores = elsewhere ? kMostRemoteCores : static_cast<int>(options_.cores.size());
  const int64_t most_memory = elsewhere ? kMostRemoteBytes : options_.memory_bytes;
  controller_ = CreateController({.cores = options_.cores,
                                  .memory_bytes = options_.memory_bytes,
                                  .pin = options_.pin,
                                  .work_dir = options_.work_dir,
                                  .worker_target = worker_target,
                                  .hello_timeout = options_.hello_timeout,
                                  .orphan_timeout = options_.orphan_timeout,
                                  .data_roots = options_.data_roots,
                                  .cache_dir = cache_dir,
                                  .sharing = options_.sharing},
                                 {.work_mark = work_mark_,
                                  .on_change =
                                      [this](const absl::Status& starts) {
                                        absl::MutexLock guard(&starts_mu_);
                                        starts_ = starts;
                                      }},
                                 *store_, *executor_, *starter_, *metrics_);
  const std::string no_ranks_because(
      elsewhere ? CheckRankWorker(options_.worker_binary).message()
                : FindRankPrograms(options_.worker_binary).status().message());
  backend_.reset(new Backend{.options = {.version = Version(),
                                         .cores = most_cores,
                                         .memory_bytes = most_memory,
                                         .no_ranks_because = no_ranks_because,
                                         .data_roots = options_.data_roots,
                                         .data_dir = options_.data_dir,
                                         .work_dir = options_.work_dir,
                                         .cache_folder = cache_dir,
                                         .heartbeat_interval = options_.heartbeat_interval,
                                         .queue_limits = options_.queue_limits,
                                         .runs_on_slurm = elsewhere},
                             .store = *store_,
                             .hub = *hub_,
                             .controller = *controller_,
                             .helper = *helper_,
                             .normalizer = *normalizer_,
                             .observer = *metrics_,
                             .pool = *pool_,
                             .stream_pool = *stream_pool_,
                             .streams = *streams_,
                             .authorizer = *authorizer_});
  return absl::OkStatus();
}

absl::Status Server::StartAuthorizer() {
  if (options_.tokens_file.empty()) {
    authorizer_ = std::make_unique<Authorizer>();
    return absl::OkStatus();
  }
  NORMLAB_ASSIGN_OR_RETURN(
      std::unique_ptr<TokenStore> tokens,
      TokenStore::Open({.path = options_.tokens_file,
                        .on_read = [this](bool ok) { metrics_->OnTokensRead(ok); }}));
  authorizer_ = std::make_unique<Authorizer>(std::move(tokens), options_.limits, *metrics_);
  spdlog::info("callers need a token of {}{}", options_.tokens_file,
               options_.tls.enabled() ? ", over TLS" : "");
  return absl::OkStatus();
}

absl::Status Server::StartListeners() {
  worker_service_ = std::make_unique<WorkerService>(*store_, *controller_, *hub_, *metrics_);
  if (options_.remote.has_value()) {
    remote_worker_service_ = std::make_unique<WorkerService>(
        *store_, *controller_, *hub_, *metrics_, WorkerService::Reach::kNetwork);
  }
  jobs_service_ = std::make_unique<JobsService>(*backend_);
  experiments_service_ = std::make_unique<ExperimentsService>(*backend_);
  normalization_service_ = std::make_unique<NormalizationService>(*backend_);
  server_service_ = std::make_unique<ServerService>(*backend_);
  if (options_.tls.enabled()) {
    NORMLAB_ASSIGN_OR_RETURN(tls_, TlsKeeper::Start(options_.tls));
  }
  metrics_->SetSampler([this] { return Sample(); });  // of all that is made above
  NORMLAB_ASSIGN_OR_RETURN(
      PublicListener listener,
      StartPublicListener(
          options_.listen,
          tls_ != nullptr ? tls_->MakeCredentials() : grpc::InsecureServerCredentials(),
          {jobs_service_.get(), experiments_service_.get(), normalization_service_.get(),
           server_service_.get()},
          metrics_->grpc()));
  unknown_methods_ = std::move(listener.unknown_methods);
  public_listener_ = std::move(listener.server);
  ListenAddress address = options_.listen;
  address.port = listener.port;
  grpc_address_ = address.ToString();
  NORMLAB_ASSIGN_OR_RETURN(
      worker_listener_, StartWorkerListener(socket_path_, worker_service_.get(), metrics_->grpc()));
  if (options_.remote.has_value()) {
    RemoteWorkerOptions remote = {options_.remote->worker_listen,
                                  grpc::InsecureServerCredentials()};
    if (options_.tls.enabled()) {
      TlsFiles files = options_.tls;
      files.client_ca.clear();
      NORMLAB_ASSIGN_OR_RETURN(worker_tls_, TlsKeeper::Start(std::move(files)));
      remote.credentials = worker_tls_->MakeCredentials();
    }
    spdlog::info("workers connect to {}{}", options_.remote->worker_address,
                 options_.tls.enabled() ? ", over TLS" : "");
    NORMLAB_ASSIGN_OR_RETURN(
        remote_worker_listener_,
        StartRemoteWorkerListener(remote, remote_worker_service_.get(), metrics_->grpc()));
  }
  return absl::OkStatus();
}

absl::Status Server::WritePortFile() {
  if (options_.port_file.empty()) {
    return absl::OkStatus();
  }
  return common::WriteFileAtomically(
      options_.port_file, absl::StrCat("grpc=", grpc_address_, "\nhttp=", http_address_, "\n"));
}

absl::Status Server::Ready() {
  if (draining_.load()) {
    return ShuttingDown(kDrainRetry);
  }
  if (!started_.load()) {
    return absl::UnavailableError("the server is starting; ask again soon");
  }
  NORMLAB_RETURN_IF_ERROR(store_->Health());
  {
    absl::MutexLock lock(&starts_mu_);
    NORMLAB_RETURN_IF_ERROR(starts_);
  }
  // Also while nothing is to be started.
  return MakeRoom(options_.work_dir, options_.work_dir + "/cache", work_mark_,
                  StartOptions().least_free_bytes);
}

std::vector<Watchdog::Loop> Server::Loops() {
  using Answer = std::function<void()>;
  return {{"scheduling", [this](Answer answer) { controller_->Ping(std::move(answer)); }},
          // Commits nothing; that a commit fails is the store's health, not the loop's.
          {"the database's writer",
           [this](Answer answer) {
             store_->SaveUsage({}, [answer = std::move(answer)](const absl::Status&) { answer(); });
           }},
          {"handlers", [this](Answer answer) { pool_->Post(std::move(answer)); }},
          {"streams", [this](Answer answer) { stream_pool_->Post(std::move(answer)); }},
          {"gRPC", [health = std::make_shared<HealthProbe>(*public_listener_)](Answer answer) {
             health->Ask(std::move(answer));
           }}};
}

ServiceSample Server::Sample() {
  const Controller::Load load = controller_->GetLoad();
  const WorkerUsage workers = executor_->GetUsage();
  const absl::Duration waits = common::Clock::Real().Monotonic() - load.oldest_wait_since;
  const auto cores = static_cast<int64_t>(options_.cores.size());
  const ReadinessSampler::Sample readiness = readiness_->Latest();
  absl::Duration report_age = worker_service_->OldestReportAge();
  if (remote_worker_service_ != nullptr) {
    report_age = std::max(report_age, remote_worker_service_->OldestReportAge());
  }
  ServiceSample sample = {.jobs = store_->CountByState(),
                          .queue_depth = load.queued,
                          .oldest_wait_seconds = std::max(absl::ToDoubleSeconds(waits), 0.0),
                          .stream_subscribers = hub_->subscriber_count(),
                          .stream_lag_records = hub_->MaxLag(),
                          .workers = workers.processes,
                          .worker_cpu_seconds = workers.cpu_seconds,
                          .worker_resident_bytes = workers.resident_bytes,
                          .report_age_seconds = absl::ToDoubleSeconds(report_age),
                          .cores_capacity = cores,
                          .cores_reserved = cores - load.free_cores,
                          .memory_bytes_capacity = options_.memory_bytes,
                          .memory_bytes_reserved = options_.memory_bytes - load.free_memory_bytes,
                          .store_healthy = store_->Health().ok(),
                          .executor_healthy = executor_->Health().ok(),
                          .ready = readiness.ready,
                          .disk = SampleDisk(options_.data_dir),
                          .work_disk = readiness.work_disk};
  if (tls_ != nullptr) {
    sample.certificate = {{absl::ToUnixSeconds(tls_->certificate_end()), tls_->healthy()}};
  }
  return sample;
}

void Server::WaitForWorkers(absl::Duration deadline) {
  if (controller_ == nullptr || !started_.load()) {
    return;
  }
  while (!hurry_.load() && common::Clock::Real().Monotonic() < deadline) {
    if (controller_->WaitUntilIdle(kPollInterval)) {
      spdlog::info("no worker is left running");
      return;
    }
  }
  spdlog::warn(
      "{} worker(s) have not ended yet; they report to the next server on this data folder",
      controller_->GetLoad().running);
}

void Server::WaitForCalls(absl::Duration deadline) {
  while (!hurry_.load() && common::Clock::Real().Monotonic() < deadline) {
    // The streams are usually gone at once; the others are looked at on every turn.
    const bool streams_ended = streams_->WaitUntilEmpty(kPollInterval);
    if (streams_ended && backend_->creates_in_flight.load() == 0 &&
        backend_->calls_in_flight.load() == 0) {
      return;
    }
    if (streams_ended) {
      absl::SleepFor(kPollInterval);
    }
  }
}

void Server::Shutdown() {
  if (std::exchange(down_, true)) {
    return;
  }
  draining_.store(true);
  if (public_listener_ != nullptr) {
    const absl::Duration deadline = common::Clock::Real().Monotonic() + options_.drain_timeout;
    spdlog::info(
        "shutting down: refusing new jobs, ending streams, workers write checkpoints; at most {}",
        absl::FormatDuration(options_.drain_timeout));
    SetServing(*public_listener_, false);
    backend_->draining.store(true);
    if (started_.load()) {
      controller_->Drain();
    }
    streams_->Drain();
    WaitForCalls(deadline);
    WaitForWorkers(deadline);
  }
  // Before the helper goes, so that no attempt begins that could not look at its data.
  if (controller_ != nullptr) {
    controller_->Stop();
  }
  if (starter_ != nullptr) {
    starter_->Close();
  }
  // Also releases creations that wait for a data set.
  if (helper_ != nullptr) {
    helper_->Close();
  }
  if (normalizer_ != nullptr) {
    normalizer_->Close();
  }
  if (public_listener_ != nullptr) {
    public_listener_->Shutdown(After(hurry_.load() ? absl::ZeroDuration() : kCloseGrace));
  }
  for (grpc::Server* listener : {worker_listener_.get(), remote_worker_listener_.get()}) {
    if (listener != nullptr) {
      listener->Shutdown(After(hurry_.load() ? absl::ZeroDuration() : kCloseGrace));
    }
  }
  // What sampling and readiness look at goes now, in the order opposite to its making.
  if (metrics_ != nullptr) {
    metrics_->StopSampling();
  }
  public_listener_.reset();
  worker_listener_.reset();
  remote_worker_listener_.reset();
  streams_.reset();
  stream_pool_.reset();
  pool_.reset();
  if (store_ != nullptr) {
    store_->Close();
  }
  http_.reset();
  if (started_.load()) {
    spdlog::info("stopped");
  }
}

}  // namespace normlab::server
