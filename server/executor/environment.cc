#include <unistd.h>

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

#include "server/executor/local_process.h"

namespace normlab::server {
namespace {

// Long enough to bridge the gap between two kernels of one step, short enough that a thread that
// waits for an evaluation, a checkpoint or the network sleeps after a few milliseconds.
constexpr int kSpinCount = 200'000;

bool PassedOn(absl::string_view variable) {
  for (const absl::string_view prefix :
       {"ASAN_OPTIONS=", "UBSAN_OPTIONS=", "TSAN_OPTIONS=", "LSAN_OPTIONS=", "LLVM_PROFILE_FILE=",
        "GCOV_PREFIX", "LD_LIBRARY_PATH=", "ONEDNN_", "DNNL_", "GRPC_VERBOSITY=", "GRPC_TRACE="}) {
    if (absl::StartsWith(variable, prefix)) {
      return true;
    }
  }
  return false;
}

}  // namespace

std::string OpenMpPlaces(const std::vector<int>& cores) {
  return absl::StrJoin(cores, ",",
                       [](std::string* out, int core) { absl::StrAppend(out, "{", core, "}"); });
}

std::vector<std::string> WorkerEnvironment(int threads, const std::vector<int>& cores) {
  std::vector<std::string> environment = {
      "PATH=/usr/local/bin:/usr/bin:/bin",
      "LANG=C.UTF-8",
      absl::StrCat("OMP_NUM_THREADS=", threads),
      // The same number of threads in every region: the order of summation, so the results, depend
      // on it.
      "OMP_DYNAMIC=false",
  };
  if (cores.empty()) {
    environment.push_back("OMP_WAIT_POLICY=passive");
  } else {
    environment.push_back("OMP_PROC_BIND=true");
    environment.push_back(absl::StrCat("OMP_PLACES=", OpenMpPlaces(cores)));
    environment.push_back("OMP_WAIT_POLICY=active");
    environment.push_back(absl::StrCat("GOMP_SPINCOUNT=", kSpinCount));
  }
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    if (PassedOn(*variable)) {
      environment.emplace_back(*variable);
    }
  }
  return environment;
}

}  // namespace normlab::server
