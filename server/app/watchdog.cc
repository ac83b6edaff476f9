#include "server/app/watchdog.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_join.h"

#include <spdlog/spdlog.h>

namespace normlab::server {

bool Watchdog::Answers::AllHere() const {
  return std::none_of(awaited.begin(), awaited.end(), [](bool one) { return one; });
}

Watchdog::Watchdog(std::vector<Loop> loops, absl::Duration interval, std::function<void()> on_alive)
    : loops_(std::move(loops)),
      interval_(interval),
      on_alive_(std::move(on_alive)),
      answers_(std::make_shared<Answers>()) {
  {
    absl::MutexLock lock(&answers_->mu);
    answers_->awaited.resize(loops_.size());
  }
  thread_ = std::thread([this] { Run(); });
}

Watchdog::~Watchdog() {
  {
    absl::MutexLock lock(&answers_->mu);
    answers_->stopping = true;
    answers_->changed.NotifyAll();
  }
  thread_.join();
}

bool Watchdog::AskAll() {
  for (size_t i = 0; i < loops_.size(); ++i) {
    {
      absl::MutexLock lock(&answers_->mu);
      if (answers_->awaited[i]) {
        continue;
      }
      answers_->awaited[i] = true;
    }
    loops_[i].ask([answers = answers_, i] {
      absl::MutexLock lock(&answers->mu);
      answers->awaited[i] = false;
      answers->changed.NotifyAll();
    });
  }
  absl::MutexLock lock(&answers_->mu);
  answers_->changed.WaitFor(answers_->mu, interval_,
                            [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(answers_->mu) {
                              return answers_->stopping || answers_->AllHere();
                            });
  return answers_->AllHere();
}

void Watchdog::Run() {
  bool silent = false;
  while (true) {
    const bool all = AskAll();
    if (all) {
      on_alive_();
      if (std::exchange(silent, false)) {
        spdlog::info("every loop of the server answers again");
      }
    } else if (!std::exchange(silent, true)) {
      std::vector<std::string> names;
      absl::MutexLock lock(&answers_->mu);
      for (size_t i = 0; i < loops_.size(); ++i) {
        if (answers_->awaited[i]) {
          names.push_back(loops_[i].name);
        }
      }
      if (!answers_->stopping) {
        spdlog::error(
            "no answer within {} from: {}; the service manager is not told that this "
            "server lives until there is one",
            absl::FormatDuration(interval_), absl::StrJoin(names, ", "));
      }
    }
    absl::MutexLock lock(&answers_->mu);
    // One that is silent was waited for already.
    if (answers_->changed.WaitFor(
            answers_->mu, all ? interval_ : absl::ZeroDuration(),
            [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(answers_->mu) { return answers_->stopping; })) {
      return;
    }
  }
}

}  // namespace normlab::server
