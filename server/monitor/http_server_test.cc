#include "server/monitor/http_server.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/monitor/metrics.h"

#include <arpa/inet.h>

namespace normlab::server {
namespace {

using ::testing::HasSubstr;

int Connect(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
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

// Sends a request one byte at a time until it is cut off.
class Trickle {
 public:
  explicit Trickle(int port) : socket_(Connect(port)) {
    thread_ = std::thread([this] {
      const std::string request = "GET /healthz HTTP/1.1\r\nX-Long: " + std::string(100'000, 'x');
      for (const char byte : request) {
        if (stop_.load() || send(socket_, &byte, 1, MSG_NOSIGNAL) != 1) {
          break;
        }
        absl::SleepFor(absl::Milliseconds(20));
      }
      cut_off_.store(true);
    });
  }
  ~Trickle() {
    stop_.store(true);
    thread_.join();
    close(socket_);
  }
  bool cut_off() const { return cut_off_.load(); }

 private:
  const int socket_;
  std::atomic<bool> stop_ = false;
  std::atomic<bool> cut_off_ = false;
  std::thread thread_;
};

TEST_F(HttpServerTest, SlowClientsKeepNobodyWaitingForLong) {
  std::vector<std::unique_ptr<Trickle>> slow;
  for (int i = 0; i < 16; ++i) {
    slow.push_back(std::make_unique<Trickle>(server_->port()));
  }
  EXPECT_THAT(Http(server_->port(), "GET /healthz"), HasSubstr("HTTP/1.1 200"));
  for (const auto& client : slow) {
    while (!client->cut_off()) {
      absl::SleepFor(absl::Milliseconds(10));
    }
  }
}

TEST_F(HttpServerTest, EndsAtOnceWhileClientsAreSlow) {
  std::vector<std::unique_ptr<Trickle>> slow;
  for (int i = 0; i < 16; ++i) {
    slow.push_back(std::make_unique<Trickle>(server_->port()));
  }
  const absl::Time begin = absl::Now();
  server_.reset();
  EXPECT_LT(absl::Now() - begin, absl::Seconds(2)) << "half of them are in the queue";
}

}  // namespace
}  // namespace normlab::server
