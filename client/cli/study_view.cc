#include "client/cli/study_view.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

#include "client/cli/context.h"
#include "client/report/number_text.h"
#include "client/studies/runner.h"

#include "nlohmann/json.hpp"

namespace normlab::client {
namespace {

using nlohmann::json;
using report::Claim;
using report::Verdict;
using studies::Part;
using studies::Plan;

// What predictions are given for where no server says how many it has.
constexpr int kAssumedCores = 2;
constexpr int kBarWidth = 24;

Color VerdictColor(Verdict verdict) {
  return verdict == Verdict::kSupported      ? Color::kGreen
         : verdict == Verdict::kNotSupported ? Color::kRed
                                             : Color::kYellow;
}

// Text whose lines were broken for a file, with a line for each paragraph: an empty line ends one.
std::string Unfold(absl::string_view text) {
  std::string unfolded;
  bool open = false;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    const absl::string_view words = absl::StripAsciiWhitespace(line);
    if (words.empty()) {
      absl::StrAppend(&unfolded, open ? "\n" : "");
      open = false;
    } else {
      absl::StrAppend(&unfolded, open ? " " : "", words);
      open = true;
    }
  }
  return unfolded;
}

// Paragraphs broken at `width` columns, each line behind `indent` spaces.
std::string Wrap(absl::string_view text, int width, int indent) {
  std::string wrapped;
  for (const absl::string_view paragraph : absl::StrSplit(text, '\n')) {
    std::string line;
    for (const absl::string_view word : absl::StrSplit(paragraph, ' ', absl::SkipWhitespace())) {
      if (!line.empty() && DisplayWidth(line) + 1 + DisplayWidth(word) > width - indent) {
        absl::StrAppend(&wrapped, std::string(static_cast<size_t>(indent), ' '), line, "\n");
        line.clear();
      }
      absl::StrAppend(&line, line.empty() ? "" : " ", word);
    }
    absl::StrAppend(&wrapped, line.empty() ? "" : std::string(static_cast<size_t>(indent), ' '),
                    line, "\n");
  }
  return wrapped;
}

std::string AxesText(const Part& part) {
  std::vector<std::string> axes;
  for (const studies::StudyAxis& axis : part.axes) {
    axes.push_back(absl::StrCat(axis.name, " (",
                                absl::StrJoin(axis.levels, ", ",
                                              [](std::string* out, const studies::Level& level) {
                                                out->append(level.name);
                                              }),
                                ")"));
  }
  return absl::StrJoin(axes, " x ");
}

std::string ClaimNumber(const Claim& claim) {
  if (!claim.value.has_value()) {
    return "no value";
  }
  const report::MeasuredText text = report::FormatMeasured(claim);
  return text.low.empty() ? text.value
                          : absl::StrCat(text.value, " [", text.low, ", ", text.high, "]");
}

json Number(double value) {
  return std::isfinite(value) ? json(value)
                              : json(std::isnan(value) ? "NaN"
                                     : value > 0       ? "Infinity"
                                                       : "-Infinity");
}

}  // namespace

std::string RoughTime(double seconds) {
  constexpr double kMinute = 60;
  constexpr double kHour = 3600;
  constexpr double kDay = 86400;
  if (seconds < 1.5 * kMinute) {
    return absl::StrFormat("%.0f s", std::max(1.0, seconds));
  }
  if (seconds < 1.5 * kHour) {
    return absl::StrFormat("%.0f min", seconds / kMinute);
  }
  return seconds < 2 * kDay ? absl::StrFormat("%.1f h", seconds / kHour)
                            : absl::StrFormat("%.0f days", seconds / kDay);
}

std::string Prediction(const Plan& plan, int cores) {
  return absl::StrCat(plan.jobs(), " jobs in ", plan.parts.size(),
                      plan.parts.size() == 1 ? " experiment" : " experiments", ", predicted ",
                      RoughTime(plan.Seconds(cores)), " on ", cores,
                      cores == 1 ? " core" : " cores");
}

