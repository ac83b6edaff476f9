#include "server/executor/helper_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <map>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"

#include "common/clock.h"
#include "common/status_macros.h"
#include "common/subprocess.h"
#include "common/unique_fd.h"
#include "server/executor/local_process.h"
#include "server/executor/message_framing.h"

namespace normlab::server {
namespace {

absl::Duration Now() {
  return common::Clock::Real().Monotonic();
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kLimitMemory = false;  // sanitizers map terabytes that are never touched
#else
constexpr bool kLimitMemory = true;
#endif

// A killed process that is not gone after so long hangs in the kernel.
constexpr int kKillWaitMs = 2000;

// One request on its way.
struct Pending {
  v1::HelperRequest request;
  absl::Duration timeout;
  absl::Duration deadline{};  // of the caller, monotonic; infinite: not known before it is sent
  Helper::Callback done;      // empty: the caller has its answer, the helper is not done yet
  // Of CallInTurn: who asks, and the request without its id. No value: it goes first.
  std::optional<std::string> owner{};
  std::string question{};
};

// The child and our end of its socket.
struct Child {
  common::Subprocess process;
  common::UniqueFd socket;
  FrameReader input;
  // The request that the helper works on, the oldest one; the next is sent only after its answer, so
  // that those whose callers have given up meanwhile cost the helper nothing.
  bool busy = false;
  absl::Duration busy_since;  // monotonic
  std::string output;         // of that request
  size_t written = 0;         // of output
};

// Everything but Call and destruction happens on the I/O thread.
class HelperProcess final : public Helper {
 public:
  HelperProcess(HelperProcessOptions options, common::UniqueFd wake)
      : options_(std::move(options)),
        wake_(std::move(wake)),
        restart_delay_(options_.min_restart_delay),
        thread_([this] { Run(); }) {}

  ~HelperProcess() override {
    {
      absl::MutexLock lock(&mu_);
      stopping_ = true;
    }
    Wake();
    thread_.join();
  }

  void Call(v1::HelperRequest request, absl::Duration timeout, Callback done) override {
    Arrive({.request = std::move(request), .timeout = timeout, .done = std::move(done)});
  }

  void CallInTurn(std::string owner,
                  v1::HelperRequest request,
                  absl::Duration timeout,
                  Callback done) override {
    request.clear_id();
    std::string question = request.SerializeAsString();
    Arrive({.request = std::move(request),
            .timeout = timeout,
            .done = std::move(done),
            .owner = std::move(owner),
            .question = std::move(question)});
  }

 private:
  void Arrive(Pending pending) {
    {
      absl::MutexLock lock(&mu_);
      if (!stopping_) {
        pending.request.set_id(next_id_++);
        pending.deadline =
            options_.timeout_from_sending ? absl::InfiniteDuration() : Now() + pending.timeout;
        arrived_.push_back(std::move(pending));
        pending.done = nullptr;
      }
    }
    if (pending.done) {
      Answer(pending,
             absl::UnavailableError("the server is shutting down; try again when it is back"));
      return;
    }
    Wake();
  }

  void Wake() const {
    const uint64_t one = 1;
    (void)!write(wake_.get(), &one, sizeof(one));  // a full counter wakes as well
  }

  void Run() {
    while (true) {
      if (!TakeArrivals()) {
        break;
      }
      ExpireCallers();
      EndWhenStuck();
      ReapDoomed();
      if (!child_ && !pending_.empty() && Now() >= restart_at_) {
        StartChild();
      }
      SendNext();
      Wait();
    }
    EndChild();
    for (Pending& pending : pending_) {
      Answer(pending,
             absl::UnavailableError("the server is shutting down; try again when it is back"));
    }
  }

  // False: stopping.
  bool TakeArrivals() {
    std::vector<Pending> arrived;
    bool stopping = false;
    {
      absl::MutexLock lock(&mu_);
      arrived.swap(arrived_);
      stopping = stopping_;
    }
    for (Pending& pending : arrived) {
      if (pending.request.ByteSizeLong() > kMaxFrameBytes) {
        Answer(pending, absl::InvalidArgumentError(
                            "the request is too large for the helper; make it smaller"));
        continue;
      }
      if (HasTooMany(pending)) {
        Answer(pending, absl::ResourceExhaustedError(absl::StrCat(
                            "this owner has ", kMaxWaitingPerOwner,
                            " data sets waiting to be looked at already; try again later")));
        continue;
      }
      pending_.push_back(std::move(pending));
    }
    return !stopping;
  }

  static void Answer(Pending& pending, absl::StatusOr<v1::HelperResponse> response) {
    if (pending.done) {
      std::move(pending.done)(std::move(response));
      pending.done = nullptr;
    }
  }

  bool IsSent(const Pending& pending) const {
    return child_ && child_->busy && &pending == &pending_.front();
  }

  // Whether its owner has as many different requests waiting as may, and this is another one.
  bool HasTooMany(const Pending& arrived) const {
    if (!arrived.owner.has_value()) {
      return false;
    }
    absl::flat_hash_set<absl::string_view> waiting;
    for (const Pending& pending : pending_) {
      if (pending.owner.has_value() && pending.question == arrived.question) {
        return false;
      }
      if (pending.owner == arrived.owner && !IsSent(pending)) {
        waiting.insert(pending.question);
      }
    }
    return waiting.size() >= static_cast<size_t>(kMaxWaitingPerOwner);
  }

  // Of those that nobody else's turn comes before, the oldest.
  std::deque<Pending>::iterator NextInTurn() {
    auto next = pending_.end();
    uint64_t next_turn = 0;
    for (auto pending = pending_.begin(); pending != pending_.end(); ++pending) {
      if (!pending->owner.has_value()) {
        return pending;
      }
      const auto last = turns_.find(*pending->owner);
      const uint64_t turn = last == turns_.end() ? 0 : last->second;
      if (next == pending_.end() || turn < next_turn) {
        next = pending;
        next_turn = turn;
      }
    }
    return next;
  }

  // When the helper has nothing to do. What it works on is at the front from now on.
  void SendNext() {
    if (child_ && !child_->busy && !pending_.empty()) {
      const auto next = NextInTurn();
      std::rotate(pending_.begin(), next, next + 1);
      if (pending_.size() == 1) {
        turns_.clear();  // nobody else waits: owners of long ago are not kept
      }
      if (const auto& owner = pending_.front().owner; owner.has_value()) {
        turns_[*owner] = ++turn_;
      }
      child_->busy = true;
      child_->busy_since = Now();
      if (options_.timeout_from_sending) {
        pending_.front().deadline = child_->busy_since + pending_.front().timeout;
      }
      child_->output.clear();
      child_->written = 0;
      AppendFrame(pending_.front().request.SerializeAsString(), child_->output);
    }
  }

  void ExpireCallers() {
    for (auto pending = pending_.begin(); pending != pending_.end();) {
      if (pending->done && Now() >= pending->deadline) {
        Answer(*pending, absl::DeadlineExceededError(absl::StrCat(
                             "the helper process did not answer within ",
                             absl::FormatDuration(pending->timeout),
                             "; try again, and look at the server's log if it happens again")));
      }
      // One that was never sent is forgotten; one that was stays until the helper is done with it.
      pending = !pending->done && !IsSent(*pending) ? pending_.erase(pending) : pending + 1;
    }
  }

  void EndWhenStuck() {
    if (child_ && child_->busy && Now() >= child_->busy_since + pending_.front().timeout) {
      Lost("it was stuck and was ended");
    }
  }

  void StartChild() {
    if (absl::Status status = TryStartChild(); !status.ok()) {
      BackOff();
      for (Pending& pending : pending_) {
        Answer(pending, absl::ResourceExhaustedError(
                            absl::StrCat("the helper process cannot be started: ", status.message(),
                                         "; tell the server's operator")));
      }
      pending_.clear();
    }
  }

  absl::Status TryStartChild() {
    std::array<int, 2> ends = {-1, -1};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
      return absl::ErrnoToStatus(errno, "no socket pair");
    }
    common::UniqueFd ours(ends[0]);
    const common::UniqueFd theirs(ends[1]);
    if (fcntl(ours.get(), F_SETFL, O_NONBLOCK) != 0) {
      return absl::ErrnoToStatus(errno, "cannot make the socket non-blocking");
    }
    common::SubprocessOptions options;
    options.argv = {options_.worker_binary, "--helper"};
    options.environment = WorkerEnvironment(1, {});
    options.inherited_fd = theirs.get();
    options.output_path = options_.log_path;
    NORMLAB_ASSIGN_OR_RETURN(common::Subprocess process, common::Subprocess::Start(options));
    if (kLimitMemory && options_.memory_limit_bytes > 0) {
      const rlimit limit = {static_cast<rlim_t>(options_.memory_limit_bytes),
                            static_cast<rlim_t>(options_.memory_limit_bytes)};
      // Can only fail when the process is gone already, which the socket tells.
      prlimit(process.pid(), RLIMIT_DATA, &limit, nullptr);
    }
    child_.emplace(Child{.process = std::move(process), .socket = std::move(ours)});
    return absl::OkStatus();
  }

  void BackOff() {
    restart_at_ = Now() + restart_delay_;
    restart_delay_ = std::min(restart_delay_ * 2, options_.max_restart_delay);
  }

  // Kills the child if it lives, and reaps it. Returns how it ended.
  std::string EndChild() {
    if (!child_) {
      return "it was not running";
    }
    child_->process.Signal(SIGKILL).IgnoreError();
    if (!HasEnded(child_->process, kKillWaitMs)) {
      // Nobody else shall wait for that.
      doomed_.push_back(std::move(child_->process));
      child_.reset();
      return "it does not end, killed as it is: it waits for a disk or a network file system";
    }
    const absl::StatusOr<common::Subprocess::Exit> exit = child_->process.Reap();
    child_.reset();
    return exit.ok() ? exit->ToString() : "it ended";
  }

  static bool HasEnded(const common::Subprocess& process, int wait_ms) {
    pollfd entry = {process.pidfd(), POLLIN, 0};
    int ready = 0;
    do {
      ready = poll(&entry, 1, wait_ms);
    } while (ready < 0 && errno == EINTR);
    return ready > 0;
  }

  void ReapDoomed() {
    std::erase_if(doomed_, [](common::Subprocess& process) {
      return HasEnded(process, 0) && process.Reap().ok();
    });
  }

  // The child crashed or has to go: the request it was at fails, the others go to the next one.
  void Lost(std::string how) {
    const bool crashed = how.empty();
    // A child that closed its socket is about to end by itself; its own exit status tells more than
    // our SIGKILL.
    if (how.empty()) {
      constexpr int kLastWordsMs = 200;
      pollfd entry = {child_->process.pidfd(), POLLIN, 0};
      poll(&entry, 1, kLastWordsMs);
    }
    const bool busy = child_->busy;
    const std::string exit = EndChild();
    if (how.empty()) {
      how = exit;
    }
    BackOff();
    if (busy) {
      const absl::Status failure = absl::InternalError(absl::StrCat(
          "the helper process failed on this request (", how,
          "); the server goes on. Try again with other input, and report it if it happens again"));
      Pending failed = std::move(pending_.front());
      pending_.pop_front();
      if (crashed) {
        AnswerEqual(failed, failure);
      }
      Answer(failed, failure);
    }
  }

  void Wait() {
    std::array<pollfd, 2> entries = {pollfd{wake_.get(), POLLIN, 0}, pollfd{-1, 0, 0}};
    if (child_) {
      entries[1].fd = child_->socket.get();
      entries[1].events = static_cast<int16_t>(POLLIN | (HasOutput() ? POLLOUT : 0));
    }
    poll(entries.data(), entries.size(), PollTimeoutMs());
    if ((entries[0].revents & POLLIN) != 0) {
      uint64_t count = 0;
      (void)!read(wake_.get(), &count, sizeof(count));
    }
    if (child_ && entries[1].revents != 0) {
      // Reading first: answers that a dying helper left are taken before its end is noticed.
      if (!ReadAnswers() || !WriteRequests()) {
        Lost("");
      }
    }
  }

  int PollTimeoutMs() const {
    absl::Duration until = absl::InfiniteDuration();
    for (const Pending& pending : pending_) {
      if (pending.done) {
        until = std::min(until, pending.deadline);
      }
    }
    if (!pending_.empty()) {
      // With a child, SendNext has made it busy.
      until = std::min(until, child_ ? child_->busy_since + pending_.front().timeout : restart_at_);
    }
    if (until == absl::InfiniteDuration()) {
      return -1;
    }
    constexpr absl::Duration kLongestPoll = absl::Hours(1);
    const absl::Duration wait = std::clamp(until - Now(), absl::ZeroDuration(), kLongestPoll);
    return static_cast<int>(absl::ToInt64Milliseconds(absl::Ceil(wait, absl::Milliseconds(1))));
  }

  // False: the connection is of no more use.
  bool ReadAnswers() {
    std::array<char, 65536> buffer;
    while (true) {
      const ssize_t count = read(child_->socket.get(), buffer.data(), buffer.size());
      if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
        return true;
      }
      if (count <= 0) {
        return false;
      }
      child_->input.Append(absl::string_view(buffer.data(), static_cast<size_t>(count)));
      while (true) {
        absl::StatusOr<std::optional<std::string>> frame = child_->input.Next();
        if (!frame.ok()) {
          return false;
        }
        if (!frame->has_value()) {
          break;
        }
        v1::HelperResponse response;
        if (!response.ParseFromString(**frame)) {
          return false;
        }
        Answered(std::move(response));
      }
    }
  }

