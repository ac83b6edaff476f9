#include "engine/data/array_file.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/data/npy_file.h"
#include "engine/data/testing.h"
#include "engine/data/zip_archive.h"

namespace normlab::engine {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::NpyBytes;
using testing::Raw;

using Arrays = std::map<std::string, absl::StatusOr<Array>>;

// numpy.savez_compressed of NumPy 1.24: x_train = arange(12, dtype='f4').reshape(3, 4) / 8,
// y_train = array([2, 0, 1]), x_test = x_train[:2] + 1, y_test = array([1, 1]).
constexpr char kNumpyFile[] =
    "UEsDBBQAAAAIAAAAIQA6IyRtZgAAALAAAAALABQAeF90cmFpbi5ucHkBABAAsAAAAAAAAABmAAAAAAAAAJvsF+ob"
    "EMnIUMZQrZ6SWpxcpG6loG6TZqKuo6Cell9UUpSYF59flJIKEndLzClOBYoXZyQWpAL5GsY6CiaaOgq1CmQDLgYI"
    "sGNgaADiA0DMYM/AoADEDkCcAMQNQDwBiBcA8QZ7AFBLAwQUAAAACAAAACEAihrOE0oAAACYAAAACwAUAHlfdHJh"
    "aW4ubnB5AQAQAJgAAAAAAAAASgAAAAAAAACb7BfqGxDJyFDGUK2eklqcXKRupaBuk2mhrqOgnpZfVFKUmBefX5SS"
    "ChJ3S8wpTgWKF2ckFqQC+RrGOpo6CrUKFAAuJgZUwAilAVBLAwQUAAAACAAAACEAfhwJm14AAACgAAAACgAUAHhf"
    "dGVzdC5ucHkBABAAoAAAAAAAAABeAAAAAAAAAJvsF+obEMnIUMZQrZ6SWpxcpG6loG6TZqKuo6Cell9UUpSYF59f"
    "lJIKEndLzClOBYoXZyQWpAL5GkY6CiaaOgq1CmQDLgaGBnsGhglAvACINwDxASC+AMQPgPiDPQBQSwMEFAAAAAgA"
    "AAAhAO/7k2dJAAAAkAAAAAoAFAB5X3Rlc3QubnB5AQAQAJAAAAAAAAAASQAAAAAAAACb7BfqGxDJyFDGUK2eklqc"
    "XKRupaBuk2mhrqOgnpZfVFKUmBefX5SSChJ3S8wpTgWKF2ckFqQC+RpGOpo6CrUKFAAuRgYIgNEAUEsBAhQDFAAA"
    "AAgAAAAhADojJG1mAAAAsAAAAAsAAAAAAAAAAAAAAIABAAAAAHhfdHJhaW4ubnB5UEsBAhQDFAAAAAgAAAAhAIoa"
    "zhNKAAAAmAAAAAsAAAAAAAAAAAAAAIABowAAAHlfdHJhaW4ubnB5UEsBAhQDFAAAAAgAAAAhAH4cCZteAAAAoAAA"
    "AAoAAAAAAAAAAAAAAIABKgEAAHhfdGVzdC5ucHlQSwECFAMUAAAACAAAACEA7/uTZ0kAAACQAAAACgAAAAAAAAAA"
    "AAAAgAHEAQAAeV90ZXN0Lm5weVBLBQYAAAAABAAEAOIAAABJAgAAAAA=";

class ArrayFileTest : public ::testing::Test {
 protected:
  absl::StatusOr<Array> Npy(const std::string& bytes) {
    return ReadNpyFile(testing::InMemoryFile(bytes).get(), "a.npy");
  }
  absl::StatusOr<Arrays> Archive(const std::string& bytes) {
    return ReadArchive(testing::InMemoryFile(bytes).get(), "a.npz");
  }
  void ExpectNpyRefused(const std::string& bytes, const ::testing::Matcher<std::string>& message) {
    const auto array = Npy(bytes);
    ASSERT_EQ(array.status().code(), absl::StatusCode::kInvalidArgument) << array.status();
    EXPECT_THAT(std::string(array.status().message()), AllOf(HasSubstr("a.npy"), message));
  }
  // Whatever the bytes are: an answer, or an error that names the file.
  void ExpectAnswerOrError(const std::string& bytes) {
    const auto arrays = Archive(bytes);
    if (!arrays.ok()) {
      EXPECT_THAT(std::string(arrays.status().message()), HasSubstr("a.npz"));
      return;
    }
    for (const auto& [name, array] : *arrays) {
      if (!array.ok()) {
        EXPECT_THAT(std::string(array.status().message()), HasSubstr("a.npz"));
      }
    }
  }
};

const std::vector<float> kValues = {1.5F, -2, 3, 0, 7, 8};

std::string GoodNpy() {
  return NpyBytes("<f4", {2, 3}, Raw(kValues));
}

std::vector<testing::ZipMember> FourMembers(bool deflated, bool zip64) {
  const std::string y = NpyBytes("|u1", {2}, std::string("\x01\x00", 2));
  std::vector<testing::ZipMember> members = {
      {"x_train.npy", GoodNpy()}, {"y_train.npy", y}, {"x_test.npy", GoodNpy()}, {"y_test.npy", y}};
  for (testing::ZipMember& member : members) {
    member.deflated = deflated;
    member.zip64 = zip64;
  }
  return members;
}

std::string GoodSafetensors() {
  const std::string x = Raw(kValues);
  const std::string y = Raw(std::vector<int64_t>{1, 0});
  return testing::SafetensorsBytes({{"x_train", "F32", {2, 3}, x},
                                    {"other", "F8_E4M3", {1}, "?"},
                                    {"y_train", "I64", {2}, y},
                                    {"x_test", "F32", {2, 3}, x},
                                    {"y_test", "I64", {2}, y}});
}

TEST_F(ArrayFileTest, ReadsNpyFilesPlainAndGzipped) {
  for (const std::string& bytes : {GoodNpy(), testing::Gzip(GoodNpy())}) {
    const auto array = Npy(bytes);
    ASSERT_TRUE(array.ok()) << array.status();
    EXPECT_THAT(array->dims, ElementsAre(2, 3));
    EXPECT_EQ(array->type, ElementType::kF32);
    EXPECT_EQ(*ToFloats(*array), kValues);
  }
  std::string version2 = GoodNpy();
  version2[6] = 2;
  version2.insert(10, std::string("\0\0", 2));
  EXPECT_EQ(*ToFloats(*Npy(version2)), kValues);
  // One dimension in Fortran order is in C order as well.
  EXPECT_TRUE(Npy(NpyBytes("<f4", {6}, Raw(kValues), /*fortran_order=*/true)).ok());
}

TEST_F(ArrayFileTest, EveryElementTypeIsConverted) {
  const auto labels = [&](absl::string_view descr, const std::string& values) {
    const auto array = Npy(NpyBytes(descr, {2}, values));
    EXPECT_TRUE(array.ok()) << array.status();
    return *ToLabels(*array);
  };
  EXPECT_THAT(labels("|u1", Raw<uint8_t>({200, 3})), ElementsAre(200, 3));
  EXPECT_THAT(labels("|i1", Raw<int8_t>({100, 3})), ElementsAre(100, 3));
  EXPECT_THAT(labels("<u2", Raw<uint16_t>({65535, 3})), ElementsAre(65535, 3));
  EXPECT_THAT(labels("<i2", Raw<int16_t>({300, 3})), ElementsAre(300, 3));
  EXPECT_THAT(labels("<u4", Raw<uint32_t>({65535, 3})), ElementsAre(65535, 3));
  EXPECT_THAT(labels("<i4", Raw<int32_t>({300, 3})), ElementsAre(300, 3));
  EXPECT_THAT(labels("<u8", Raw<uint64_t>({300, 3})), ElementsAre(300, 3));
  EXPECT_THAT(labels("<i8", Raw<int64_t>({300, 3})), ElementsAre(300, 3));
  // 1.5, -2, the largest half, the smallest subnormal one.
  const auto halves = Npy(NpyBytes("<f2", {4}, Raw<uint16_t>({0x3E00, 0xC000, 0x7BFF, 1})));
  EXPECT_THAT(*ToFloats(*halves), ElementsAre(1.5F, -2.0F, 65504.0F, std::ldexp(1.0F, -24)));
  const auto doubles = Npy(NpyBytes("<f8", {2}, Raw<double>({0.1, -3e38})));
  EXPECT_THAT(*ToFloats(*doubles), ElementsAre(0.1F, -3e38F));
  Array brain;
  brain.type = ElementType::kBF16;
  brain.dims = {1};
  brain.bytes = {0xC0, 0x3F};
  EXPECT_THAT(*ToFloats(brain), ElementsAre(1.5F));
}

TEST_F(ArrayFileTest, ValuesThatCannotBeAreNamedByIndex) {
  const auto error = [&](absl::string_view descr, const std::vector<int64_t>& dims,
                         const std::string& values, bool as_labels) {
    const auto array = Npy(NpyBytes(descr, dims, values));
    EXPECT_TRUE(array.ok()) << array.status();
    return std::string(as_labels ? ToLabels(*array).status().message()
                                 : ToFloats(*array).status().message());
  };
  EXPECT_THAT(error("<i8", {3}, Raw<int64_t>({0, -7, 1}), true),
              AllOf(HasSubstr("a.npy has label -7 at index 1"), HasSubstr("65535")));
  EXPECT_THAT(error("<i8", {2}, Raw<int64_t>({0, 65536}), true), HasSubstr("65536 at index 1"));
  EXPECT_THAT(error("<u8", {1}, Raw<uint64_t>({~uint64_t{0}}), true),
              HasSubstr("label 18446744073709551615 at index 0"));
  const float nan = std::nanf("");
  EXPECT_THAT(error("<f4", {2, 3}, Raw<float>({0, 0, 0, 0, nan, 0}), false),
              AllOf(HasSubstr("a.npy"), HasSubstr("index [1, 1]")));
  EXPECT_THAT(error("<f8", {2}, Raw<double>({0, 1e39}), false), HasSubstr("index [1]"));
  EXPECT_THAT(error("<f2", {1}, Raw<uint16_t>({0x7C00}), false), HasSubstr("index [0]"));
  EXPECT_THAT(error("<f4", {1}, Raw<float>({0}), true), HasSubstr("integers were expected"));
  EXPECT_THAT(error("<i4", {1}, Raw<int32_t>({0}), false), HasSubstr("floats were expected"));
}

TEST_F(ArrayFileTest, WhatNpyFilesCannotBeReadSaysWhatToDo) {
  ExpectNpyRefused("PK\x03\x04......", HasSubstr("not a .npy file"));
  ExpectNpyRefused(NpyBytes(">f4", {2, 3}, Raw(kValues)), HasSubstr("big-endian"));
  ExpectNpyRefused(NpyBytes("<f4", {2, 3}, Raw(kValues), /*fortran_order=*/true),
                   HasSubstr("ascontiguousarray"));
  for (const char* dtype : {"|O", "<c8", "<U3", "|b1", "<f16", "<M8[s]"}) {
    ExpectNpyRefused(NpyBytes(dtype, {1}, "0123456789abcdef"),
                     AllOf(HasSubstr(dtype), HasSubstr("astype")));
  }
  std::string structured = GoodNpy();
  const size_t descr = structured.find("'<f4'");
  structured.replace(descr, 5, "[(1)]");
  ExpectNpyRefused(structured, HasSubstr("structured"));
  ExpectNpyRefused(GoodNpy() + "x", HasSubstr("trailing bytes"));
  std::string version9 = GoodNpy();
  version9[6] = 9;
  ExpectNpyRefused(version9, HasSubstr("version 9"));
}

TEST_F(ArrayFileTest, AbsurdShapesAllocateNothing) {
  constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();
  ExpectNpyRefused(NpyBytes("<f4", {kHuge, kHuge, 2}, ""), HasSubstr("at most 4294967296 bytes"));
  ExpectNpyRefused(NpyBytes("<f8", {1, int64_t{1} << 32}, ""), HasSubstr("at most"));
  // Within the limit, but the values are not there.
  ExpectNpyRefused(NpyBytes("<f4", {1000000000}, "1234"), HasSubstr("after 4 of 4000000000"));
  std::string overflow = NpyBytes("<f4", {kHuge}, "");
  overflow.replace(overflow.find("9223372036854775807"), 19, "9223372036854775808");
  ExpectNpyRefused(overflow, HasSubstr("not that of a plain array"));
  ExpectNpyRefused(NpyBytes("<f4", {0, kHuge}, ""), HasSubstr("at most"));
  EXPECT_THAT(Npy(NpyBytes("<f4", {3, 0, 5}, ""))->dims, ElementsAre(3, 0, 5));
}

TEST_F(ArrayFileTest, NpyFilesAreNeverBelieved) {
  for (const std::string& bytes : testing::Truncations(GoodNpy())) {
    ExpectNpyRefused(bytes, HasSubstr("again"));
  }
  for (const std::string& bytes : testing::Mutations(GoodNpy(), 3000, 1)) {
    const auto array = Npy(bytes);
    if (!array.ok()) {
      EXPECT_THAT(std::string(array.status().message()), HasSubstr("a.npy"));
    } else {
      EXPECT_EQ(array->bytes.size(), kValues.size() * sizeof(float));
    }
  }
}

TEST_F(ArrayFileTest, ReadsWhatNumpyWrites) {
  std::string bytes;
  ASSERT_TRUE(absl::Base64Unescape(kNumpyFile, &bytes));
  const auto arrays = Archive(bytes);
  ASSERT_TRUE(arrays.ok()) << arrays.status();
  const auto get = [&](const char* name) { return *arrays->at(name); };
  EXPECT_THAT(get("x_train").dims, ElementsAre(3, 4));
  EXPECT_THAT(*ToFloats(get("x_train")), ElementsAre(0, .125F, .25F, .375F, .5F, .625F, .75F, .875F,
                                                     1, 1.125F, 1.25F, 1.375F));
  EXPECT_THAT(*ToLabels(get("y_train")), ElementsAre(2, 0, 1));
  EXPECT_THAT(get("x_test").dims, ElementsAre(2, 4));
  EXPECT_THAT(*ToLabels(get("y_test")), ElementsAre(1, 1));
}

TEST_F(ArrayFileTest, ReadsStoredDeflatedAnd64BitMembers) {
  for (const bool deflated : {false, true}) {
    for (const bool zip64 : {false, true}) {
      const auto arrays = Archive(testing::ZipBytes(FourMembers(deflated, zip64)));
      ASSERT_TRUE(arrays.ok()) << arrays.status();
      EXPECT_EQ(*ToFloats(*arrays->at("x_test")), kValues);
      EXPECT_THAT(*ToLabels(*arrays->at("y_train")), ElementsAre(1, 0));
    }
  }
}

TEST_F(ArrayFileTest, TheArraysOfASetShareItsLimit) {
  const auto last = [](const std::string& bytes, int64_t limit) {
    const common::UniqueFd fd = testing::InMemoryFile(bytes);
    const auto arrays = ReadArchive(fd.get(), "a.npz", limit);
    EXPECT_TRUE(arrays.ok() && arrays->at("x_test").ok());
    return arrays->at("y_test").status();
  };
  // Two arrays of six floats, and of two labels of 1 byte and of 8.
  EXPECT_TRUE(last(testing::ZipBytes(FourMembers(true, false)), 52).ok());
  EXPECT_THAT(std::string(last(testing::ZipBytes(FourMembers(true, false)), 51).message()),
              HasSubstr("of which the others leave 1"));
  EXPECT_TRUE(last(GoodSafetensors(), 80).ok());
  EXPECT_THAT(std::string(last(GoodSafetensors(), 79).message()),
              HasSubstr("of which the others leave 15"));
}

TEST_F(ArrayFileTest, ReadsSafetensors) {
  const auto arrays = Archive(GoodSafetensors());
  ASSERT_TRUE(arrays.ok()) << arrays.status();
  EXPECT_EQ(*ToFloats(*arrays->at("x_train")), kValues);
  EXPECT_THAT(*ToLabels(*arrays->at("y_test")), ElementsAre(1, 0));
}

TEST_F(ArrayFileTest, MissingArraysAndForeignTypesAreNamed) {
  auto arrays = Archive(testing::ZipBytes({{"x_train.npy", GoodNpy()}, {"labels.npy", "?"}}));
  ASSERT_TRUE(arrays.ok());
  EXPECT_THAT(std::string(arrays->at("y_train").status().message()),
              AllOf(HasSubstr("a.npz has no array y_train"), HasSubstr("labels.npy")));
  arrays = Archive(testing::SafetensorsBytes(
      {{"x_train", "BOOL", {1}, "1"}, {"y_train", "I64", {3}, "12345678"}}));
  ASSERT_TRUE(arrays.ok());
  EXPECT_THAT(std::string(arrays->at("x_train").status().message()), HasSubstr("BOOL"));
  EXPECT_THAT(std::string(arrays->at("y_train").status().message()),
              AllOf(HasSubstr("has 8 bytes"), HasSubstr("needs 24")));
  EXPECT_THAT(std::string(Archive(GoodNpy()).status().message()), HasSubstr("single array"));
}

TEST_F(ArrayFileTest, ArchivesAreNeverBelieved) {
  const std::string good[] = {testing::ZipBytes(FourMembers(false, false)),
                              testing::ZipBytes(FourMembers(true, true)), GoodSafetensors()};
  for (const std::string& bytes : good) {
    for (const std::string& cut : testing::Truncations(bytes)) {
      const auto arrays = Archive(cut);
      // A shorter file never has all four.
      EXPECT_FALSE(arrays.ok() && std::all_of(arrays->begin(), arrays->end(),
                                              [](const auto& part) { return part.second.ok(); }))
          << cut.size();
      ExpectAnswerOrError(cut);
    }
    for (const std::string& changed : testing::Mutations(bytes, 2000, 2)) {
      ExpectAnswerOrError(changed);
    }
  }
}

// (A match may point at other equal bytes: then nothing changed.)
TEST_F(ArrayFileTest, NoChangedByteOfACompressedMemberChangesItsValues) {
  const std::string good = testing::ZipBytes({{"x_train.npy", GoodNpy(), /*deflated=*/true}});
  constexpr size_t kLocalHeader = 30 + 11;
  const size_t end = good.find("PK\x01\x02");
  size_t noticed = 0;
  for (size_t i = kLocalHeader; i < end; ++i) {
    std::string changed = good;
    changed[i] = static_cast<char>(changed[i] ^ 0x20);
    const auto arrays = Archive(changed);
    const absl::StatusOr<Array>& array = arrays->at("x_train");
    noticed += array.ok() ? 0 : 1;
    if (array.ok()) {
      EXPECT_EQ(*ToFloats(*array), kValues) << i;
    }
  }
  EXPECT_GT(noticed, (end - kLocalHeader) * 9 / 10);
}

// The array's header promises a few bytes, the directory many: reading ends behind the promise. And
// the directory promises few, the data are many: reading ends behind the directory's.
TEST_F(ArrayFileTest, DecompressionBombsAreStopped) {
  std::string contents = GoodNpy();
  contents.resize(size_t{64} << 20);
  std::string bomb = testing::ZipBytes({{"x_train.npy", contents, /*deflated=*/true}});
  EXPECT_THAT(std::string(Archive(bomb)->at("x_train").status().message()),
              HasSubstr("trailing bytes"));
  const size_t size_field = bomb.find("PK\x01\x02") + 24;
  const auto promised = static_cast<uint32_t>(GoodNpy().size());
  bomb.replace(size_field, 4, reinterpret_cast<const char*>(&promised), 4);
  EXPECT_THAT(std::string(Archive(bomb)->at("x_train").status().message()),
              AllOf(HasSubstr("corrupt"), HasSubstr("more than")));
}

TEST_F(ArrayFileTest, EncryptedAndForeignMethodsAreRefused) {
  const std::string good = testing::ZipBytes({{"x_train.npy", GoodNpy()}});
  const size_t entry = good.find("PK\x01\x02");
  std::string encrypted = good;
  encrypted[entry + 8] = 1;
  EXPECT_THAT(std::string(Archive(encrypted)->at("x_train").status().message()),
              HasSubstr("encrypted"));
  std::string lzma = good;
  lzma[entry + 10] = 14;
  EXPECT_THAT(std::string(Archive(lzma)->at("x_train").status().message()), HasSubstr("method 14"));
}

}  // namespace
}  // namespace normlab::engine
