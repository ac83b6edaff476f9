#include "server/monitor/http_connections.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <utility>

#include "common/clock.h"

namespace normlab::server {
namespace {

constexpr size_t kMostAdded = 32;
constexpr size_t kMostHeadBytes = 8192;
constexpr char kEndOfHead[] = "\r\n\r\n";

absl::Duration Now() {
  return common::Clock::Real().Monotonic();
}

// The address without the port.
std::string PeerOf(int socket) {
  sockaddr_storage address = {};
  socklen_t length = sizeof(address);
  if (getpeername(socket, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return "";
  }
  if (address.ss_family == AF_INET) {
    const auto& ip = reinterpret_cast<const sockaddr_in&>(address).sin_addr;
    return {reinterpret_cast<const char*>(&ip), sizeof(ip)};
  }
  const auto& ip = reinterpret_cast<const sockaddr_in6&>(address).sin6_addr;
  return {reinterpret_cast<const char*>(&ip), sizeof(ip)};
}

bool MustWait() {
  return errno == EAGAIN || errno == EWOULDBLOCK;
}

}  // namespace

HttpConnections::HttpConnections(std::function<std::string(const std::string& request)> answer)
    : answer_(std::move(answer)),
      epoll_(epoll_create1(EPOLL_CLOEXEC)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  epoll_event event = {.events = EPOLLIN, .data = {.ptr = nullptr}};
  epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event);
  waiter_ = std::thread([this] { Run(); });
  for (std::thread& worker : workers_) {
    worker = std::thread([this] { Compute(); });
  }
}

HttpConnections::~HttpConnections() {
  Stop();
  waiter_.join();
  for (std::thread& worker : workers_) {
    worker.join();
  }
}

bool HttpConnections::HasRoom() const {
  return stopped_ || added_.size() < kMostAdded;
}

bool HttpConnections::HasWork() const {
  return stopped_ || !requests_.empty();
}

void HttpConnections::Wake() const {
  const uint64_t one = 1;
  while (write(wake_.get(), &one, sizeof(one)) < 0 && errno == EINTR) {
  }
}

void HttpConnections::Add(int socket) {
  common::UniqueFd owned(socket);
  {
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(this, &HttpConnections::HasRoom));
    if (stopped_) {
      return;
    }
    added_.push_back(std::move(owned));
  }
  Wake();
}

void HttpConnections::Stop() {
  {
    absl::MutexLock lock(&mu_);
    stopped_ = true;
  }
  Wake();
}

void HttpConnections::Compute() {
  while (true) {
    Connection* connection = nullptr;
    {
      absl::MutexLock lock(&mu_);
      mu_.Await(absl::Condition(this, &HttpConnections::HasWork));
      if (stopped_) {
        return;
      }
      connection = requests_.front();
      requests_.pop_front();
    }
    connection->answer = answer_(connection->request);
    {
      absl::MutexLock lock(&mu_);
      answered_.push_back(connection);
    }
    Wake();
  }
}

void HttpConnections::Run() {
  std::array<epoll_event, 64> events{};
  do {
    const int count =
        epoll_wait(epoll_.get(), events.data(), events.size(), MillisecondsToNextDeadline());
    for (int i = 0; i < count; ++i) {
      auto* connection = static_cast<Connection*>(events[static_cast<size_t>(i)].data.ptr);
      if (connection == nullptr) {
        uint64_t ignored = 0;
        (void)!read(wake_.get(), &ignored, sizeof(ignored));
      } else if (connection->answer.empty()) {
        Read(*connection);
      } else {
        Send(*connection);
      }
    }
    while (!waiting_.empty() && waiting_.front().deadline <= Now()) {
      Drop(waiting_.front());
    }
  } while (TakeNews());
}

