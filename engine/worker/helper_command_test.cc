#include "engine/worker/helper_command.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

#include "common/ids.h"
#include "engine/checkpoint/safetensors.h"
#include "engine/data/testing.h"

#include "normlab/v1/worker.pb.h"

namespace normlab::engine {
namespace {

class HelperCommandTest : public ::testing::Test {
 protected:
  HelperCommandTest()
      : folder_(absl::StrCat(::testing::TempDir(), "/", common::NewId(absl::Now()))) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    ours_ = ends[0];
    helper_ = std::thread([this, fd = ends[1]] { exit_code_ = RunHelperCommand(fd); });
    std::filesystem::create_directories(folder_);
  }
  ~HelperCommandTest() override {
    if (helper_.joinable()) {
      Finish();
    }
    std::filesystem::remove_all(folder_);
  }

  void SendBytes(const std::string& bytes) {
    ASSERT_EQ(send(ours_, bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  static std::string Framed(const std::string& bytes) {
    std::string frame;
    for (int shift = 0; shift < 32; shift += 8) {
      frame.push_back(static_cast<char>(bytes.size() >> shift & 0xFF));
    }
    return frame + bytes;
  }
  v1::HelperResponse Receive() {
    unsigned char prefix[4] = {};
    EXPECT_EQ(recv(ours_, prefix, 4, MSG_WAITALL), 4);
    std::string bytes(prefix[0] | uint32_t{prefix[1]} << 8 | uint32_t{prefix[2]} << 16, '\0');
    EXPECT_EQ(prefix[3], 0);
    EXPECT_EQ(recv(ours_, bytes.data(), bytes.size(), MSG_WAITALL),
              static_cast<ssize_t>(bytes.size()));
    v1::HelperResponse response;
    EXPECT_TRUE(response.ParseFromString(bytes));
    return response;
  }
  v1::HelperResponse Call(const v1::HelperRequest& request) {
    SendBytes(Framed(request.SerializeAsString()));
    return Receive();
  }
  int Finish() {
    close(ours_);
    helper_.join();
    return exit_code_;
  }

  const std::string folder_;
  int ours_ = -1;
  int exit_code_ = -1;
  std::thread helper_;
};

TEST_F(HelperCommandTest, AnswersRequestsOneAfterAnotherUntilTheEnd) {
  const DatasetShape shape{1, 28, 28, 10, 37, 11};
  testing::WriteIdxFolder(testing::MakePatterns(shape, 3), folder_ + "/roots/tiny", /*gzip=*/true);
  std::filesystem::create_directories(folder_ + "/cache");
  v1::HelperRequest inspect;
  inspect.set_id(71);
  inspect.mutable_inspect_data()->mutable_data()->mutable_fashion_mnist()->set_path("tiny");
  inspect.mutable_inspect_data()->add_data_roots(folder_ + "/roots");
  inspect.mutable_inspect_data()->set_cache_folder(folder_ + "/cache");
  v1::HelperRequest info;
  info.set_id(72);
  info.mutable_engine_info();
  // Both at once: the second waits in the socket.
  SendBytes(Framed(inspect.SerializeAsString()) + Framed(info.SerializeAsString()));

  const v1::HelperResponse data = Receive();
  EXPECT_EQ(data.id(), 71);
  EXPECT_EQ(data.data().violations_size(), 0) << data.ShortDebugString();
  EXPECT_EQ(data.data().train_examples(), 37);
  EXPECT_EQ(data.data().test_examples(), 11);
  EXPECT_TRUE(std::filesystem::exists(data.data().data_cache()));
  const v1::HelperResponse engine = Receive();
  EXPECT_EQ(engine.id(), 72);
  EXPECT_FALSE(engine.engine_info().onednn_version().empty());
  EXPECT_FALSE(engine.engine_info().isa().empty());

  inspect.set_id(73);
  inspect.mutable_inspect_data()->mutable_data()->mutable_fashion_mnist()->set_path("absent");
  const v1::HelperResponse absent = Call(inspect);
  EXPECT_EQ(absent.id(), 73);
  EXPECT_GE(absent.data().violations_size(), 1);

  // The data set is in order, the weights are not a safetensors file; then they are.
  inspect.mutable_inspect_data()->mutable_data()->mutable_fashion_mnist()->set_path("tiny");
  inspect.mutable_inspect_data()->mutable_initial_weights()->set_path("w.safetensors");
  const auto write_weights = [&](const std::string& bytes) {
    std::ofstream(folder_ + "/roots/w.safetensors", std::ios::binary) << bytes;
  };
  write_weights("no weights in here");
  const v1::HelperResponse foreign = Call(inspect);
  ASSERT_EQ(foreign.data().violations_size(), 1) << foreign.ShortDebugString();
  EXPECT_EQ(foreign.data().violations(0).field(), "initial_weights.path");
  EXPECT_EQ(foreign.data().train_examples(), 37);
  const std::vector<float> values = {1, 2, 3};
  write_weights(EncodeSafetensors({{"fc1.weight", {3}, values}}));
  EXPECT_EQ(Call(inspect).data().violations_size(), 0);

  v1::HelperRequest unknown;
  unknown.set_id(74);
  EXPECT_EQ(Call(unknown).id(), 74);
  EXPECT_EQ(Finish(), 0);
}

TEST_F(HelperCommandTest, NonsenseEndsIt) {
  SendBytes(Framed("\xFF\xFF\xFF not a message"));
  helper_.join();
  EXPECT_EQ(exit_code_, 1);
  close(ours_);
}

TEST_F(HelperCommandTest, AnAnnouncedGiantIsNotAllocated) {
  SendBytes(std::string("\xFF\xFF\xFF\xFF", 4));
  helper_.join();
  EXPECT_EQ(exit_code_, 1);
  close(ours_);
}

TEST_F(HelperCommandTest, ACutRequestIsNoOrderlyEnd) {
  SendBytes(std::string("\x20\x00\x00\x00 abc", 8));
  EXPECT_EQ(Finish(), 1);
}

}  // namespace
}  // namespace normlab::engine