std::string StudyTable(const Output& out) {
  std::string table = out.Paint(Color::kDim, absl::StrFormat("%-17s %-46s %5s  %s", "STUDY",
                                                             "TITLE", "JOBS", "QUICK, 2 CORES")) +
                      "\n";
  for (const std::string& name : studies::StudyNames()) {
    const auto text = studies::DescribeStudy(name);
    const auto plan = studies::MakePlan(name, {});
    if (text.ok() && plan.ok()) {
      absl::StrAppend(&table,
                      absl::StrFormat("%-17s %-46s %5d  %s\n", name, text->title, plan->jobs(),
                                      RoughTime(plan->Seconds(kAssumedCores))));
    }
  }
  return absl::StrCat(table, "More about one: normlab study describe NAME\n");
}

std::string DescribeStudyText(const Output& out,
                              const studies::StudyText& text,
                              const std::vector<Plan>& presets,
                              const std::string& preset) {
  const int width = std::clamp(out.Width(), 40, 100);
  std::string result = absl::StrCat(
      out.Paint(Color::kBold, absl::StrCat(text.name, ": ", text.title)), "\n\n",
      Wrap(Unfold(text.question), width, 0), "\n", out.Paint(Color::kBold, "Definition"), "\n",
      Wrap(Unfold(text.definition), width, 2), "\n",
      out.Paint(Color::kBold, "What the literature found"), "\n",
      Wrap(Unfold(text.paper), width, 2),
      Wrap(absl::StrCat("(", absl::StrJoin(text.sources, "; "), ")"), width, 2), "\n",
      out.Paint(Color::kBold, "Presets"), "\n");
  for (const Plan& plan : presets) {
    std::string about;
    for (const studies::Preset& known : text.presets) {
      about = known.name == plan.preset ? known.about : about;
    }
    absl::StrAppend(&result, "  ", PadRight(plan.preset, 8), Prediction(plan, kAssumedCores), "\n",
                    Wrap(Unfold(about), width, 10));
  }
  for (const Plan& plan : presets) {
    if (plan.preset != preset) {
      continue;
    }
    absl::StrAppend(&result, "\n",
                    out.Paint(Color::kBold, absl::StrCat("Parts of preset ", preset)), "\n");
    for (const Part& part : plan.parts) {
      absl::StrAppend(
          &result, "  ", out.Paint(Color::kCyan, part.name), ": ", part.jobs(), " jobs of about ",
          RoughTime(part.core_seconds), "\n", Wrap(Unfold(part.about), width, 4),
          Wrap(absl::StrCat(AxesText(part), "; ", part.seeds.size(), " seeds"), width, 4));
    }
  }
  return result;
}

std::string DescribeStudyJson(const studies::StudyText& text, const std::vector<Plan>& presets) {
  json document = {{"name", text.name},         {"title", text.title},
                   {"question", text.question}, {"definition", text.definition},
                   {"paper", text.paper},       {"sources", text.sources},
                   {"presets", json::array()}};
  for (const Plan& plan : presets) {
    json parts = json::array();
    for (const Part& part : plan.parts) {
      json axes = json::array();
      for (const studies::StudyAxis& axis : part.axes) {
        json levels = json::array();
        for (const studies::Level& level : axis.levels) {
          json fields = json::object();
          for (const auto& [field, value] : level.fields) {
            fields[field] = value;
          }
          levels.push_back({{"name", level.name}, {"fields", fields}});
        }
        axes.push_back({{"name", axis.name}, {"levels", levels}});
      }
      parts.push_back({{"name", part.name},
                       {"about", part.about},
                       {"base", json::parse(ToJson(part.base, false))},
                       {"axes", axes},
                       {"seeds", part.seeds},
                       {"jobs", part.jobs()},
                       {"predictedCoreSeconds", part.jobs() * part.core_seconds}});
    }
    document["presets"].push_back({{"name", plan.preset},
                                   {"jobs", plan.jobs()},
                                   {"predictedCoreSeconds", plan.Seconds(1)},
                                   {"parts", parts}});
  }
  return document.dump(1) + "\n";
}

