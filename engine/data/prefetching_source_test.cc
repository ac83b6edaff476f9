#include "engine/data/prefetching_source.h"

#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "engine/data/testing.h"
#include "engine/spec/load_plan.h"
#include "engine/spec/resolve.h"

namespace normlab::engine {
namespace {

constexpr DatasetShape kShape = {
    .channels = 2, .height = 9, .width = 7, .classes = 5, .train_examples = 61, .test_examples = 3};

struct Batch {
  std::vector<float> inputs;
  std::vector<int32_t> labels;
  std::vector<float> targets;
  bool operator==(const Batch&) const = default;
};

class PrefetchingSourceTest : public ::testing::TestWithParam<bool> {
 protected:
  PrefetchingSourceTest()
      : path_(::testing::TempDir() + "/prefetching_source_test." + std::to_string(getpid()) + "." +
              std::to_string(static_cast<int>(GetParam())) + ".nldata") {
    DecodedDataset data = testing::MakePatterns(kShape, 6);
    if (GetParam()) {  // real-valued targets
      data.shape.classes = 0;
      data.shape.targets = 3;
      for (DecodedPart* part : {&data.train, &data.test}) {
        part->targets.resize(3 * part->labels.size());
        for (size_t i = 0; i < part->targets.size(); ++i) {
          part->targets[i] = static_cast<float>(i) / 7;
        }
        part->labels.clear();
      }
    }
    EXPECT_TRUE(WriteDataset(data, path_).ok());
    auto mapped = MappedDataset::Open(path_);
    EXPECT_TRUE(mapped.ok());
    mapped_ = std::make_unique<MappedDataset>(*std::move(mapped));
  }
  ~PrefetchingSourceTest() override { std::filesystem::remove(path_); }

  static v1::JobSpec Spec() {
    v1::JobSpec spec;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
        "model { mlp {} } batch_size: 8 epochs: 4 seed: 12 data { mnist {} last_batch: KEEP "
        "augmentation { pad_and_crop: 2 flip: true cutout: 3 } }",
        &spec));
    return Resolve(spec);
  }

  template <typename Source>
  static Batch Load(Source& source, int64_t step) {
    const auto count = static_cast<size_t>(source.BatchSizeOf(step));
    Batch batch;
    batch.inputs.resize(count * 126);
    batch.labels.resize(GetParam() ? 0 : count);
    batch.targets.resize(count * (GetParam() ? 3 : 5));
    source.LoadTraining(step, absl::MakeSpan(batch.inputs), absl::MakeSpan(batch.labels),
                        absl::MakeSpan(batch.targets));
    return batch;
  }

  const std::string path_;
  std::unique_ptr<MappedDataset> mapped_;
};

TEST_P(PrefetchingSourceTest, GivesTheSameBytesAsLoadingAtOnce) {
  BatchSource plain(Spec(), *mapped_);
  PrefetchingSource with(Spec(), *mapped_, /*use_thread=*/true);
  PrefetchingSource without(Spec(), *mapped_, /*use_thread=*/false);
  ASSERT_EQ(plain.length().total_steps, 32);
  for (int64_t step = 0; step < 32; ++step) {
    const Batch expected = Load(plain, step);
    EXPECT_EQ(Load(with, step), expected) << step;
    EXPECT_EQ(Load(without, step), expected) << step;
  }
}

TEST_P(PrefetchingSourceTest, BeginsAndJumpsAnywhere) {
  BatchSource plain(Spec(), *mapped_);
  for (int64_t begin = 0; begin < 32; begin += 5) {
    PrefetchingSource source(Spec(), *mapped_, /*use_thread=*/true);
    for (int64_t step = begin; step < std::min<int64_t>(begin + 3, 32); ++step) {
      EXPECT_EQ(Load(source, step), Load(plain, step)) << step;
    }
  }
  PrefetchingSource source(Spec(), *mapped_, /*use_thread=*/true);
  for (const int64_t step : {3, 4, 4, 4, 3, 4, 31, 30, 31, 31, 0, 17, 18, 2, 3, 31, 0, 1}) {
    EXPECT_EQ(Load(source, step), Load(plain, step)) << step;
  }
}

TEST_P(PrefetchingSourceTest, TestExamplesAreLoadedBesideIt) {
  PrefetchingSource source(Spec(), *mapped_, /*use_thread=*/true);
  Batch first;
  for (int64_t step = 0; step < 20; ++step) {
    Load(source, step);
    Batch batch;
    batch.inputs.resize(2 * 126);
    batch.targets.resize(2 * (GetParam() ? 3 : 5));
    source.source().LoadTest(1, absl::MakeSpan(batch.inputs), {}, absl::MakeSpan(batch.targets));
    if (step == 0) {
      first = batch;
    }
    EXPECT_EQ(batch, first);
  }
}

TEST_P(PrefetchingSourceTest, CanBeGivenUpAtAnyTime) {
  for (int64_t steps = 0; steps < 40; ++steps) {
    PrefetchingSource source(Spec(), *mapped_, /*use_thread=*/true);
    for (int64_t step = 0; step < steps % 3; ++step) {
      Load(source, step);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(ClassesAndTargets, PrefetchingSourceTest, ::testing::Bool());

}  // namespace
}  // namespace normlab::engine
