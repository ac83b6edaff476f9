#include <filesystem>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "client/report/escape.h"
#include "client/report/picture_writer.h"
#include "client/report/writers.h"
#include "common/atomic_file.h"
#include "common/status_macros.h"

namespace normlab::client::report {
namespace {

absl::Status MakeFolder(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error) {
    return absl::FailedPreconditionError(absl::StrCat(
        "cannot make the folder ", path, ": ", error.message(), "; choose another place with -o"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Written> WriteCsvFolder(const Report& report, const std::string& folder) {
  NORMLAB_RETURN_IF_ERROR(MakeFolder(folder));
  Written written;
  for (const CsvFile& file : RenderCsvFiles(report)) {
    const std::string path = absl::StrCat(folder, "/", file.name);
    NORMLAB_RETURN_IF_ERROR(common::WriteFileAtomically(path, file.text));
    written.files.push_back(path);
  }
  return written;
}

absl::StatusOr<Written> WritePictures(const Report& report, bool png, const std::string& path) {
  std::vector<const Chart*> charts;
  for (const Section& section : report.sections) {
    for (const Chart& chart : section.charts) {
      charts.push_back(&chart);
    }
  }
  if (charts.empty()) {
    return absl::FailedPreconditionError(
        "the report has no chart: no job has written a metric so far; repeat it when one has");
  }
  NORMLAB_ASSIGN_OR_RETURN(PictureWriter writer, PictureWriter::Open(png));
  const std::string extension = png ? ".png" : ".svg";
  const bool one_file = absl::EndsWith(path, extension);
  if (one_file && charts.size() > 1) {
    return absl::FailedPreconditionError(
        absl::StrCat("the report has ", charts.size(), " charts: give a folder with -o (without ",
                     extension, "), or choose one of them with --series"));
  }
  if (!one_file) {
    NORMLAB_RETURN_IF_ERROR(MakeFolder(path));
  }
  Written written;
  std::set<std::string> names;
  for (const Chart* chart : charts) {
    std::string name = PlainFileName(chart->id);
    for (int copy = 2; !names.insert(name).second; ++copy) {
      name = absl::StrCat(PlainFileName(chart->id), "-", copy);
    }
    const std::string file = one_file ? path : absl::StrCat(path, "/", name, extension);
    NORMLAB_ASSIGN_OR_RETURN(const std::string picture,
                             png ? writer.Png(*chart) : writer.Svg(*chart));
    NORMLAB_RETURN_IF_ERROR(common::WriteFileAtomically(file, picture));
    written.files.push_back(file);
  }
  return written;
}

}  // namespace

absl::StatusOr<Format> ParseFormat(absl::string_view name) {
  for (const auto& [known, format] : {std::pair<absl::string_view, Format>{"html", Format::kHtml},
                                      {"md", Format::kMarkdown},
                                      {"csv", Format::kCsv},
                                      {"svg", Format::kSvg},
                                      {"png", Format::kPng}}) {
    if (known == name) {
      return format;
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("there is no report format ", name, "; use html, md, csv, svg or png"));
}

absl::StatusOr<std::string> DrawSvg(const Chart& chart) {
  NORMLAB_ASSIGN_OR_RETURN(PictureWriter writer, PictureWriter::Open(false));
  return writer.Svg(chart);
}

absl::StatusOr<Written> WriteReport(const Report& report, Format format, const std::string& path) {
  if (format == Format::kSvg || format == Format::kPng) {
    return WritePictures(report, format == Format::kPng, path);
  }
  if (format == Format::kCsv && path != "-" && !absl::EndsWith(path, ".csv")) {
    return WriteCsvFolder(report, path);
  }
  std::string text;
  if (format == Format::kHtml) {
    text = RenderHtml(report);
  } else if (format == Format::kMarkdown) {
    text = RenderMarkdown(report, "");
  } else {
    text = RenderTidyCsv(report);
  }
  Written written;
  if (path == "-") {
    written.to_stdout = std::move(text);
    return written;
  }
  NORMLAB_RETURN_IF_ERROR(common::WriteFileAtomically(path, text));
  written.files.push_back(path);
  return written;
}

}  // namespace normlab::client::report
