#include "server/store/segments.h"

#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"

#include "common/random.h"

namespace normlab::server {
namespace {

v1::Segment Log(const std::string& text) {
  v1::Segment segment;
  segment.mutable_log()->set_text(text);
  return segment;
}

v1::Segment Block(const std::vector<uint32_t>& series, int64_t first_step, int rows) {
  v1::Segment segment;
  v1::MetricBlock& block = *segment.mutable_metrics();
  block.mutable_series()->Add(series.begin(), series.end());
  for (int row = 0; row < rows; ++row) {
    block.add_steps(first_step + row);
    block.add_elapsed_us(7 * (first_step + row));
    for (const uint32_t id : series) {
      block.add_values(static_cast<double>(first_step + row) + 0.001 * id);
    }
  }
  return segment;
}

// Records one by one, as text.
std::vector<std::string> Unpack(const std::vector<v1::RecordBatch>& batches) {
  std::vector<std::string> records;
  for (const v1::RecordBatch& batch : batches) {
    for (const v1::Segment& segment : batch.segments()) {
      if (!segment.has_metrics()) {
        records.push_back(segment.ShortDebugString());
        continue;
      }
      const v1::MetricBlock& block = segment.metrics();
      for (int row = 0; row < block.steps_size(); ++row) {
        std::vector<int> columns(block.series_size());
        for (int i = 0; i < block.series_size(); ++i) {
          columns[i] = i;
        }
        records.push_back(Slice(block, row, row + 1, columns).ShortDebugString());
      }
    }
  }
  return records;
}

std::vector<v1::Segment> RandomSegments(const common::RandomStream& random, int trial) {
  std::vector<v1::Segment> segments;
  int64_t step = 0;
  for (int i = 0; i < 30; ++i) {
    const auto kind = random.Below(3, trial, 2 * i);
    const int size = static_cast<int>(random.Below(40, trial, 2 * i + 1)) + 1;
    if (kind == 0) {
      segments.push_back(Log(std::string(size, 'x')));
    } else {
      segments.push_back(
          Block(kind == 1 ? std::vector<uint32_t>{3} : std::vector<uint32_t>{1, 5, 2}, step, size));
      step += size;
    }
  }
  return segments;
}

TEST(SegmentsTest, PackKeepsEveryRecordInOrderAndBoundsChunks) {
  const common::RandomStream random(11, "segments");
  for (int trial = 0; trial < 50; ++trial) {
    SCOPED_TRACE(trial);
    std::vector<v1::Segment> segments = RandomSegments(random, trial);
    std::vector<v1::RecordBatch> one(1);
    for (const v1::Segment& segment : segments) {
      *one[0].add_segments() = segment;
    }
    const int64_t limit = 300 + 100 * trial;
    const std::vector<v1::RecordBatch> packed = Pack(std::move(segments), 42, limit);
    EXPECT_EQ(Unpack(packed), Unpack(one));
    int64_t next = 42;
    for (const v1::RecordBatch& batch : packed) {
      EXPECT_EQ(batch.first_sequence(), next);
      next += RecordCount(batch);
      EXPECT_LE(static_cast<int64_t>(batch.ByteSizeLong()), limit);
    }
    EXPECT_EQ(next - 42, RecordCount(one[0]));
  }
}

TEST(SegmentsTest, TrimFrontAndKeepFrontAtEveryPosition) {
  const common::RandomStream random(12, "segments");
  std::vector<v1::RecordBatch> packed = Pack(RandomSegments(random, 0), 5, 1 << 20);
  ASSERT_EQ(packed.size(), 1u);
  const std::vector<std::string> all = Unpack(packed);
  for (int64_t count = 0; count <= RecordCount(packed[0]); ++count) {
    v1::RecordBatch trimmed = packed[0];
    TrimFront(trimmed, count);
    EXPECT_EQ(trimmed.first_sequence(), 5 + count);
    EXPECT_EQ(Unpack({trimmed}), std::vector<std::string>(all.begin() + count, all.end()));
    if (count > 0) {
      v1::RecordBatch front = packed[0];
      KeepFront(front, count);
      EXPECT_EQ(front.first_sequence(), 5);
      EXPECT_EQ(Unpack({front}), std::vector<std::string>(all.begin(), all.begin() + count));
    }
  }
}

TEST(SegmentsTest, AppendJoinsBlocksOfTheSameSeriesOnly) {
  v1::RecordBatch batch;
  AppendSegment(batch, Block({1, 2}, 0, 3));
  AppendSegment(batch, Block({1, 2}, 3, 2));
  AppendSegment(batch, Block({2, 1}, 5, 1));
  AppendSegment(batch, Log("a"));
  AppendSegment(batch, Block({2, 1}, 6, 1));
  EXPECT_EQ(batch.segments_size(), 4);
  EXPECT_EQ(RecordCount(batch), 8);
  EXPECT_EQ(StepsOf(batch).first, 0);
  EXPECT_EQ(StepsOf(batch).last, 6);
}

}  // namespace
}  // namespace normlab::server
