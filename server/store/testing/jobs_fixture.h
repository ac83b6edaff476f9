#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"

#include "common/clock.h"
#include "server/store/store.h"
#include "server/store/testing/harness.h"

namespace normlab::server::testing {

// For tests of a store with jobs, on a clock of their own.
class StoreWithJobs : public ::testing::Test {
 protected:
  StoreWithJobs() { Open(); }

  void Open() {
    store_.reset();
    auto store = Store::Open({.data_dir = folder_.path(), .clock = &clock_});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  // Creates a job one second after the one before.
  void Create(int number,
              const std::string& owner,
              const std::map<std::string, std::string>& labels) {
    v1::Job job = TestJob(TestId(number), owner);
    for (const auto& [label, value] : labels) {
      (*job.mutable_labels())[label] = value;
    }
    clock_.Advance(absl::Seconds(1));
    ASSERT_TRUE(CreateAndWait(*store_, job).ok());
  }

  // Ids of all pages, in order.
  std::vector<std::string> List(const JobFilter& filter, int page_size) {
    std::vector<std::string> names;
    std::string token;
    do {
      const auto page = store_->ListJobs(filter, page_size, token);
      EXPECT_TRUE(page.ok()) << page.status();
      if (!page.ok()) {
        break;
      }
      EXPECT_LE(page->jobs.size(), static_cast<size_t>(page_size));
      for (const v1::Job& job : page->jobs) {
        EXPECT_TRUE(job.has_spec());
        EXPECT_FALSE(job.has_resolved_spec());
        EXPECT_EQ(job.attempts_size(), 0);
        names.push_back(job.name().substr(5));
      }
      token = page->next_page_token;
    } while (!token.empty());
    return names;
  }

  TempFolder folder_;
  common::FakeClock clock_;
  std::unique_ptr<Store> store_;
};

}  // namespace normlab::server::testing
