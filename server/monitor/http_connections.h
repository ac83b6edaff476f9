#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

#include "common/unique_fd.h"

namespace normlab::server {

// The connections of an HTTP server, one request each. One thread waits for what clients send and take,
// for all of them together; a few others compute the answers to requests that are there as a whole. A
// client that is slow or silent, on either way, thus costs some kilobytes for kTimeLimit, never a thread.
//
// Of those that wait for their client there are at most kMostOfPeer of one address and kMostWaiting in
// all: one more costs the oldest of them its connection, so that whoever sends a request at once always
// gets in. While kMostComputing requests wait for their answers no further connection is looked at, and
// the kernel's backlog is the limit.
//
// Thread-safe. Owns the sockets it is given.
class HttpConnections {
 public:
  static constexpr size_t kMostWaiting = 256;
  static constexpr size_t kMostOfPeer = 64;
  static constexpr size_t kMostComputing = 64;
  // For a request to come as a whole, and again for its answer to be taken.
  static constexpr absl::Duration kTimeLimit = absl::Seconds(3);

  // `answer`: the bytes to send for a request: its head, and nothing or a part of a body. Called on
  // several threads at once. A head that passes 8 KiB, or ends too early, is handed on as it is.
  explicit HttpConnections(std::function<std::string(const std::string& request)> answer);
  ~HttpConnections();
  HttpConnections(const HttpConnections&) = delete;
  HttpConnections& operator=(const HttpConnections&) = delete;

  // Takes a connection over; waits while too many have not been looked at.
  void Add(int socket);
  // Ends all connections, and those that are added later; waits for the answers being computed.
  void Stop();

 private:
  static constexpr int kWorkers = 4;

  struct Connection {
    common::UniqueFd socket;
    std::string peer;
    absl::Duration deadline;  // monotonic
    bool watched = false;
    std::string request;
    std::string answer;
    size_t sent = 0;
    std::list<Connection>::iterator self;
  };

  bool HasRoom() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Wake() const;

  // Of the thread that computes.
  void Compute();

  // Of the thread that waits.
  void Run();
  bool TakeNews();
  void Admit(common::UniqueFd socket);
  void Read(Connection& connection);
  void Send(Connection& connection);
  void HandOver(Connection& connection);
  void Watch(Connection& connection, uint32_t events);
  void Unwatch(Connection& connection);
  void Drop(Connection& connection);
  int MillisecondsToNextDeadline() const;

  const std::function<std::string(const std::string& request)> answer_;
  const common::UniqueFd epoll_;
  const common::UniqueFd wake_;

  absl::Mutex mu_;
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<common::UniqueFd> added_ ABSL_GUARDED_BY(mu_);
  std::deque<Connection*> requests_ ABSL_GUARDED_BY(mu_);
  std::vector<Connection*> answered_ ABSL_GUARDED_BY(mu_);

  // Of the thread that waits: for the client, the next deadline first; for an answer.
  std::list<Connection> waiting_;
  std::list<Connection> computing_;

  std::thread waiter_;
  std::array<std::thread, kWorkers> workers_;
};

}  // namespace normlab::server