std::string RunLine(const Output& out,
                    const std::string& study,
                    const v1::JobCounts& counts,
                    absl::Duration elapsed,
                    double predicted_seconds) {
  const int jobs = studies::JobsIn(counts);
  const int over = studies::JobsOver(counts);
  const double share = jobs == 0 ? 0 : static_cast<double>(over) / jobs;
  const int filled = static_cast<int>(share * kBarWidth);
  const std::string full = out.style().unicode ? "\u2588" : "#";
  const std::string empty = out.style().unicode ? "\u2591" : ".";
  std::string bar;
  for (int i = 0; i < kBarWidth; ++i) {
    absl::StrAppend(&bar, i < filled ? full : empty);
  }
  std::string line = absl::StrCat(study, "  ", bar, "  ", over, "/", jobs, " jobs done");
  for (const auto& [count, name] :
       {std::pair{counts.running(), "running"}, std::pair{counts.paused(), "paused"},
        std::pair{counts.diverged(), "diverged"}, std::pair{counts.failed(), "failed"},
        std::pair{counts.cancelled(), "cancelled"}}) {
    if (count > 0) {
      absl::StrAppend(&line, ", ", count, " ", name);
    }
  }
  const double seconds = absl::ToDoubleSeconds(elapsed);
  absl::StrAppend(&line, "  ", RoughTime(seconds));
  if (over < jobs) {
    // What is left by the prediction until a fifth is done, then by the speed so far.
    constexpr double kEnough = 0.2;
    const double left = share < kEnough ? std::max(0.0, predicted_seconds - seconds)
                                        : seconds * (1 - share) / share;
    absl::StrAppend(&line, ", about ", RoughTime(left), " left");
  }
  return line;
}

std::string ClaimsText(const Output& out, const std::vector<Claim>& claims) {
  constexpr int kVerdictWidth = 14;
  const int width = std::clamp(out.Width(), 60, 110);
  std::string text;
  for (const Claim& claim : claims) {
    const std::string verdict = report::VerdictText(claim.verdict);
    std::string body = Wrap(Printable(claim.statement), width, kVerdictWidth + 1);
    body.replace(0, kVerdictWidth + 1,
                 out.Paint(VerdictColor(claim.verdict), PadRight(verdict, kVerdictWidth)) + " ");
    absl::StrAppend(
        &text, body,
        Wrap(absl::StrCat(
                 Printable(claim.quantity), ": ", ClaimNumber(claim),
                 claim.seeds > 0 ? absl::StrCat(", ", report::SeedsText(claim)) : "",
                 claim.paper.empty() ? "" : absl::StrCat("; paper: ", Printable(claim.paper))),
             width, kVerdictWidth + 1),
        out.Paint(Color::kDim, Wrap(Printable(claim.reason), width, kVerdictWidth + 1)));
  }
  return text;
}

std::string ClaimsJson(const std::vector<Claim>& claims) {
  json array = json::array();
  for (const Claim& claim : claims) {
    json object = {{"id", claim.id},         {"statement", claim.statement},
                   {"source", claim.source}, {"quantity", claim.quantity},
                   {"rule", claim.rule},     {"verdict", report::VerdictText(claim.verdict)},
                   {"reason", claim.reason}, {"seeds", claim.seeds},
                   {"jobs", claim.jobs},     {"diverged", claim.diverged}};
    if (claim.value.has_value()) {
      object["value"] = Number(*claim.value);
    }
    if (claim.interval.has_value()) {
      object["interval"] = {Number(claim.interval->low), Number(claim.interval->high)};
      object["confidence"] = claim.confidence;
    }
    if (!claim.unit.empty()) {
      object["unit"] = absl::StripAsciiWhitespace(claim.unit);
    }
    if (!claim.paper.empty()) {
      object["paper"] = claim.paper;
    }
    array.push_back(std::move(object));
  }
  return array.dump(1);
}

std::string VerdictCounts(const std::vector<Claim>& claims) {
  const auto count = [&claims](Verdict verdict) {
    return std::count_if(claims.begin(), claims.end(),
                         [verdict](const Claim& claim) { return claim.verdict == verdict; });
  };
  return absl::StrCat(count(Verdict::kSupported), " supported, ", count(Verdict::kNotSupported),
                      " not supported, ", count(Verdict::kInconclusive), " inconclusive");
}

}  // namespace normlab::client
