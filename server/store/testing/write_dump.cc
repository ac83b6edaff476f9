// Fills a new database with the jobs of jobs_of_all_versions.h, as the store of this checkout does. How testdata/ was made:
// this file and that header compiled in a checkout of each earlier schema, then `sqlite3 normlab.db .dump` with the
// user_version and application_id added.
#include <cstdio>

#include "gtest/gtest.h"

#include "common/clock.h"
#include "server/store/store.h"
#include "server/store/testing/jobs_of_all_versions.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: write_dump FOLDER\n", stderr);
    return 2;
  }
  ::testing::InitGoogleTest();
  const normlab::common::FakeClock clock;
  auto store = normlab::server::Store::Open({.data_dir = argv[1], .clock = &clock});
  if (!store.ok()) {
    std::fprintf(stderr, "%s\n", store.status().ToString().c_str());
    return 1;
  }
  normlab::server::testing::MakeJobsOfAllVersions(**store);
  (*store)->Close();
  return ::testing::UnitTest::GetInstance()->Failed() ? 1 : 0;
}
