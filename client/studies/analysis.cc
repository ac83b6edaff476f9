#include "client/studies/analysis.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"

#include "client/studies/curves.h"
#include "client/studies/measure.h"
#include "client/studies/spec_text.h"

namespace normlab::client::studies {
namespace {

// A regression that trains: its loss fell to this part of the first.
constexpr double kFallen = 0.5;

using Analysis = void (*)(const Run&, report::Report&);
constexpr std::array<std::pair<absl::string_view, Analysis>, 9> kAnalyses = {{
    {"affine", AnalyzeAffine},
    {"three-modes", AnalyzeThreeModes},
    {"covariate-shift", AnalyzeCovariateShift},
    {"landscape", AnalyzeLandscape},
    {"explosion", AnalyzeExplosion},
    {"learning-rate", AnalyzeLearningRate},
    {"three-factors", AnalyzeThreeFactors},
    {"normalizers", AnalyzeNormalizers},
    {"sync-batch", AnalyzeSyncBatch},
}};

// Jobs without a result, by what became of them; diverged ones apart.
std::vector<std::string> Warnings(const Run& run) {
  std::map<std::string, int> states;
  std::map<std::string, std::string> example;
  int diverged = 0;
  int jobs = 0;
  for (const PartRun& part : run.parts) {
    for (const CellRun& cell : part.cells) {
      for (const SeedRun& seed : cell.seeds) {
        ++jobs;
        diverged += seed.diverged() ? 1 : 0;
        if (!seed.has_result()) {
          const std::string state = v1::Job::State_Name(seed.job.state());
          ++states[state];
          example.emplace(
              state,
              absl::StrCat(
                  seed.job.name(), " (", part.name, ": ", cell.Name(), ", seed ", seed.seed, ")",
                  seed.job.has_failure() ? absl::StrCat(": ", seed.job.failure().message()) : ""));
        }
      }
    }
  }
  std::vector<std::string> warnings;
  for (const auto& [state, count] : states) {
    warnings.push_back(absl::StrCat(count, " of ", jobs, " jobs ", count == 1 ? "is " : "are ",
                                    state, " and without a result, for example ", example[state]));
  }
  if (diverged > 0) {
    warnings.push_back(absl::StrCat(
        diverged, " of ", jobs,
        " jobs diverged; they count as the worst that their measure knows (accuracy: chance)"));
  }
  return warnings;
}

report::Table CostTable(const Run& run) {
  report::Table table{
      .id = "cost",
      .title = "What it took",
      .columns = {"part", "jobs", "core-seconds", "of a job, predicted", "of a job, measured"}};
  for (size_t i = 0; i < run.parts.size(); ++i) {
    double seconds = 0;
    int jobs = 0;
    for (const CellRun& cell : run.parts[i].cells) {
      for (const SeedRun& seed : cell.seeds) {
        for (const v1::Attempt& attempt : seed.job.attempts()) {
          seconds += attempt.core_seconds();
        }
        ++jobs;
      }
    }
    table.rows.push_back({run.parts[i].name, static_cast<double>(jobs),
                          std::round(10 * seconds) / 10, run.plan.parts[i].core_seconds,
                          std::round(100 * seconds / std::max(1, jobs)) / 100});
  }
  return table;
}

// Runs and passes of every probe, over all jobs that have it.
report::Table ProbeTable(const Run& run) {
  report::Table table{.id = "probes",
                      .title = "What the probes cost",
                      .columns = {"part", "probe", "runs a job",
                                  "forward and backward passes a run", "seconds a job"}};
  for (const PartRun& part : run.parts) {
    struct Sum {
      double runs = 0;
      double passes = 0;
      double seconds = 0;
      int jobs = 0;
    };
    std::map<std::string, Sum> sums;
    for (const CellRun& cell : part.cells) {
      for (const SeedRun& seed : cell.seeds) {
        for (const v1::ProbeCost& cost : seed.job.result().probe_costs()) {
          Sum& sum = sums[cost.probe()];
          sum.runs += static_cast<double>(cost.runs());
          sum.passes += cost.passes_per_run();
          sum.seconds += cost.seconds();
          ++sum.jobs;
        }
      }
    }
    for (const auto& [probe, sum] : sums) {
      table.rows.push_back({part.name, probe, std::round(10 * sum.runs / sum.jobs) / 10,
                            std::round(100 * sum.passes / sum.jobs) / 100,
                            std::round(1000 * sum.seconds / sum.jobs) / 1000});
    }
  }
  return table;
}

}  // namespace

std::optional<std::string> StuckOnPlateau(const CellRun& standard) {
  int stuck = 0;
  int jobs = 0;
  for (const SeedRun& seed : standard.seeds) {
    jobs += seed.has_result() ? 1 : 0;
    stuck += seed.has_result() && !PlateauEnd(seed, kPlateauLoss).has_value() ? 1 : 0;
  }
  return stuck == 0
             ? std::nullopt
             : std::optional<std::string>(absl::StrCat(
                   "the standard net did not train: the training loss of ", stuck, " of ", jobs,
                   " seeds stayed at ", absl::StrFormat("%.1f", kPlateauLoss), " or above"));
}

std::optional<std::string> StuckOnPlateau(const CellRun& standard,
                                          const CellRun& other,
                                          absl::string_view other_name) {
  if (auto stuck = StuckOnPlateau(standard); stuck.has_value()) {
    return stuck;
  }
  int stuck = 0;
  for (const SeedRun& seed : other.seeds) {
    const bool succeeded = seed.has_result() && !seed.diverged();
    stuck += succeeded && !PlateauEnd(seed, kPlateauLoss).has_value() ? 1 : 0;
  }
  return stuck == 0 ? std::nullopt
                    : std::optional<std::string>(absl::StrCat(
                          "the net with ", other_name, " did not train: the training loss of ",
                          stuck, " of ", other.seeds.size(), " seeds stayed at ",
                          absl::StrFormat("%.1f", kPlateauLoss), " or above"));
}

std::optional<std::string> LossDidNotFall(const CellRun& standard) {
  int stuck = 0;
  int jobs = 0;
  for (const SeedRun& seed : standard.seeds) {
    const Points* loss = seed.Find("train/loss");
    if (!seed.has_result() || loss == nullptr || loss->values.empty()) {
      continue;
    }
    ++jobs;
    stuck +=
        *std::min_element(loss->values.begin(), loss->values.end()) > kFallen * loss->values.front()
            ? 1
            : 0;
  }
  return stuck == 0 ? std::nullopt
                    : std::optional<std::string>(
                          absl::StrCat("the standard net did not train: the training loss of ",
                                       stuck, " of ", jobs, " seeds did not fall by half"));
}

report::Report MakeReport(const Run& run) {
  report::Report report;
  const absl::StatusOr<StudyText> text = DescribeStudy(run.plan.study);
  report.title = text.ok() ? text->title : run.plan.study;
  report.question = text.ok() ? text->question : "";
  report.subtitle = absl::StrCat("study ", run.plan.study, ", preset ", run.plan.preset, ", ",
                                 run.SeedsText(), " seeds, ", run.plan.jobs(), " jobs");
  report.warnings = Warnings(run);
  report.time = run.end_time == absl::InfiniteFuture() ? absl::Now() : run.end_time;
  if (text.ok()) {
    report.sections.push_back(
        {.title = "Definition",
         .text = absl::StrCat(text->definition, "\n\nWhat the literature found. ", text->paper,
                              "\n\nSources: ", absl::StrJoin(text->sources, "; "), ".")});
  }
  for (const auto& [name, analyze] : kAnalyses) {
    if (name == run.plan.study) {
      analyze(run, report);
    }
  }
  report::Section cost{.title = "Cost", .text = "", .tables = {CostTable(run)}};
  if (report::Table probes = ProbeTable(run); !probes.rows.empty()) {
    cost.tables.push_back(std::move(probes));
  }
  report.sections.push_back(std::move(cost));
  for (const PartRun& part : run.parts) {
    for (const CellRun& cell : part.cells) {
      report.specs.push_back(
          {.title = absl::StrCat(part.name, ": ", cell.Name()), .text = SpecYaml(cell.resolved)});
    }
  }
  report.repeat.push_back(absl::StrCat("normlab study run ", run.plan.study, " --preset ",
                                       run.plan.preset, run.plan.changes.empty() ? "" : " ",
                                       absl::StrJoin(run.plan.changes, " ")));
  report.repeat.push_back(absl::StrCat("normlab report ", run.plan.study, " --preset ",
                                       run.plan.preset, " -o report.html"));
  report.provenance = run.server;
  if (!run.plan.changes.empty()) {
    absl::StrAppend(&report.subtitle, "; changed: ", absl::StrJoin(run.plan.changes, " "));
  }
  return report;
}

Judged JudgedOffPlateau(const PartRun& part) {
  const CellRun& standard = part.Cell({kStandard});
  const CellRun& batch = part.Cell({kBatchNorm});
  return {BothLeftPlateau(standard, batch, kPlateauLoss), kPlateauRule,
          StuckOnPlateau(standard, batch, kBatchNorm)};
}

Judged JudgedIfItFalls(const PartRun& part) {
  return {{}, kFallRule, LossDidNotFall(part.Cell({kStandard}))};
}

report::Report MakeOverview(absl::Span<const Run* const> runs) {
  report::Report overview;
  overview.title = "Normalization: what holds here";
  std::vector<std::string> names;
  overview.time = absl::InfinitePast();
  for (const Run* run : runs) {
    const std::string& study = run->plan.study;
    names.push_back(study);
    report::Report one = MakeReport(*run);
    for (report::Claim& claim : one.claims) {
      claim.id = absl::StrCat(study, "-", claim.id);
      claim.group = one.title;
      overview.claims.push_back(std::move(claim));
    }
    for (std::string& warning : one.warnings) {
      overview.warnings.push_back(absl::StrCat(study, ": ", warning));
    }
    for (report::Section& section : one.sections) {
      section.group = one.title;
      for (report::Chart& chart : section.charts) {
        chart.id = absl::StrCat(study, "-", chart.id);
      }
      for (report::Table& table : section.tables) {
        table.id = absl::StrCat(study, "-", table.id);
      }
      overview.sections.push_back(std::move(section));
    }
    for (report::Report::Spec& spec : one.specs) {
      spec.title = absl::StrCat(study, ", ", spec.title);
      overview.specs.push_back(std::move(spec));
    }
    overview.repeat.push_back(one.repeat.front());
    overview.provenance = one.provenance;
    overview.time = std::max(overview.time, one.time);
  }
  overview.subtitle = absl::StrCat("studies ", absl::StrJoin(names, ", "));
  overview.question =
      "Which claims of the literature on batch norm and its relatives hold on this machine, with "
      "these nets and data?";
  return overview;
}

}  // namespace normlab::client::studies
