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
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/monitor/metrics.h"

#include <arpa/inet.h>

namespace normlab::server {
namespace {

using ::testing::HasSubstr;

// One request on a connection of its own; what comes until the server closes it.
std::string Http(int port, const std::string& request, const std::string& connection = "close") {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string answer;
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
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

}  // namespace
}  // namespace normlab::server
