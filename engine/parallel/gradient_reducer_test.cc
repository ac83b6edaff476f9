#include "engine/parallel/gradient_reducer.h"

#include <numeric>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/parallel/testing.h"

namespace normlab::engine {
namespace {

// Records what is begun; one rank, so that a sum changes nothing.
class RecordingCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  void AllGather(const void*, void*, size_t) override {}
  void Broadcast(void*, size_t) override {}
  int PlanSum(float* values, int64_t count) override {
    planned.push_back({values, count});
    return static_cast<int>(planned.size()) - 1;
  }
  void StartSum(int sum) override { begun.push_back(sum); }
  void Progress() override { ++progressed; }
  void FinishSums() override { finished = begun.size(); }
  std::unique_ptr<Communicator> Split(int) override { return nullptr; }

  std::vector<std::pair<float*, int64_t>> planned;
  std::vector<int> begun;
  size_t finished = 0;
  int progressed = 0;
};

TEST(GradientReducerTest, BeginsABucketOnceAllItsGradientsAreFinal) {
  RecordingCommunicator communicator;
  std::vector<float> gradients(250);
  GradientReducer reducer(communicator, absl::MakeSpan(gradients), /*bucket_floats=*/100);
  ASSERT_THAT(communicator.planned,
              ::testing::ElementsAre(std::pair(gradients.data() + 150, int64_t{100}),
                                     std::pair(gradients.data() + 50, int64_t{100}),
                                     std::pair(gradients.data(), int64_t{50})));
  for (int pass = 0; pass < 2; ++pass) {
    communicator.begun.clear();
    reducer.Begin();
    reducer.OnGradientsFrom(151);
    EXPECT_TRUE(communicator.begun.empty());
    reducer.OnGradientsFrom(150);
    EXPECT_THAT(communicator.begun, ::testing::ElementsAre(0));
    reducer.OnGradientsFrom(60);
    EXPECT_THAT(communicator.begun, ::testing::ElementsAre(0));
    reducer.OnGradientsFrom(10);
    EXPECT_THAT(communicator.begun, ::testing::ElementsAre(0, 1));
    reducer.Finish();
    EXPECT_THAT(communicator.begun, ::testing::ElementsAre(0, 1, 2));
    EXPECT_EQ(communicator.finished, 3U);
  }
  EXPECT_EQ(communicator.progressed, 8);
}

TEST(GradientReducerTest, SumsOverRanksWhateverTheBucketsAndTheOverlap) {
  constexpr int64_t kCount = 1003;
  for (const bool overlap : {false, true}) {
    for (const int64_t bucket : {int64_t{64}, int64_t{5000}}) {
      testing::RunRanks(3, [&](Communicator& communicator) {
        std::vector<float> gradients(kCount);
        std::iota(gradients.begin(), gradients.end(),
                  static_cast<float>(1000 * communicator.rank()));
        GradientReducer reducer(communicator, absl::MakeSpan(gradients), bucket, overlap);
        reducer.Begin();
        for (const int64_t offset : {900, 500, 0}) {
          reducer.OnGradientsFrom(offset);
        }
        reducer.Finish();
        for (int64_t i = 0; i < kCount; ++i) {
          ASSERT_EQ(gradients[static_cast<size_t>(i)], static_cast<float>(3000 + 3 * i));
        }
      });
    }
  }
}

}  // namespace
}  // namespace normlab::engine
