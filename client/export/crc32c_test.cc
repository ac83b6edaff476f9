#include "client/export/crc32c.h"

#include <string>

#include "gtest/gtest.h"

namespace normlab::client {
namespace {

TEST(Crc32cTest, TheVectorsOfRfc3720) {
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8A9136AAU);
  EXPECT_EQ(Crc32c(std::string(32, '\xFF')), 0x62A8AB43U);
  std::string rising;
  for (int i = 0; i < 32; ++i) {
    rising.push_back(static_cast<char>(i));
  }
  EXPECT_EQ(Crc32c(rising), 0x46DD794EU);
  EXPECT_EQ(Crc32c(std::string(rising.rbegin(), rising.rend())), 0x113FDB5CU);
}

TEST(Crc32cTest, EveryLengthGoesThroughTheSlicesAndTheRest) {
  EXPECT_EQ(Crc32c(""), 0U);
  EXPECT_EQ(Crc32c("a"), 0xC1D04330U);
  EXPECT_EQ(Crc32c("123456789"), 0xE3069283U);  // the check value of the catalogue of CRCs
}

TEST(Crc32cTest, MaskRotatesAndAdds) {
  // Of "123456789": (0xE3069283 rotated right by 15) + 0xA282EAD8.
  EXPECT_EQ(MaskedCrc32c("123456789"), 0xC78AB0E5U);
}

}  // namespace
}  // namespace normlab::client