// False once everything is to end.
bool HttpConnections::TakeNews() {
  std::vector<common::UniqueFd> added;
  std::vector<Connection*> answered;
  {
    absl::MutexLock lock(&mu_);
    if (stopped_) {
      return false;
    }
    answered.swap(answered_);
    if (computing_.size() < kMostComputing + answered.size()) {
      added.swap(added_);
    }
  }
  for (Connection* connection : answered) {
    connection->deadline = Now() + kTimeLimit;
    waiting_.splice(waiting_.end(), computing_, connection->self);
    Send(*connection);
  }
  for (common::UniqueFd& socket : added) {
    Admit(std::move(socket));
  }
  return true;
}

void HttpConnections::Admit(common::UniqueFd socket) {
  const int fd = socket.get();
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  Connection& connection = waiting_.emplace_back();
  connection.socket = std::move(socket);
  connection.peer = PeerOf(fd);
  connection.deadline = Now() + kTimeLimit;
  connection.self = std::prev(waiting_.end());
  const std::string peer = connection.peer;
  Read(connection);  // most requests are there by now
  const auto is_of_peer = [&peer](const Connection& other) { return other.peer == peer; };
  if (std::count_if(waiting_.begin(), waiting_.end(), is_of_peer) >
      static_cast<std::ptrdiff_t>(kMostOfPeer)) {
    Drop(*std::find_if(waiting_.begin(), waiting_.end(), is_of_peer));
  }
  if (waiting_.size() > kMostWaiting) {
    Drop(waiting_.front());
  }
}

void HttpConnections::Read(Connection& connection) {
  std::string& request = connection.request;
  std::array<char, 4096> buffer;
  while (true) {
    const ssize_t count = recv(connection.socket.get(), buffer.data(), buffer.size(), 0);
    if (count > 0) {
      const size_t begin = request.size() - std::min<size_t>(request.size(), 3);
      request.append(buffer.data(), static_cast<size_t>(count));
      if (request.find(kEndOfHead, begin) != std::string::npos || request.size() > kMostHeadBytes) {
        HandOver(connection);
        return;
      }
    } else if (count == 0 && !request.empty()) {
      HandOver(connection);
      return;
    } else if (count < 0 && MustWait()) {
      Watch(connection, EPOLLIN);
      return;
    } else if (count == 0 || errno != EINTR) {
      Drop(connection);
      return;
    }
  }
}

void HttpConnections::Send(Connection& connection) {
  const std::string& answer = connection.answer;
  while (connection.sent < answer.size()) {
    const ssize_t count = send(connection.socket.get(), answer.data() + connection.sent,
                               answer.size() - connection.sent, MSG_NOSIGNAL);
    if (count >= 0) {
      connection.sent += static_cast<size_t>(count);
    } else if (MustWait()) {
      Watch(connection, EPOLLOUT);
      return;
    } else if (errno != EINTR) {
      break;
    }
  }
  Drop(connection);
}

void HttpConnections::HandOver(Connection& connection) {
  Unwatch(connection);
  computing_.splice(computing_.end(), waiting_, connection.self);
  absl::MutexLock lock(&mu_);
  requests_.push_back(&connection);
}

void HttpConnections::Watch(Connection& connection, uint32_t events) {
  if (!connection.watched) {
    epoll_event event = {.events = events, .data = {.ptr = &connection}};
    epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, connection.socket.get(), &event);
    connection.watched = true;
  }
}

void HttpConnections::Unwatch(Connection& connection) {
  if (connection.watched) {
    // Not left to close(): a child process that has not begun its program yet may hold the socket too.
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, connection.socket.get(), nullptr);
    connection.watched = false;
  }
}

// Ends a connection of `waiting_`.
void HttpConnections::Drop(Connection& connection) {
  Unwatch(connection);
  shutdown(connection.socket.get(), SHUT_RDWR);
  waiting_.erase(connection.self);
}

int HttpConnections::MillisecondsToNextDeadline() const {
  if (waiting_.empty()) {
    return -1;
  }
  const absl::Duration left = waiting_.front().deadline - Now();
  return static_cast<int>(
      std::max<int64_t>(0, absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1)))));
}

}  // namespace normlab::server
