#include "client/lib/spec_override.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "google/protobuf/text_format.h"
#include "google/protobuf/util/message_differencer.h"
#include "gtest/gtest.h"

#include "client/lib/spec_file.h"

namespace normlab::client {
namespace {

using normlab::v1::JobSpec;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> Texts(const std::vector<SpecViolation>& violations) {
  std::vector<std::string> texts;
  for (const SpecViolation& violation : violations) {
    texts.push_back(violation.ToString());
  }
  return texts;
}

void ExpectSpec(const JobSpec& spec, const std::string& expected_text) {
  JobSpec expected;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(expected_text, &expected));
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(spec, expected))
      << spec.DebugString();
}

SpecResult Set(absl::string_view text, const std::vector<std::string>& assignments) {
  SpecResult result = ParseSpec("f.yaml", text, SpecFormat::kYaml);
  for (const std::string& assignment : assignments) {
    ApplyAssignment(assignment, result.document, result.violations);
  }
  return result;
}

TEST(SpecOverrideTest, SetsFieldsOfEveryKind) {
  const SpecResult result = Set(
      "{}",
      {"model=mlp", "model.mlp.hidden=[5, 7]", "model.mlp.hidden[1]=9", "model.mlp.hidden[2]=11",
       "model.mlp.activation=TANH", "normalization=batch", "normalization.batch.epsilon=1e-3",
       "data=fashionMnist", "data.fashion_mnist.path=a=b: c", "display_name=  null ",
       "labels.study=explosion=1", "labels.study=2", "labels.a.b=x", "time_limit=90s",
       "optimizer={sgd: {momentum: 0.5}}", "steps=10", "epochs=2", "seed=4", "seed=null"});
  EXPECT_THAT(Texts(result.violations), IsEmpty());
  ExpectSpec(result.document.spec, R"(
    model { mlp { hidden: 5 hidden: 9 hidden: 11 activation: TANH } }
    normalization { batch { epsilon: 1e-3 } }
    data { fashion_mnist { path: "a=b: c" } }
    display_name: "  null "
    labels { key: "study" value: "2" } labels { key: "a.b" value: "x" }
    time_limit { seconds: 90 }
    optimizer { sgd { momentum: 0.5 } }
    epochs: 2)");
}

TEST(SpecOverrideTest, SelectingAMemberResetsItAndKeepsTheRest) {
  const SpecResult result =
      Set("{data: {mnist: {path: x}, scaling: UNIT}, normalization: {batch: {epsilon: 1}}}",
          {"data=fashion_mnist", "normalization=batch"});
  EXPECT_THAT(Texts(result.violations), IsEmpty());
  ExpectSpec(result.document.spec,
             "data { fashion_mnist {} scaling: UNIT } normalization { batch {} }");
}

TEST(SpecOverrideTest, ReachesIntoLists) {
  const SpecResult result =
      Set("{model: {cnn: {blocks: [{channels: 3}]}}}",
          {"model.cnn.blocks[0].kernel=5", "model.cnn.blocks[1].channels=8",
           "model.cnn.blocks[1].pooling={kind: AVERAGE}", "model.cnn.blocks[0].pooling={}"});
  EXPECT_THAT(Texts(result.violations), IsEmpty());
  ExpectSpec(result.document.spec, R"(model { cnn {
    blocks { channels: 3 kernel: 5 pooling {} }
    blocks { channels: 8 pooling { kind: AVERAGE } } } })");
}

TEST(SpecOverrideTest, ExplainsWhatIsWrong) {
  const SpecResult result =
      Set("{}", {"seed", "=3", "sed=3", "seed=x", "seed.x=1", "seed[0]=1", "model.mlp.hidden[3]=1",
                 "model.mlp.hidden[a]=1", "normalization=bach", "model.cnn.blocks.kernel=3",
                 "model.mlp.hidden=[1", "labels=5"});
  EXPECT_THAT(
      Texts(result.violations),
      ElementsAre(
          HasSubstr("--set seed: is not PATH=VALUE"), HasSubstr("--set =3: is not PATH=VALUE"),
          "--set sed=3: sed: unknown field; did you mean seed?",
          "--set seed=x: seed: \"x\" is not a whole number; write one such as 100",
          "--set seed.x=1: seed: is a single value and has no fields; end the path here",
          "--set seed[0]=1: seed: is not a list; remove the index",
          "--set model.mlp.hidden[3]=1: model.mlp.hidden[3]: the list has 0 elements; the next "
          "index "
          "is 0",
          "--set model.mlp.hidden[a]=1: model.mlp.hidden[a]: the index is malformed; write NAME[0]",
          "--set normalization=bach: normalization: unknown kind bach; did you mean batch?",
          "--set model.cnn.blocks.kernel=3: model.cnn.blocks: is a list; write blocks[0]",
          HasSubstr("model.mlp.hidden: the value is neither YAML nor JSON"),
          HasSubstr("--set labels=5: labels: is a single value where a mapping is needed")));
}

}  // namespace
}  // namespace normlab::client
