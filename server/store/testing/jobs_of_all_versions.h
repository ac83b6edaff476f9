#pragma once

#include <limits>
#include <string>

#include "gtest/gtest.h"

#include "server/store/store.h"
#include "server/store/testing/harness.h"

// Jobs, points and attempts that every version of the store can make in the same way: what the databases of earlier
// schemas in testdata/ were filled with, by the store of their time, and what today's store is compared with. Uses only
// what the oldest harness has, because the dumps were made by compiling this file in checkouts of those versions
// (write_dump.cc).
namespace normlab::server::testing {

// `store` is empty and has a FakeClock.
inline void MakeJobsOfAllVersions(Store& store) {
  // Ended, in its second attempt, with a hole-free curve over both, a NaN and log lines.
  v1::Job ended = TestJob(TestId(1));
  ended.set_display_name("ended");
  (*ended.mutable_labels())["study"] = "upgrade";
  (*ended.mutable_labels())["cell"] = "1";
  ASSERT_TRUE(CreateAndWait(store, ended, "request-1", std::string(32, 'h')).ok());
  const AttemptKey first = StartAttempt(store, TestId(1));
  Reporter reporter;
  reporter.Define(1, "train/loss").Define(2, "test/accuracy").Log("begins");
  for (int64_t i = 0; i < 40; ++i) {
    reporter.Block({1}, {3 * i, 3 * i + 1, 3 * i + 2}, {2.5 / (1.0 + i), 0.1 * i, -1.0 / 3 * i});
    reporter.Block({2}, {3 * i}, {i == 7 ? std::numeric_limits<double>::quiet_NaN() : 0.01 * i});
    ASSERT_TRUE(AppendAndWait(store, first, reporter.Take()).ok());
  }
  reporter.Log("ends").Outcome(v1::Job::SUCCEEDED, 120);
  ASSERT_TRUE(AppendAndWait(store, first, reporter.Take()).ok());

  // Running, with points.
  v1::Job running = TestJob(TestId(2), "ann");
  (*running.mutable_labels())["study"] = "upgrade";
  ASSERT_TRUE(CreateAndWait(store, running).ok());
  const AttemptKey live = StartAttempt(store, TestId(2));
  Reporter other;
  other.Define(1, "train/loss").Block({1}, {0, 1, 2, 3, 4}, {5, 4.5, 4.25, 4.125, 4.0625});
  ASSERT_TRUE(AppendAndWait(store, live, other.Take()).ok());

  // Waiting, and failed.
  ASSERT_TRUE(CreateAndWait(store, TestJob(TestId(3), "ann")).ok());
  ASSERT_TRUE(CreateAndWait(store, TestJob(TestId(4))).ok());
  const AttemptKey failing = StartAttempt(store, TestId(4));
  ASSERT_TRUE(AppendAndWait(store, failing, Reporter().Outcome(v1::Job::FAILED).Take()).ok());
}

}  // namespace normlab::server::testing
