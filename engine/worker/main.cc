// normlab-worker: one training run, or the server's helper, in a process of its own.

#include <unistd.h>

#include <iostream>
#include <string_view>

#include "common/worker_exit.h"
#include "engine/worker/helper_command.h"
#include "engine/worker/process_setup.h"
#include "engine/worker/run_command.h"

namespace {

// Where normlabd leaves what it has to say.
constexpr int kInheritedDescriptor = 3;

constexpr std::string_view kUsage =
    R"(normlab-worker trains one job of a Normlab server. The server, normlabd, starts it; there is nothing to start by hand.
To train something, start a server with `normlabd --data_dir=DIR` and submit a job with `normlab submit SPEC`.

  normlab-worker --run      one attempt of a job; the assignment comes on descriptor 3
  normlab-worker --helper   looks at data files for the server; requests come on descriptor 3
  normlab-worker --version
)";

}  // namespace

int main(int argc, char** argv) {
  const std::string_view command = argc == 2 ? argv[1] : "";
  if (command == "--run") {
    return normlab::engine::RunCommand(kInheritedDescriptor);
  }
  if (command == "--helper") {
    normlab::engine::SetUpProcess("normlab-helper");
    return normlab::engine::RunHelperCommand(kInheritedDescriptor);
  }
  if (command == "--version") {
    std::cout << "normlab-worker " << NORMLAB_VERSION << "\n";
    return normlab::common::kExitDone;
  }
  std::cerr << kUsage;
  return normlab::common::kExitUsage;
}
