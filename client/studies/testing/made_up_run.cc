#include "client/studies/testing/made_up_run.h"

#include <cmath>
#include <set>
#include <variant>

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

namespace normlab::client::studies {

using report::Claim;
using report::Report;

double Jitter(const SeedRun& seed, double size) {
  return size * (static_cast<double>(seed.seed % 5) - 2) / 2;
}

void Put(SeedRun& seed,
         const std::string& series,
         const std::function<double(int)>& value,
         int every,
         int steps) {
  Points& points = seed.series[series];
  points = {};
  for (int step = 0; step < steps; step += every) {
    points.steps.push_back(step);
    points.values.push_back(value(step));
  }
}

void PutConstant(SeedRun& seed, const std::string& series, double value, int every) {
  Put(
      seed, series, [value](int) { return value; }, every);
}

void PutTraining(SeedRun& seed, double accuracy) {
  Put(
      seed, "train/loss", [](int step) { return 2.3 * std::exp(-step / 80.0) + 0.2; }, 1);
  Put(
      seed, "train/accuracy", [accuracy](int step) { return step < 100 ? 0.3 : accuracy; }, 1);
  seed.series["test/accuracy"] = {{kSteps}, {accuracy}};
  seed.series["test/loss"] = {{kSteps}, {0.5}};
}

StudyRun MadeUp(const std::string& study,
                const std::function<void(const std::string& part, const CellRun&, SeedRun&)>& fill,
                int seeds) {
  const auto plan = MakePlan(study, {.seeds = seeds});
  EXPECT_TRUE(plan.ok()) << plan.status();
  StudyRun run = EmptyRun(*plan);
  for (PartRun& part : run.parts) {
    for (CellRun& cell : part.cells) {
      cell.resolved = v1::JobSpec();
      for (SeedRun& seed : cell.seeds) {
        seed.job.set_state(v1::Job::SUCCEEDED);
        seed.job.set_name(absl::StrCat("jobs/", part.name, seed.seed));
        fill(part.name, cell, seed);
      }
    }
  }
  run.end_time = absl::UnixEpoch();
  return run;
}

std::map<std::string, Claim> Claims(const Report& report) {
  std::map<std::string, Claim> claims;
  for (const Claim& claim : report.claims) {
    EXPECT_TRUE(claims.emplace(claim.id, claim).second) << claim.id;
    EXPECT_FALSE(claim.statement.empty() || claim.source.empty() || claim.quantity.empty() ||
                 claim.rule.empty() || claim.reason.empty())
        << claim.id;
  }
  return claims;
}

void ExpectWellFormed(const Report& report) {
  EXPECT_FALSE(report.title.empty() || report.question.empty() || report.claims.empty() ||
               report.sections.empty());
  EXPECT_FALSE(report.repeat.empty() || report.specs.empty());
  std::set<std::string> ids;
  for (const report::Section& section : report.sections) {
    for (const report::Chart& chart : section.charts) {
      EXPECT_TRUE(ids.insert(chart.id).second) << chart.id;
      EXPECT_FALSE(chart.title.empty() || chart.caption.empty()) << chart.id;
      if (const auto* lines = std::get_if<report::LineChart>(&chart.body)) {
        EXPECT_TRUE(lines->facets.empty() || lines->facets.size() == lines->lines.size())
            << chart.id;
        for (const report::Line& line : lines->lines) {
          EXPECT_EQ(line.x.size(), line.y.size()) << chart.id;
          EXPECT_TRUE(line.low.empty() || line.low.size() == line.x.size()) << chart.id;
          EXPECT_EQ(line.low.size(), line.high.size()) << chart.id;
        }
      } else if (const auto* map = std::get_if<report::HeatMap>(&chart.body)) {
        EXPECT_EQ(map->values.size(), map->rows.size() * map->columns.size());
        EXPECT_EQ(map->texts.size(), map->values.size());
      }
    }
    for (const report::Table& table : section.tables) {
      EXPECT_TRUE(ids.insert(table.id).second) << table.id;
      for (const auto& row : table.rows) {
        EXPECT_EQ(row.size(), table.columns.size()) << table.id;
      }
    }
  }
}

const report::Chart& ChartOf(const Report& report, absl::string_view id) {
  for (const report::Section& section : report.sections) {
    for (const report::Chart& chart : section.charts) {
      if (chart.id == id) {
        return chart;
      }
    }
  }
  static const report::Chart none;
  ADD_FAILURE() << "no chart " << id;
  return none;
}

}  // namespace normlab::client::studies
