#include "client/lib/spec_file.h"

#include <cmath>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "google/protobuf/util/json_util.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"

namespace normlab::client {
namespace {

using normlab::v1::JobSpec;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

SpecResult Yaml(absl::string_view text) {
  return ParseSpec("f.yaml", text, SpecFormat::kYaml);
}

std::vector<std::string> Texts(const std::vector<SpecViolation>& violations) {
  std::vector<std::string> texts;
  for (const SpecViolation& violation : violations) {
    texts.push_back(violation.ToString());
  }
  return texts;
}

// The parsed spec as protobuf text; fails the test on violations.
JobSpec Parsed(absl::string_view text) {
  const SpecResult result = Yaml(text);
  EXPECT_THAT(Texts(result.violations), IsEmpty());
  return result.document.spec;
}

void ExpectSpec(const JobSpec& spec, const std::string& expected_text) {
  JobSpec expected;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(expected_text, &expected));
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(spec, expected))
      << spec.DebugString();
}

constexpr char kContractExample[] = R"({
  "display_name": "Ioffe and Szegedy's MNIST net on Fashion-MNIST",
  "model": {"mlp": {"hidden": [100, 100, 100], "activation": "SIGMOID"}},
  "normalization": {"batch": {}},
  "data": {"fashion_mnist": {}, "scaling": "UNIT"},
  "initializer": {"pytorch_default": {}},
  "optimizer": {"sgd": {"learning_rate": 0.1}},
  "batch_size": 60, "epochs": 1, "seed": 1, "threads": 1
})";

constexpr char kContractText[] = R"(
  display_name: "Ioffe and Szegedy's MNIST net on Fashion-MNIST"
  model { mlp { hidden: 100 hidden: 100 hidden: 100 activation: SIGMOID } }
  normalization { batch {} }
  data { fashion_mnist {} scaling: UNIT }
  initializer { pytorch_default {} }
  optimizer { sgd { learning_rate: 0.1 } }
  batch_size: 60 epochs: 1 seed: 1 threads: 1)";

TEST(SpecFileTest, ReadsTheContractExampleInAllThreeForms) {
  ExpectSpec(Parsed(kContractExample), kContractText);
  ExpectSpec(Parsed(R"(
# the same as YAML
displayName: Ioffe and Szegedy's MNIST net on Fashion-MNIST
model:
  mlp: {hidden: [100, 100, 100], activation: SIGMOID}
normalization: {batch: {}}
data:
  fashion_mnist: {}
  scaling: UNIT
initializer: {pytorchDefault: {}}
optimizer: {sgd: {learningRate: 1e-1}}
batch_size: 60
epochs: 1
seed: 1
threads: 1
)"),
             kContractText);
  const SpecResult text = ParseSpec("f.txtpb", kContractText, SpecFormat::kTextProto);
  EXPECT_THAT(Texts(text.violations), IsEmpty());
  ExpectSpec(text.document.spec, kContractText);
}

TEST(SpecFileTest, ReadsWhatProtobufPrintsAsJson) {
  JobSpec spec = Parsed(kContractExample);
  (*spec.mutable_labels())["study"] = "explosion \"1\"\n\t\\ \xF0\x9F\x98\x80";
  spec.mutable_time_limit()->set_seconds(90);
  spec.mutable_time_limit()->set_nanos(500'000'000);
  spec.mutable_optimizer()->mutable_sgd()->set_learning_rate(std::nan(""));
  spec.mutable_optimizer()->mutable_sgd()->set_momentum(-INFINITY);
  spec.mutable_optimizer()->mutable_sgd()->set_weight_decay(0.1 + 0.2);
  spec.mutable_normalization()->mutable_batch()->set_affine(false);
  spec.set_priority(-7);
  for (const bool pretty : {false, true}) {
    google::protobuf::util::JsonPrintOptions options;
    options.add_whitespace = pretty;
    std::string json;
    ASSERT_TRUE(google::protobuf::util::MessageToJsonString(spec, &json, options).ok());
    const JobSpec read = Parsed(json);
    EXPECT_EQ(read.DebugString(), spec.DebugString()) << json;
  }
}

TEST(SpecFileTest, KeepsExplicitZeroAndDropsNull) {
  const JobSpec spec = Parsed("{optimizer: {sgd: {learning_rate: 0}}, batch_size: null, data: ~}");
  EXPECT_TRUE(spec.optimizer().sgd().has_learning_rate());
  EXPECT_EQ(spec.optimizer().sgd().learning_rate(), 0.0);
  EXPECT_FALSE(spec.has_batch_size());
  EXPECT_FALSE(spec.has_data());
}

