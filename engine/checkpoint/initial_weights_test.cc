#include "engine/checkpoint/initial_weights.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/atomic_file.h"
#include "common/sha256.h"

namespace normlab::engine {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

// A tensor of a file that another program wrote.
struct Foreign {
  std::string name;
  std::string dtype;
  std::string shape;  // JSON
  std::string bytes;
};

template <typename Value>
std::string Bytes(std::vector<Value> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Value)};
}

std::string Encode(const std::vector<Foreign>& tensors) {
  std::string header = "{\"__metadata__\":{\"format\":\"pt\"}";
  std::string data;
  for (const Foreign& tensor : tensors) {
    absl::StrAppend(&header, ",\"", tensor.name, "\":{\"dtype\":\"", tensor.dtype,
                    "\",\"shape\":", tensor.shape, ",\"data_offsets\":[", data.size(), ",",
                    data.size() + tensor.bytes.size(), "]}");
    data += tensor.bytes;
  }
  header += "}";
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + header + data;
}

class InitialWeightsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    base_ = fs::path(::testing::TempDir()) /
            absl::StrCat("initial_weights_", info->name(), ".", getpid());
    fs::remove_all(base_);
    fs::create_directories(base_ / "empty");
    fs::create_directories(base_ / "root" / "nets");
  }
  void TearDown() override { fs::remove_all(base_); }

  void Write(const std::string& bytes) const {
    std::ofstream(base_ / "root/nets/w.safetensors", std::ios::binary) << bytes;
  }

  absl::StatusOr<InitialWeightsSummary> Read(const std::vector<std::string>& ignore = {},
                                             const std::string& path = "nets/w.safetensors") {
    return ReadInitialWeights(
        {.path = path, .ignore = ignore, .data_roots = Roots()},
        {{{"fc1.weight", {2, 3}, absl::MakeSpan(weight_)}},
         {{"fc1.bias", {2}, absl::MakeSpan(bias_)}, ParameterRole::kBias},
         {{"dyt1.alpha", {1}, absl::MakeSpan(alpha_)}, ParameterRole::kAlpha},
         {{"bn1.running_mean", {2}, absl::MakeSpan(mean_)}, ParameterRole::kRunningMean},
         {{"bn1.running_var", {2}, absl::MakeSpan(var_)}, ParameterRole::kRunningVar}});
  }
  std::vector<std::string> Roots() const {
    return {(base_ / "empty").string(), (base_ / "root").string()};
  }
  std::string Message(const std::vector<std::string>& ignore = {}) {
    return std::string(Read(ignore).status().message());
  }

  // Everything that the network has, as PyTorch would save it.
  static std::vector<Foreign> Whole() {
    return {{"fc1.weight", "F32", "[2,3]", Bytes<float>({1, 2, 3, 4, 5, 6})},
            {"fc1.bias", "F64", "[2]", Bytes<double>({0.1, -7})},
            {"dyt1.alpha", "BF16", "[]", Bytes<uint16_t>({0x3F80})},
            {"bn1.running_mean", "F16", "[2]", Bytes<uint16_t>({0xC500, 0x3C00})},
            {"bn1.running_var", "F32", "[2]", Bytes<float>({0, 9})},
            {"bn1.num_batches_tracked", "I64", "[]", Bytes<int64_t>({5})}};
  }
  static Foreign& Named(std::vector<Foreign>& tensors, const std::string& name) {
    for (Foreign& tensor : tensors) {
      if (tensor.name == name) {
        return tensor;
      }
    }
    return tensors.front();
  }
  static std::vector<Foreign> Without(const std::string& name) {
    std::vector<Foreign> tensors = Whole();
    std::erase_if(tensors, [&](const Foreign& tensor) { return tensor.name == name; });
    return tensors;
  }

  fs::path base_;
  std::vector<float> weight_ = std::vector<float>(6, 42);
  std::vector<float> bias_ = {42, 42};
  std::vector<float> alpha_ = {42};
  std::vector<float> mean_ = {0, 0};
  std::vector<float> var_ = {1, 1};
};

