#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "client/report/report.h"

namespace normlab::client::report {

// Draws charts as picture files, with programs of the system: node for SVG, rsvg-convert besides for PNG. Makes a temporary
// folder and removes it at the end. Not thread-safe.
class PictureWriter {
 public:
  // FAILED_PRECONDITION, naming the Debian package: a program is missing.
  static absl::StatusOr<PictureWriter> Open(bool png);

  PictureWriter(PictureWriter&& other) noexcept;
  PictureWriter& operator=(PictureWriter&&) = delete;
  ~PictureWriter();

  // The SVG of a chart. INTERNAL with what the program said; DEADLINE_EXCEEDED after a minute.
  absl::StatusOr<std::string> Svg(const Chart& chart);
  // The PNG of the same, at two pixels a unit.
  absl::StatusOr<std::string> Png(const Chart& chart);

 private:
  PictureWriter(std::string folder, std::string node, std::string converter)
      : folder_(std::move(folder)), node_(std::move(node)), converter_(std::move(converter)) {}

  absl::Status Run(const std::vector<std::string>& argv);

  std::string folder_;
  std::string node_;
  std::string converter_;  // empty: only SVG was asked for
};

}  // namespace normlab::client::report
