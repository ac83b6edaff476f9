#include "engine/checkpoint/checkpoint.h"

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/atomic_file.h"
#include "common/sha256.h"

#include <nlohmann/json.hpp>

namespace normlab::engine {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CheckpointTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    parent_ =
        fs::path(::testing::TempDir()) / absl::StrCat("checkpoint_", info->name(), ".", getpid());
    fs::remove_all(parent_);
  }
  void TearDown() override { fs::remove_all(parent_); }

  CheckpointContents Contents(int64_t step) const {
    return {.step = step,
            .seed = 7,
            .spec_sha256 = "abc",
            .model = {{"fc1.weight", {3, 2}, weight_}, {"bn1.running_var", {5}, state_}},
            .optimizer = {{"momentum_buffer.fc1.weight", {3, 2}, velocity_}},
            .optimizer_counters = {{"step", step * 1000000007}},
            .initial_weights_sha256 = "ef01",
            .measured_choices = {{"training of 3: conv1 forward", "direct_f32"}},
            .latest_metrics = {{"train/loss", 0.1}}};
  }

  std::string Write(int64_t step) const {
    const auto written = WriteCheckpoint(parent_.string(), CheckpointName(step), Contents(step));
    EXPECT_TRUE(written.ok()) << written.status();
    return written.ok() ? written->folder : "";
  }

  absl::StatusOr<int64_t> Load(const std::string& folder) {
    const auto loaded =
        LoadCheckpoint(folder, "abc", 7,
                       {{"fc1.weight", {3, 2}, absl::MakeSpan(weight_read_)},
                        {"bn1.running_var", {5}, absl::MakeSpan(state_read_)}},
                       {{"momentum_buffer.fc1.weight", {3, 2}, absl::MakeSpan(velocity_read_)}},
                       {{"step", &counter_read_}});
    if (!loaded.ok()) {
      return loaded.status();
    }
    EXPECT_EQ(loaded->initial_weights_sha256, "ef01");
    EXPECT_EQ(loaded->latest_metrics, Contents(0).latest_metrics);
    return loaded->step;
  }

  std::set<std::string> Names() const {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(parent_)) {
      names.insert(entry.path().filename().string());
    }
    return names;
  }

  static void FlipLastByte(const fs::path& path) {
    std::string bytes = *common::ReadFile(path.string());
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    std::ofstream(path, std::ios::binary) << bytes;
  }

  fs::path parent_;
  // Values that a lossy format would change.
  const std::vector<float> weight_ = {0.1F,     -0.0F, 1e-42F, std::numeric_limits<float>::max(),
                                      1 / 3.0F, -7};
  const std::vector<float> state_ = {1, 2, 3, 4, 0.7F};
  const std::vector<float> velocity_ = {9, 8, 7, 6, 5, 0.3F};
  std::vector<float> weight_read_ = std::vector<float>(6);
  std::vector<float> state_read_ = std::vector<float>(5);
  std::vector<float> velocity_read_ = std::vector<float>(6);
  int64_t counter_read_ = 0;
};

TEST_F(CheckpointTest, RoundTripKeepsEveryBit) {
  const auto step = Load(Write(123));
  ASSERT_TRUE(step.ok()) << step.status();
  EXPECT_EQ(*step, 123);
  EXPECT_EQ(0, std::memcmp(weight_.data(), weight_read_.data(), sizeof(float) * 6));
  EXPECT_EQ(state_, state_read_);
  EXPECT_EQ(velocity_, velocity_read_);
  EXPECT_EQ(counter_read_, 123 * int64_t{1000000007});  // a float would not keep it
  EXPECT_THAT(Names(), ElementsAre("step-000000123"));
}

TEST_F(CheckpointTest, MeasuredChoicesCanBeReadBeforeAnyTensor) {
  const std::string folder = Write(3);
  EXPECT_EQ(ReadMeasuredChoices(folder), Contents(0).measured_choices);
  EXPECT_TRUE(ReadMeasuredChoices(folder + "-absent").empty());
  std::ofstream(folder + "/manifest.json") << "no manifest";
  EXPECT_TRUE(ReadMeasuredChoices(folder).empty());
}

