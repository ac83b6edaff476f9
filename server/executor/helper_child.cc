#include "server/executor/helper_child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>
#include <utility>

#include "common/status_macros.h"
#include "server/executor/local_process.h"

namespace normlab::server {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kLimitMemory = false;  // sanitizers map terabytes that are never touched
#else
constexpr bool kLimitMemory = true;
#endif

constexpr int kLastWordsMs = 200;
// A killed process that is not gone after so long hangs in the kernel.
constexpr int kKillWaitMs = 2000;

bool HasEnded(const common::Subprocess& process, int wait_ms) {
  pollfd entry = {process.pidfd(), POLLIN, 0};
  int ready = 0;
  do {
    ready = poll(&entry, 1, wait_ms);
  } while (ready < 0 && errno == EINTR);
  return ready > 0;
}

}  // namespace

absl::StatusOr<HelperChild> HelperChild::Start(const HelperProcessOptions& options) {
  std::array<int, 2> ends = {-1, -1};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return absl::ErrnoToStatus(errno, "no socket pair");
  }
  common::UniqueFd ours(ends[0]);
  const common::UniqueFd theirs(ends[1]);
  if (fcntl(ours.get(), F_SETFL, O_NONBLOCK) != 0) {
    return absl::ErrnoToStatus(errno, "cannot make the socket non-blocking");
  }
  common::SubprocessOptions child;
  child.argv = {options.worker_binary, "--helper"};
  child.environment = WorkerEnvironment(1, {});
  child.inherited_fd = theirs.get();
  child.output_path = options.log_path;
  NORMLAB_ASSIGN_OR_RETURN(common::Subprocess process, common::Subprocess::Start(child));
  if (kLimitMemory && options.memory_limit_bytes > 0) {
    const rlimit limit = {static_cast<rlim_t>(options.memory_limit_bytes),
                          static_cast<rlim_t>(options.memory_limit_bytes)};
    // Can only fail when the process is gone already, which the socket tells.
    prlimit(process.pid(), RLIMIT_DATA, &limit, nullptr);
  }
  return HelperChild(std::move(process), std::move(ours));
}

void HelperChild::Send(const v1::HelperRequest& request) {
  output_.clear();
  written_ = 0;
  AppendFrame(request.SerializeAsString(), output_);
}

int16_t HelperChild::events() const {
  return static_cast<int16_t>(POLLIN | (written_ < output_.size() ? POLLOUT : 0));
}

bool HelperChild::Exchange(std::vector<v1::HelperResponse>& answers) {
  // Reading first: answers that a dying helper left are taken before its end is noticed.
  return Read(answers) && Write();
}

bool HelperChild::Read(std::vector<v1::HelperResponse>& answers) {
  std::array<char, 65536> buffer;
  while (true) {
    const ssize_t count = read(socket_.get(), buffer.data(), buffer.size());
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
      return true;
    }
    if (count <= 0) {
      return false;
    }
    input_.Append(absl::string_view(buffer.data(), static_cast<size_t>(count)));
    while (true) {
      absl::StatusOr<std::optional<std::string>> frame = input_.Next();
      if (!frame.ok()) {
        return false;
      }
      if (!frame->has_value()) {
        break;
      }
      if (!answers.emplace_back().ParseFromString(**frame)) {
        answers.pop_back();
        return false;
      }
    }
  }
}

bool HelperChild::Write() {
  while (written_ < output_.size()) {
    const ssize_t count = send(socket_.get(), output_.data() + written_, output_.size() - written_,
                               MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0) {
      return errno == EAGAIN || errno == EINTR;
    }
    written_ += static_cast<size_t>(count);
  }
  output_ = std::string();  // it may have been large
  written_ = 0;
  return true;
}

void HelperChild::WaitForLastWords() const {
  HasEnded(process_, kLastWordsMs);
}

std::string HelperChild::End(std::vector<Doomed>& doomed) && {
  process_.Signal(SIGKILL).IgnoreError();
  if (!HasEnded(process_, kKillWaitMs)) {
    // Nobody else shall wait for that.
    doomed.push_back(std::move(process_));
    return "it does not end, killed as it is: it waits for a disk or a network file system";
  }
  const absl::StatusOr<common::Subprocess::Exit> exit = process_.Reap();
  return exit.ok() ? exit->ToString() : "it ended";
}

bool HelperChild::IsReaped(const Doomed& process) {
  return HasEnded(process, 0) && process.Reap().ok();
}

}  // namespace normlab::server
