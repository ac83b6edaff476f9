#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "client/report/report.h"

// Reports as files. Everything in a report is taken for text of other people and escaped where it is put.
namespace normlab::client::report {

// One page that needs nothing else: charts, style and scripts are in it, nothing is fetched, and a content security policy
// lets only its own two scripts run. Readable in light and dark, at 390 pixels and up, on paper. Deterministic. Thread-safe.
std::string RenderHtml(const Report& report);

// The same as text: claims, tables, captions and how to repeat it; charts as links to `image_prefix` + file name, for example
// "report-images/"; when it is empty, as tables of their most telling numbers. Thread-safe.
std::string RenderMarkdown(const Report& report, absl::string_view image_prefix);

// The numbers behind the report, in full precision. Thread-safe.
// One line for each number of each chart and table, and for each claim: item,kind,facet,series,x,y,low,high,text.
std::string RenderTidyCsv(const Report& report);
struct CsvFile {
  std::string name;  // claims.csv, and for each chart and table its id
  std::string text;
};
std::vector<CsvFile> RenderCsvFiles(const Report& report);

enum class Format { kHtml, kMarkdown, kCsv, kSvg, kPng };

// INVALID_ARGUMENT: not one of html, md, csv, svg, png.
absl::StatusOr<Format> ParseFormat(absl::string_view name);

// The format that was named, else the one that the path's ending says, else html. INVALID_ARGUMENT as ParseFormat.
absl::StatusOr<Format> ChooseFormat(absl::string_view named, absl::string_view path);

// Whether a report of that format can be written to `path`, to be known before hours of work: OK, or FAILED_PRECONDITION that
// names it and says what to do. Writes nothing. Thread-safe.
absl::Status CheckPlace(Format format, const std::string& path);

// Writes a report to `path`: html and md are one file; csv is one file when the path ends in .csv, else a folder with a file
// for the claims and for each chart and table; svg and png are a folder with a file for each chart, or one file when the
// report has one chart and the path ends in .svg or .png. "-" (html, md, csv) stands for standard output: then `*to_stdout`
// gets the text. FAILED_PRECONDITION: a program that draws pictures is not installed, or there is no chart; other errors are
// those of files. Blocks; thread-safe for different paths.
struct Written {
  std::vector<std::string> files;
  std::string to_stdout;
};
absl::StatusOr<Written> WriteReport(const Report& report, Format format, const std::string& path);

// A chart as SVG, drawn by node. FAILED_PRECONDITION: node is not installed.
absl::StatusOr<std::string> DrawSvg(const Chart& chart);

}  // namespace normlab::client::report
