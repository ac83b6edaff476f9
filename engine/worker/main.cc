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
  normlab-worker [--server-ca FILE] --run-file FILE
                            the same with the assignment in a file, which is removed; the authorities of the server's
                            certificate in another
  normlab-worker --helper   looks at data files for the server; requests come on descriptor 3
  normlab-worker --version
)";

}  // namespace

int main(int argc, char** argv) {
  const std::string_view command = argc == 2 ? argv[1] : "";
  if (command == "--run") {
    return normlab::engine::RunCommand(kInheritedDescriptor);
  }
  if (argc == 3 && std::string_view(argv[1]) == "--run-file") {
    return normlab::engine::RunFileCommand(argv[2], "");
  }
  if (argc == 5 && std::string_view(argv[1]) == "--server-ca" &&
      std::string_view(argv[3]) == "--run-file") {
    return normlab::engine::RunFileCommand(argv[4], argv[2]);
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
