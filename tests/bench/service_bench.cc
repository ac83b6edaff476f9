// Measures the promises of the service on this machine, against the real normlabd, and prints the table. Needs the release
// build with tests; see tests/bench/service.
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "tests/bench/service_rows.h"
#include "tests/bench/service_server.h"

#include "CLI/CLI.hpp"

namespace normlab::bench {

const std::vector<Row>& AllRows() {
  static const auto& rows = *new std::vector<Row>{
      {"create", RunCreate},      {"ingest", RunIngestAndReplay},
      {"cost", RunReportingCost}, {"live", RunLive},
      {"exact", RunExact},        {"stalled", RunStalled},
      {"restart", RunRestart},    {"list", RunList},
      {"curve", RunCurve},        {"workers", RunWorkers},
  };
  return rows;
}

double Quantile(std::vector<double>& values, double share) {
  if (values.empty()) {
    return 0;
  }
  std::sort(values.begin(), values.end());
  const auto index = static_cast<size_t>(share * static_cast<double>(values.size()));
  return values[std::min(index, values.size() - 1)];
}

int Main(const RowOptions& options, const std::vector<std::string>& names) {
  bool kept = true;
  std::cout << absl::StrFormat("%-58s %-26s %-22s %s\n", "what", "measured", "promised",
                               "fsync p50");
  for (const Row& row : AllRows()) {
    if (!names.empty() && std::find(names.begin(), names.end(), row.name) == names.end()) {
      continue;
    }
    // Close to the measurement: disks of shared machines have their moods.
    const absl::StatusOr<absl::Duration> fsync = FsyncMedian(options.folder);
    std::vector<Measured> table;
    const absl::Status status = row.run(options, table);
    for (const Measured& line : table) {
      kept = kept && line.kept;
      std::cout << absl::StrFormat(
                       "%-58s %-26s %-22s %s%s", line.what, line.measured, line.at_least,
                       line.commit_bound && fsync.ok()
                           ? absl::StrFormat("%.2f ms", absl::ToDoubleMilliseconds(*fsync))
                           : "",
                       line.kept ? "" : "  NOT KEPT")
                << std::endl;
    }
    if (!status.ok()) {
      std::cerr << row.name << ": " << status << "\n";
      return 2;
    }
  }
  return kept || options.quick ? 0 : 1;
}

}  // namespace normlab::bench

int main(int argc, char** argv) {
  CLI::App app("Measures the promises of the service against the real normlabd");
  normlab::bench::RowOptions options{.folder = std::filesystem::temp_directory_path().string()};
  std::vector<std::string> names;
  std::vector<std::string> known;
  for (const normlab::bench::Row& row : normlab::bench::AllRows()) {
    known.push_back(row.name);
  }
  app.add_option("--rows", names, "Only these: " + absl::StrJoin(known, ","))
      ->delimiter(',')
      ->check(CLI::IsMember(known));
  app.add_option("--folder", options.folder, "On the disk to be measured")
      ->check(CLI::ExistingDirectory);
  app.add_flag("--quick", options.quick,
               "Small sizes, to see that it works; exit 0 whatever comes out");
  CLI11_PARSE(app, argc, argv);
  return normlab::bench::Main(options, names);
}
