#include "server/executor/rank_launch.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace normlab::server {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

const RankPrograms kPrograms = {.mpirun = "/usr/bin/mpirun", .worker = "/opt/normlab-worker-mpi"};

TEST(RankLaunchTest, EveryRankIsBoundToCoresOfItsOwn) {
  const std::string command =
      absl::StrJoin(LocalRankCommand(kPrograms, 3, 2, {0, 1, 4, 5, 2, 3}), " ");
  EXPECT_THAT(command, HasSubstr("--bind-to none"));
  EXPECT_THAT(command, EndsWith("-np 1 -x OMP_PLACES={0},{1} /opt/normlab-worker-mpi --run : "
                                "-np 1 -x OMP_PLACES={4},{5} /opt/normlab-worker-mpi --run : "
                                "-np 1 -x OMP_PLACES={2},{3} /opt/normlab-worker-mpi --run"));
  EXPECT_EQ(command.find("--allow-run-as-root") != std::string::npos, geteuid() == 0);
}

TEST(RankLaunchTest, WithoutPinningThereIsOneKindOfRank) {
  const std::string command = absl::StrJoin(LocalRankCommand(kPrograms, 3, 2, {}), " ");
  EXPECT_THAT(command, EndsWith("-np 3 /opt/normlab-worker-mpi --run"));
  EXPECT_THAT(command, Not(HasSubstr("OMP_PLACES")));
}

TEST(RankLaunchTest, WhatIsMissingIsSaid) {
  const std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) / absl::StrCat("ranks.", getpid());
  std::filesystem::create_directories(folder);
  const std::string worker = (folder / "normlab-worker").string();
  EXPECT_THAT(std::string(FindRankPrograms(worker).status().message()),
              HasSubstr("install normlab-worker-mpi beside normlab-worker"));
  std::ofstream(folder / "normlab-worker-mpi") << "#!/bin/sh\n";
  chmod((folder / "normlab-worker-mpi").c_str(), 0755);
  const auto found = FindRankPrograms(worker);
  if (found.ok()) {
    EXPECT_EQ(found->worker, (folder / "normlab-worker-mpi").string());
    EXPECT_THAT(found->mpirun, HasSubstr("mpirun"));
  } else {
    EXPECT_THAT(std::string(found.status().message()), HasSubstr("openmpi-bin"));
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace normlab::server
