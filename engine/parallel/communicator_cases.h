#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "engine/parallel/communicator.h"

namespace normlab::engine::testing {

// A number that a sum in another order rounds differently, of rank, place and round.
inline float Contribution(int rank, int64_t place, int round) {
  return static_cast<float>((rank * 37 + round * 11 + place) % 101 - 50) *
         (rank % 2 == 0 ? 1.0F : 1.0e-7F);
}

// What is promised of any communicator, checked from the inside of every rank: what went wrong, or
// nothing. Sums of odd lengths (also shorter than the ranks are many), begun together and one by
// one, several rounds of them; gathering; broadcasting; groups.
inline std::string CheckCommunicator(Communicator& communicator) {
  const int rank = communicator.rank();
  const int size = communicator.size();
  std::array<std::vector<float>, 3> data = {std::vector<float>(100003), std::vector<float>(1),
                                            std::vector<float>(257)};
  std::array<int, 3> sums = {};
  for (size_t i = 0; i < data.size(); ++i) {
    sums[i] = communicator.PlanSum(data[i].data(), static_cast<int64_t>(data[i].size()));
  }
  for (int round = 0; round < 3; ++round) {
    for (size_t i = 0; i < data.size(); ++i) {
      for (size_t n = 0; n < data[i].size(); ++n) {
        data[i][n] = Contribution(rank, static_cast<int64_t>(n), round);
      }
      communicator.StartSum(sums[i]);
      communicator.Progress();
      if (round == 2) {
        communicator.FinishSums();
      }
    }
    communicator.FinishSums();
    for (const std::vector<float>& values : data) {
      for (size_t n = 0; n < values.size(); ++n) {
        float expected = Contribution(0, static_cast<int64_t>(n), round);
        for (int from = 1; from < size; ++from) {
          expected += Contribution(from, static_cast<int64_t>(n), round);
        }
        if (values[n] != expected) {
          return absl::StrCat("sum of ", values.size(), " in round ", round, ": value ", n, " is ",
                              values[n], " instead of ", expected);
        }
      }
    }
    const std::array<double, 2> mine = {rank + 0.5, round * 10.0};
    std::vector<std::array<double, 2>> all(static_cast<size_t>(size));
    communicator.AllGather(mine.data(), all.data(), sizeof(mine));
    int64_t word = rank == 0 ? 4711 + round : -1;
    communicator.Broadcast(&word, sizeof(word));
    for (int from = 0; from < size; ++from) {
      if (all[static_cast<size_t>(from)] != std::array<double, 2>{from + 0.5, round * 10.0}) {
        return absl::StrCat("gathered ", all[static_cast<size_t>(from)][0], " from rank ", from);
      }
    }
    if (word != 4711 + round) {
      return absl::StrCat("broadcast gave ", word);
    }
  }
  for (int group_size = 1; group_size <= size; ++group_size) {
    if (size % group_size != 0) {
      continue;
    }
    const std::unique_ptr<Communicator> group = communicator.Split(group_size);
    float value = static_cast<float>(1 << rank);
    const int sum = group->PlanSum(&value, 1);
    group->StartSum(sum);
    group->FinishSums();
    float expected = 0;
    for (int member = 0; member < group_size; ++member) {
      expected += static_cast<float>(1 << (rank / group_size * group_size + member));
    }
    if (value != expected || group->rank() != rank % group_size || group->size() != group_size) {
      return absl::StrCat("group of ", group_size, ": rank ", group->rank(), " of ", group->size(),
                          " sums to ", value, " instead of ", expected);
    }
  }
  return "";
}

}  // namespace normlab::engine::testing