TEST_F(InitialWeightsTest, ReadsEveryFloatFormatByName) {
  const std::string bytes = Encode(Whole());
  Write(bytes);
  const auto summary = Read();
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(weight_, (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(bias_, (std::vector<float>{0.1F, -7}));
  EXPECT_EQ(alpha_, std::vector<float>{1});
  EXPECT_EQ(mean_, (std::vector<float>{-5, 1}));
  EXPECT_EQ(var_, (std::vector<float>{0, 9}));
  EXPECT_EQ(summary->read, 5);
  EXPECT_THAT(summary->kept, IsEmpty());
  EXPECT_EQ(summary->path, (base_ / "root/nets/w.safetensors").string());
  EXPECT_EQ(summary->sha256, common::Sha256Hex(bytes));
  EXPECT_TRUE(CheckWeightsFile("nets/w.safetensors", Roots()).ok());
  EXPECT_TRUE(Read({}, (base_ / "root/nets/w.safetensors").string()).ok()) << "absolute";
}

TEST_F(InitialWeightsTest, OurOwnCheckpointIsSuchAFile) {
  const std::vector<float> weight = {6, 5, 4, 3, 2, 1};
  const std::vector<float> two = {0.5F, 0.25F};
  const std::vector<float> one = {0.75F};
  Write(EncodeSafetensors({{"fc1.weight", {2, 3}, weight},
                           {"fc1.bias", {2}, two},
                           {"dyt1.alpha", {1}, one},
                           {"bn1.running_mean", {2}, two},
                           {"bn1.running_var", {2}, two}}));
  ASSERT_TRUE(Read().ok()) << Read().status();
  EXPECT_EQ(weight_, weight);
  EXPECT_EQ(var_, two);
}

TEST_F(InitialWeightsTest, MissingRunningStatisticsStayAsTheyAre) {
  std::vector<Foreign> tensors = Without("bn1.running_mean");
  std::erase_if(tensors, [](const Foreign& tensor) { return tensor.name == "bn1.running_var"; });
  Write(Encode(tensors));
  const auto summary = Read();
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_THAT(summary->kept, ElementsAre("bn1.running_mean", "bn1.running_var"));
  EXPECT_EQ(mean_, (std::vector<float>{0, 0}));
  EXPECT_EQ(var_, (std::vector<float>{1, 1}));
}

TEST_F(InitialWeightsTest, EveryMisfitIsNamedWithBothShapes) {
  std::vector<Foreign> tensors = Without("fc1.bias");
  Named(tensors, "fc1.weight") = {"fc1.weight", "F32", "[3,2]", Bytes<float>({1, 2, 3, 4, 5, 6})};
  Named(tensors, "dyt1.alpha") = {"dyt1.alpha", "I64", "[1]", Bytes<int64_t>({1})};
  tensors.push_back({"head.weight", "F32", "[4]", Bytes<float>({1, 2, 3, 4})});
  Write(Encode(tensors));
  const auto read = Read();
  EXPECT_EQ(read.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(read.status().message()),
              AllOf(StartsWith("initial_weights.path names "),
                    HasSubstr("\"fc1.weight\" of 3x2, but in this network it is 2x3"),
                    HasSubstr("no tensor \"fc1.bias\", which is 2 in this network"),
                    HasSubstr("\"dyt1.alpha\" of 1 in dtype \"I64\""),
                    HasSubstr("\"head.weight\" of 4, which this network does not have"),
                    HasSubstr("initial_weights.ignore")));
  EXPECT_EQ(weight_, std::vector<float>(6, 42)) << "nothing is changed by a file that does not fit";
  EXPECT_EQ(mean_, (std::vector<float>{0, 0}));
}

TEST_F(InitialWeightsTest, IgnoredNamesAreLeftAloneOnBothSides) {
  std::vector<Foreign> tensors = Without("fc1.bias");
  Named(tensors, "fc1.weight") = {"fc1.weight", "F32", "[3,2]", Bytes<float>({1, 2, 3, 4, 5, 6})};
  tensors.push_back({"head.weight", "F32", "[4]", Bytes<float>({1, 2, 3, 4})});
  tensors.push_back({"head.bias", "F32", "[1]", Bytes<float>({1})});
  Write(Encode(tensors));
  EXPECT_THAT(Message({"head.*"}), AllOf(HasSubstr("fc1.weight"), Not(HasSubstr("head.w"))));
  const auto summary = Read({"fc1.*", "head.*"});
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_THAT(summary->kept, ElementsAre("fc1.weight", "fc1.bias"));
  EXPECT_EQ(weight_, std::vector<float>(6, 42));
  EXPECT_EQ(alpha_, std::vector<float>{1});
  EXPECT_EQ(summary->read, 3);
}

TEST_F(InitialWeightsTest, ManyMisfitsAreCounted) {
  std::vector<Foreign> tensors = Whole();
  for (int i = 0; i < 25; ++i) {
    tensors.push_back({absl::StrCat("extra", i), "F32", "[1]", Bytes<float>({1})});
  }
  Write(Encode(tensors));
  EXPECT_THAT(Message(), HasSubstr("and 15 more tensors do not fit"));
}

TEST_F(InitialWeightsTest, ValuesThatNoNetworkCanHaveAreRefusedWithTheirPlace) {
  for (const auto& [name, tensor, message] :
       std::vector<std::tuple<std::string, Foreign, std::string>>{
           {"fc1.weight",
            {"fc1.weight", "F32", "[2,3]", Bytes<float>({1, 2, std::nanf(""), 4, 5, 6})},
            "value 2 of tensor \"fc1.weight\" (2x3) is not a finite float"},
           {"fc1.bias",
            {"fc1.bias", "F64", "[2]", Bytes<double>({1, 1e300})},
            "value 1 of tensor \"fc1.bias\" (2) is not a finite float"},
           {"bn1.running_var",
            {"bn1.running_var", "F32", "[2]", Bytes<float>({-1, 1})},
            "value 0 of tensor \"bn1.running_var\" (2) is a negative variance, -1"}}) {
    std::vector<Foreign> tensors = Whole();
    Named(tensors, name) = tensor;
    Write(Encode(tensors));
    EXPECT_EQ(Read().status().code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(Message(), HasSubstr(message));
    EXPECT_TRUE(Read({name}).ok()) << "not looked at when it is ignored";
  }
}

TEST_F(InitialWeightsTest, LengthsThatAreNotTheShapesAreRefused) {
  std::vector<Foreign> tensors = Whole();
  Named(tensors, "fc1.weight").bytes += "abcd";
  Write(Encode(tensors));
  EXPECT_THAT(Message(), HasSubstr("\"fc1.weight\" of 2x3, but 28 bytes of values"));
}

TEST_F(InitialWeightsTest, FilesThatAreNotThereOrOutsideOfTheRootsSayWhereWasLooked) {
  const auto check = [&](const std::string& path) {
    const absl::Status status = CheckWeightsFile(path, Roots());
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound) << path;
    EXPECT_EQ(Read({}, path).status().code(), absl::StatusCode::kNotFound) << path;
    return std::string(status.message());
  };
  EXPECT_THAT(check("absent"), AllOf(HasSubstr("\"absent\""), HasSubstr("/empty/absent does not"),
                                     HasSubstr("/root/absent does not"), HasSubstr("name a")));
  EXPECT_THAT(check("nets"), HasSubstr("not a regular file"));
  EXPECT_THAT(check("/etc/passwd"), HasSubstr("does not lie below a data root"));
  std::ofstream(base_ / "secret") << Encode(Whole());
  EXPECT_THAT(check("../secret"), HasSubstr("leads outside"));
  fs::create_symlink(base_ / "secret", base_ / "root/link");
  EXPECT_THAT(check("link"), HasSubstr("leads outside"));
  ASSERT_EQ(mkfifo((base_ / "root/pipe").c_str(), 0600), 0);
  EXPECT_THAT(check("pipe"), HasSubstr("not a regular file"));
  EXPECT_THAT(std::string(CheckWeightsFile("w", {}).message()), HasSubstr("no data roots"));
}

TEST_F(InitialWeightsTest, ForeignFilesAreRefused) {
  const uint64_t huge = uint64_t{1} << 62;
  for (const std::string& bytes :
       {std::string(), std::string("abc"), std::string("a text, and not a short one at all"),
        std::string(reinterpret_cast<const char*>(&huge), sizeof(huge)) + "{}",
        Encode(Whole()).substr(0, 100), std::string("\2\0\0\0\0\0\0\0[]", 10)}) {
    Write(bytes);
    const absl::Status status = CheckWeightsFile("nets/w.safetensors", Roots());
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bytes;
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("w.safetensors"), HasSubstr("name a safetensors file")));
    EXPECT_THAT(Message(), StartsWith("initial_weights.path is \"nets/w.safetensors\""));
  }
  Write(Encode({{"labels", "U8", "[3]", "abc"}}));
  EXPECT_THAT(std::string(CheckWeightsFile("nets/w.safetensors", Roots()).message()),
              HasSubstr("has no tensor of F32"));
}

// Whatever a file says: an answer, never a crash, and names are safe to print.
TEST_F(InitialWeightsTest, EveryTruncationAndManyFlippedBytesAreSurvived) {
  const std::string good = Encode(Whole());
  for (size_t length = 0; length < good.size(); ++length) {
    Write(good.substr(0, length));
    EXPECT_FALSE(Read().ok()) << length;
  }
  int refused = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bytes = good;
    bytes[i] = static_cast<char>(bytes[i] ^ (1 << (i % 8)));
    Write(bytes);
    const auto read = Read();
    refused += read.ok() ? 0 : 1;
    for (const char c : read.status().message()) {
      ASSERT_TRUE(c >= 0x20 && c < 0x7F) << read.status().message();
    }
  }
  EXPECT_GT(refused, static_cast<int>(good.size() / 2));
}

}  // namespace
}  // namespace normlab::engine
