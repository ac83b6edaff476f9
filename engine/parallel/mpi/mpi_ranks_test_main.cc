// One rank of the tests of MpiRanks, started by mpirun (ctest: engine_parallel_mpi_*): checks the promises of a
// communicator from inside. Exit code 1 and a sentence when one is broken.
#include <cstdio>
#include <string>

#include "engine/parallel/communicator_cases.h"
#include "engine/parallel/mpi/mpi_ranks.h"

int main() {
  const auto ranks = normlab::engine::MpiRanks::Start();
  if (!ranks.ok()) {
    std::fprintf(stderr, "%s\n", ranks.status().ToString().c_str());
    return 1;
  }
  const auto world = (*ranks)->World();
  const std::string problem = normlab::engine::testing::CheckCommunicator(*world);
  if (!problem.empty()) {
    std::fprintf(stderr, "rank %d of %d: %s\n", world->rank(), world->size(), problem.c_str());
    return 1;
  }
  std::printf("rank %d of %d keeps all promises\n", world->rank(), world->size());
  return 0;
}
