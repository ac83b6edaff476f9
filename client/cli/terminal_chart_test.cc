#include "client/cli/terminal_chart.h"

#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "client/cli/output.h"

namespace normlab::client {
namespace {

TEST(TerminalChartTest, DrawsAFallingLine) {
  EXPECT_EQ(
      RenderChart("t", {0, 1, 2, 3}, {3, 2, 1, 0}, {.width = 13, .height = 4, .unicode = false}),
      "t\n"
      "3+**\n"
      " |  ***\n"
      " |     ****\n"
      "0+         **\n"
      "  step 0    3\n");
  const std::string braille = RenderChart("t", {0, 10}, {1, 0}, {.width = 13, .height = 2});
  EXPECT_EQ(braille.substr(0, braille.find("step")),
            "t\n1\u2524\u2809\u2812\u2822\u2824\u28C0\u2840\n"
            "0\u2524     \u2808\u2809\u2812\u2822\u2824\u28C0\n  ");
}

TEST(TerminalChartTest, SurvivesOddValues) {
  const double huge = std::numeric_limits<double>::max();
  for (const std::vector<double>& values :
       {std::vector<double>{1, NAN, 2}, {INFINITY, -INFINITY, NAN}, {huge, -huge, 0}, {5, 5, 5}}) {
    for (const bool unicode : {false, true}) {
      const std::string chart =
          RenderChart("t", {0, 7, 9}, values, {.width = 1, .height = 3, .unicode = unicode});
      EXPECT_THAT(chart, testing::StartsWith("t"));
    }
  }
  EXPECT_THAT(RenderChart("t", {}, {}, {}), testing::HasSubstr("no finite value"));
  EXPECT_THAT(RenderChart("t", {4}, {1}, {}), testing::HasSubstr("step 4"));
}

TEST(OutputTest, TextHelpersCountCharacters) {
  EXPECT_EQ(Printable("a\x1b[2J\n\xC2\x9B"
                      "b\tc\x7F"),
            "a?[2J\n    ?b\tc?");
  EXPECT_EQ(Shorten("\u00fc\u00fc\u00fc\u00fc\u00fc", 4), "\u00fc...");
  EXPECT_EQ(Shorten("abcd", 4), "abcd");
  EXPECT_EQ(PadRight("\u00fc", 3), "\u00fc  ");
}

}  // namespace
}  // namespace normlab::client
