#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "client/lib/array_input.h"
#include "client/lib/array_json.h"
#include "client/lib/npy.h"

namespace normlab::client {
namespace {

using normlab::v1::Tensor;
using testing::ElementsAre;
using testing::HasSubstr;

Tensor MakeTensor(const std::vector<int64_t>& dims, const std::vector<float>& values) {
  Tensor tensor;
  tensor.mutable_dims()->Add(dims.begin(), dims.end());
  tensor.mutable_values()->Add(values.begin(), values.end());
  return tensor;
}

std::vector<int64_t> DimsOf(const absl::StatusOr<Tensor>& tensor) {
  EXPECT_TRUE(tensor.ok()) << tensor.status();
  return tensor.ok() ? std::vector<int64_t>(tensor->dims().begin(), tensor->dims().end())
                     : std::vector<int64_t>();
}

// As NumPy writes them: a header padded to 64 bytes, then the values.
std::string NumpyFile(const std::string& header, const std::string& values, int version = 1) {
  std::string padded = header;
  const size_t prefix = version == 1 ? 10 : 12;
  while ((prefix + padded.size() + 1) % 64 != 0) {
    padded.push_back(' ');
  }
  padded.push_back('\n');
  std::string bytes =
      absl::StrCat("\x93NUMPY", std::string(1, static_cast<char>(version)), std::string(1, '\0'));
  for (size_t i = 0; i < prefix - 8; ++i) {
    bytes.push_back(static_cast<char>(padded.size() >> (8 * i) & 0xFF));
  }
  return bytes + padded + values;
}

template <typename Value>
std::string BytesOf(const std::vector<Value>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(Value)};
}

TEST(ArrayJsonTest, ReadsNestedListsInCOrder) {
  const auto tensor = ParseJsonArray(" [[1, 2.5, -3e-2],\n [4, \"NaN\", \"-Infinity\"]] ");
  EXPECT_THAT(DimsOf(tensor), ElementsAre(2, 3));
  EXPECT_EQ(tensor->values(1), 2.5F);
  EXPECT_EQ(tensor->values(2), -0.03F);
  EXPECT_EQ(tensor->values(3), 4);
  EXPECT_TRUE(std::isnan(tensor->values(4)));
  EXPECT_EQ(tensor->values(5), -std::numeric_limits<float>::infinity());
  EXPECT_THAT(DimsOf(ParseJsonArray("[[[[7]]]]")), ElementsAre(1, 1, 1, 1));
  EXPECT_THAT(DimsOf(ParseJsonArray("0.5")), ElementsAre());
  EXPECT_THAT(DimsOf(ParseJsonArray("[]")), ElementsAre(0));
}

TEST(ArrayJsonTest, EveryFloatReadsBackAsItself) {
  std::vector<float> values = {0.1F,
                               -0.0F,
                               1.0F / 3,
                               std::numeric_limits<float>::max(),
                               std::numeric_limits<float>::denorm_min(),
                               16777217.0F,
                               -std::numeric_limits<float>::infinity(),
                               1e-5F};
  const Tensor tensor = MakeTensor({2, 2, 1, 2}, values);
  const std::string text = FormatJsonArray(tensor);
  EXPECT_EQ(text.substr(0, 8), "[[[[0.1,") << "the shortest text: " << text;
  const auto back = ParseJsonArray(text);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->SerializeAsString(), tensor.SerializeAsString());
  EXPECT_EQ(FormatJsonArray(MakeTensor({2}, {std::nanf(""), INFINITY})), R"(["NaN", "Infinity"])");
  EXPECT_EQ(FormatJsonArray(MakeTensor({}, {2})), "2");
}