TEST(SpecFileTest, ReadsScalarsInEveryAllowedSpelling) {
  const JobSpec spec = Parsed(R"(
batch_size: "64"
steps: 1e3
threads: 2.0
seed: 4294967295
time_limit: 1h30m
precision: 1
labels: {number: 12, truth: true, quoted: 'a: b', empty: ""}
optimizer: {sgd: {learning_rate: .inf, momentum: "NaN", weight_decay: 5.e-4}}
normalization: {batch: {affine: true}}
)");
  EXPECT_EQ(spec.batch_size(), 64);
  EXPECT_EQ(spec.steps(), 1000);
  EXPECT_EQ(spec.threads(), 2);
  EXPECT_EQ(spec.seed(), 4294967295U);
  EXPECT_EQ(spec.time_limit().seconds(), 5400);
  EXPECT_EQ(spec.precision(), normlab::v1::Precision::F32);
  EXPECT_EQ(spec.labels().at("number"), "12");
  EXPECT_EQ(spec.labels().at("truth"), "true");
  EXPECT_EQ(spec.labels().at("quoted"), "a: b");
  EXPECT_EQ(spec.labels().at("empty"), "");
  EXPECT_TRUE(std::isinf(spec.optimizer().sgd().learning_rate()));
  EXPECT_TRUE(std::isnan(spec.optimizer().sgd().momentum()));
  EXPECT_EQ(spec.optimizer().sgd().weight_decay(), 5e-4);
}

TEST(SpecFileTest, ReportsEveryViolationAtItsPlace) {
  const SpecResult result = Yaml(R"(model:
  mlp:
    hiden: [100]
    activation: sigmoid
batch_size: many
seed: -1
threads: 2147483648
steps: 1.5
normalization: {batch: {affine: "yes"}}
)");
  EXPECT_THAT(
      Texts(result.violations),
      ElementsAre(
          "f.yaml:3:5: model.mlp.hiden: unknown field; did you mean hidden?",
          "f.yaml:4:17: model.mlp.activation: unknown value \"sigmoid\"; did you mean SIGMOID?",
          "f.yaml:5:13: batch_size: \"many\" is not a whole number; write one such as 100",
          "f.yaml:6:7: seed: -1 is out of range; write a whole number from 0 to 4294967295",
          "f.yaml:7:10: threads: 2147483648 is out of range; write a whole number from -2147483648 "
          "to 2147483647",
          "f.yaml:8:8: steps: \"1.5\" is not a whole number; write one such as 100",
          "f.yaml:9:33: normalization.batch.affine: \"yes\" is not a truth value; write true or "
          "false without quotes"));
}

TEST(SpecFileTest, CountsLinesAndColumnsOfJsonInCharacters) {
  // Behind an umlaut (2 bytes), an escaped emoji (a surrogate pair) and a byte order mark.
  const SpecResult result = Yaml(
      "\xEF\xBB\xBF{\"display_name\": \"\xC3\xBC \\uD83D\\uDE00\", \"sed\": 1,\r\n\t\"seed\": "
      "1,\r\n\t\"seed\": 2}");
  EXPECT_EQ(result.document.spec.display_name(), "\xC3\xBC \xF0\x9F\x98\x80");
  EXPECT_THAT(
      Texts(result.violations),
      ElementsAre("f.yaml:1:36: sed: unknown field; did you mean seed?",
                  "f.yaml:3:2: seed: is set twice, first at f.yaml:2:2; keep one of the two"));
}

TEST(SpecFileTest, RefusesDuplicatesInEitherSpelling) {
  EXPECT_THAT(Texts(Yaml("batch_size: 1\nbatchSize: 2\n").violations),
              ElementsAre("f.yaml:2:1: batch_size: is set twice, first at f.yaml:1:1; keep one of "
                          "the two"));
  EXPECT_THAT(Texts(Yaml("labels: {a: 1, b: 2, a: 3}").violations),
              ElementsAre("f.yaml:1:22: labels.a: is set twice, first at f.yaml:1:10; keep one of "
                          "the two"));
}

TEST(SpecFileTest, RefusesTwoMembersOfAOneof) {
  EXPECT_THAT(
      Texts(Yaml("model:\n  mlp: {}\n  cnn: {}\nepochs: 1\nsteps: 5").violations),
      ElementsAre(
          "f.yaml:3:3: model.cnn: cannot be set together with mlp (at f.yaml:2:3); keep one "
          "of the two",
          "f.yaml:5:1: steps: cannot be set together with epochs (at f.yaml:4:1); keep one "
          "of the two"));
  EXPECT_THAT(Yaml("{epochs: 1, steps: null}").violations, IsEmpty());
}

