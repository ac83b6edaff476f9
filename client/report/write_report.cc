#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

#include "client/report/escape.h"
#include "client/report/picture_writer.h"
#include "client/report/writers.h"
#include "common/atomic_file.h"
#include "common/status_macros.h"

namespace normlab::client::report {
namespace {

bool IsFolderOfFiles(Format format, const std::string& path) {
  switch (format) {
    case Format::kCsv:
      return path != "-" && !absl::EndsWith(path, ".csv");
    case Format::kSvg:
      return !absl::EndsWith(path, ".svg");
    case Format::kPng:
      return !absl::EndsWith(path, ".png");
    case Format::kHtml:
    case Format::kMarkdown:
      break;
  }
  return false;
}

absl::Status Unwritable(const std::string& path, const std::string& why) {
  return absl::FailedPreconditionError(
      absl::StrCat("cannot write ", path, ": ", why, "; choose another place with -o"));
}

// Errors name the path that was given, not the temporary file beside it.
absl::Status WriteTo(const std::string& path, const std::string& text) {
  NORMLAB_RETURN_IF_ERROR(CheckPlace(Format::kHtml, path));
  const absl::Status status = common::WriteFileAtomically(path, text);
  return status.ok() ? status
                     : absl::Status(status.code(),
                                    absl::StrCat("cannot write ", path, ": ", status.message()));
}

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
    NORMLAB_RETURN_IF_ERROR(WriteTo(path, file.text));
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
    NORMLAB_RETURN_IF_ERROR(WriteTo(file, picture));
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

absl::StatusOr<Format> ChooseFormat(absl::string_view named, absl::string_view path) {
  if (!named.empty()) {
    return ParseFormat(named);
  }
  const size_t dot = path.rfind('.');
  if (dot != absl::string_view::npos) {
    const absl::StatusOr<Format> format = ParseFormat(absl::AsciiStrToLower(path.substr(dot + 1)));
    if (format.ok()) {
      return format;
    }
  }
  return Format::kHtml;
}

absl::Status CheckPlace(Format format, const std::string& path) {
  namespace fs = std::filesystem;
  if (path == "-") {
    return absl::OkStatus();
  }
  std::error_code error;
  const bool folder = IsFolderOfFiles(format, path);
  const bool exists = fs::exists(path, error);
  if (error) {
    return Unwritable(path, error.message());
  }
  if (exists && fs::is_directory(path, error) != folder) {
    return Unwritable(path, folder ? "it is a file, and this format is written as a folder of files"
                                   : "it is a folder");
  }
  // A folder of files is made with those above it; a file needs its folder.
  fs::path above = folder && exists ? fs::path(path) : fs::path(path).parent_path();
  if (folder && !exists) {
    while (!above.empty() && !fs::exists(above, error)) {
      above = above.parent_path();
    }
  }
  const std::string place = above.empty() ? "." : above.string();
  if (!fs::exists(place, error)) {
    return Unwritable(path, absl::StrCat("there is no folder ", place));
  }
  if (!fs::is_directory(place, error)) {
    return Unwritable(path, absl::StrCat(place, " is no folder"));
  }
  if (access(place.c_str(), W_OK | X_OK) != 0) {
    return Unwritable(path, absl::StrCat("the folder ", place, ": ", std::strerror(errno)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> DrawSvg(const Chart& chart) {
  NORMLAB_ASSIGN_OR_RETURN(PictureWriter writer, PictureWriter::Open(false));
  return writer.Svg(chart);
}

absl::StatusOr<Written> WriteReport(const Report& report, Format format, const std::string& path) {
  if (format == Format::kSvg || format == Format::kPng) {
    return WritePictures(report, format == Format::kPng, path);
  }
  if (format == Format::kCsv && IsFolderOfFiles(format, path)) {
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
  NORMLAB_RETURN_IF_ERROR(WriteTo(path, text));
  written.files.push_back(path);
  return written;
}

}  // namespace normlab::client::report