TEST(ArrayJsonTest, MistakesNameTheirPlace) {
  const auto message = [](absl::string_view text) {
    const auto tensor = ParseJsonArray(text);
    EXPECT_EQ(tensor.status().code(), absl::StatusCode::kInvalidArgument) << text;
    return std::string(tensor.status().message());
  };
  EXPECT_THAT(message("[[1, 2], [3]]"), HasSubstr("at [1] has a list of 1 where lists of 2"));
  EXPECT_THAT(message("[[1, 2], [3, [4]]]"), HasSubstr("at [1][1] has a list"));
  EXPECT_THAT(message("[[1, 2], 3]"), HasSubstr("at [1] has no list"));
  EXPECT_THAT(message("[1, \"two\"]"), HasSubstr("at [1] has text"));
  EXPECT_THAT(message("[1, null]"), HasSubstr("at [1] has no number"));
  EXPECT_THAT(message("[1, 1e39]"), HasSubstr("beyond float32"));
  EXPECT_THAT(message("[[1, 2\n  3]]"), HasSubstr("line 2, column 3"));
  EXPECT_THAT(message("{\"a\": 1}"), HasSubstr("an object"));
  EXPECT_THAT(message(std::string(100'000, '[') + std::string(100'000, ']')),
              HasSubstr("more than 8 dimensions"));
}

TEST(NpyTest, ReadsWhatNumpyWrites) {
  auto tensor = ParseNpy(NumpyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }",
                                   BytesOf<float>({1, 2, 3, 4, 5, 6.5F})));
  EXPECT_THAT(DimsOf(tensor), ElementsAre(2, 3));
  EXPECT_EQ(tensor->values(5), 6.5F);
  tensor = ParseNpy(NumpyFile("{'descr': '<f8', 'fortran_order': True, 'shape': (3,), }",
                              BytesOf<double>({0.1, -2, INFINITY}), 2));
  EXPECT_THAT(DimsOf(tensor), ElementsAre(3));
  EXPECT_EQ(tensor->values(0), 0.1F);
  EXPECT_TRUE(std::isinf(tensor->values(2)));
  tensor = ParseNpy(
      NumpyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", BytesOf<float>({3})));
  EXPECT_THAT(DimsOf(tensor), ElementsAre());
  EXPECT_THAT(DimsOf(ParseNpy(
                  NumpyFile("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4), }", ""))),
              ElementsAre(0, 4));
}

TEST(NpyTest, ReadsIntegersThatFloatsHaveExactly) {
  const auto header = [](const char* type) {
    return absl::StrCat("{'descr': '", type, "', 'fortran_order': False, 'shape': (2,), }");
  };
  auto tensor = ParseNpy(NumpyFile(header("<i8"), BytesOf<int64_t>({-16777216, 3})));
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_THAT(tensor->values(), ElementsAre(-16777216.0F, 3.0F));
  tensor = ParseNpy(NumpyFile(header("|u1"), BytesOf<uint8_t>({255, 0})));
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_THAT(tensor->values(), ElementsAre(255.0F, 0.0F));
  tensor = ParseNpy(NumpyFile(header("<i4"), BytesOf<int32_t>({1, 16777217})));
  EXPECT_THAT(std::string(tensor.status().message()),
              AllOf(HasSubstr("value 1"), HasSubstr("16777217"), HasSubstr("astype")));
}

TEST(NpyTest, WritesWhatItReadsAndAligned) {
  for (const Tensor& tensor :
       {MakeTensor({2, 1, 3, 1}, {1, 2, 3, 4, std::nanf(""), -0.0F}), MakeTensor({3}, {1, 2, 3}),
        MakeTensor({}, {7}), MakeTensor({0, 2}, {})}) {
    const std::string bytes = FormatNpy(tensor);
    EXPECT_EQ((bytes.size() - static_cast<size_t>(tensor.values_size()) * 4) % 64, 0U);
    EXPECT_TRUE(IsNpy(bytes));
    const auto back = ParseNpy(bytes);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(back->SerializeAsString(), tensor.SerializeAsString());
  }
  EXPECT_THAT(FormatNpy(MakeTensor({3}, {1, 2, 3})), HasSubstr("'shape': (3,), }"));
}

