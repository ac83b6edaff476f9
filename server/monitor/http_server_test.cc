#include "server/monitor/http_server.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/monitor/http_connections.h"
#include "server/monitor/metrics.h"

#include <arpa/inet.h>

namespace normlab::server {
namespace {

using ::testing::HasSubstr;

// `from`: the last byte of the client's own address, 127.0.0.x.
int Connect(int port, int from = 1) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  const int few_bytes = 16 << 10;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &few_bytes, sizeof(few_bytes));
  sockaddr_in own{};
  own.sin_family = AF_INET;
  own.sin_addr.s_addr = htonl((INADDR_LOOPBACK & ~0xFFU) | static_cast<uint32_t>(from));
  EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&own), sizeof(own)), 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  return fd;
}

// One request on a connection of its own; what comes until the server closes it.
std::string Http(int port, const std::string& request, const std::string& connection = "close") {
  const int fd = Connect(port);
  std::string answer;
  {
    const std::string text = absl::StrCat(
        request, " HTTP/1.1\r\nHost: localhost\r\nConnection: ", connection, "\r\n\r\n");
    EXPECT_EQ(write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
    char buffer[4096];
    ssize_t bytes = 0;
    while ((bytes = read(fd, buffer, sizeof(buffer))) > 0) {
      answer.append(buffer, bytes);
    }
  }
  close(fd);
  return answer;
}

class HttpServerTest : public ::testing::Test {
 protected:
  HttpServerTest() {
    auto server = HttpServer::Start({.host = "127.0.0.1",
                                     .port = 0,
                                     .metrics = [this] { return metrics_.Scrape(); },
                                     .ready = [this]() -> absl::Status {
                                       return ready_ ? absl::OkStatus()
                                                     : absl::UnavailableError("the disk is full");
                                     }});
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  Metrics metrics_{"1.2.3"};
  std::atomic<bool> ready_ = true;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, ServesMetricsWithTheirContentType) {
  const std::string answer = Http(server_->port(), "GET /metrics");
  EXPECT_THAT(answer, HasSubstr("HTTP/1.1 200"));
  EXPECT_THAT(answer, HasSubstr("Content-Type: text/plain; version=0.0.4; charset=utf-8"));
  EXPECT_THAT(answer, HasSubstr("normlab_build_info{version=\"1.2.3\"} 1"));
}

TEST_F(HttpServerTest, AnswersHeadWithoutABody) {
  for (const char* path : {"/metrics", "/healthz", "/readyz"}) {
    const std::string answer = Http(server_->port(), absl::StrCat("HEAD ", path));
    EXPECT_THAT(answer, HasSubstr("HTTP/1.1 200")) << path;
    EXPECT_TRUE(absl::EndsWith(answer, "\r\n\r\n")) << path;
  }
}

TEST_F(HttpServerTest, ReadinessCarriesTheReasonAndLivenessDoesNotCare) {
  EXPECT_THAT(Http(server_->port(), "GET /readyz"), HasSubstr("HTTP/1.1 200"));
  ready_ = false;
  const std::string answer = Http(server_->port(), "GET /readyz");
  EXPECT_THAT(answer, HasSubstr("HTTP/1.1 503"));
  EXPECT_THAT(answer, HasSubstr("the disk is full"));
  EXPECT_THAT(Http(server_->port(), "GET /healthz"), HasSubstr("HTTP/1.1 200"));
}

// Idle connections would keep threads from others, and the server from ending.
TEST_F(HttpServerTest, ClosesAConnectionThatTheClientWouldKeep) {
  const std::string answer = Http(server_->port(), "GET /healthz", "keep-alive");
  EXPECT_THAT(answer, HasSubstr("HTTP/1.1 200"));
  EXPECT_THAT(answer, HasSubstr("Connection: close"));
}

TEST_F(HttpServerTest, SaysWhatThereIs) {
  const std::string answer = Http(server_->port(), "GET /");
  EXPECT_THAT(answer, HasSubstr("HTTP/1.1 404"));
  EXPECT_THAT(answer, HasSubstr("/metrics, /healthz and /readyz"));
}

TEST_F(HttpServerTest, ATakenPortIsAnError) {
  const auto second = HttpServer::Start({.host = "127.0.0.1",
                                         .port = server_->port(),
                                         .metrics = [] { return std::string(); },
                                         .ready = [] { return absl::OkStatus(); }});
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("Address already in use"));
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("--http_listen"));
}

TEST_F(HttpServerTest, ManyScrapesAtOnce) {
  std::vector<std::thread> clients;
  std::atomic<int> answered = 0;
  for (int i = 0; i < 50; ++i) {
    clients.emplace_back([this, &answered] {
      answered += absl::StrContains(Http(server_->port(), "GET /metrics"), " 200 ") ? 1 : 0;
    });
  }
  for (std::thread& client : clients) {
    client.join();
  }
  EXPECT_EQ(answered.load(), 50);
}

bool IsOpen(int fd) {
  char byte = 0;
  return recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0 && errno == EAGAIN;
}

// Begin requests, from several addresses in turn, and send a byte to all of them now and then.
class SlowClients {
 public:
  SlowClients(int port, int count, int addresses) {
    for (int i = 0; i < count; ++i) {
      sockets_.push_back(Connect(port, 2 + i % addresses));
      const std::string begin = i % 3 == 0 ? "" : "GET /healthz HTTP/1.1\r\nX-Long: ";
      EXPECT_EQ(send(sockets_.back(), begin.data(), begin.size(), MSG_NOSIGNAL),
                static_cast<ssize_t>(begin.size()));
    }
    thread_ = std::thread([this] {
      while (!stop_.WaitForNotificationWithTimeout(absl::Milliseconds(20))) {
        for (size_t i = 0; i < sockets_.size(); ++i) {
          if (i % 3 != 0) {
            (void)!send(sockets_[i], "x", 1, MSG_NOSIGNAL);
          }
        }
      }
    });
  }
  ~SlowClients() {
    stop_.Notify();
    thread_.join();
    for (const int fd : sockets_) {
      close(fd);
    }
  }

