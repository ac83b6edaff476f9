// normlabd: flags, signals, and a server between them.
#include <sys/resource.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdio>
#include <memory>

#include "absl/synchronization/notification.h"
#include <grpc/support/log.h>

#include "server/app/administration.h"
#include "server/app/flags.h"
#include "server/app/options.h"
#include "server/app/server.h"
#include "server/app/service_manager.h"
#include "server/app/signals.h"
#include "server/app/version.h"
#include "server/app/watchdog.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace {

constexpr int kExitFailure = 1;
constexpr int kExitUsage = 2;
// An answer that is late by a round or two does not look like a hang.
constexpr int kPingsPerTimeout = 4;

// gRPC's own complaints become lines of ours; what it calls an error is one connection's trouble.
void LogGrpc(gpr_log_func_args* arguments) {
  const bool serious = arguments->severity == GPR_LOG_SEVERITY_ERROR;
  spdlog::log(serious ? spdlog::level::warn : spdlog::level::debug, "gRPC: {}", arguments->message);
}

void LogToStderr(const std::string& level) {
  auto logger = std::make_shared<spdlog::logger>("normlabd",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_formatter(std::make_unique<spdlog::pattern_formatter>(
      "%Y-%m-%dT%H:%M:%S.%eZ %L %v", spdlog::pattern_time_type::utc));
  logger->set_level(spdlog::level::from_str(level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
  gpr_set_log_function(LogGrpc);
}

// Every connection and worker takes descriptors; what a shell allows at first is soon used up.
void AllowManyDescriptors() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}

int Fail(int exit_code, const absl::Status& status) {
  std::fprintf(stderr, "normlabd: %s\n", std::string(status.message()).c_str());
  return exit_code;
}

}  // namespace

int main(int argc, char** argv) {
  using normlab::server::CommandLineAction;
  using normlab::server::Server;
  using normlab::server::Watchdog;
  normlab::server::BlockSignals();
  // Jobs, checkpoints and logs are nobody else's; workers inherit it.
  umask(0077);

  const auto line = normlab::server::ParseFlags(argc, argv);
  if (!line.ok()) {
    return Fail(kExitUsage, line.status());
  }
  if (line->action == CommandLineAction::kHelp) {
    std::fputs(normlab::server::HelpText().c_str(), stdout);
    return 0;
  }
  if (line->action == CommandLineAction::kVersion) {
    std::printf("normlabd %s\n", normlab::server::Version());
    return 0;
  }
  if (line->action == CommandLineAction::kHealthCheck) {
    const absl::Status healthy = normlab::server::CheckHealth(line->options);
    if (!healthy.ok()) {
      return Fail(kExitFailure, healthy);
    }
    std::puts("ok");
    return 0;
  }
  if (line->action == CommandLineAction::kBackUp) {
    const absl::StatusOr<std::string> report =
        normlab::server::BackUpDataFolder(line->options, line->backup);
    if (!report.ok()) {
      return Fail(kExitFailure, report.status());
    }
    std::puts(report->c_str());
    return 0;
  }
  LogToStderr(line->log_level);
  AllowManyDescriptors();
  const auto options = normlab::server::ResolveOptions(line->options);
  if (!options.ok()) {
    return Fail(kExitUsage, options.status());
  }

  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(*options);
  if (!server.ok()) {
    return Fail(kExitFailure, server.status());
  }
  absl::Notification asked_to_end;
  std::atomic<int> signals = 0;
  {
    // Signals that came during the start are delivered now.
    normlab::server::SignalWatcher watcher([&](int signal) {
      if (signals.fetch_add(1) == 0) {
        spdlog::info("signal {}: ending; a second one skips the waiting", signal);
        asked_to_end.Notify();
      } else {
        (*server)->HurryUp();
      }
    });
    const normlab::server::ServiceManager manager;
    std::unique_ptr<Watchdog> watchdog;
    if (const absl::Duration timeout = manager.WatchdogTimeout(); timeout > absl::ZeroDuration()) {
      watchdog = std::make_unique<Watchdog>((*server)->Loops(), timeout / kPingsPerTimeout,
                                            [&manager] { manager.Alive(); });
    }
    manager.Ready("Taking jobs on " + (*server)->grpc_address());
    asked_to_end.WaitForNotification();
    watchdog = nullptr;
    manager.Stopping();
    (*server)->Shutdown();
  }
  return 0;
}
