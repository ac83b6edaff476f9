// report_sample sample|hostile|big html|md|csv|svg|png PATH: writes a made-up report.
#include <iostream>
#include <string>

#include "client/report/testing/sample_report.h"
#include "client/report/writers.h"

int main(int argc, char** argv) {
  namespace report = normlab::client::report;
  if (argc != 4) {
    std::cerr << "usage: report_sample sample|hostile|big html|md|csv|svg|png PATH\n";
    return 2;
  }
  const std::string kind = argv[1];
  constexpr int kLines = 200;
  constexpr int kPoints = 2000;
  const report::Report made = kind == "sample"    ? report::SampleReport()
                              : kind == "hostile" ? report::HostileReport()
                                                  : report::BigReport(kLines, kPoints);
  const auto format = report::ParseFormat(argv[2]);
  if (!format.ok()) {
    std::cerr << format.status().message() << "\n";
    return 2;
  }
  const auto written = report::WriteReport(made, *format, argv[3]);
  if (!written.ok()) {
    std::cerr << written.status().message() << "\n";
    return 1;
  }
  std::cout << written->to_stdout;
  return 0;
}
