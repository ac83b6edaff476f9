#include "client/report/writers.h"

#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

#include "client/report/assets.h"
#include "client/report/escape.h"
#include "client/report/number_text.h"
#include "client/report/testing/sample_report.h"
#include "client/report/vega_chart.h"

namespace normlab::client::report {
namespace {

size_t Count(absl::string_view text, absl::string_view part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != absl::string_view::npos; at = text.find(part, at + 1)) {
    ++count;
  }
  return count;
}

TEST(EscapeTest, HtmlKeepsTextAndLosesMarkup) {
  EXPECT_EQ(EscapeHtml("a<b>&\"'\xc3\xa4\n"), "a&lt;b&gt;&amp;&quot;&#39;\xc3\xa4\n");
  // A lone continuation byte, an overlong '<', a surrogate, a control character.
  EXPECT_EQ(EscapeHtml("x\x80y"), "x\xEF\xBF\xBDy");
  EXPECT_FALSE(absl::StrContains(EscapeHtml("\xC0\xBC"), "<"));
  EXPECT_EQ(EscapeHtml("\xED\xA0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(EscapeHtml(absl::string_view("\x01\0", 2)), "\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(EscapeTest, JsonInScriptHasNothingThatHtmlReads) {
  const std::string text = EscapeJsonInScript(R"({"a":"</script><!--&"})");
  EXPECT_EQ(text.find_first_of("<>&"), std::string::npos);
  EXPECT_EQ(Json::parse(text)["a"], "</script><!--&");
}

TEST(EscapeTest, CsvFieldsAreQuotedAndNoFormulas) {
  EXPECT_EQ(CsvField("plain"), "plain");
  EXPECT_EQ(CsvField("a,\"b\""), "\"a,\"\"b\"\"\"");
  EXPECT_EQ(CsvField("=1+1"), "'=1+1");
  EXPECT_EQ(CsvField("@SUM(A1)"), "'@SUM(A1)");
}

TEST(EscapeTest, FileNamesStayInTheirFolder) {
  EXPECT_EQ(PlainFileName("../../etc/passwd"), "-.-..-etc-passwd");
  EXPECT_EQ(PlainFileName(".hidden"), "-hidden");
  EXPECT_EQ(PlainFileName(""), "unnamed");
  EXPECT_EQ(PlainFileName(std::string(300, 'a')).size(), 100U);
}

TEST(EscapeTest, ShellWordsStayOneWord) {
  EXPECT_EQ(ShellWord("optimizer.sgd.learning_rate=0.1,1"), "optimizer.sgd.learning_rate=0.1,1");
  EXPECT_EQ(ShellWord("a b; rm 'x' $(y)"), "'a b; rm '\\''x'\\'' $(y)'");
  EXPECT_EQ(ShellWord(""), "''");
}

TEST(EscapeTest, MarkdownShowsWhatWasWritten) {
  EXPECT_EQ(EscapeMarkdown("a|b\n*c* <i>"), "a\\|b \\*c\\* &lt;i\\>");
}

TEST(NumberTextTest, FourDigitsAndATrueMinus) {
  EXPECT_EQ(FormatMeasure(0.31274), "0.3127");
  EXPECT_EQ(FormatMeasure(-3), "\u22123");
  EXPECT_EQ(FormatMeasure(1.2e-5), "1.2e-5");
  EXPECT_EQ(FormatMeasure(18220.4), "18220");
  EXPECT_EQ(FormatMeasure(NAN), "\u2013");
  EXPECT_EQ(FormatMeasure(-INFINITY), "\u2212\u221e");
}

TEST(NumberTextTest, PlacesFollowTheWidthOfTheInterval) {
  const MeasuredText text = FormatMeasured(1.2431, Interval{0.9812, 1.505});
  EXPECT_EQ(text.value, "1.24");
  EXPECT_EQ(text.low, "0.98");
  EXPECT_EQ(text.high, "1.50");
  EXPECT_EQ(FormatMeasured(1234.5, Interval{1200, 1270}).value, "1234");
  EXPECT_EQ(FormatMeasured(0.5, std::nullopt).low, "");
  // On which side of nothing a bound lies is always to be seen.
  EXPECT_EQ(FormatMeasured(0.1033, Interval{-0.0007383, 0.2074}).low, "\u22120.001");
  EXPECT_EQ(FormatMeasured(0.1033, Interval{0, 0.2074}).low, "0.00");
  Claim times;
  times.value = 1.25;
  times.interval = Interval{0.9983, 1.5};
  times.unit = " times";
  EXPECT_EQ(FormatMeasured(times).value, "1.250 times");
  EXPECT_EQ(FormatMeasured(times).low, "0.998");
}

TEST(NumberTextTest, ColumnsLineUp) {
  Table table{.columns = {"name", "value", "count", "wide"}};
  table.rows = {{"a", 0.86214, 5.0, 1e-9}, {"b", 0.8, 12.0, 3.0}, {"c", "", 0.0, 1e8}};
  EXPECT_FALSE(ChooseFormat(table, 0).numeric);
  const ColumnFormat value = ChooseFormat(table, 1);
  EXPECT_TRUE(value.numeric);
  EXPECT_EQ(FormatCell(value, table.rows[0][1]), "0.8621");
  EXPECT_EQ(FormatCell(value, table.rows[1][1]), "0.8000");
  EXPECT_EQ(FormatCell(ChooseFormat(table, 2), table.rows[1][2]), "12");
  EXPECT_EQ(FormatCell(ChooseFormat(table, 3), table.rows[0][3]), "1e-9");
}

TEST(HtmlWriterTest, ClaimsComeFirstAndEveryVerdictHasItsWord) {
  const std::string html = RenderHtml(SampleReport());
  const size_t claims = html.find("id=\"claims\"");
  ASSERT_NE(claims, std::string::npos);
  EXPECT_LT(claims, html.find("<figure"));
  EXPECT_LT(claims, html.find("id=\"section-0\""));
  for (const char* badge : {"class=\"verdict supported\"", "class=\"verdict not-supported\"",
                            "class=\"verdict inconclusive\""}) {
    EXPECT_EQ(Count(html, badge), 2U) << badge << ": one in the tally, one at its claim";
  }
  EXPECT_TRUE(absl::StrContains(html, "1 of 10 jobs diverged"));
  EXPECT_TRUE(absl::StrContains(html, "95% interval"));
}

TEST(HtmlWriterTest, LoadsNothingAndRunsOnlyItsOwnScripts) {
  const std::string html = RenderHtml(SampleReport());
  EXPECT_TRUE(absl::StrContains(html, "default-src 'none'"));
  EXPECT_FALSE(absl::StrContains(html, "unsafe-eval"));
  EXPECT_EQ(Count(html, "<script>"), 2U);
  EXPECT_EQ(Count(html, "<script type=\"application/json\">"), 8U);
  for (const char* loading : {" src=", "<link", "@import", "url("}) {
    const size_t script = html.find("<script>");  // the library's own code may speak of them
    EXPECT_EQ(html.substr(0, script).find(loading), std::string::npos) << loading;
  }
}

TEST(HtmlWriterTest, TheSameReportGivesTheSameBytes) {
  EXPECT_EQ(RenderHtml(SampleReport()), RenderHtml(SampleReport()));
}

TEST(HtmlWriterTest, HostileTextStaysText) {
  const std::string html = RenderHtml(HostileReport());
  EXPECT_EQ(Count(html, "<script>"), 2U);
  EXPECT_EQ(Count(html, "</script>"), 2U + 3U);  // Vega, ours, three charts
  EXPECT_FALSE(absl::StrContains(html, "<img"));
  EXPECT_FALSE(absl::StrContains(html, "\xff"));
}

TEST(HtmlWriterTest, AnEmptyReportIsAPage) {
  const std::string html = RenderHtml(Report{.title = "nothing"});
  EXPECT_TRUE(absl::StrContains(html, "<h1>nothing</h1>"));
  EXPECT_FALSE(absl::StrContains(html, "id=\"claims\""));
}

TEST(VegaChartTest, EveryLineAndPointIsInTheSpec) {
  const Report report = SampleReport();
  const Json spec = MakeVegaSpec(report.sections[0].charts[0], Medium::kPage);
  const Json& lines = spec["data"][0]["values"][0]["lines"];
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_EQ(lines[0]["name"], "batch norm");
  EXPECT_EQ(lines[0]["c"], "var(--c1)");
  EXPECT_EQ(lines[0]["points"].size(), 120U);
  EXPECT_TRUE(lines[0]["points"][0].contains("a"));
  EXPECT_FALSE(lines[3]["points"][19].contains("y")) << "an infinity is a gap";
  EXPECT_FALSE(CutOffNote(report.sections[0].charts[0]).empty());
}

TEST(VegaChartTest, ReferencesAreDashedAndGreyAndOnTop) {
  const Report report = SampleReport();
  const Json spec = MakeVegaSpec(report.sections[1].charts[0], Medium::kPicture);
  Json lines;
  for (const Json& data : spec["data"]) {
    if (data["name"] == "panels") {
      lines = data["values"][0]["lines"];
    }
  }
  ASSERT_EQ(lines.size(), 6U);
  EXPECT_TRUE(lines[2]["d"].empty());
  for (size_t i = 3; i < 6; ++i) {
    EXPECT_FALSE(lines[i]["d"].empty());
    EXPECT_EQ(lines[i]["c"], ToneColor(Tone::kReference, Medium::kPicture));
  }
  EXPECT_FALSE(absl::StrContains(spec.dump(), "var(--")) << "a picture has no style sheet";
}

TEST(VegaChartTest, PanelsShareScalesAndColours) {
  const Report report = SampleReport();
  const Json spec = MakeVegaSpec(report.sections[1].charts[1], Medium::kPage);
  const Json& panels = spec["data"][0]["values"];
  ASSERT_EQ(panels.size(), 3U);
  for (const Json& panel : panels) {
    ASSERT_EQ(panel["lines"].size(), 4U);
    EXPECT_EQ(panel["lines"][1]["c"], "var(--c2)");
  }
}

TEST(VegaChartTest, AManyLinedChartStaysSmall) {
  const Report report = BigReport(200, 2000);
  constexpr size_t kMostBytes = 2'500'000;  // 200 lines of 100 points of about 60 bytes, and room
  EXPECT_LT(MakeVegaSpec(report.sections[0].charts[0], Medium::kPage).dump().size(), kMostBytes);
}

TEST(VegaChartTest, AxesOfHardValuesAreFinite) {
  EXPECT_LT(ChooseDomain({}, Scale::kLinear, true).low,
            ChooseDomain({}, Scale::kLinear, true).high);
  EXPECT_LT(ChooseDomain({0, 0}, Scale::kLinear, true).low, 0);
  EXPECT_GT(ChooseDomain({-1, 0, 10}, Scale::kLogarithmic, true).low, 0);
  EXPECT_EQ(ChooseDomain({0.1, 5}, Scale::kLinear, true).low, 0);
  std::vector<double> exploding(100, 1.0);
  exploding[3] = 2.0;
  exploding[50] = 1.5;
  exploding[97] = exploding[96] = exploding[95] = exploding[94] = 3.0;
  exploding.push_back(1e9);
  const Domain domain = ChooseDomain(exploding, Scale::kLinear, true);
  EXPECT_TRUE(domain.cut);
  EXPECT_LT(domain.high, 10);
  EXPECT_FALSE(ChooseDomain(exploding, Scale::kLinear, false).cut);
  const Domain decades = ChooseDomain(exploding, Scale::kLogarithmic, true);
  EXPECT_TRUE(decades.cut);
  EXPECT_LT(decades.high, 10);
  const std::vector<double> ticks = LogarithmicTicks({0.9, 3e8});
  EXPECT_GE(ticks.size(), 4U);
  EXPECT_LE(ticks.size(), 7U);
  EXPECT_EQ(LogarithmicTicks({2, 64}), (std::vector<double>{2, 5, 10, 20, 50}));
}

TEST(MarkdownWriterTest, HasClaimsTablesAndHowToRepeat) {
  const std::string text = RenderMarkdown(SampleReport(), "images/");
  EXPECT_TRUE(absl::StrContains(text, "| \u2717 **not supported** |"));
  EXPECT_TRUE(absl::StrContains(text, "1.24 \\[0.98, 1.50\\] (95% interval;"));
  EXPECT_TRUE(absl::StrContains(text, "](images/growth.svg)"));
  EXPECT_TRUE(absl::StrContains(text, "```sh\nnormlab study run landscape --preset quick\n```"));
  EXPECT_LT(text.find("## Claims"), text.find("## Training"));
  bool code = false;  // where everything shows as it is
  for (const absl::string_view line : absl::StrSplit(RenderMarkdown(HostileReport(), ""), '\n')) {
    code = absl::StartsWith(line, "```") ? !code : code;
    EXPECT_TRUE(code || !absl::StrContains(line, "<script>")) << line;
  }
  EXPECT_FALSE(code);
}

TEST(MarkdownWriterTest, WithoutPicturesTheNumbersOfChartsAreTables) {
  Report report;
  report.sections.push_back({.title = "s"});
  report.sections[0].charts = {
      {.id = "l",
       .title = "Lines",
       .body = LineChart{.x = {.title = "step"},
                         .lines = {{.name = "a", .x = {0, 5, 9}, .y = {2, 8, 1}}}}},
      {.id = "h",
       .title = "Map",
       .body = HeatMap{.x = {.title = "rate"},
                       .y = {.title = "scale"},
                       .columns = {"0.1", "1"},
                       .rows = {"3"},
                       .values = {0.25, 0.75}}},
      {.id = "d",
       .title = "Dots",
       .body = DotChart{
           .x = {.title = "net"},
           .y = {.title = "accuracy"},
           .dots = {{.category = "vgg", .value = 0.5, .interval = Interval{0.25, 0.75}}}}}};
  const std::string text = RenderMarkdown(report, "");
  EXPECT_TRUE(absl::StrContains(text, "from step")) << text;
  EXPECT_TRUE(absl::StrContains(text, "| a | 0 | 2 | 9 | 1 | 1 | 8 |")) << text;
  EXPECT_TRUE(absl::StrContains(text, "| 3 | 0.25")) << text;
  EXPECT_TRUE(absl::StrContains(text, "0.25 to 0.75")) << text;
  // With pictures there is no need.
  EXPECT_FALSE(absl::StrContains(RenderMarkdown(report, "images/"), "from step"));
}

TEST(MarkdownWriterTest, RowsHaveAsManyCellsAsTheirHead) {
  for (const absl::string_view line : absl::StrSplit(RenderMarkdown(HostileReport(), ""), '\n')) {
    if (absl::StartsWith(line, "| ") && absl::StrContains(line, "1.5")) {
      EXPECT_EQ(Count(line, "|") - Count(line, "\\|"), 3U) << line;
    }
  }
}

TEST(CsvWriterTest, TidyFileHasEveryPointInFullPrecision) {
  Report report;
  const double third = 1.0 / 3;
  report.sections.push_back({.title = "s"});
  report.sections[0].charts = {{.id = "c",
                                .title = "t",
                                .body = LineChart{.lines = {{.name = "a,b",
                                                             .x = {0, 1},
                                                             .y = {third, NAN},
                                                             .low = {0, 0},
                                                             .high = {1, INFINITY}}}}}};
  report.sections[0].tables = {{.id = "t", .columns = {"n", "v"}, .rows = {{"x", 0.1}}}};
  EXPECT_EQ(RenderTidyCsv(report),
            "item,kind,series,facet,x,y,low,high,text\n"
            "c,chart,\"a,b\",,0,0.3333333333333333,0,1,\n"
            "c,chart,\"a,b\",,1,,0,Infinity,\n"
            "t,table,n,,0,,,,x\n"
            "t,table,v,,0,0.1,,,\n");
}

TEST(CsvWriterTest, AFileForClaimsAndEachChartAndTable) {
  std::set<std::string> names;
  for (const CsvFile& file : RenderCsvFiles(SampleReport())) {
    names.insert(file.name);
    const std::vector<std::string> lines = absl::StrSplit(file.text, '\n');
    EXPECT_GT(lines.size(), 2U) << file.name;
  }
  EXPECT_EQ(names.size(), 10U);
  EXPECT_EQ(names.count("claims.csv"), 1U);
  EXPECT_EQ(names.count("rates.csv"), 1U);
  EXPECT_EQ(names.count("final.csv"), 1U);
}

TEST(CsvWriterTest, ChartsOfTheSameIdDoNotOverwriteEachOther) {
  Report report;
  report.sections.push_back({.title = "s"});
  report.sections[0].tables = {{.id = "t", .columns = {"n"}, .rows = {{1.0}}},
                               {.id = "t", .columns = {"n"}, .rows = {{2.0}}}};
  const std::vector<CsvFile> files = RenderCsvFiles(report);
  ASSERT_EQ(files.size(), 2U);
  EXPECT_NE(files[0].name, files[1].name);
}

class WriteReportTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / absl::StrCat("report_test_", getpid());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path folder_;
};

TEST_F(WriteReportTest, CsvIsAFolderOrAFile) {
  const auto folder = WriteReport(SampleReport(), Format::kCsv, (folder_ / "numbers").string());
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_EQ(folder->files.size(), 10U);
  const auto file = WriteReport(SampleReport(), Format::kCsv, (folder_ / "numbers.csv").string());
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->files.size(), 1U);
  EXPECT_TRUE(std::filesystem::is_regular_file(folder_ / "numbers.csv"));
}

TEST_F(WriteReportTest, PicturesSayWhatIsMissing) {
  const char* path = getenv("PATH");
  const std::string saved = path == nullptr ? "" : path;
  setenv("PATH", folder_.c_str(), 1);
  const auto written = WriteReport(SampleReport(), Format::kSvg, (folder_ / "p").string());
  setenv("PATH", saved.c_str(), 1);
  ASSERT_EQ(written.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(absl::StrContains(written.status().message(), "nodejs")) << written.status();
}

TEST_F(WriteReportTest, OneFileForManyChartsIsRefused) {
  const auto written = WriteReport(SampleReport(), Format::kSvg, (folder_ / "all.svg").string());
  ASSERT_FALSE(written.ok());
  EXPECT_TRUE(absl::StrContains(written.status().message(), "--series") ||
              absl::StrContains(written.status().message(), "nodejs"))
      << written.status();
}

TEST_F(WriteReportTest, AFolderThatCannotBeMadeIsNamed) {
  const auto written =
      WriteReport(SampleReport(), Format::kHtml, (folder_ / "no/such/report.html").string());
  ASSERT_FALSE(written.ok());
  EXPECT_TRUE(absl::StrContains(written.status().message(), "no/such")) << written.status();
}

TEST_F(WriteReportTest, APlaceIsCheckedBeforeAnythingIsMade) {
  EXPECT_TRUE(CheckPlace(Format::kHtml, folder_.string() + "/r.html").ok());
  EXPECT_TRUE(CheckPlace(Format::kCsv, folder_.string() + "/new/er").ok());  // is made
  EXPECT_TRUE(CheckPlace(Format::kHtml, "-").ok());
  const std::string nowhere = folder_.string() + "/no/such/r.html";
  for (const absl::Status& status :
       {CheckPlace(Format::kHtml, nowhere),
        WriteReport(SampleReport(), Format::kHtml, nowhere).status()}) {
    EXPECT_TRUE(absl::StrContains(status.message(), absl::StrCat("cannot write ", nowhere)))
        << status;
    EXPECT_FALSE(absl::StrContains(status.message(), ".tmp")) << status;
  }
  EXPECT_TRUE(
      absl::StrContains(CheckPlace(Format::kMarkdown, folder_.string()).message(), "is a folder"));
  ASSERT_TRUE(WriteReport(SampleReport(), Format::kHtml, folder_.string() + "/r.html").ok());
  EXPECT_TRUE(absl::StrContains(CheckPlace(Format::kCsv, folder_.string() + "/r.html").message(),
                                "is a file"));
}

TEST(FormatTest, FollowsTheEndingUnlessNamed) {
  EXPECT_EQ(*ChooseFormat("", "x.md"), Format::kMarkdown);
  EXPECT_EQ(*ChooseFormat("", "x.CSV"), Format::kCsv);
  EXPECT_EQ(*ChooseFormat("", "folder.d/x"), Format::kHtml);
  EXPECT_EQ(*ChooseFormat("html", "x.md"), Format::kHtml);
  EXPECT_FALSE(ChooseFormat("pdf", "x.md").ok());
}

TEST(FormatTest, NamesAreChecked) {
  EXPECT_EQ(*ParseFormat("md"), Format::kMarkdown);
  EXPECT_FALSE(ParseFormat("pdf").ok());
}

}  // namespace
}  // namespace normlab::client::report
