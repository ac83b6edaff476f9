#include "tests/bench/service_server.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include <grpcpp/create_channel.h>

#include "common/status_macros.h"
#include "common/unique_fd.h"

namespace normlab::bench {

ScratchFolder::ScratchFolder(const std::string& parent) {
  std::string name = parent + "/normlab-bench-XXXXXX";
  if (mkdtemp(name.data()) == nullptr) {
    std::cerr << "cannot make a folder in " << parent << "; give another one with --folder\n";
    std::exit(2);
  }
  path_ = name;
}

ScratchFolder::~ScratchFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

absl::StatusOr<std::unique_ptr<BenchServer>> BenchServer::Start(
    const std::string& data_dir, const std::vector<std::string>& more_flags) {
  const std::string port_file = data_dir + "/ports";
  std::filesystem::remove(port_file);
  common::SubprocessOptions options;
  options.argv = {NORMLABD_BINARY,
                  absl::StrCat("--data_dir=", data_dir),
                  "--listen=127.0.0.1:0",
                  "--http_listen=127.0.0.1:0",
                  absl::StrCat("--port_file=", port_file),
                  absl::StrCat("--worker_binary=", BENCH_WORKER_BINARY),
                  "--cores=1",
                  "--memory=1GiB",
                  "--pin=false",
                  "--log_level=warning"};
  options.argv.insert(options.argv.end(), more_flags.begin(), more_flags.end());
  options.environment = {"PATH=/usr/bin:/bin", "OMP_WAIT_POLICY=passive"};
  options.output_path = data_dir + "/normlabd.log";
  const absl::Time begin = absl::Now();
  NORMLAB_ASSIGN_OR_RETURN(common::Subprocess process, common::Subprocess::Start(options));
  while (!std::filesystem::exists(port_file)) {
    if (process.HasEnded() || absl::Now() - begin > absl::Minutes(2)) {
      return absl::InternalError(
          absl::StrCat("normlabd did not become ready; see ", options.output_path));
    }
    absl::SleepFor(absl::Milliseconds(2));
  }
  const absl::Duration start_time = absl::Now() - begin;
  std::ifstream file(port_file);
  std::string line;
  std::string address;
  while (std::getline(file, line)) {
    if (absl::StartsWith(line, "grpc=")) {
      address = line.substr(5);
    }
  }
  return std::unique_ptr<BenchServer>(
      new BenchServer(std::move(process), std::move(address), start_time));
}

BenchServer::~BenchServer() {
  Stop();
}

void BenchServer::Stop() {
  if (stopped_) {
    return;
  }
  stopped_ = true;
  process_.Signal(SIGTERM).IgnoreError();
  const absl::Time limit = absl::Now() + absl::Seconds(30);
  while (!process_.HasEnded() && absl::Now() < limit) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  process_.Signal(SIGKILL).IgnoreError();
}

std::shared_ptr<grpc::Channel> BenchServer::Connect() const {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments);
}

BenchServer::Resources BenchServer::Use() const {
  Resources use;
  const std::string folder = absl::StrCat("/proc/", process_.pid());
  std::stringstream text;
  text << std::ifstream(folder + "/stat").rdbuf();
  // Behind the name, which may have spaces: state is field 3, utime and stime are 14 and 15.
  const std::string stat = text.str();
  const std::vector<std::string> fields =
      absl::StrSplit(stat.substr(std::min(stat.size(), stat.rfind(')') + 2)), ' ');
  if (fields.size() > 12) {
    use.cpu_seconds = (std::atof(fields[11].c_str()) + std::atof(fields[12].c_str())) /
                      static_cast<double>(sysconf(_SC_CLK_TCK));
  }
  std::ifstream statm(folder + "/statm");
  int64_t pages = 0;
  int64_t resident = 0;
  statm >> pages >> resident;
  use.resident_bytes = resident * sysconf(_SC_PAGESIZE);
  return use;
}

v1::JobSpec SmallSpec() {
  v1::JobSpec spec;
  spec.mutable_model()->mutable_mlp()->add_hidden(16);
  spec.mutable_normalization()->mutable_batch();
  spec.mutable_data()->mutable_gaussian_classes();
  spec.set_batch_size(32);
  spec.set_steps(100);
  return spec;
}

absl::StatusOr<absl::Duration> FsyncMedian(const std::string& folder, int times) {
  const std::string path = folder + "/fsync-probe";
  const common::UniqueFd file(open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  if (!file.valid()) {
    return absl::ErrnoToStatus(errno, path);
  }
  const std::string page(4096, 'x');
  std::vector<absl::Duration> taken;
  for (int i = 0; i < times; ++i) {
    const absl::Time begin = absl::Now();
    if (write(file.get(), page.data(), page.size()) != static_cast<ssize_t>(page.size()) ||
        fdatasync(file.get()) != 0) {
      return absl::ErrnoToStatus(errno, path);
    }
    taken.push_back(absl::Now() - begin);
  }
  std::filesystem::remove(path);
  std::nth_element(taken.begin(), taken.begin() + times / 2, taken.end());
  return taken[times / 2];
}

}  // namespace normlab::bench
