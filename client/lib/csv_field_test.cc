#include "client/lib/csv_field.h"

#include "gtest/gtest.h"

namespace normlab::client {
namespace {

TEST(CsvFieldTest, QuotesWhereTheyAreNeededAndNowhereElse) {
  EXPECT_EQ(CsvField(""), "");
  EXPECT_EQ(CsvField("train/loss"), "train/loss");
  EXPECT_EQ(CsvField(" =1+1 "), " =1+1 ");
  EXPECT_EQ(CsvField("a,b"), "\"a,b\"");
  EXPECT_EQ(CsvField("say \"a\""), "\"say \"\"a\"\"\"");
  EXPECT_EQ(CsvField("two\nlines"), "\"two\nlines\"");
  EXPECT_EQ(CsvField("\r"), "\"\r\"");
}

}  // namespace
}  // namespace normlab::client
