#include "client/report/picture_writer.h"

#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "client/report/assets.h"
#include "client/report/vega_chart.h"
#include "common/atomic_file.h"
#include "common/status_macros.h"
#include "common/subprocess.h"

namespace normlab::client::report {
namespace {

constexpr int kPatienceMs = 60'000;

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// The path of a program in PATH; empty: it is not there.
std::string FindProgram(const std::string& name) {
  for (const absl::string_view folder :
       absl::StrSplit(Environment("PATH"), ':', absl::SkipEmpty())) {
    const std::string path = absl::StrCat(folder, "/", name);
    if (access(path.c_str(), X_OK) == 0) {
      return path;
    }
  }
  return "";
}

absl::Status Missing(const std::string& program, const std::string& package) {
  return absl::FailedPreconditionError(
      absl::StrCat("drawing picture files needs the program ", program,
                   ", which is not in PATH: install it (Debian: apt-get install ", package,
                   "), or write --format html, whose charts any browser draws"));
}

}  // namespace

absl::StatusOr<PictureWriter> PictureWriter::Open(bool png) {
  const std::string node = FindProgram("node");
  if (node.empty()) {
    return Missing("node", "nodejs");
  }
  const std::string converter = png ? FindProgram("rsvg-convert") : "";
  if (png && converter.empty()) {
    return Missing("rsvg-convert", "librsvg2-bin");
  }
  std::error_code error;
  const std::filesystem::path temporary = std::filesystem::temp_directory_path(error);
  std::string folder = absl::StrCat(error ? "/tmp" : temporary.string(), "/normlab-report-XXXXXX");
  if (mkdtemp(folder.data()) == nullptr) {
    return absl::InternalError(absl::StrCat("cannot make a temporary folder like ", folder,
                                            "; set TMPDIR to a folder that can be written to"));
  }
  PictureWriter writer(folder, node, converter);
  NORMLAB_RETURN_IF_ERROR(common::WriteFileAtomically(absl::StrCat(folder, "/draw.js"),
                                                      absl::StrCat(kVegaScript, kDrawSvgScript)));
  return writer;
}

PictureWriter::PictureWriter(PictureWriter&& other) noexcept
    : folder_(std::exchange(other.folder_, "")),
      node_(std::move(other.node_)),
      converter_(std::move(other.converter_)) {}

PictureWriter::~PictureWriter() {
  if (!folder_.empty()) {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
}

absl::Status PictureWriter::Run(const std::vector<std::string>& argv) {
  common::SubprocessOptions options;
  options.argv = argv;
  options.environment = {absl::StrCat("PATH=", Environment("PATH")),
                         absl::StrCat("HOME=", Environment("HOME"))};
  options.output_path = absl::StrCat(folder_, "/messages");
  std::error_code ignored;
  std::filesystem::remove(options.output_path, ignored);
  NORMLAB_ASSIGN_OR_RETURN(const common::Subprocess process, common::Subprocess::Start(options));
  pollfd ended{.fd = process.pidfd(), .events = POLLIN, .revents = 0};
  int ready = 0;
  do {
    ready = poll(&ended, 1, kPatienceMs);
  } while (ready < 0 && errno == EINTR);
  if (ready <= 0) {
    process.Signal(SIGKILL).IgnoreError();
    poll(&ended, 1, -1);
    process.Reap().IgnoreError();
    return absl::DeadlineExceededError(absl::StrCat(
        argv[0], " did not draw a chart within a minute; draw fewer lines (--series)"));
  }
  NORMLAB_ASSIGN_OR_RETURN(const common::Subprocess::Exit exit, process.Reap());
  if (exit.by_signal || exit.code != 0) {
    constexpr size_t kMostText = 400;
    const absl::StatusOr<std::string> text = common::ReadFile(options.output_path);
    return absl::InternalError(absl::StrCat(argv[0], " could not draw a chart (", exit.ToString(),
                                            "): ", text.ok() ? text->substr(0, kMostText) : ""));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> PictureWriter::Svg(const Chart& chart) {
  const std::string spec = absl::StrCat(folder_, "/spec.json");
  const std::string svg = absl::StrCat(folder_, "/chart.svg");
  NORMLAB_RETURN_IF_ERROR(common::WriteFileAtomically(
      spec,
      MakeVegaSpec(chart, Medium::kPicture).dump(-1, ' ', false, Json::error_handler_t::replace)));
  NORMLAB_RETURN_IF_ERROR(Run({node_, absl::StrCat(folder_, "/draw.js"), spec, svg}));
  return common::ReadFile(svg);
}

absl::StatusOr<std::string> PictureWriter::Png(const Chart& chart) {
  NORMLAB_RETURN_IF_ERROR(Svg(chart).status());
  const std::string png = absl::StrCat(folder_, "/chart.png");
  NORMLAB_RETURN_IF_ERROR(
      Run({converter_, "--zoom", "2", "--output", png, absl::StrCat(folder_, "/chart.svg")}));
  return common::ReadFile(png);
}

}  // namespace normlab::client::report
