// The listener that strangers can reach.
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include "server/app/grpc_listeners.h"
#include "server/monitor/metrics.h"

#include "normlab/v1/worker.grpc.pb.h"
#include <arpa/inet.h>

namespace normlab::server {
namespace {

// Of the listener under test; a closed connection is waited for much longer.
constexpr absl::Duration kPatience = absl::Milliseconds(300);
constexpr int kLongMs = 60'000;

// Welcomes everybody, and keeps the call.
class PatientService final : public v1::Worker::CallbackService {
 public:
  grpc::ServerBidiReactor<v1::WorkerMessage, v1::ServerMessage>* Report(
      grpc::CallbackServerContext* /*context*/) override {
    class Reactor final : public grpc::ServerBidiReactor<v1::WorkerMessage, v1::ServerMessage> {
     public:
      Reactor() {
        message_.mutable_welcome()->set_last_report(7);
        StartWrite(&message_);
      }
      void OnCancel() override { Finish(grpc::Status::CANCELLED); }
      void OnDone() override { delete this; }

     private:
      v1::ServerMessage message_;
    };
    return new Reactor;
  }
};

class RemoteWorkerListenerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    options_.address.host = "127.0.0.1";
    options_.address.port = FreePort();
    options_.address.loopback = true;
    options_.credentials = grpc::InsecureServerCredentials();
    options_.patience = kPatience;
    auto server = StartRemoteWorkerListener(options_, &service_, metrics_.grpc());
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  void TearDown() override { server_->Shutdown(std::chrono::system_clock::now()); }

  static sockaddr_in Loopback(int port) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }
  static int FreePort() {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = Loopback(0);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
    close(fd);
    return ntohs(address.sin_port);
  }
  // A connection on which `bytes` were sent.
  int Connect(const std::string& bytes) const {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const sockaddr_in address = Loopback(options_.address.port);
    EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
    return fd;
  }
  // Whether the server closes it.
  static bool IsClosed(int fd) {
    pollfd wanted = {fd, POLLIN, 0};
    std::vector<char> buffer(1 << 12);
    while (poll(&wanted, 1, kLongMs) == 1) {
      if (recv(fd, buffer.data(), buffer.size(), 0) <= 0) {
        return true;
      }
    }
    return false;
  }

  Metrics metrics_{"test"};
  PatientService service_;
  RemoteWorkerOptions options_;
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(RemoteWorkerListenerTest, ClosesConnectionsThatSayNothing) {
  // What every HTTP/2 connection begins with, and no settings.
  const std::string settings("\0\0\0\4\0\0\0\0\0", 9);
  const std::string preface = absl::StrCat("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", settings);
  std::vector<int> connections;
  for (int i = 0; i < 20; ++i) {
    connections.push_back(Connect(""));
    connections.push_back(Connect("PRI * HTTP/2.0"));
    connections.push_back(Connect(preface));
  }
  for (const int fd : connections) {
    EXPECT_TRUE(IsClosed(fd));
    close(fd);
  }
}

TEST_F(RemoteWorkerListenerTest, KeepsThatOfAWorker) {
  auto stub = v1::Worker::NewStub(
      grpc::CreateChannel(options_.address.ToString(), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  auto stream = stub->Report(&context);
  v1::ServerMessage message;
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_EQ(message.welcome().last_report(), 7);
  // For longer than one without a call lasts.
  const int silent = Connect("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  EXPECT_TRUE(IsClosed(silent));
  close(silent);
  v1::WorkerMessage report;
  report.mutable_report()->set_number(1);
  EXPECT_TRUE(stream->Write(report)) << "it is there still";
  context.TryCancel();
  EXPECT_FALSE(stream->Read(&message));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(RemoteWorkerListenerTest, SaysThatThePortIsTaken) {
  const auto second = StartRemoteWorkerListener(options_, &service_, metrics_.grpc());
  ASSERT_TRUE(absl::IsUnavailable(second.status())) << second.status();
  EXPECT_NE(second.status().message().find("choose another --worker_listen"), std::string::npos);
}

}  // namespace
}  // namespace normlab::server
