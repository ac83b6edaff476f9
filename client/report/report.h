// What a report says, independent of how it is written: claims with verdicts, charts, tables and how to repeat it all.
// Studies and experiments fill it (analysis), writers turn it into HTML, Markdown, CSV or pictures.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/time/time.h"

namespace normlab::client::report {

enum class Verdict { kSupported, kNotSupported, kInconclusive };

struct Interval {
  double low = 0;
  double high = 0;
};

// One statement of the literature, what was measured, and what follows by a stated rule.
struct Claim {
  std::string id;  // stable, for links and tests: "loss-range"
  std::string
      group;  // the study, in a report of several; consecutive claims of a group stand together
  std::string statement;  // "The loss varies less along the gradient with batch norm."
  std::string source;     // "Santurkar et al. 2018, Fig. 4(a)"
  std::string quantity;  // what `value` is: "log10 ratio of the loss ranges, standard / batch norm"
  std::optional<double> value;
  std::optional<Interval> interval;  // of the value, at `confidence`
  double confidence = 0.95;
  std::string paper;  // the paper's value as text; empty: it gives none
  std::string rule;   // the rule of the verdict in words
  Verdict verdict = Verdict::kInconclusive;
  std::string reason;  // one sentence: why this verdict
  std::string unit;    // behind the value: "%", " times"
  int seeds = 0;       // that the value rests on
  int jobs = 0;        // of those seeds that the value rests on; 0: not counted
  int diverged = 0;    // of the jobs: counted, shown, never dropped
};

enum class Scale { kLinear, kLogarithmic };

struct AxisStyle {
  std::string title;  // with the unit
  Scale scale = Scale::kLinear;
};

// One line with an optional band; empty `low` and `high`: no band. Non-finite values leave a gap.
struct Line {
  std::string name;
  std::vector<double> x;
  std::vector<double> y;
  std::vector<double> low;
  std::vector<double> high;
  bool reference = false;  // a closed form or a published value: dashed, grey
};

// Curves over steps or depth.
struct LineChart {
  AxisStyle x;
  AxisStyle y;
  std::vector<Line> lines;
  std::vector<std::string>
      facets;  // empty, or one name for each line: lines of a facet share a panel
};

// A value for each pair of two categories; rows.size() * columns.size() values, row by row; NaN: no value.
struct HeatMap {
  AxisStyle x;
  AxisStyle y;
  std::vector<std::string> columns;
  std::vector<std::string> rows;
  std::vector<double> values;
  std::vector<std::string> texts;  // in the cells; empty: the values
  std::string value_title;
};

// A mean with its interval for each category and group (accuracy per normalizer and batch size).
struct DotChart {
  struct Dot {
    std::string category;
    std::string group;
    double value = 0;
    std::optional<Interval> interval;
    std::vector<double> seeds;  // the single values, drawn small
  };
  AxisStyle x;  // of the categories
  AxisStyle y;
  std::vector<Dot> dots;
};

struct Chart {
  std::string id;  // unique in the report; names its files: "landscape-loss"
  std::string title;
  std::string caption;  // how to read it, with units and what the band is
  std::variant<LineChart, HeatMap, DotChart> body;
};

struct Table {
  using Value = std::variant<std::string, double>;
  std::string id;
  std::string title;
  std::vector<std::string> columns;
  std::vector<std::vector<Value>> rows;  // as long as the columns
};

struct Section {
  std::string group;  // the study, in a report of several
  std::string title;
  std::string text;  // plain paragraphs, separated by an empty line
  std::vector<Chart> charts;
  std::vector<Table> tables;
};

struct Report {
  std::string title;
  std::string subtitle;  // "study landscape, preset quick, 5 seeds"
  std::string question;  // what it asks; may be empty for a report of jobs
  std::vector<std::string>
      warnings;  // jobs that failed, diverged or still run; preconditions that do not hold
  std::vector<Claim> claims;  // empty for a report of an experiment or of jobs
  std::vector<Section> sections;
  // Resolved spec of every cell, as YAML.
  struct Spec {
    std::string title;
    std::string text;
  };
  std::vector<Spec> specs;
  std::vector<std::string> repeat;  // commands that repeat it
  std::string provenance;           // versions, machine, server
  absl::Time time;
};

}  // namespace normlab::client::report
