#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "google/protobuf/util/json_util.h"
#include "gtest/gtest.h"

#include "client/cli/command_line_test_support.h"
#include "client/lib/npy.h"

#include "nlohmann/json.hpp"

namespace normlab::client {
namespace {

using nlohmann::json;
using normlab::v1::Job;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;

TEST_F(CommandLineTest, NormalizeReadsAndPrintsArrays) {
  const Outcome outcome =
      Call({"normalize", "--spec", "{batch: {epsilon: 0.5}}", "--input", "-", "--output-gradient",
            "[[1, 0], [0, 0.1]]", "--parameter", "weight=[1, 2]", "--parameter", "tau=[\"NaN\"]",
            "--inference", "--seed", "7", "--step", "9"},
           "[[1, 2],\n [3, 4.5]]");
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  const json printed = json::parse(outcome.out);
  EXPECT_EQ(printed["output"], json::parse("[[2, 4], [6, 9]]"));
  EXPECT_EQ(printed["input_gradient"], json::parse("[[1, 0], [0, 0.1]]"));
  EXPECT_EQ(printed["parameter_gradients"]["weight"][1][1], 0.1);
  EXPECT_EQ(printed["statistics"]["mean"], 0.1);
  EXPECT_EQ(printed["implementation"], "doubling");
  const auto requests = server_.normalize_requests();
  ASSERT_THAT(requests, SizeIs(1));
  EXPECT_EQ(requests[0].normalizer().batch().epsilon(), 0.5);
  EXPECT_THAT(requests[0].input().dims(), ElementsAre(2, 2));
  EXPECT_THAT(requests[0].parameters().at("weight").values(), ElementsAre(1, 2));
  EXPECT_TRUE(std::isnan(requests[0].parameters().at("tau").values(0)));
  EXPECT_EQ(requests[0].statistics(), normlab::v1::Statistics::INFERENCE);
  EXPECT_EQ(requests[0].seed(), 7U);
  EXPECT_EQ(requests[0].step(), 9);

  const Outcome plain = Call({"normalize", "--spec", "batch", "--input", "[[1], [2]]"});
  EXPECT_FALSE(json::parse(plain.out).contains("input_gradient"));
  EXPECT_EQ(server_.normalize_requests().back().statistics(), normlab::v1::Statistics::TRAINING);
  EXPECT_TRUE(server_.normalize_requests().back().normalizer().has_batch());
}

TEST_F(CommandLineTest, NormalizeWritesFiles) {
  const std::string place = absl::StrCat(testing::TempDir(), "/normlab_cli_normalize.", getpid());
  Outcome outcome = Call({"normalize", "--spec", "none", "--input", "[[1, 2]]", "--output-gradient",
                          "[[3, 4]]", "-o", place});
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  std::ifstream file(place + "/output.npy", std::ios::binary);
  std::stringstream bytes;
  bytes << file.rdbuf();
  const absl::StatusOr<normlab::v1::Tensor> output = ParseNpy(bytes.str());
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_THAT(output->values(), ElementsAre(2, 4));
  for (const char* name :
       {"/input_gradient.npy", "/parameter_gradients.weight.npy", "/statistics.mean.npy"}) {
    EXPECT_TRUE(std::ifstream(place + name).good()) << name;
  }
  std::filesystem::remove_all(place);
  outcome = Call({"normalize", "--spec", "none", "--input", "[[1, 2]]", "-o", place + ".json"});
  EXPECT_EQ(json::parse(std::ifstream(place + ".json"))["output"], json::parse("[[2, 4]]"));
  std::remove((place + ".json").c_str());
  EXPECT_EQ(
      Call({"normalize", "--spec", "none", "--input", "[[1]]", "-o", "/no/such/x.json"}).exit_code,
      4);
}

TEST_F(CommandLineTest, NormalizeNamesWhatIsWrong) {
  const std::string path =
      absl::StrCat(testing::TempDir(), "/normlab_cli_normalizer.", getpid(), ".yaml");
  std::ofstream(path) << "batch:\n  epsilon: -1\n";
  Outcome outcome = Call({"normalize", "--spec", path, "--input", "[[1], [2]]"});
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_THAT(outcome.err,
              HasSubstr(absl::StrCat(path, ":2:12: normalizer.batch.epsilon: is negative")));
  std::remove(path.c_str());
  outcome = Call({"normalize", "--spec", "{batch: {epsilonn: 1}}", "--input", "[[1], [2]]"});
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_THAT(outcome.err, HasSubstr("--spec:1:10: normalizer.batch.epsilonn: unknown field"));
  outcome = Call({"normalize", "--spec", "bacth", "--input", "[[1], [2]]"});
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_THAT(outcome.err,
              HasSubstr("bacth is neither a kind of normalizer nor a file; did you mean batch?"));
  const std::string archive =
      absl::StrCat(testing::TempDir(), "/normlab_cli_normalize.", getpid(), ".npz");
  std::ofstream(archive) << "PK\x03\x04";
  outcome = Call({"normalize", "--spec", "batch", "--input", archive});
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_THAT(outcome.err, HasSubstr("is a .npz archive of several arrays; give one of them"));
  std::remove(archive.c_str());
  outcome = Call({"normalize", "--spec", "batch", "--input", "[[1], [2, 3]]"});
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_THAT(outcome.err, HasSubstr("--input the array at [1]"));
  EXPECT_EQ(Call({"normalize", "--spec", "batch"}).exit_code, 2);
  EXPECT_EQ(
      Call({"normalize", "--spec", "batch", "--input", "[[1]]", "--parameter", "weight"}).exit_code,
      2);
  EXPECT_EQ(Call({"normalize", "--spec", "-", "--input", "-"}, "{batch: {}}").exit_code, 2);
  EXPECT_THAT(server_.normalize_requests(), SizeIs(1)) << "only the first was worth sending";
}

}  // namespace
}  // namespace normlab::client
