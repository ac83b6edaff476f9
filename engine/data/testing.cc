#include "engine/data/testing.h"

#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "common/random.h"

namespace normlab::engine::testing {
namespace {

void Append32(std::string& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) {
    out.push_back(static_cast<char>(value >> shift));
  }
}

void FillPatterns(const DatasetShape& shape,
                  int32_t examples,
                  const common::RandomStream& random,
                  DecodedPart& part) {
  for (int32_t n = 0; n < examples; ++n) {
    const auto label = static_cast<int>(random.Below(shape.classes, 2 * n, 0));
    part.labels.push_back(label);
    int64_t index = 0;
    for (int c = 0; c < shape.channels; ++c) {
      for (int y = 0; y < shape.height; ++y) {
        for (int x = 0; x < shape.width; ++x, ++index) {
          const double wave =
              std::sin(0.37 * (label + 1) * x + 0.61 * c) * std::cos(0.29 * (label + 2) * y);
          const double value = 110 + 70 * wave + 35 * random.Normal(2 * n + 1, index);
          part.bytes.push_back(static_cast<uint8_t>(std::clamp(value, 0.0, 255.0)));
        }
      }
    }
  }
}

// As IDX files have them.
std::vector<uint8_t> LabelBytes(const DecodedPart& part) {
  return {part.labels.begin(), part.labels.end()};
}

}  // namespace

std::string IdxBytes(const std::vector<uint32_t>& dims, const std::vector<uint8_t>& values) {
  std::string out = {0, 0, 8, static_cast<char>(dims.size())};
  for (const uint32_t dim : dims) {
    Append32(out, dim);
  }
  out.append(values.begin(), values.end());
  return out;
}

std::string Gzip(absl::string_view text) {
  z_stream stream{};
  constexpr int kGzipWrapper = 15 + 16;
  deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, kGzipWrapper, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, text.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

void WriteOrDie(const std::string& path, absl::string_view contents) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(contents.data(), static_cast<std::streamsize>(contents.size()));
  file.close();
  if (!file) {
    std::perror(path.c_str());
    std::abort();
  }
}

DecodedDataset MakePatterns(const DatasetShape& shape, uint32_t seed) {
  DecodedDataset data;
  data.shape = shape;
  FillPatterns(shape, shape.train_examples, common::RandomStream(seed, "patterns/train"),
               data.train);
  FillPatterns(shape, shape.test_examples, common::RandomStream(seed, "patterns/test"), data.test);
  return data;
}

void WriteIdxFolder(const DecodedDataset& data, const std::string& folder, bool gzip) {
  std::filesystem::create_directories(folder);
  const auto side_y = static_cast<uint32_t>(data.shape.height);
  const auto side_x = static_cast<uint32_t>(data.shape.width);
  const auto write = [&](const char* name, const std::string& bytes) {
    WriteOrDie(folder + "/" + name + (gzip ? ".gz" : ""), gzip ? Gzip(bytes) : bytes);
  };
  const auto train = static_cast<uint32_t>(data.shape.train_examples);
  const auto test = static_cast<uint32_t>(data.shape.test_examples);
  write("train-images-idx3-ubyte", IdxBytes({train, side_y, side_x}, data.train.bytes));
  write("train-labels-idx1-ubyte", IdxBytes({train}, LabelBytes(data.train)));
  write("t10k-images-idx3-ubyte", IdxBytes({test, side_y, side_x}, data.test.bytes));
  write("t10k-labels-idx1-ubyte", IdxBytes({test}, LabelBytes(data.test)));
}

}  // namespace normlab::engine::testing
