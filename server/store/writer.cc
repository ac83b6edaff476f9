#include "server/store/writer.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

#include "server/domain/errors.h"

namespace normlab::server {
namespace {

// Bounds the time of one commit, and with it everybody's latency.
constexpr size_t kMaxOpsPerCommit = 512;
constexpr size_t kMaxQueuedOps = 100'000;
constexpr absl::Duration kProbeEvery = absl::Seconds(1);
constexpr absl::Duration kRetryAfter = absl::Seconds(1);
constexpr int kProbeBytes = 64 << 10;
// A damaged page shows only to those who come across it.
constexpr absl::Duration kDamageRemembered = absl::Minutes(1);

void Rollback(Connection& connection) {
  if (connection.InTransaction()) {
    connection.database().tryExec("ROLLBACK");
  }
}

}  // namespace

Writer::Writer(std::unique_ptr<Connection> connection,
               const common::Clock& clock,
               AfterCommit after_commit)
    : connection_(std::move(connection)),
      clock_(clock),
      after_commit_(std::move(after_commit)),
      thread_([this] { Run(); }) {}

Writer::~Writer() {
  Close();
}

void Writer::Submit(std::unique_ptr<WriteOp> op) {
  absl::Status refusal;
  {
    absl::MutexLock lock(&mu_);
    if (closing_) {
      refusal = ShuttingDown(kRetryAfter);
    } else if (queue_.size() >= kMaxQueuedOps) {
      refusal = Overloaded(kRetryAfter);
    } else {
      queue_.push_back(std::move(op));
      woken_.NotifyAll();
      return;
    }
  }
  op->Done(std::move(refusal));
}

absl::Status Writer::Health() const {
  absl::MutexLock lock(&mu_);
  if (!damage_.ok() && clock_.Monotonic() - damage_seen_ < kDamageRemembered) {
    return damage_;
  }
  return health_;
}

void Writer::NoteDamage(const absl::Status& status) {
  absl::MutexLock lock(&mu_);
  damage_ = status;
  damage_seen_ = clock_.Monotonic();
}

void Writer::SetHealth(absl::Status status) {
  absl::MutexLock lock(&mu_);
  health_ = std::move(status);
}

void Writer::Close() {
  absl::MutexLock close_lock(&close_mu_);
  {
    absl::MutexLock lock(&mu_);
    closing_ = true;
    woken_.NotifyAll();
  }
  if (thread_.joinable()) {
    thread_.join();
  }
}

void Writer::Run() {
  while (true) {
    Ops batch;
    bool probe = false;
    {
      absl::MutexLock lock(&mu_);
      probe = !woken_.WaitFor(
          mu_, health_.ok() ? absl::InfiniteDuration() : kProbeEvery,
          [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return closing_ || !queue_.empty(); });
      if (queue_.empty() && closing_) {
        return;
      }
      if (queue_.size() <= kMaxOpsPerCommit) {
        batch = std::exchange(queue_, {});
      } else {
        const auto end = queue_.begin() + kMaxOpsPerCommit;
        batch.assign(std::make_move_iterator(queue_.begin()), std::make_move_iterator(end));
        queue_.erase(queue_.begin(), end);
      }
    }
    if (probe) {
      Probe();
    } else {
      CommitBatch(batch);
    }
  }
}

void Writer::CommitBatch(Ops& ops) {
  const absl::Status status = CommitAndAnswer(ops, 0, ops.size());
  if (status.ok()) {
    return;
  }
  if (ops.size() == 1) {
    ops[0]->Done(status);
    return;
  }
  for (size_t i = 0; i < ops.size(); ++i) {
    if (absl::Status alone = CommitAndAnswer(ops, i, i + 1); !alone.ok()) {
      ops[i]->Done(std::move(alone));
    }
  }
}

absl::Status Writer::CommitAndAnswer(Ops& ops, size_t begin, size_t end) {
  const absl::Duration start = clock_.Monotonic();
  std::vector<absl::Status> answers(end - begin);
  Effects effects;
  const absl::Status committed = CatchSqlite(connection_->path(), [&]() -> absl::Status {
    Query(*connection_, "BEGIN IMMEDIATE").Run();
    WriteContext context{*connection_, live_jobs_, clock_};
    for (size_t i = begin; i < end; ++i) {
      Effects own;
      Query(*connection_, "SAVEPOINT op").Run();
      answers[i - begin] = ops[i]->Apply(context, own);
      if (answers[i - begin].ok()) {
        effects.Merge(own);
      } else {
        Query(*connection_, "ROLLBACK TO op").Run();
        live_jobs_.Forget(ops[i]->job_id());
      }
      Query(*connection_, "RELEASE op").Run();
    }
    AddJobCounts(*connection_, effects.state_deltas);
    Query(*connection_, "COMMIT").Run();
    return absl::OkStatus();
  });
  if (!committed.ok()) {
    Rollback(*connection_);
    live_jobs_.Clear();
    if (absl::IsDataLoss(committed)) {
      NoteDamage(committed);
    } else if (absl::IsResourceExhausted(committed) || absl::IsUnavailable(committed)) {
      SetHealth(committed);
    }
    // Anything else is about what was to be written, not about the disk.
    return committed;
  }
  SetHealth(absl::OkStatus());
  after_commit_(effects, absl::ToDoubleSeconds(clock_.Monotonic() - start),
                static_cast<int>(end - begin));
  for (size_t i = begin; i < end; ++i) {
    if (absl::IsDataLoss(answers[i - begin])) {
      NoteDamage(answers[i - begin]);
    }
    ops[i]->Done(std::move(answers[i - begin]));
  }
  return committed;
}

void Writer::Probe() {
  absl::Status status = CatchSqlite(connection_->path(), [&]() -> absl::Status {
    Query(*connection_, "BEGIN IMMEDIATE").Run();
    Query(*connection_, "INSERT OR REPLACE INTO probe(id, filler) VALUES (1, zeroblob(?))",
          kProbeBytes)
        .Run();
    Query(*connection_, "COMMIT").Run();
    Query(*connection_, "DELETE FROM probe").Run();
    return absl::OkStatus();
  });
  if (!status.ok()) {
    Rollback(*connection_);
  }
  SetHealth(std::move(status));
}

}  // namespace normlab::server