TEST_F(CheckpointTest, ReportsSizeAndChecksumOfTheManifest) {
  const auto written = WriteCheckpoint(parent_.string(), "final", Contents(5));
  ASSERT_TRUE(written.ok()) << written.status();
  int64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(written->folder)) {
    bytes += static_cast<int64_t>(entry.file_size());
  }
  EXPECT_EQ(written->bytes, bytes);
  const std::string manifest = *common::ReadFile(written->folder + "/manifest.json");
  EXPECT_EQ(written->manifest_sha256, common::Sha256Hex(manifest));
  // Again under the same name: replaced.
  EXPECT_TRUE(WriteCheckpoint(parent_.string(), "final", Contents(6)).ok());
  EXPECT_EQ(*Load(written->folder), 6);
}

// What the safetensors documentation demands, read here without our own decoder.
TEST_F(CheckpointTest, FileIsSafetensors) {
  const std::string bytes = *common::ReadFile(Write(1) + "/model.safetensors");
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  EXPECT_EQ(length % 8, 0U);
  const auto header = nlohmann::json::parse(bytes.substr(8, length));
  EXPECT_EQ(header["fc1.weight"]["dtype"], "F32");
  EXPECT_EQ(header["fc1.weight"]["shape"], (std::vector<int>{3, 2}));
  EXPECT_EQ(header["fc1.weight"]["data_offsets"], (std::vector<int>{0, 24}));
  EXPECT_EQ(header["bn1.running_var"]["data_offsets"], (std::vector<int>{24, 44}));
  EXPECT_EQ(bytes.size(), 8 + length + 44);
  float value = 0;
  std::memcpy(&value, bytes.data() + 8 + length + 40, 4);
  EXPECT_EQ(value, 0.7F);
}

