#include "client/cli/terminal_chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "client/lib/number_format.h"

namespace normlab::client {
namespace {

constexpr int kMinPlotWidth = 10;

// A black and white picture of dots, several to a character.
class Canvas {
 public:
  Canvas(int columns, int rows, bool unicode)
      : unicode_(unicode),
        columns_(columns),
        width_(columns * (unicode ? 2 : 1)),
        height_(rows * (unicode ? 4 : 1)),
        cells_(static_cast<size_t>(columns) * static_cast<size_t>(rows), 0) {}

  int width() const { return width_; }
  int height() const { return height_; }

  // A line from dot to dot; (0, 0) is at the top left.
  void Line(int x0, int y0, int x1, int y1) {
    const int steps = std::max({std::abs(x1 - x0), std::abs(y1 - y0), 1});
    for (int i = 0; i <= steps; ++i) {
      const double share = static_cast<double>(i) / steps;
      Dot(x0 + static_cast<int>(std::lround((x1 - x0) * share)),
          y0 + static_cast<int>(std::lround((y1 - y0) * share)));
    }
  }

  std::string Row(int row) const {
    std::string text;
    for (int column = 0; column < columns_; ++column) {
      const uint8_t dots = cells_[static_cast<size_t>(row * columns_ + column)];
      if (!unicode_ || dots == 0) {
        text.push_back(dots == 0 ? ' ' : '*');
      } else {  // U+2800 + dots in UTF-8
        text.push_back('\xE2');
        text.push_back(static_cast<char>(0xA0U | dots >> 6U));
        text.push_back(static_cast<char>(0x80U | (dots & 0x3FU)));
      }
    }
    return text;
  }

 private:
  void Dot(int x, int y) {
    // Bits of Unicode's braille patterns, [row][column].
    constexpr std::array<std::array<uint8_t, 2>, 4> kBits = {
        {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}}};
    if (x < 0 || y < 0 || x >= width_ || y >= height_) {
      return;
    }
    const int column = unicode_ ? x / 2 : x;
    const int row = unicode_ ? y / 4 : y;
    cells_[static_cast<size_t>(row * columns_ + column)] |=
        unicode_ ? kBits[static_cast<size_t>(y % 4)][static_cast<size_t>(x % 2)] : 1;
  }

  bool unicode_;
  int columns_;
  int width_;
  int height_;
  std::vector<uint8_t> cells_;
};

std::string PadLeft(const std::string& text, size_t width) {
  return absl::StrCat(std::string(width > text.size() ? width - text.size() : 0, ' '), text);
}

}  // namespace

std::string RenderChart(const std::string& title,
                        const std::vector<int64_t>& steps,
                        const std::vector<double>& values,
                        const ChartOptions& options) {
  std::vector<size_t> finite;
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) {
      finite.push_back(i);
    }
  }
  if (finite.empty()) {
    return absl::StrCat(title, ": no finite value to draw\n");
  }
  const auto [low, high] = std::minmax_element(
      finite.begin(), finite.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  const double smallest = values[*low];
  const double largest = values[*high];
  const int64_t first_step = steps[finite.front()];
  const int64_t last_step = steps[finite.back()];
  const std::string top = FormatRounded(largest);
  const std::string bottom = FormatRounded(smallest);
  const size_t label_width = std::max(top.size(), bottom.size());
  const int plot_width = std::max(kMinPlotWidth, options.width - static_cast<int>(label_width) - 1);
  Canvas canvas(plot_width, options.height, options.unicode);

  const auto x_of = [&](size_t i) {
    const double share = last_step == first_step ? 0.0
                                                 : static_cast<double>(steps[i] - first_step) /
                                                       static_cast<double>(last_step - first_step);
    return static_cast<int>(std::lround(share * (canvas.width() - 1)));
  };
  const auto y_of = [&](size_t i) {
    // Halves first: the range of two huge values of opposite sign would overflow.
    const double range = largest / 2 - smallest / 2;
    const double share = range > 0 ? (largest / 2 - values[i] / 2) / range : 0.5;
    return static_cast<int>(std::lround(share * (canvas.height() - 1)));
  };
  for (size_t k = 0; k < finite.size(); ++k) {
    const size_t from = finite[k == 0 ? 0 : k - 1];
    canvas.Line(x_of(from), y_of(from), x_of(finite[k]), y_of(finite[k]));
  }

  const absl::string_view bar = options.unicode ? "\u2502" : "|";
  const absl::string_view tick = options.unicode ? "\u2524" : "+";
  std::string text = absl::StrCat(title, "\n");
  for (int row = 0; row < options.height; ++row) {
    const bool is_top = row == 0;
    const bool is_bottom = row == options.height - 1;
    std::string line = absl::StrCat(PadLeft(is_top      ? top
                                            : is_bottom ? bottom
                                                        : "",
                                            label_width),
                                    is_top || is_bottom ? tick : bar, canvas.Row(row));
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&text, line, "\n");
  }
  const std::string left = absl::StrCat("step ", first_step);
  const std::string right = absl::StrCat(last_step);
  absl::StrAppend(&text, std::string(label_width + 1, ' '), left,
                  PadLeft(right, static_cast<size_t>(plot_width) > left.size()
                                     ? static_cast<size_t>(plot_width) - left.size()
                                     : right.size() + 1),
                  "\n");
  return text;
}

}  // namespace normlab::client