  void Answered(v1::HelperResponse response) {
    if (!child_->busy || pending_.front().request.id() != response.id()) {
      return;
    }
    restart_delay_ = options_.min_restart_delay;
    child_->busy = false;
    Pending answered = std::move(pending_.front());
    pending_.pop_front();
    AnswerEqual(answered, response);
    Answer(answered, std::move(response));
  }

  // Those who asked the same get the same answer: it would not be another one.
  void AnswerEqual(const Pending& answered, const absl::StatusOr<v1::HelperResponse>& response) {
    for (auto pending = pending_.begin(); answered.owner && pending != pending_.end();) {
      if (pending->owner.has_value() && pending->question == answered.question) {
        Answer(*pending, response);
        pending = pending_.erase(pending);
      } else {
        ++pending;
      }
    }
  }

  bool HasOutput() const { return child_->written < child_->output.size(); }

  bool WriteRequests() {
    while (HasOutput()) {
      const ssize_t count =
          send(child_->socket.get(), child_->output.data() + child_->written,
               child_->output.size() - child_->written, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (count < 0) {
        return errno == EAGAIN || errno == EINTR;
      }
      child_->written += static_cast<size_t>(count);
    }
    child_->output = std::string();  // it may have been large
    child_->written = 0;
    return true;
  }

  const HelperProcessOptions options_;
  const common::UniqueFd wake_;

  absl::Mutex mu_;
  std::vector<Pending> arrived_ ABSL_GUARDED_BY(mu_);
  int64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;

  // Of the I/O thread.
  std::deque<Pending> pending_;            // oldest first, but for the one that the helper works on
  std::map<std::string, uint64_t> turns_;  // by owner: when it had its last turn
  uint64_t turn_ = 0;
  std::optional<Child> child_;
  std::vector<common::Subprocess> doomed_;  // killed, but not gone yet
  absl::Duration restart_at_ = -absl::InfiniteDuration();
  absl::Duration restart_delay_;

  std::thread thread_;  // last: it uses everything above
};

}  // namespace

absl::StatusOr<std::unique_ptr<Helper>> NewHelperProcess(HelperProcessOptions options) {
  if (access(options.worker_binary.c_str(), X_OK) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot run the worker program ", options.worker_binary,
                     "; install normlab-worker beside normlabd, or name it with --worker_binary"));
  }
  common::UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) {
    return absl::ErrnoToStatus(errno, "no event descriptor for the helper process");
  }
  return std::make_unique<HelperProcess>(std::move(options), std::move(wake));
}

}  // namespace normlab::server
