// The table in docs/operations.md is what people write dashboards and alerts from, and what
// tests/monitoring checks ours against: it must say neither more nor less than a scrape.
#include "server/monitor/catalogue.h"

#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include <gtest/gtest.h>

#include "common/atomic_file.h"
#include "server/monitor/metrics.h"

namespace normlab::server {
namespace {

struct Described {
  std::string type;
  std::set<std::string> labels;
  bool operator==(const Described&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Described& described) {
  return out << described.type << " {" << absl::StrJoin(described.labels, ", ") << "}";
}

using Catalog = std::map<std::string, Described>;

// Rows look like: | `name` | type | `label`, `label` | meaning |
Catalog InDocs() {
  const std::string text = common::ReadFile(NORMLAB_SOURCE_DIR "/docs/operations.md").value_or("");
  Catalog catalog;
  bool inside = false;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, "## ")) {
      inside = line == "## Metrics";
    }
    if (!inside || !absl::StartsWith(line, "| `")) {
      continue;
    }
    const std::vector<std::string> cells = absl::StrSplit(line, '|');
    EXPECT_EQ(cells.size(), 6U) << line;
    if (cells.size() != 6) {
      continue;
    }
    const std::vector<std::string> name = absl::StrSplit(cells[1], '`');
    Described described;
    described.type = std::string(absl::StripAsciiWhitespace(cells[2]));
    for (const absl::string_view label : absl::StrSplit(cells[3], ',')) {
      const absl::string_view bare =
          absl::StripPrefix(absl::StripSuffix(absl::StripAsciiWhitespace(label), "`"), "`");
      if (!bare.empty()) {
        described.labels.emplace(bare);
      }
    }
    EXPECT_FALSE(absl::StripAsciiWhitespace(cells[4]).empty()) << line << " has no meaning";
    EXPECT_TRUE(catalog.emplace(name.at(1), described).second)
        << name.at(1) << " stands there twice";
  }
  return catalog;
}

Catalog InScrape(const std::string& text) {
  Catalog catalog;
  std::string family;
  for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    if (absl::StartsWith(line, "# TYPE ")) {
      const std::vector<std::string> words = absl::StrSplit(line, ' ');
      family = words.at(2);
      catalog[family].type = words.at(3);
      continue;
    }
    const size_t open = line.find('{');
    if (line[0] == '#' || open == absl::string_view::npos) {
      continue;
    }
    EXPECT_TRUE(absl::StartsWith(line, family)) << line;
    for (const absl::string_view pair : absl::StrSplit(
             line.substr(open + 1, line.rfind('}') - open - 1), ',', absl::SkipEmpty())) {
      const absl::string_view label = pair.substr(0, pair.find('='));
      if (label != "le") {
        catalog[family].labels.emplace(label);
      }
    }
  }
  return catalog;
}

TEST(CatalogueTest, TheDocumentedMetricsAreThoseOfAScrape) {
  Metrics metrics("1.2.3");
  // With everything that is there under a condition only.
  metrics.SetSampler([] {
    ServiceSample sample;
    sample.work_disk = {.size_bytes = 2, .free_bytes = 1};
    sample.certificate = {.end = 1'900'000'000};
    return sample;
  });
  const Catalog documented = InDocs();
  const Catalog exposed = InScrape(metrics.Scrape());
  ASSERT_GT(exposed.size(), 40U);
  for (const auto& [name, described] : exposed) {
    const auto found = documented.find(name);
    ASSERT_NE(found, documented.end())
        << name << " is not in the table of docs/operations.md, section Metrics; add it";
    EXPECT_EQ(found->second, described) << name;
  }
  for (const auto& [name, described] : documented) {
    EXPECT_TRUE(exposed.count(name) == 1)
        << name << " stands in docs/operations.md, but no scrape has it; remove it there";
  }
}

TEST(CatalogueTest, NamesSayUnitsAndKindsAsPrometheusWantsThem) {
  for (const auto& [name, described] : InDocs()) {
    EXPECT_EQ(described.type == "counter", absl::EndsWith(name, "_total")) << name;
    if (described.type == "histogram") {
      EXPECT_TRUE(absl::EndsWith(name, "_seconds") || absl::EndsWith(name, "_ratio")) << name;
    }
    for (const char* forbidden : {"job", "owner", "series", "experiment", "le"}) {
      EXPECT_EQ(described.labels.count(forbidden), 0U)
          << name << ": there would be as many time series as there are of these";
    }
  }
}

}  // namespace
}  // namespace normlab::server
