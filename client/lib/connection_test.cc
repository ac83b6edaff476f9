#include "client/lib/connection.h"

#include <unistd.h>

#include <fstream>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/lib/client.h"

namespace normlab::client {
namespace {

using ::testing::HasSubstr;

std::string Message(const absl::Status& status) {
  return std::string(status.message());
}

std::string WriteTemporary(const std::string& name, const std::string& text) {
  const std::string path = absl::StrCat(::testing::TempDir(), "/", getpid(), ".", name);
  std::ofstream(path) << text;
  return path;
}

TEST(ConnectionTest, OnlyThisMachineIsLocal) {
  for (const char* local :
       {"127.0.0.1:7600", "127.9.8.7:1", "localhost:7600", "LOCALHOST:1", "[::1]:7600",
        "unix:/run/x.sock", "ipv4:127.0.0.1:7600", "dns:///localhost:80"}) {
    EXPECT_TRUE(IsLocalServer(local)) << local;
  }
  for (const char* remote : {"127.0.0.1.example.org:7600", "localhost.example.org:7600",
                             "10.0.0.1:7600", "[fe80::1]:7600", "[::ffff:10.0.0.1]:1", "gpu:7600",
                             "ipv4:10.0.0.1:7600", "dns:///127.example.org:80"}) {
    EXPECT_FALSE(IsLocalServer(remote)) << remote;
  }
}

TEST(ConnectionTest, AUrlIsToldApartFromAnAddress) {
  EXPECT_TRUE(CheckServerAddress("gpu:7600").ok());
  EXPECT_TRUE(CheckServerAddress("unix:/run/x.sock").ok());
  EXPECT_TRUE(CheckServerAddress("[::1]:7600").ok());
  EXPECT_THAT(Message(CheckServerAddress("http://gpu:7601/metrics")),
              HasSubstr("--server gpu:7601"));
  EXPECT_THAT(Message(CheckServerAddress("https://gpu:7600")), HasSubstr("gpu:7600 --tls"));
  EXPECT_THAT(Message(CheckServerAddress("gpu")), HasSubstr("gpu:7600"));
  EXPECT_FALSE(CheckServerAddress("").ok());
}

TEST(ConnectionTest, ATokenNeverLeavesTheMachineInPlaintext) {
  EXPECT_TRUE(CheckToken("nlt_x", "127.0.0.1:7600", false).ok());
  EXPECT_TRUE(CheckToken("nlt_x", "gpu:7600", true).ok());
  EXPECT_TRUE(CheckToken("", "gpu:7600", false).ok());
  const absl::Status refused = CheckToken("nlt_x", "gpu:7600", false);
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(refused), HasSubstr("--tls"));
  EXPECT_THAT(Message(refused), ::testing::Not(HasSubstr("nlt_x")));
  // The library keeps to it by itself, in every kind of call.
  Client client({.server = "192.0.2.1:7600", .token = "nlt_x"});
  EXPECT_EQ(client.GetJob("x").status().code(), absl::StatusCode::kFailedPrecondition);
  class : public WatchHandler {
    absl::Status OnMetrics(const MetricRecord& /*record*/) override { return absl::OkStatus(); }
    absl::Status OnState(int64_t /*sequence*/, const v1::StateChange& /*change*/) override {
      return absl::OkStatus();
    }
    absl::Status OnLog(int64_t /*sequence*/, const v1::LogLine& /*line*/) override {
      return absl::OkStatus();
    }
  } handler;
  EXPECT_EQ(client.WatchJob("x", 0, handler).status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(client.ReadMetrics({}, [](const auto&) { return absl::OkStatus(); }).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(client.ReadLogs({}, [](const auto&) { return absl::OkStatus(); }).code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(ConnectionTest, ATokenIsOneWord) {
  for (const char* bad : {"two words", "line\nbreak", "caf\xc3\xa9"}) {
    EXPECT_EQ(CheckToken(bad, "127.0.0.1:1", false).code(), absl::StatusCode::kInvalidArgument)
        << bad;
  }
  const auto token = ReadTokenFile(WriteTemporary("token", "  nlt_abc \r\nsecond line\n"));
  ASSERT_TRUE(token.ok()) << token.status();
  EXPECT_EQ(*token, "nlt_abc");
  EXPECT_FALSE(ReadTokenFile(WriteTemporary("empty", "\nnlt_abc\n")).ok());
  EXPECT_THAT(Message(ReadTokenFile("/no/such/file").status()), HasSubstr("/no/such/file"));
}

TEST(ConnectionTest, TlsOptionsThatCannotBeMeantAreRefused) {
  EXPECT_EQ(*MakeCredentials({}), nullptr);
  EXPECT_NE(*MakeCredentials({.enabled = true}), nullptr);
  EXPECT_THAT(Message(MakeCredentials({.certificate = "x"}).status()), HasSubstr("--tls-key"));
  EXPECT_THAT(Message(MakeCredentials({.ca = "/no/such/ca"}).status()), HasSubstr("--tls-ca"));
  EXPECT_THAT(Message(MakeCredentials({.ca = WriteTemporary("ca", "hello")}).status()),
              HasSubstr("BEGIN CERTIFICATE"));
}

}  // namespace
}  // namespace normlab::client