TEST_F(CheckpointTest, DamageNamesTheTensorOrFile) {
  const std::string folder = Write(2);
  FlipLastByte(folder + "/model.safetensors");
  EXPECT_THAT(std::string(Load(folder).status().message()),
              AllOf(HasSubstr("bn1.running_var"), HasSubstr("damaged")));
  EXPECT_EQ(Load(folder).status().code(), absl::StatusCode::kDataLoss);

  Write(2);
  FlipLastByte(folder + "/optimizer.safetensors");
  EXPECT_THAT(std::string(Load(folder).status().message()),
              HasSubstr("momentum_buffer.fc1.weight"));

  // The counter is the first value of its file.
  Write(2);
  std::string bytes = *common::ReadFile(folder + "/optimizer.safetensors");
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  bytes[8 + header] = static_cast<char>(bytes[8 + header] ^ 1);
  std::ofstream(folder + "/optimizer.safetensors", std::ios::binary) << bytes;
  EXPECT_THAT(std::string(Load(folder).status().message()),
              AllOf(HasSubstr("\"step\""), HasSubstr("damaged")));

  Write(2);
  fs::resize_file(folder + "/model.safetensors", 50);
  EXPECT_THAT(std::string(Load(folder).status().message()), HasSubstr("model.safetensors"));

  Write(2);
  fs::remove(folder + "/optimizer.safetensors");
  EXPECT_EQ(Load(folder).status().code(), absl::StatusCode::kDataLoss);

  Write(2);
  std::ofstream(folder + "/manifest.json") << "{}";
  EXPECT_EQ(Load(folder).status().code(), absl::StatusCode::kDataLoss);
  fs::remove(folder + "/manifest.json");
  EXPECT_EQ(Load(folder).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(CheckpointTest, AnotherRunsCheckpointIsRefused) {
  const std::string folder = Write(3);
  EXPECT_EQ(LoadCheckpoint(folder, "abd", 7, {}, {}).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(LoadCheckpoint(folder, "abc", 8, {}, {}).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST_F(CheckpointTest, PruningKeepsTheLastTheNeededAndForeignFiles) {
  for (const int64_t step : {10, 20, 30, 40}) {
    Write(step);
  }
  fs::create_directories(parent_ / "step-000000050.writing");
  fs::create_directories(parent_ / "mine");
  PruneCheckpoints(parent_.string(), 2, 20);
  EXPECT_THAT(Names(), ElementsAre("mine", "step-000000020", "step-000000030", "step-000000040"));
  PruneCheckpoints(parent_.string(), 2, 1000);
  EXPECT_THAT(Names(), ElementsAre("mine", "step-000000030", "step-000000040"));
}

TEST_F(CheckpointTest, AFolderThatCannotBeWrittenIsAnError) {
  EXPECT_FALSE(WriteCheckpoint("/proc/none", "final", Contents(1)).ok());
}

TEST(SafetensorsTest, NamesShapesAndExtraTensorsMustFit) {
  std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const std::string bytes = EncodeSafetensors({{"a", {2, 3}, values}});
  const auto decode = [&](const std::string& name, const Dims& dims) {
    return std::string(
        DecodeSafetensors(bytes, "f", {{name, dims, absl::MakeSpan(values)}}).message());
  };
  EXPECT_EQ(decode("a", {2, 3}), "");
  EXPECT_THAT(decode("a", {3, 2}), AllOf(HasSubstr("\"a\" has shape 2x3"), HasSubstr("3x2")));
  EXPECT_THAT(decode("b", {2, 3}), HasSubstr("no tensor \"b\""));
  EXPECT_THAT(std::string(DecodeSafetensors(bytes, "f", {}).message()),
              HasSubstr("\"a\" is not part of this network"));
}

TEST(SafetensorsTest, CountersAreI64ScalarsAtAMultipleOfTheirSize) {
  std::vector<float> values = {1, 2, 3};
  const std::string bytes =
      EncodeSafetensors({{"a", {3}, values}}, {{"n", -5 + (int64_t{1} << 40)}});
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  const auto header = nlohmann::json::parse(bytes.substr(8, length));
  EXPECT_EQ(header["n"]["dtype"], "I64");
  EXPECT_EQ(header["n"]["shape"], std::vector<int>());
  EXPECT_EQ(header["n"]["data_offsets"], (std::vector<int>{0, 8}));
  int64_t n = 0;
  EXPECT_TRUE(
      DecodeSafetensors(bytes, "f", {{"a", {3}, absl::MakeSpan(values)}}, {{"n", &n}}).ok());
  EXPECT_EQ(n, -5 + (int64_t{1} << 40));
  EXPECT_THAT(
      std::string(DecodeSafetensors(bytes, "f", {{"a", {3}, absl::MakeSpan(values)}}).message()),
      HasSubstr("\"n\" is not part of this network"));
  EXPECT_THAT(std::string(DecodeSafetensors(EncodeSafetensors({{"n", {}, {values.data(), 1}}}), "f",
                                            {}, {{"n", &n}})
                              .message()),
              HasSubstr("\"n\" has dtype \"F32\", but I64 was expected"));
  EXPECT_THAT(
      std::string(
          DecodeSafetensors(EncodeSafetensors({}, {{"n", -1}}), "f", {}, {{"n", &n}}).message()),
      HasSubstr("negative"));
}

TEST(SafetensorsTest, NoDamagedHeaderGetsThrough) {
  std::vector<float> values = {1, 2, 3, 4, 5, 6};
  const std::string good = EncodeSafetensors({{"a", {2, 3}, values}});
  for (size_t length = 0; length < good.size(); ++length) {
    EXPECT_FALSE(
        DecodeSafetensors(good.substr(0, length), "f", {{"a", {2, 3}, absl::MakeSpan(values)}})
            .ok());
  }
  for (const char* header :
       {"[]", "{\"a\":{}}", "{\"a\":{\"dtype\":\"F64\",\"shape\":[2,3],\"data_offsets\":[0,24]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,23]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[24,0]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[8,32]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,-3],\"data_offsets\":[0,24]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[18446744073709551615],\"data_offsets\":[0,24]}}",
        "{\"a\":{\"dtype\":\"F32\",\"shape\":\"x\",\"data_offsets\":[0]}}"}) {
    std::string bytes = std::string(8, '\0') + header + std::string(24, '\1');
    bytes[0] = static_cast<char>(std::string(header).size());
    EXPECT_EQ(DecodeSafetensors(bytes, "f", {{"a", {2, 3}, absl::MakeSpan(values)}}).code(),
              absl::StatusCode::kDataLoss)
        << header;
  }
}

}  // namespace
}  // namespace normlab::engine