TEST(SpecFileTest, RefusesAForgottenPairOfBraces) {
  EXPECT_THAT(
      Texts(Yaml("normalization:\n  batch:\n").violations),
      ElementsAre("f.yaml:2:3: normalization.batch: has no value, which would leave it out; "
                  "write batch: {} for its defaults, or remove the line"));
  EXPECT_THAT(
      Texts(Yaml("normalization: batch").violations),
      ElementsAre("f.yaml:1:16: normalization: is a single value where a mapping is needed; "
                  "write {batch: {}}"));
}

TEST(SpecFileTest, RefusesWrongShapes) {
  EXPECT_THAT(
      Texts(Yaml("model: {mlp: {hidden: 100}}").violations),
      ElementsAre("f.yaml:1:23: model.mlp.hidden: is a single value where a list is needed; "
                  "write [100]"));
  EXPECT_THAT(
      Texts(Yaml("batch_size: [1]").violations),
      ElementsAre("f.yaml:1:13: batch_size: is a list where a single value is needed; write "
                  "batch_size: VALUE"));
  EXPECT_THAT(
      Texts(Yaml("model: {mlp: {hidden: [1, ~, x, [2]]}}").violations),
      ElementsAre(HasSubstr("f.yaml:1:27: model.mlp.hidden[1]: an element has no value"),
                  HasSubstr("f.yaml:1:30: model.mlp.hidden[2]: \"x\" is not a whole number"),
                  HasSubstr("f.yaml:1:33: model.mlp.hidden[3]: is a list where a single")));
  EXPECT_THAT(
      Texts(Yaml("- a\n- b").violations),
      ElementsAre("f.yaml:1:1: is a list where a mapping is needed; write {display_name: ...}"));
  EXPECT_THAT(
      Texts(Yaml("time_limit: 30").violations),
      ElementsAre("f.yaml:1:13: time_limit: \"30\" is not a duration; write a number with its "
                  "unit, such as \"30s\""));
  EXPECT_THAT(Texts(Yaml("? [a]\n: 1").violations),
              ElementsAre(HasSubstr("a key must be the name")));
}

TEST(SpecFileTest, PointsAtSyntaxErrors) {
  const std::vector<SpecViolation> violations =
      Yaml("{\n  \"model\": {\"mlp\": {}},\n  \"seed\": 1\n").violations;
  ASSERT_THAT(violations, SizeIs(1));
  EXPECT_EQ(violations[0].where.line, 4);
  EXPECT_THAT(violations[0].ToString(), HasSubstr("is neither YAML nor JSON"));
  EXPECT_THAT(Texts(Yaml("a: 1\n---\nb: 2").violations),
              ElementsAre(HasSubstr("f.yaml:3:1: a second document begins here")));
  // A comma, or what would follow it, behind the end: the YAML library would see documents without
  // end there.
  for (const char* text : {"{a: 1},", "[1, 2], 3"}) {
    EXPECT_THAT(Texts(Yaml(text).violations),
                ElementsAre(HasSubstr("stands after the end of the document")))
        << text;
  }
  for (const char* text : {"{\"model\": {}}}\n", "{\"model\": {}}]", "[1, 2]]"}) {
    EXPECT_THAT(Texts(Yaml(text).violations), ElementsAre(HasSubstr("is neither YAML nor JSON")))
        << text;
  }
  EXPECT_THAT(Texts(Yaml("}").violations), SizeIs(1));
  EXPECT_THAT(Texts(Yaml("# nothing\n").violations), ElementsAre(HasSubstr("is empty")));
  EXPECT_THAT(Texts(Yaml("a: 1\nb: \"\xFF\"").violations),
              ElementsAre("f.yaml:2:5: is not UTF-8 text; save the file as UTF-8"));
}

