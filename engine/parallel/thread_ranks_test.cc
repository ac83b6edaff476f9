#include "engine/parallel/thread_ranks.h"

#include <gtest/gtest.h>

#include "engine/parallel/communicator_cases.h"
#include "engine/parallel/segments.h"
#include "engine/parallel/testing.h"

namespace normlab::engine {
namespace {

TEST(ThreadRanksTest, KeepsThePromisesOfACommunicator) {
  for (const int size : {1, 2, 3, 4, 6}) {
    std::vector<std::string> problems(static_cast<size_t>(size));
    testing::RunRanks(size, [&](Communicator& communicator) {
      problems[static_cast<size_t>(communicator.rank())] = testing::CheckCommunicator(communicator);
    });
    for (const std::string& problem : problems) {
      EXPECT_EQ(problem, "") << size << " ranks";
    }
  }
}

TEST(SegmentsTest, CoverEverythingOnce) {
  for (const int64_t count : {0, 1, 15, 16, 17, 1000, 100003}) {
    for (const int size : {1, 2, 3, 7, 64}) {
      int64_t next = 0;
      for (int rank = 0; rank < size; ++rank) {
        const Segment segment = SegmentOf(count, rank, size);
        EXPECT_EQ(segment.first, next);
        EXPECT_GE(segment.count, 0);
        EXPECT_LE(segment.count, count / size + 16 + 16);
        next = segment.first + segment.count;
      }
      EXPECT_EQ(next, count) << count << " over " << size;
    }
  }
}

}  // namespace
}  // namespace normlab::engine
