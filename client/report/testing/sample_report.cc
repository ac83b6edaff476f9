#include "client/report/testing/sample_report.h"

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"

namespace normlab::client::report {
namespace {

// In [-1, 1), by a linear congruential generator: the same everywhere.
double Noise(uint32_t& state) {
  state = state * 1664525U + 1013904223U;
  return static_cast<double>(state >> 8) / static_cast<double>(1U << 23) - 1;
}

// A loss that falls from `start` to `end`, with a band.
Line LossCurve(const std::string& name, double start, double end, double speed, uint32_t seed) {
  Line line;
  line.name = name;
  for (int step = 0; step < 600; step += 5) {
    const double mean = end + (start - end) * std::exp(-speed * step) + 0.02 * Noise(seed);
    const double width = 0.03 + 0.12 * std::exp(-speed * step);
    line.x.push_back(step);
    line.y.push_back(mean);
    line.low.push_back(mean - width);
    line.high.push_back(mean + width);
  }
  return line;
}

Chart LossChart() {
  LineChart body;
  body.x = {.title = "step"};
  body.y = {.title = "train loss"};
  body.lines = {LossCurve("batch norm", 2.35, 0.42, 0.012, 1),
                LossCurve("noisy batch norm", 2.4, 0.47, 0.010, 2),
                LossCurve("none", 2.31, 1.05, 0.004, 3)};
  Line& exploding = body.lines.emplace_back(LossCurve("none, rate 1", 2.31, 2.2, 0.01, 4));
  exploding.x.resize(20);
  exploding.y.resize(20);
  exploding.low.clear();
  exploding.high.clear();
  for (int i = 0; i < 4; ++i) {
    exploding.y[16 + i] = std::pow(10.0, 2 + 3 * i);
  }
  exploding.y[19] = INFINITY;
  return {.id = "loss",
          .title = "Training loss",
          .caption = "Mean over 5 seeds; the band is the 95% interval of the mean.",
          .body = body};
}

Chart GradientChart() {
  LineChart body;
  body.x = {.title = "layers from the output"};
  body.y = {.title = "squared gradient norm, relative to the last layer",
            .scale = Scale::kLogarithmic};
  uint32_t state = 9;
  for (const auto& [batch, rate] :
       std::vector<std::pair<int, double>>{{8, 1.7882}, {32, 1.522}, {128, 1.4797}}) {
    Line measured;
    Line closed_form;
    measured.name = absl::StrCat("batch ", batch);
    closed_form.name = absl::StrCat("closed form, batch ", batch);
    closed_form.reference = true;
    for (int depth = 0; depth < 40; ++depth) {
      const double value = std::pow(rate, depth);
      closed_form.x.push_back(depth);
      closed_form.y.push_back(value);
      measured.x.push_back(depth);
      measured.y.push_back(value * (1 + 0.12 * Noise(state)));
      measured.low.push_back(measured.y.back() * 0.8);
      measured.high.push_back(measured.y.back() * 1.25);
    }
    body.lines.push_back(measured);
    body.lines.push_back(closed_form);
  }
  return {.id = "growth",
          .title = "Gradient growth with depth",
          .caption = "Dashed: the closed form of Yang et al. 2019.",
          .body = body};
}

Chart FacetChart() {
  LineChart body;
  body.x = {.title = "step"};
  body.y = {.title = "covariate shift, relative"};
  uint32_t state = 5;
  for (const char* net : {"standard", "batch norm", "noisy batch norm"}) {
    for (int layer = 2; layer <= 5; ++layer) {
      Line line;
      line.name = absl::StrCat("layer ", layer);
      for (int step = 0; step <= 500; step += 25) {
        line.x.push_back(step);
        const bool gap = layer == 3 && step > 200 && step < 300;
        line.y.push_back(gap ? NAN
                             : 0.08 * layer + 0.3 * std::exp(-step / 150.0) + 0.03 * Noise(state));
      }
      body.lines.push_back(line);
      body.facets.emplace_back(net);
    }
  }
  return {.id = "shift",
          .title = "Internal covariate shift by layer",
          .caption = "One panel a network; gaps where the gradient was zero.",
          .body = body};
}

Chart FewPlacesChart() {
  LineChart body;
  body.x = {.title = "batch size", .scale = Scale::kLogarithmic};
  body.y = {.title = "test accuracy"};
  for (const auto& [name, drop] : std::vector<std::pair<const char*, double>>{
           {"batch", 0.34}, {"group", 0.03}, {"layer", 0.05}, {"none", 0.08}}) {
    Line line;
    line.name = name;
    for (const double batch : {2, 4, 8, 16, 32, 64}) {
      line.x.push_back(batch);
      line.y.push_back(0.88 - drop / batch);
      line.low.push_back(line.y.back() - 0.012);
      line.high.push_back(line.y.back() + 0.012);
    }
    body.lines.push_back(line);
  }
  return {.id = "batch-size",
          .title = "Accuracy against batch size",
          .caption = "Five seeds.",
          .body = body};
}

Chart RateMap() {
  HeatMap body;
  body.x = {.title = "learning rate"};
  body.y = {.title = "initialization scale"};
  body.value_title = "train accuracy";
  for (const char* rate : {"0.001", "0.003", "0.01", "0.03", "0.1", "0.3", "1"}) {
    body.columns.emplace_back(rate);
  }
  for (const char* scale : {"0.1", "0.3", "1", "3", "10"}) {
    body.rows.emplace_back(scale);
  }
  for (size_t row = 0; row < body.rows.size(); ++row) {
    for (size_t column = 0; column < body.columns.size(); ++column) {
      const double value = 0.93 - 0.09 * std::abs(static_cast<double>(row) - 2) -
                           0.06 * std::abs(static_cast<double>(column) - 4);
      body.values.push_back(row == 4 && column > 4 ? NAN : value);
    }
  }
  return {.id = "rates",
          .title = "Which learning rates and scales train",
          .caption = "Mean over 3 seeds; grey: diverged.",
          .body = body};
}

Chart SurfaceMap() {
  HeatMap body;
  body.x = {.title = "direction 1"};
  body.y = {.title = "direction 2"};
  body.value_title = "loss";
  for (int i = -15; i <= 15; ++i) {
    body.columns.push_back(absl::StrFormat("%.2g", i / 15.0));
    body.rows.push_back(absl::StrFormat("%.2g", i / 15.0));
  }
  for (int y = -15; y <= 15; ++y) {
    for (int x = -15; x <= 15; ++x) {
      body.values.push_back(0.3 + (x * x + 2.0 * y * y + x * y) / 150.0);
    }
  }
  return {.id = "surface",
          .title = "Loss around the final weights",
          .caption = "Filter-normalized.",
          .body = body};
}

Chart Factors(bool long_names) {
  DotChart body;
  body.x = {.title = long_names ? "normalizer" : "activation"};
  body.y = {.title = "final test accuracy"};
  uint32_t state = 11;
  const std::vector<std::string> names =
      long_names
          ? std::vector<std::string>{"batch norm before the activation", "group norm, 8 groups",
                                     "layer norm", "none, Glorot initialization"}
          : std::vector<std::string>{"ReLU", "SELU", "tanh", "sigmoid"};
  for (const std::string& name : names) {
    for (const char* group : {"batch", "none"}) {
      DotChart::Dot dot{.category = name, .group = group};
      double sum = 0;
      for (int seed = 0; seed < 5; ++seed) {
        dot.seeds.push_back((group[0] == 'b' ? 0.86 : 0.80) + 0.02 * Noise(state));
        sum += dot.seeds.back();
      }
      dot.value = sum / 5;
      dot.interval = Interval{dot.value - 0.011, dot.value + 0.011};
      body.dots.push_back(dot);
    }
  }
  return {.id = long_names ? "dots-rows" : "dots-columns",
          .title = "Final test accuracy",
          .caption = "Symbols: means with 95% intervals; small dots: single seeds.",
          .body = body};
}

std::vector<Claim> SampleClaims() {
  return {{.id = "loss-range",
           .statement = "The loss varies less along the gradient with batch norm.",
           .source = "Santurkar et al. 2018, Fig. 4(a)",
           .quantity = "log10 ratio of the loss ranges, standard over batch norm",
           .value = 1.2431,
           .interval = Interval{0.9812, 1.505},
           .paper = "up to 2 orders of magnitude early on",
           .rule = "the 95% interval lies above 0 after Holm's correction over 3 claims",
           .verdict = Verdict::kSupported,
           .reason = "The interval lies wholly above 0.",
           .seeds = 5},
          {.id = "smoothness",
           .statement = "The effective smoothness constant is lower with batch norm.",
           .source = "Santurkar et al. 2018, Fig. 4(c)",
           .quantity = "difference of the medians, standard \u2212 batch norm",
           .value = -3.2,
           .interval = Interval{-5.91, -0.52},
           .paper = "steady at 15 to 20, against jumps within 5 to 45",
           .rule = "the 95% interval lies above 0",
           .verdict = Verdict::kNotSupported,
           .reason = "The interval lies wholly below 0: here batch norm has the higher constant.",
           .seeds = 5,
           .jobs = 10,
           .diverged = 1},
          {.id = "accuracy",
           .statement = "Noisy batch norm does not hurt accuracy.",
           .source = "Santurkar et al. 2018, Sec. 2.1",
           .quantity = "difference in test accuracy",
           .rule = "equivalence within 2 points (two one-sided tests)",
           .verdict = Verdict::kInconclusive,
           .reason = "Only 3 seeds ran; the rule asks for 5.",
           .seeds = 3}};
}

}  // namespace

Report SampleReport() {
  Report report;
  report.title = "Does batch norm make the loss smoother?";
  report.subtitle = "Study landscape, preset quick, 5 seeds";
  report.question =
      "Santurkar et al. explain batch norm's success by a smoother loss. Is it smoother here, "
      "along the gradient that training follows?";
  report.warnings = {
      "1 of 20 jobs diverged at step 19: it is counted in every result, at chance accuracy."};
  report.claims = SampleClaims();
  Section curves{.title = "Training",
                 .text = "Three networks, the same data.\n\nEach runs with five seeds."};
  curves.charts = {LossChart(), FewPlacesChart(), Factors(false), Factors(true)};
  Section inside{.title = "Inside the network"};
  inside.charts = {GradientChart(), FacetChart(), RateMap(), SurfaceMap()};
  Table table{.id = "final",
              .title = "Final values",
              .columns = {"network", "seeds", "test accuracy", "interval", "train loss"}};
  table.rows = {{"batch norm", 5.0, 0.86214, "0.851 to 0.873", 0.4219},
                {"noisy batch norm", 5.0, 0.85531, "0.843 to 0.868", 0.4732},
                {"none", 4.0, 0.80127, "0.782 to 0.820", 1.0512}};
  inside.tables.push_back(table);
  report.sections = {curves, inside};
  report.specs = {{"batch norm", "model:\n  vgg: {depth: 11}\nnormalization:\n  batch: {}\n"}};
  report.repeat = {"normlab study run landscape --preset quick"};
  report.provenance = "Normlab 0.1.0, oneDNN 2.6.3 (AVX512_CORE), 2 cores.";
  report.time = absl::FromUnixSeconds(1795000000);
  return report;
}

std::string HostileText() {
  return "</script><script>document.title='broken'</script><img src=x "
         "onerror=\"document.title='broken'\"> "
         "'\"&|`*[x](javascript:alert(1)) \\u2028 ]]> <!-- --> {{x}} ${x}";
}

Report HostileReport() {
  const std::string bad = HostileText();
  Report report;
  report.title = report.subtitle = report.question = report.provenance = bad;
  report.warnings = report.repeat = {bad, absl::StrCat(bad, "\xff\xfe\x01 not UTF-8")};
  report.claims = {{.id = bad,
                    .statement = bad,
                    .source = bad,
                    .quantity = bad,
                    .value = 1,
                    .paper = bad,
                    .rule = bad,
                    .verdict = Verdict::kSupported,
                    .reason = bad}};
  const AxisStyle axis{.title = bad};
  const Line line{.name = bad, .x = {0, 1, 2}, .y = {1, 2, 3}, .low = {0, 1, 2}, .high = {2, 3, 4}};
  Line reference = line;
  reference.reference = true;
  Section section{.title = bad, .text = bad};
  section.charts = {
      {.id = absl::StrCat(bad, 1),
       .title = bad,
       .caption = bad,
       .body = LineChart{.x = axis, .y = axis, .lines = {line, reference}, .facets = {bad, bad}}},
      {.id = absl::StrCat(bad, 2),
       .title = bad,
       .caption = bad,
       .body = HeatMap{.x = axis,
                       .y = axis,
                       .columns = {bad, "b"},
                       .rows = {bad},
                       .values = {1, 2},
                       .texts = {bad, bad},
                       .value_title = bad}},
      {.id = absl::StrCat(bad, 3),
       .title = bad,
       .caption = bad,
       .body = DotChart{.x = axis,
                        .y = axis,
                        .dots = {{.category = bad,
                                  .group = bad,
                                  .value = 1,
                                  .interval = Interval{0, 2},
                                  .seeds = {0.5, 1.5}}}}}};
  section.tables = {
      {.id = bad, .title = bad, .columns = {bad, bad}, .rows = {{bad, 1.5}, {bad, 2.5}}}};
  report.sections = {section};
  report.specs = {{bad, bad}};
  return report;
}

Report BigReport(int lines, int points) {
  LineChart body;
  body.x = {.title = "step"};
  body.y = {.title = "loss"};
  uint32_t state = 3;
  for (int l = 0; l < lines; ++l) {
    Line line;
    line.name = absl::StrCat("run ", l);
    for (int i = 0; i < points; ++i) {
      const double y = 2 + 0.01 * l + std::sin(i * 0.01 + l) + 0.1 * Noise(state);
      line.x.push_back(i);
      line.y.push_back(y);
      line.low.push_back(y - 0.2);
      line.high.push_back(y + 0.2);
    }
    body.lines.push_back(line);
  }
  Report report;
  report.title = "Many runs";
  Section section{.title = "Curves"};
  section.charts = {{.id = "many", .title = "Loss", .caption = "Made up.", .body = body}};
  report.sections = {section};
  return report;
}

}  // namespace normlab::client::report