TEST(SpecFileTest, BoundsHostileInput) {
  EXPECT_THAT(Texts(Yaml(std::string(2 << 20, 'a')).violations),
              ElementsAre(HasSubstr("is longer than 1048576 bytes")));
  EXPECT_THAT(Yaml(std::string(100'000, '[')).violations, SizeIs(1));
  EXPECT_THAT(Yaml(std::string(100'000, '{')).violations, SizeIs(1));
  std::string nested = "1";
  for (int i = 0; i < 100; ++i) {
    nested = absl::StrCat("{mlp: ", nested, "}");
  }
  EXPECT_FALSE(Yaml(absl::StrCat("model: ", nested)).violations.empty());
  // A billion laughs: each level repeats the one before ten times.
  std::string laughs =
      "model: {cnn: {blocks: [{channels: 1}], hidden: &a0 [1,1,1,1,1,1,1,1,1,1]}}\nx0: *a0\n";
  for (int i = 1; i <= 9; ++i) {
    absl::StrAppend(&laughs, "x", i, ": &a", i, " [",
                    absl::StrJoin(std::vector<std::string>(10, absl::StrCat("*a", i - 1)), ","),
                    "]\n");
  }
  absl::StrAppend(&laughs, "labels: *a9\nmodel2: *a9");
  EXPECT_FALSE(Yaml(laughs).violations.empty());
  const std::string wide =
      absl::StrCat("blocks: &b {channels: 1}\nmodel: {cnn: {blocks: [",
                   absl::StrJoin(std::vector<std::string>(150'000, "*b"), ","), "]}}");
  EXPECT_THAT(Texts(Yaml(wide).violations).back(), HasSubstr("more than 200000 values"));
  EXPECT_FALSE(Yaml("model: &m {mlp: *m}").violations.empty());  // a cycle
  std::string many;
  for (int i = 0; i < 500; ++i) {
    absl::StrAppend(&many, "zzzzzzzzzz", i, ": 1\n");
  }
  EXPECT_THAT(Texts(Yaml(many).violations), SizeIs(101));
}

TEST(SpecFileTest, ReadsAliases) {
  const JobSpec spec =
      Parsed("model: {cnn: {blocks: [&b {channels: 8, pooling: {}}, *b, {channels: 3}]}}");
  ASSERT_EQ(spec.model().cnn().blocks_size(), 3);
  EXPECT_EQ(spec.model().cnn().blocks(1).channels(), 8);
  EXPECT_TRUE(spec.model().cnn().blocks(1).has_pooling());
}

TEST(SpecFileTest, TextProtoErrorsHaveLineColumnAndHint) {
  const SpecResult result =
      ParseSpec("f.textproto", "model {\n  mlp { hiden: 3 }\n}\n", FormatOfFile("f.textproto"));
  EXPECT_THAT(Texts(result.violations),
              ElementsAre("f.textproto:2:14: unknown field hiden; did you mean hidden?"));
  EXPECT_THAT(
      Texts(ParseSpec("f.pbtxt", "model { mlp {} cnn {} }", SpecFormat::kTextProto).violations),
      ElementsAre(HasSubstr("another member of oneof")));
}

TEST(SpecFileTest, ReadsStandardInputAndExplainsUnreadableFiles) {
  std::istringstream input("{seed: 3}");
  EXPECT_EQ(ReadSpecFile("-", input).document.spec.seed(), 3U);
  EXPECT_THAT(Texts(ReadSpecFile("/nonexistent/spec.json", input).violations),
              ElementsAre(HasSubstr("/nonexistent/spec.json: cannot be read: No such file")));
  EXPECT_THAT(Texts(ReadSpecFile("/", input).violations), ElementsAre(HasSubstr("it is a folder")));
}

TEST(SpecFileTest, LocatesTheServersViolations) {
  for (const bool text : {false, true}) {
    const SpecResult result =
        text ? ParseSpec("f", "model {\n  mlp { hidden: [3,\n    -5] }\n}", SpecFormat::kTextProto)
             : ParseSpec("f", "model:\n  mlp: {hidden: [3,\n    -5]}\n", SpecFormat::kYaml);
    ASSERT_THAT(Texts(result.violations), IsEmpty());
    const absl::Status status = ViolationsToStatus({
        {.field = "model.mlp.hidden[1]", .description = "is negative"},
        {.field = "spec.model.mlp.hidden[7].deep", .description = "is unknown"},
        {.field = "data", .description = "is required"},
    });
    const std::vector<std::string> located = Texts(LocateViolations(status, result.document));
    ASSERT_THAT(located, SizeIs(3));
    // Protobuf's text parser knows only where a list in brackets begins.
    EXPECT_EQ(located[0],
              absl::StrCat(text ? "f:2:9" : "f:3:5", ": model.mlp.hidden[1]: is negative"));
    EXPECT_THAT(located[1], testing::StartsWith("f:2:"));
    EXPECT_EQ(located[2], "data: is required");
  }
}

}  // namespace
}  // namespace normlab::client