  int open() const {
    return static_cast<int>(std::count_if(sockets_.begin(), sockets_.end(), IsOpen));
  }

 private:
  std::vector<int> sockets_;
  absl::Notification stop_;
  std::thread thread_;
};

TEST_F(HttpServerTest, SlowClientsKeepNobodyWaiting) {
  const SlowClients slow(server_->port(), 200, 5);
  for (const char* path : {"/healthz", "/readyz", "/metrics"}) {
    EXPECT_THAT(Http(server_->port(), absl::StrCat("GET ", path)), HasSubstr("HTTP/1.1 200"));
    // Had the request waited for any of them, that one would be gone.
    EXPECT_EQ(slow.open(), 200) << path;
  }
  while (slow.open() > 0) {
    absl::SleepFor(absl::Milliseconds(10));
  }
}

// Their number is bounded for an address; the oldest ones go.
TEST_F(HttpServerTest, OneAddressTakesNoPlaceOfOthers) {
  const SlowClients other(server_->port(), 10, 1);
  std::vector<int> many;
  for (int i = 0; i < 200; ++i) {
    many.push_back(Connect(server_->port(), 100));
  }
  EXPECT_THAT(Http(server_->port(), "GET /healthz"), HasSubstr("HTTP/1.1 200"));
  EXPECT_EQ(std::count_if(many.begin(), many.end(), IsOpen), 64);
  EXPECT_TRUE(std::all_of(many.end() - 64, many.end(), IsOpen));
  EXPECT_EQ(other.open(), 10);
  for (const int fd : many) {
    close(fd);
  }
}

TEST_F(HttpServerTest, AllTogetherAreBounded) {
  const SlowClients slow(server_->port(), 300, 10);
  EXPECT_THAT(Http(server_->port(), "GET /healthz"), HasSubstr("HTTP/1.1 200"));
  // The request itself had a place at the most for a moment.
  EXPECT_THAT(slow.open(), ::testing::AllOf(::testing::Ge(255), ::testing::Le(256)));
}

TEST(HttpServerLargeTest, WhoDoesNotTakeTheAnswerKeepsNobodyWaiting) {
  // More than the buffers of two sockets hold.
  const std::string large(5 << 20, 'm');
  auto server = HttpServer::Start({.host = "127.0.0.1",
                                   .port = 0,
                                   .metrics = [&large] { return large; },
                                   .ready = [] { return absl::OkStatus(); }});
  ASSERT_TRUE(server.ok()) << server.status();
  EXPECT_TRUE(absl::EndsWith(Http((*server)->port(), "GET /metrics"), large));
  std::vector<int> greedy;
  const std::string request = "GET /metrics HTTP/1.1\r\n\r\n";
  for (int i = 0; i < 20; ++i) {
    greedy.push_back(Connect((*server)->port(), 2));
    EXPECT_EQ(write(greedy.back(), request.data(), request.size()),
              static_cast<ssize_t>(request.size()));
  }
  for (const int fd : greedy) {
    char byte = 0;
    ASSERT_EQ(recv(fd, &byte, 1, MSG_PEEK), 1) << "its answer has begun";
  }
  const absl::Time begin = absl::Now();
  EXPECT_THAT(Http((*server)->port(), "GET /healthz"), HasSubstr("HTTP/1.1 200"));
  // A thread that sends waits until the time limit.
  EXPECT_LT(absl::Now() - begin, HttpConnections::kTimeLimit - absl::Seconds(1));
  for (const int fd : greedy) {
    close(fd);
  }
}

std::string Exchange(int port, const std::vector<std::string>& pieces, bool end) {
  const int fd = Connect(port);
  for (const std::string& piece : pieces) {
    EXPECT_EQ(send(fd, piece.data(), piece.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(piece.size()));
    absl::SleepFor(absl::Milliseconds(2));  // so that they mostly come apart
  }
  if (end) {
    shutdown(fd, SHUT_WR);
  }
  std::string answer(4096, '\0');
  answer.resize(static_cast<size_t>(std::max<ssize_t>(0, read(fd, answer.data(), answer.size()))));
  close(fd);
  return answer;
}

TEST_F(HttpServerTest, RequestsInPieces) {
  const int port = server_->port();
  EXPECT_THAT(Exchange(port, {"GET /hea", "lthz HTTP/1.1\r\n\r", "\n"}, false),
              HasSubstr("HTTP/1.1 200"));
  EXPECT_THAT(Exchange(port, {"GET /healthz HTTP/1.1\r\n\r\n"}, true), HasSubstr("HTTP/1.1 200"));
  EXPECT_THAT(Exchange(port, {"GET /healthz HT"}, true), HasSubstr("HTTP/1.1 400"));
  EXPECT_EQ(Exchange(port, {}, true), "");
  EXPECT_THAT(Exchange(port, {"GET /healthz HTTP/1.1\r\nX-Long: " + std::string(8192, 'x')}, false),
              HasSubstr("HTTP/1.1 400"));
}

TEST_F(HttpServerTest, EndsAtOnceWhileClientsAreSlow) {
  const SlowClients slow(server_->port(), 60, 3);
  EXPECT_THAT(Http(server_->port(), "GET /healthz"), HasSubstr("HTTP/1.1 200"));
  const absl::Time begin = absl::Now();
  server_.reset();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(2)) << "it waited for them";
  EXPECT_EQ(slow.open(), 0);
}

}  // namespace
}  // namespace normlab::server
