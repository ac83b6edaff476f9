#include "common/wildcard.h"

#include <string>

#include <gtest/gtest.h>

namespace normlab::common {
namespace {

TEST(WildcardTest, WithoutAStarOnlyTheSameTextMatches) {
  EXPECT_TRUE(WildcardMatch("head.weight", "head.weight"));
  EXPECT_FALSE(WildcardMatch("head.weight", "head.weights"));
  EXPECT_FALSE(WildcardMatch("head.weight", "ahead.weight"));
  EXPECT_FALSE(WildcardMatch("head?weight", "head.weight"));
  EXPECT_TRUE(WildcardMatch("", ""));
  EXPECT_FALSE(WildcardMatch("", "a"));
}

TEST(WildcardTest, AStarIsAnyCharactersAlsoNone) {
  EXPECT_TRUE(WildcardMatch("head.*", "head.weight"));
  EXPECT_TRUE(WildcardMatch("head.*", "head."));
  EXPECT_FALSE(WildcardMatch("head.*", "head"));
  EXPECT_TRUE(WildcardMatch("*", ""));
  EXPECT_TRUE(WildcardMatch("*.bias", "layer1.0.bias"));
  EXPECT_FALSE(WildcardMatch("*.bias", "layer1.0.bias2"));
  EXPECT_TRUE(WildcardMatch("layer*.conv*.weight", "layer2.0.conv1.weight"));
  EXPECT_FALSE(WildcardMatch("layer*.conv*.weight", "layer2.0.bn1.weight"));
}

TEST(WildcardTest, GoesBackToTheLastStar) {
  EXPECT_TRUE(WildcardMatch("*ab", "aab"));
  EXPECT_TRUE(WildcardMatch("a*b*c", "abbcbc"));
  EXPECT_FALSE(WildcardMatch("a*b*c", "acb"));
  EXPECT_TRUE(WildcardMatch("**a**", "bab"));
}

// Exponential in a naive matcher.
TEST(WildcardTest, ManyStarsTakeNoTime) {
  std::string pattern;
  for (int i = 0; i < 60; ++i) {
    pattern += "*a";
  }
  EXPECT_FALSE(WildcardMatch(pattern + "b", std::string(2000, 'a')));
}

}  // namespace
}  // namespace normlab::common
