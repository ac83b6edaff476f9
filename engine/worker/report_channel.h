#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "grpcpp/client_context.h"

#include "common/steady_wait.h"

#include "normlab/v1/worker.grpc.pb.h"

namespace normlab::engine {

enum class ChannelState {
  kOpen,      // connected, or trying to be
  kFenced,    // the server does not want this attempt (any more)
  kOrphaned,  // no server for the orphan timeout
  kClosed,    // by us
};

struct ReportChannelOptions {
  std::string target;  // gRPC target, for example unix:/path/worker.sock
  // Certificates (PEM) of the authorities that vouch for the server: it is spoken to with TLS, and its
  // certificate must be for the name or address in `target`. Empty: no TLS.
  std::string server_ca;
  v1::Hello hello;  // sent first on every connection
  // Ends the channel when no server welcomed this attempt for so long.
  absl::Duration orphan_timeout = absl::Hours(24);
  // Pause before the first reconnection; doubles up to the second.
  absl::Duration first_backoff = absl::Milliseconds(100);
  absl::Duration max_backoff = absl::Seconds(1);
  // How long a server may take to answer the hello.
  absl::Duration welcome_timeout = absl::Seconds(30);
  // The server asks to stop. On a thread of the channel; must not block. May come more than once.
  std::function<void(const v1::StopRequest&)> on_stop;
  // Whether somebody follows the job now (nobody until it is said). On a thread of the channel; must not block; may be
  // null.
  std::function<void(bool)> on_audience;
  // The channel became kFenced or kOrphaned, and why. At most once, on a thread of the channel.
  std::function<void(ChannelState, const absl::Status&)> on_end;
  // For the log: why a connection ended and will be tried again. On a thread of the channel; may be
  // null.
  std::function<void(const absl::Status&)> on_disconnect;
};

// Delivers the reports of one attempt to the server, in order: each is kept until the server says
// that it is stored, and sent again after a lost connection, for as long as the orphan timeout
// allows. Send numbers the reports from 1.
//
// The two threads it owns (one writes, one reads) are gRPC's own polling threads too, so that next
// to nothing else runs on the cores of the training. Thread-safe. Owns its connection; the
// destructor cuts it.
class ReportChannel {
 public:
  struct Backlog {
    int64_t reports = 0;
    int64_t bytes = 0;  // of memory
  };

  explicit ReportChannel(ReportChannelOptions options);
  ~ReportChannel();
  ReportChannel(const ReportChannel&) = delete;
  ReportChannel& operator=(const ReportChannel&) = delete;

  // Numbers a report and queues it; never blocks. Returns the number. After the channel ended the
  // report is dropped.
  int64_t Send(v1::WorkerReport report) ABSL_LOCKS_EXCLUDED(mu_);

  // Reports that are not acknowledged yet.
  Backlog backlog() const ABSL_LOCKS_EXCLUDED(mu_);
  ChannelState state() const ABSL_LOCKS_EXCLUDED(mu_);
  // Step of the newest checkpoint whose announcement the server has stored; -1: none.
  int64_t committed_checkpoint_step() const ABSL_LOCKS_EXCLUDED(mu_);

  // Waits until everything sent is acknowledged or the channel ended. True: acknowledged.
  bool WaitUntilAcknowledged(absl::Duration timeout) ABSL_LOCKS_EXCLUDED(mu_);

  // Ends the connection; with everything acknowledged in an orderly way that lets the server finish
  // the stream (within a second), else at once. Idempotent; on_end is not called for it.
  void Close() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  using Stub = v1::Worker::Stub;
  using Stream = grpc::ClientReaderWriter<v1::WorkerMessage, v1::ServerMessage>;

  struct Pending {
    int64_t number = 0;
    int64_t bytes = 0;
    // Shared with a write in progress.
    std::shared_ptr<const v1::WorkerMessage> message;
  };

  void Run();
  // One connection, from hello to its end; whether the server welcomed us is left in `welcomed_`.
  absl::Status RunStream() ABSL_LOCKS_EXCLUDED(mu_);
  void WriteUntilEnd(Stream& stream, grpc::ClientContext& context) ABSL_LOCKS_EXCLUDED(mu_);
  void ReadUntilEnd(Stream& stream) ABSL_LOCKS_EXCLUDED(mu_);
  void Handle(const v1::ServerMessage& message) ABSL_LOCKS_EXCLUDED(mu_);
  void DropUpTo(int64_t number) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void End(ChannelState state, const absl::Status& why) ABSL_LOCKS_EXCLUDED(mu_);

  bool StreamNeedsWriter() const ABSL_SHARED_LOCKS_REQUIRED(mu_);
  bool WelcomeDecided() const ABSL_SHARED_LOCKS_REQUIRED(mu_) {
    return welcomed_ || stream_ended_ || closing_;
  }

  const ReportChannelOptions options_;

  mutable absl::Mutex mu_;
  // Told of every change that somebody may wait for with a limit: an empty queue, a new state, a
  // welcome, the end of a stream.
  common::SteadyWait changed_;
  std::deque<Pending> pending_ ABSL_GUARDED_BY(mu_);
  int64_t pending_bytes_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t last_number_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t committed_checkpoint_step_ ABSL_GUARDED_BY(mu_) = -1;
  ChannelState state_ ABSL_GUARDED_BY(mu_) = ChannelState::kOpen;
  bool closing_ ABSL_GUARDED_BY(mu_) = false;

  // Of the present connection.
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mu_) = nullptr;
  bool welcomed_ ABSL_GUARDED_BY(mu_) = false;
  bool acknowledged_ ABSL_GUARDED_BY(mu_) = false;
  bool stream_ended_ ABSL_GUARDED_BY(mu_) = false;
  int64_t next_number_ ABSL_GUARDED_BY(mu_) = 1;  // to write
  // Set when the server broke the protocol; outlives the connection.
  absl::Status protocol_error_ ABSL_GUARDED_BY(mu_);

  std::thread thread_;
};

}  // namespace normlab::engine