TEST(NpyTest, RefusesWhatItCannotReadWithARemedy) {
  const auto message = [](const std::string& bytes) {
    const auto tensor = ParseNpy(bytes);
    EXPECT_EQ(tensor.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(tensor.status().message());
  };
  const std::string two = BytesOf<float>({1, 2});
  const auto header = [](const std::string& type, const std::string& order,
                         const std::string& shape) {
    return absl::StrCat("{'descr': ", type, ", 'fortran_order': ", order, ", 'shape': ", shape,
                        ", }");
  };
  EXPECT_THAT(message(NumpyFile(header("'<c8'", "False", "(2,)"), two)), HasSubstr("'<c8'"));
  EXPECT_THAT(message(NumpyFile(header("'>f4'", "False", "(2,)"), two)), HasSubstr("astype"));
  EXPECT_THAT(message(NumpyFile(header("'|O'", "False", "(2,)"), two)), HasSubstr("float32"));
  EXPECT_THAT(message(NumpyFile(header("'<f4'", "True", "(1, 2)"), two)),
              HasSubstr("ascontiguousarray"));
  EXPECT_THAT(message(NumpyFile(header("'<f4'", "False", "(3,)"), two)),
              HasSubstr("announces 12 bytes of values, but 8 follow"));
  EXPECT_THAT(message(NumpyFile(header("'<f4'", "False", "(4294967296, 4294967296, 4)"), two)),
              HasSubstr("impossible size"));
  EXPECT_THAT(message(NumpyFile(header("'<f4'", "False", "(-2,)"), two)), HasSubstr("shape"));
  EXPECT_THAT(message(NumpyFile(header("'<f4'", "False", "2"), two)), HasSubstr("shape"));
  EXPECT_THAT(message(NumpyFile("{'descr': '<f4', 'shape': (2,), }", two)),
              HasSubstr("fortran_order"));
  EXPECT_THAT(message(NumpyFile(header("'<f8'", "False", "(1,)"), BytesOf<double>({1e300}))),
              HasSubstr("beyond float32"));
  EXPECT_THAT(message(NumpyFile(header("'<f4'", "False", "(2,)"), two, 9)), HasSubstr("version 9"));
  EXPECT_THAT(message("\x93NUMPY"), HasSubstr("no .npy file"));
  EXPECT_THAT(message(NumpyFile(header("'<f4'", "False", "(2,)"), two).substr(0, 40)),
              HasSubstr("within its header"));
  EXPECT_THAT(message("PK\x03\x04"), HasSubstr("no .npy file"));
}

TEST(ArrayInputTest, TakesFilesStandardInputAndWrittenOutLists) {
  std::istringstream in("[[1], [2]]");
  EXPECT_THAT(DimsOf(ReadArray("--input", "-", in)), ElementsAre(2, 1));
  EXPECT_THAT(DimsOf(ReadArray("--input", "  [1, 2, 3]", in)), ElementsAre(3));
  const std::string path = absl::StrCat(testing::TempDir(), "/array_test.", getpid(), ".npy");
  std::ofstream(path, std::ios::binary) << FormatNpy(MakeTensor({1, 2}, {3, 4}));
  EXPECT_THAT(DimsOf(ReadArray("--input", path, in)), ElementsAre(1, 2));
  std::ofstream(path, std::ios::binary) << "[[5]]\n";
  EXPECT_THAT(DimsOf(ReadArray("--input", path, in)), ElementsAre(1, 1));
  std::ofstream(path, std::ios::binary) << "[[5]";
  const absl::Status cut = ReadArray("--input", path, in).status();
  EXPECT_THAT(std::string(cut.message()), HasSubstr(absl::StrCat("--input ", path, ": ")));
  std::remove(path.c_str());
  EXPECT_THAT(std::string(ReadArray("--input", path, in).status().message()),
              HasSubstr("No such file"));
  EXPECT_THAT(std::string(ReadArray("--input", testing::TempDir(), in).status().message()),
              HasSubstr("is a folder"));
}

}  // namespace
}  // namespace normlab::client
