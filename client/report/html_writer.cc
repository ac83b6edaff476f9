#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"

#include "client/lib/number_format.h"
#include "client/report/assets.h"
#include "client/report/chart_style.h"
#include "client/report/escape.h"
#include "client/report/number_text.h"
#include "client/report/vega_chart.h"
#include "client/report/writers.h"
#include "common/sha256.h"

namespace normlab::client::report {
namespace {

// More lines in a legend than these are folded away.
constexpr size_t kLongLegend = 24;
// Texts in tables up to this length stay on a line.
constexpr size_t kLongestUnbroken = 30;
// A list of contents helps from so many sections on.
constexpr size_t kManySections = 4;

// An element with escaped text; nothing for an empty one.
std::string Element(absl::string_view tag, absl::string_view css_class, absl::string_view text) {
  if (text.empty()) {
    return "";
  }
  const std::string attribute = css_class.empty() ? "" : absl::StrCat(" class=\"", css_class, "\"");
  return absl::StrCat("<", tag, attribute, ">", EscapeHtml(text), "</", tag, ">\n");
}

std::string Paragraphs(absl::string_view text) {
  std::string html;
  for (const absl::string_view paragraph : absl::StrSplit(text, "\n\n", absl::SkipWhitespace())) {
    html += Element("p", "text", absl::StripAsciiWhitespace(paragraph));
  }
  return html;
}

// Sources that an element of the page has, for a browser that is told to run only these.
std::string ScriptHash(absl::string_view script) {
  return absl::StrCat("'sha256-", absl::Base64Escape(common::Sha256Bytes(script)), "'");
}

// --- Claims -------------------------------------------------------------------------------------------------------------

std::string VerdictClass(Verdict verdict) {
  return absl::StrReplaceAll(VerdictText(verdict), {{" ", "-"}});
}

// A check mark, a cross, a question mark: each with its word beside it.
std::string VerdictBadge(Verdict verdict, absl::string_view text) {
  absl::string_view icon;
  switch (verdict) {
    case Verdict::kSupported:
      icon = "<path d=\"M3.5 8.5l3 3 6-7\"/>";
      break;
    case Verdict::kNotSupported:
      icon = "<path d=\"M4 4l8 8M12 4l-8 8\"/>";
      break;
    case Verdict::kInconclusive:
      icon = "<path d=\"M5.2 5.6a2.8 2.8 0 1 1 4.2 2.5c-.9.5-1.4 1-1.4 2M8 12.9v.1\"/>";
      break;
  }
  return absl::StrCat(
      "<span class=\"verdict ", VerdictClass(verdict),
      "\"><svg viewBox=\"0 0 16 16\" fill=\"none\" stroke=\"currentColor\" stroke-width=\"2.2\" "
      "stroke-linecap=\"round\" stroke-linejoin=\"round\" aria-hidden=\"true\">",
      icon, "</svg>", EscapeHtml(text), "</span>");
}

std::string Tally(const std::vector<Claim>& claims) {
  std::string html = "<ul class=\"tally\">\n";
  for (const Verdict verdict :
       {Verdict::kSupported, Verdict::kNotSupported, Verdict::kInconclusive}) {
    const auto count = std::count_if(claims.begin(), claims.end(),
                                     [&](const Claim& claim) { return claim.verdict == verdict; });
    if (count > 0) {
      absl::StrAppend(&html, "<li>",
                      VerdictBadge(verdict, absl::StrCat(count, " ", VerdictText(verdict))),
                      "</li>\n");
    }
  }
  return absl::StrCat(html, "</ul>\n");
}

std::string MeasuredCell(const Claim& claim) {
  const MeasuredText text = FormatMeasured(claim);
  std::string html = Element("div", "value", claim.value.has_value() ? text.value : "not measured");
  if (claim.value.has_value() && claim.interval.has_value()) {
    absl::StrAppend(&html, "<div class=\"range\">", text.low, " to ", text.high,
                    " <span class=\"small\">", FormatMeasure(100 * claim.confidence),
                    "% interval</span></div>\n");
  }
  return absl::StrCat(html, Element("div", "small", claim.quantity),
                      Element("div", "small", SeedsText(claim)));
}

std::string ClaimRow(const Claim& claim) {
  return absl::StrCat(
      "<tr id=\"claim-", EscapeHtml(PlainFileName(claim.id)), "\">\n<td>",
      VerdictBadge(claim.verdict, VerdictText(claim.verdict)), "</td>\n<td>",
      Element("div", "statement", claim.statement), Element("div", "small", claim.source),
      Element("div", "reason", claim.reason),
      claim.rule.empty() ? "" : Element("div", "small", absl::StrCat("Rule: ", claim.rule)),
      "</td>\n<td data-label=\"Measured\">", MeasuredCell(claim),
      "</td>\n<td class=\"paper\" data-label=\"Paper\">",
      EscapeHtml(claim.paper.empty() ? "no number given" : claim.paper), "</td>\n</tr>\n");
}

std::string Claims(const std::vector<Claim>& claims) {
  if (claims.empty()) {
    return "";
  }
  std::string html = absl::StrCat(
      "<section id=\"claims\">\n<h2>Claims and verdicts</h2>\n", Tally(claims),
      "<table class=\"claims\">\n<colgroup><col class=\"c-verdict\"><col><col class=\"c-measured\">"
      "<col class=\"c-paper\"></colgroup>\n<thead><tr><th scope=\"col\">Verdict</th><th "
      "scope=\"col\">Claim</th><th scope=\"col\">Measured here</th><th scope=\"col\">In the "
      "paper</th></tr></thead>\n<tbody>\n");
  std::string group;
  for (const Claim& claim : claims) {
    if (claim.group != group) {
      group = claim.group;
      absl::StrAppend(&html, "<tr class=\"group\"><th scope=\"rowgroup\" colspan=\"4\">",
                      EscapeHtml(group), "</th></tr>\n");
    }
    html += ClaimRow(claim);
  }
  return absl::StrCat(html, "</tbody>\n</table>\n</section>\n");
}

// --- Charts -------------------------------------------------------------------------------------------------------------

std::string LegendItem(const LegendEntry& entry) {
  std::string swatch =
      "<svg width=\"28\" height=\"14\" viewBox=\"0 0 28 14\" aria-hidden=\"true\">";
  if (entry.band) {
    absl::StrAppend(&swatch, "<rect y=\"2\" width=\"28\" height=\"10\" fill=\"", entry.color,
                    "\" opacity=\"0.18\"/>");
  }
  if (entry.line) {
    absl::StrAppend(&swatch, "<path d=\"M0 7H28\" stroke-width=\"2\" stroke=\"", entry.color,
                    "\" stroke-dasharray=\"", absl::StrJoin(entry.dash, " "), "\"/>");
  }
  if (!entry.shape.empty()) {
    absl::StrAppend(&swatch, "<path transform=\"translate(14 7)\" d=\"", ShapePath(entry.shape),
                    "\" fill=\"", entry.color, "\"/>");
  }
  return absl::StrCat("<li>", swatch, "</svg><span>", EscapeHtml(entry.name), "</span></li>\n");
}

std::string LegendOf(const Chart& chart) {
  const std::vector<LegendEntry> entries = MakeLegend(chart, Medium::kPage);
  if (entries.empty()) {
    return "";
  }
  std::string html = "<ul class=\"legend\">\n";
  for (const LegendEntry& entry : entries) {
    html += LegendItem(entry);
  }
  html += "</ul>\n";
  return entries.size() > kLongLegend
             ? absl::StrCat("<details class=\"legend-all\"><summary>", entries.size(),
                            " lines: show their names</summary>\n", html, "</details>\n")
             : html;
}

// What the colours of a heat map mean.
std::string ColorKey(const Chart& chart) {
  const auto* map = std::get_if<HeatMap>(&chart.body);
  if (map == nullptr) {
    return "";
  }
  double least = INFINITY;
  double greatest = -INFINITY;
  for (const double value : map->values) {
    if (std::isfinite(value)) {
      least = std::min(least, value);
      greatest = std::max(greatest, value);
    }
  }
  if (least > greatest) {
    return "";
  }
  return absl::StrCat("<div class=\"key\"><span>", EscapeHtml(map->value_title), "</span><span>",
                      EscapeHtml(FormatMeasure(least)),
                      "</span><i style=\"background:linear-gradient(to right,",
                      absl::StrJoin(HeatColors(), ","), ")\"></i><span>",
                      EscapeHtml(FormatMeasure(greatest)), "</span></div>\n");
}

std::string Figure(const Chart& chart) {
  std::string caption = chart.caption;
  if (const std::string note = CutOffNote(chart); !note.empty()) {
    absl::StrAppend(&caption, caption.empty() ? "" : " ", note);
  }
  const std::string id = EscapeHtml(PlainFileName(chart.id));
  const std::string spec =
      MakeVegaSpec(chart, Medium::kPage).dump(-1, ' ', false, Json::error_handler_t::replace);
  return absl::StrCat("<figure class=\"chart\" id=\"chart-", id, "\">\n",
                      Element("h3", "", chart.title), LegendOf(chart), ColorKey(chart),
                      "<div class=\"plot\" role=\"img\" aria-label=\"",
                      EscapeHtml(absl::StrCat(chart.title, ". ", caption)),
                      "\"></div>\n<script type=\"application/json\">", EscapeJsonInScript(spec),
                      "</script>\n", Element("figcaption", "", caption), "</figure>\n");
}

// --- Tables and the rest ------------------------------------------------------------------------------------------------

std::string TableOf(const Table& table) {
  std::vector<ColumnFormat> formats;
  std::string html =
      absl::StrCat("<div class=\"table\" id=\"table-", EscapeHtml(PlainFileName(table.id)), "\">\n",
                   Element("h3", "", table.title),
                   "<div class=\"scroll\" tabindex=\"0\"><table class=\"data\">\n<thead><tr>");
  for (size_t i = 0; i < table.columns.size(); ++i) {
    formats.push_back(ChooseFormat(table, i));
    absl::StrAppend(&html, "<th scope=\"col\"", formats[i].numeric ? " class=\"n\"" : "", ">",
                    EscapeHtml(table.columns[i]), "</th>");
  }
  html += "</tr></thead>\n<tbody>\n";
  for (const std::vector<Table::Value>& row : table.rows) {
    html += "<tr>";
    for (size_t i = 0; i < row.size() && i < formats.size(); ++i) {
      const auto* number = std::get_if<double>(&row[i]);
      const std::string exact =
          number == nullptr ? "" : absl::StrCat(" title=\"", FormatDouble(*number), "\"");
      const std::string text = FormatCell(formats[i], row[i]);
      const absl::string_view look = formats[i].numeric                ? " class=\"n\""
                                     : text.size() <= kLongestUnbroken ? " class=\"s\""
                                                                       : "";
      absl::StrAppend(&html, "<td", look, exact, ">", EscapeHtml(text), "</td>");
    }
    html += "</tr>\n";
  }
  return absl::StrCat(html, "</tbody>\n</table></div>\n</div>\n");
}

std::string SectionOf(const Section& section, size_t index) {
  std::string html =
      absl::StrCat("<section id=\"section-", index, "\">\n",
                   Element("h2", "", TitleWithGroup(section)), Paragraphs(section.text));
  for (const Chart& chart : section.charts) {
    html += Figure(chart);
  }
  for (const Table& table : section.tables) {
    html += TableOf(table);
  }
  return absl::StrCat(html, "</section>\n");
}

std::string Contents(const Report& report) {
  if (report.sections.size() < kManySections) {
    return "";
  }
  std::string html = "<nav aria-label=\"Contents\">";
  for (size_t i = 0; i < report.sections.size(); ++i) {
    const Section& section = report.sections[i];
    if (i == 0 || section.group != report.sections[i - 1].group) {
      absl::StrAppend(&html, i == 0 ? "" : "</ol>\n", Element("h2", "", section.group), "<ol>\n");
    }
    absl::StrAppend(&html, "<li><a href=\"#section-", i, "\">", EscapeHtml(section.title),
                    "</a></li>\n");
  }
  return absl::StrCat(html, "</ol></nav>\n");
}

std::string Warnings(const std::vector<std::string>& warnings) {
  if (warnings.empty()) {
    return "";
  }
  std::string html =
      "<aside class=\"warnings\" aria-label=\"Warnings\">\n<h2>Mind this</h2>\n<ul>\n";
  for (const std::string& warning : warnings) {
    html += Element("li", "", warning);
  }
  return absl::StrCat(html, "</ul>\n</aside>\n");
}

std::string Ending(const Report& report) {
  std::string html;
  if (!report.specs.empty()) {
    html +=
        "<section id=\"specs\">\n<h2>Specs</h2>\n<p class=\"text\">As they ran, with every default "
        "written out.</p>\n<div class=\"specs\">\n";
    for (const Report::Spec& spec : report.specs) {
      absl::StrAppend(&html, "<details><summary>", EscapeHtml(spec.title), "</summary>\n<pre>",
                      EscapeHtml(spec.text), "</pre></details>\n");
    }
    html += "</div>\n</section>\n";
  }
  if (!report.repeat.empty()) {
    absl::StrAppend(&html,
                    "<section id=\"repeat\">\n<h2>How to repeat it</h2>\n<pre class=\"repeat\">",
                    EscapeHtml(absl::StrJoin(report.repeat, "\n")), "</pre>\n</section>\n");
  }
  std::string made;
  if (report.time != absl::Time()) {
    made = absl::StrCat("Made ",
                        absl::FormatTime("%Y-%m-%d %H:%M UTC", report.time, absl::UTCTimeZone()),
                        " by Normlab.");
  }
  absl::StrAppend(&html, "<footer>\n", Element("p", "", report.provenance), Element("p", "", made),
                  "<p>This page is complete in itself: it loads nothing.</p>\n</footer>\n");
  return html;
}

}  // namespace

std::string RenderHtml(const Report& report) {
  std::string body = absl::StrCat(
      "<main>\n<header>\n<p class=\"kicker\">Normlab report</p>\n", Element("h1", "", report.title),
      Element("p", "subtitle", report.subtitle), Element("p", "question", report.question),
      "</header>\n", Warnings(report.warnings), Contents(report), Claims(report.claims));
  for (size_t i = 0; i < report.sections.size(); ++i) {
    body += SectionOf(report.sections[i], i);
  }
  body += Ending(report);
  body +=
      "<noscript><p>The charts are drawn by a script of this page; your browser does not run "
      "it.</p></noscript>\n</main>\n";
  const std::string policy =
      absl::StrCat("default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src ",
                   ScriptHash(kVegaScript), " ", ScriptHash(kPageScript),
                   "; base-uri 'none'; form-action 'none'");
  return absl::StrCat(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta "
      "http-equiv=\"Content-Security-Policy\" content=\"",
      policy,
      "\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta "
      "name=\"generator\" content=\"normlab\">\n<title>",
      EscapeHtml(report.title), "</title>\n<style>\n", kPageStyle, "</style>\n</head>\n<body>\n",
      body, "<script>", kVegaScript, "</script>\n<script>", kPageScript,
      "</script>\n</body>\n</html>\n");
}

}  // namespace normlab::client::report
