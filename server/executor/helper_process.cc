#include "server/executor/helper_process.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/synchronization/mutex.h"

#include "common/clock.h"
#include "common/unique_fd.h"
#include "server/executor/helper_child.h"
#include "server/executor/helper_queue.h"

namespace normlab::server {
namespace {

absl::Duration Now() {
  return common::Clock::Real().Monotonic();
}

absl::Status ShuttingDown() {
  return absl::UnavailableError("the server is shutting down; try again when it is back");
}

// Everything but Call and destruction happens on the I/O thread.
class HelperProcess final : public Helper {
 public:
  HelperProcess(HelperProcessOptions options, common::UniqueFd wake)
      : options_(std::move(options)),
        wake_(std::move(wake)),
        queue_(options_.timeout_from_sending),
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
    Arrive({.message = std::move(request), .timeout = timeout, .done = std::move(done)});
  }

  void CallInTurn(std::string owner,
                  v1::HelperRequest request,
                  absl::Duration timeout,
                  Callback done) override {
    request.clear_id();
    std::string question = request.SerializeAsString();
    Arrive({.message = std::move(request),
            .timeout = timeout,
            .done = std::move(done),
            .owner = std::move(owner),
            .question = std::move(question)});
  }

 private:
  void Arrive(HelperQueue::Request request) {
    {
      absl::MutexLock lock(&mu_);
      if (!stopping_) {
        request.message.set_id(next_id_++);
        request.deadline =
            options_.timeout_from_sending ? absl::InfiniteDuration() : Now() + request.timeout;
        arrived_.push_back(std::move(request));
        request.done = nullptr;
      }
    }
    if (request.done) {
      std::move(request.done)(ShuttingDown());
      return;
    }
    Wake();
  }

  void Wake() const {
    const uint64_t one = 1;
    (void)!write(wake_.get(), &one, sizeof(one));  // a full counter wakes as well
  }

  void Run() {
    while (TakeArrivals()) {
      queue_.Expire(Now());
      if (queue_.sent() != nullptr && Now() >= queue_.StuckAt()) {
        Lost("it was stuck and was ended");
      }
      std::erase_if(doomed_, HelperChild::IsReaped);
      if (!child_ && !queue_.empty() && Now() >= restart_at_) {
        StartChild();
      }
      if (child_ && queue_.sent() == nullptr && !queue_.empty()) {
        child_->Send(queue_.Send(Now()).message);
      }
      Wait();
    }
    if (child_) {
      EndChild();
    }
    queue_.AnswerAll(ShuttingDown());
  }

  // False: stopping.
  bool TakeArrivals() {
    std::vector<HelperQueue::Request> arrived;
    bool stopping = false;
    {
      absl::MutexLock lock(&mu_);
      arrived.swap(arrived_);
      stopping = stopping_;
    }
    for (HelperQueue::Request& request : arrived) {
      queue_.Add(std::move(request));
    }
    return !stopping;
  }

  void StartChild() {
    absl::StatusOr<HelperChild> child = HelperChild::Start(options_);
    if (child.ok()) {
      child_ = *std::move(child);
      return;
    }
    BackOff();
    queue_.AnswerAll(absl::ResourceExhaustedError(
        absl::StrCat("the helper process cannot be started: ", child.status().message(),
                     "; tell the server's operator")));
  }

  void BackOff() {
    restart_at_ = Now() + restart_delay_;
    restart_delay_ = std::min(restart_delay_ * 2, options_.max_restart_delay);
  }

  std::string EndChild() {
    const std::string how = (*std::move(child_)).End(doomed_);
    child_.reset();
    return how;
  }

  // The child has to go: the request it was at fails, the others go to the next one.
  void Lost(absl::string_view why) {
    EndChild();
    BackOff();
    if (queue_.sent() != nullptr) {
      queue_.AnswerSent(Failure(why));
    }
  }

  // It went by itself, which it would do again for those who asked the same.
  void Crashed() {
    child_->WaitForLastWords();
    const std::string how = EndChild();
    BackOff();
    if (queue_.sent() != nullptr) {
      queue_.AnswerSentAndEqual(Failure(how));
    }
  }

  static absl::Status Failure(absl::string_view how) {
    return absl::InternalError(absl::StrCat(
        "the helper process failed on this request (", how,
        "); the server goes on. Try again with other input, and report it if it happens again"));
  }

  void Wait() {
    std::array<pollfd, 2> entries = {pollfd{wake_.get(), POLLIN, 0}, pollfd{-1, 0, 0}};
    if (child_) {
      entries[1].fd = child_->socket();
      entries[1].events = child_->events();
    }
    poll(entries.data(), entries.size(), PollTimeoutMs());
    if ((entries[0].revents & POLLIN) != 0) {
      uint64_t count = 0;
      (void)!read(wake_.get(), &count, sizeof(count));
    }
    if (child_ && entries[1].revents != 0) {
      std::vector<v1::HelperResponse> answers;
      const bool usable = child_->Exchange(answers);
      for (v1::HelperResponse& answer : answers) {
        Answered(std::move(answer));
      }
      if (!usable) {
        Crashed();
      }
    }
  }

  int PollTimeoutMs() const {
    absl::Duration until = queue_.NextDeadline();
    if (!queue_.empty()) {
      // With a child, one of them has been sent.
      until = std::min(until, child_ ? queue_.StuckAt() : restart_at_);
    }
    if (until == absl::InfiniteDuration()) {
      return -1;
    }
    constexpr absl::Duration kLongestPoll = absl::Hours(1);
    const absl::Duration wait = std::clamp(until - Now(), absl::ZeroDuration(), kLongestPoll);
    return static_cast<int>(absl::ToInt64Milliseconds(absl::Ceil(wait, absl::Milliseconds(1))));
  }

  void Answered(v1::HelperResponse response) {
    if (queue_.sent() != nullptr && queue_.sent()->message.id() == response.id()) {
      restart_delay_ = options_.min_restart_delay;
      queue_.AnswerSentAndEqual(std::move(response));
    }
  }

  const HelperProcessOptions options_;
  const common::UniqueFd wake_;

  absl::Mutex mu_;
  std::vector<HelperQueue::Request> arrived_ ABSL_GUARDED_BY(mu_);
  int64_t next_id_ ABSL_GUARDED_BY(mu_) = 1;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;

  // Of the I/O thread.
  HelperQueue queue_;
  std::optional<HelperChild> child_;
  std::vector<HelperChild::Doomed> doomed_;
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
