#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"

#include "client/report/escape.h"
#include "client/report/number_text.h"
#include "client/report/writers.h"

namespace normlab::client::report {
namespace {

// Of a chart's lines, as a table.
constexpr size_t kMostLines = 16;

std::string Row(const std::vector<std::string>& cells) {
  return absl::StrCat("| ", absl::StrJoin(cells, " | "), " |\n");
}

std::string Paragraph(absl::string_view text) {
  return text.empty() ? "" : absl::StrCat(EscapeMarkdown(text), "\n\n");
}

// A block that shows `text` as it is, whatever it holds.
std::string CodeBlock(absl::string_view language, absl::string_view text) {
  std::string fence = "```";
  while (text.find(fence) != absl::string_view::npos) {
    fence += '`';
  }
  return absl::StrCat(fence, language, "\n", absl::StripTrailingAsciiWhitespace(text), "\n", fence,
                      "\n\n");
}

absl::string_view VerdictIcon(Verdict verdict) {
  switch (verdict) {
    case Verdict::kSupported:
      return "\u2713";
    case Verdict::kNotSupported:
      return "\u2717";
    case Verdict::kInconclusive:
      break;
  }
  return "?";
}

std::string Claims(const std::vector<Claim>& claims) {
  if (claims.empty()) {
    return "";
  }
  std::string text = absl::StrCat("## Claims and verdicts\n\n",
                                  Row({"verdict", "claim", "measured", "paper", "why"}),
                                  "|---|---|---|---|---|\n");
  for (const Claim& claim : claims) {
    const MeasuredText numbers = FormatMeasured(claim);
    std::string measured = numbers.value;
    if (!numbers.low.empty()) {
      absl::StrAppend(&measured, " [", numbers.low, ", ", numbers.high, "]");
    }
    std::vector<std::string> details;
    if (claim.interval.has_value()) {
      details.push_back(absl::StrCat(FormatMeasure(100 * claim.confidence), "% interval"));
    }
    if (!claim.quantity.empty()) {
      details.push_back(claim.quantity);
    }
    if (const std::string seeds = SeedsText(claim); !seeds.empty()) {
      details.push_back(seeds);
    }
    if (!details.empty()) {
      absl::StrAppend(&measured, " (", absl::StrJoin(details, "; "), ")");
    }
    std::string why = claim.reason;
    if (!claim.rule.empty()) {
      absl::StrAppend(&why, why.empty() ? "" : " ", "Rule: ", claim.rule);
    }
    text += Row(
        {absl::StrCat(VerdictIcon(claim.verdict), " **", VerdictText(claim.verdict), "**"),
         absl::StrCat(EscapeMarkdown(StatementWithGroup(claim)), claim.source.empty() ? "" : " (",
                      EscapeMarkdown(claim.source), claim.source.empty() ? "" : ")"),
         EscapeMarkdown(measured), EscapeMarkdown(claim.paper), EscapeMarkdown(why)});
  }
  return absl::StrCat(text, "\n");
}

std::string TableText(const Table& table) {
  std::vector<ColumnFormat> formats;
  std::vector<std::string> names;
  std::vector<std::string> lines;
  for (size_t i = 0; i < table.columns.size(); ++i) {
    formats.push_back(ChooseFormat(table, i));
    names.push_back(EscapeMarkdown(table.columns[i]));
    lines.emplace_back(formats[i].numeric ? "---:" : "---");
  }
  std::string text =
      table.title.empty() ? "" : absl::StrCat("### ", EscapeMarkdown(table.title), "\n\n");
  absl::StrAppend(&text, Row(names), "|", absl::StrJoin(lines, "|"), "|\n");
  for (const std::vector<Table::Value>& row : table.rows) {
    std::vector<std::string> cells;
    for (size_t i = 0; i < row.size() && i < formats.size(); ++i) {
      cells.push_back(EscapeMarkdown(FormatCell(formats[i], row[i])));
    }
    text += Row(cells);
  }
  return absl::StrCat(text, "\n");
}

// The numbers of a chart that matter most, where there is no picture of it.
Table InShort(const LineChart& chart) {
  Table table;
  const bool facets = !chart.facets.empty();
  table.columns = {""};
  const std::string x = chart.x.title.empty() ? "x" : chart.x.title;
  table.columns.insert(table.columns.end(), {absl::StrCat("from ", x), "value",
                                             absl::StrCat("to ", x), "value", "least", "greatest"});
  for (size_t i = 0; i < chart.lines.size() && i < kMostLines; ++i) {
    const Line& line = chart.lines[i];
    std::vector<double> values;
    std::vector<double> places;
    for (size_t p = 0; p < line.y.size() && p < line.x.size(); ++p) {
      if (std::isfinite(line.y[p])) {
        values.push_back(line.y[p]);
        places.push_back(line.x[p]);
      }
    }
    if (!values.empty()) {
      const auto [least, greatest] = std::minmax_element(values.begin(), values.end());
      table.rows.push_back({facets ? absl::StrCat(chart.facets[i], ": ", line.name) : line.name,
                            places.front(), values.front(), places.back(), values.back(), *least,
                            *greatest});
    }
  }
  return table;
}

Table InShort(const HeatMap& chart) {
  Table table;
  table.columns = {absl::StrCat(chart.y.title, " \\ ", chart.x.title)};
  table.columns.insert(table.columns.end(), chart.columns.begin(), chart.columns.end());
  for (size_t r = 0; r < chart.rows.size(); ++r) {
    std::vector<Table::Value> row = {chart.rows[r]};
    for (size_t c = 0; c < chart.columns.size(); ++c) {
      const size_t at = r * chart.columns.size() + c;
      if (chart.texts.empty()) {
        row.emplace_back(chart.values[at]);
      } else {
        row.emplace_back(chart.texts[at]);
      }
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

Table InShort(const DotChart& chart) {
  Table table;
  table.columns = {chart.x.title, "", chart.y.title, "interval"};
  for (const DotChart::Dot& dot : chart.dots) {
    const MeasuredText text = FormatMeasured(dot.value, dot.interval);
    table.rows.push_back({dot.category, dot.group, text.value,
                          text.low.empty() ? "" : absl::StrCat(text.low, " to ", text.high)});
  }
  return table;
}

}  // namespace

std::string RenderMarkdown(const Report& report, absl::string_view image_prefix) {
  std::string text = absl::StrCat("# ", EscapeMarkdown(report.title), "\n\n",
                                  Paragraph(report.subtitle), Paragraph(report.question));
  for (const std::string& warning : report.warnings) {
    absl::StrAppend(&text, "- **Mind this:** ", EscapeMarkdown(warning), "\n");
  }
  absl::StrAppend(&text, report.warnings.empty() ? "" : "\n", Claims(report.claims));
  for (const Section& section : report.sections) {
    absl::StrAppend(&text, "## ", EscapeMarkdown(TitleWithGroup(section)), "\n\n");
    for (const absl::string_view part :
         absl::StrSplit(section.text, "\n\n", absl::SkipWhitespace())) {
      text += Paragraph(part);
    }
    for (const Chart& chart : section.charts) {
      absl::StrAppend(&text, "### ", EscapeMarkdown(chart.title), "\n\n");
      if (!image_prefix.empty()) {
        absl::StrAppend(&text, "![", EscapeMarkdown(chart.title), "](", image_prefix,
                        PlainFileName(chart.id), ".svg)\n\n");
      }
      text += Paragraph(chart.caption);
      if (image_prefix.empty()) {
        text += TableText(std::visit([](const auto& body) { return InShort(body); }, chart.body));
        if (const auto* lines = std::get_if<LineChart>(&chart.body);
            lines != nullptr && lines->lines.size() > kMostLines) {
          absl::StrAppend(&text, "And ", lines->lines.size() - kMostLines, " more lines.\n\n");
        }
      }
    }
    for (const Table& table : section.tables) {
      text += TableText(table);
    }
  }
  if (!report.specs.empty()) {
    text += "## Specs\n\nAs they ran, with every default written out.\n\n";
    for (const Report::Spec& spec : report.specs) {
      absl::StrAppend(&text, "### ", EscapeMarkdown(spec.title), "\n\n",
                      CodeBlock("yaml", spec.text));
    }
  }
  if (!report.repeat.empty()) {
    absl::StrAppend(&text, "## How to repeat it\n\n",
                    CodeBlock("sh", absl::StrJoin(report.repeat, "\n")));
  }
  text += Paragraph(report.provenance);
  if (report.time != absl::Time()) {
    absl::StrAppend(&text, "Made ",
                    absl::FormatTime("%Y-%m-%d %H:%M UTC", report.time, absl::UTCTimeZone()),
                    " by Normlab.\n");
  }
  return text;
}

}  // namespace normlab::client::report
