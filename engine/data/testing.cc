#include "engine/data/testing.h"

#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

#include "common/random.h"

namespace normlab::engine::testing {
namespace {

void Append32(std::string& out, uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) {
    out.push_back(static_cast<char>(value >> shift));
  }
}

void AppendLittle(std::string& out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) {
    out.push_back(i < 8 ? static_cast<char>(value >> (8 * i)) : '\0');
  }
}

// zlib's windowBits choose the wrapper.
std::string Deflate(absl::string_view text, int wrapper) {
  z_stream stream{};
  deflateInit2(&stream, Z_BEST_SPEED, Z_DEFLATED, wrapper, 8, Z_DEFAULT_STRATEGY);
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

std::string RawDeflate(absl::string_view text) {
  return Deflate(text, -15);
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
  constexpr int kGzipWrapper = 15 + 16;
  return Deflate(text, kGzipWrapper);
}

std::string NpyBytes(absl::string_view descr,
                     const std::vector<int64_t>& dims,
                     absl::string_view values,
                     bool fortran_order) {
  std::string header =
      absl::StrCat("{'descr': '", descr, "', 'fortran_order': ", fortran_order ? "True" : "False",
                   ", 'shape': (", absl::StrJoin(dims, ", "), dims.size() == 1 ? ",), }" : "), }");
  constexpr size_t kAlignment = 64;
  constexpr size_t kBefore = 10;
  header.append(kAlignment - (kBefore + header.size() + 1) % kAlignment, ' ');
  header.push_back('\n');
  std::string out = "\x93NUMPY";
  out += {1, 0, static_cast<char>(header.size()), static_cast<char>(header.size() >> 8)};
  return absl::StrCat(out, header, values);
}

std::string ZipBytes(const std::vector<ZipMember>& members) {
  constexpr uint32_t kIn64 = 0xFFFFFFFF;
  std::string out;
  std::string directory;
  for (const ZipMember& member : members) {
    const std::string data = member.deflated ? RawDeflate(member.contents) : member.contents;
    const auto crc =
        static_cast<uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(member.contents.data()),
                                    static_cast<uInt>(member.contents.size())));
    const uint64_t offset = out.size();
    std::string common;  // of the local header and the directory: method to CRC
    AppendLittle(common, member.deflated ? 8 : 0, 2);
    AppendLittle(common, 0, 4);
    AppendLittle(common, crc, 4);
    AppendLittle(out, 0x04034b50, 4);
    AppendLittle(out, 20, 2);
    AppendLittle(out, 0, 2);
    out += common;
    AppendLittle(out, data.size(), 4);
    AppendLittle(out, member.contents.size(), 4);
    AppendLittle(out, member.name.size(), 2);
    AppendLittle(out, 0, 2);
    out += member.name + data;

    std::string extra;
    if (member.zip64) {
      AppendLittle(extra, 1, 2);
      AppendLittle(extra, 24, 2);
      AppendLittle(extra, member.contents.size(), 8);
      AppendLittle(extra, data.size(), 8);
      AppendLittle(extra, offset, 8);
    }
    AppendLittle(directory, 0x02014b50, 4);
    AppendLittle(directory, 20, 2);
    AppendLittle(directory, 20, 2);
    AppendLittle(directory, 0, 2);
    directory += common;
    AppendLittle(directory, member.zip64 ? kIn64 : data.size(), 4);
    AppendLittle(directory, member.zip64 ? kIn64 : member.contents.size(), 4);
    AppendLittle(directory, member.name.size(), 2);
    AppendLittle(directory, extra.size(), 2);
    AppendLittle(directory, 0, 2 + 2 + 2 + 4);
    AppendLittle(directory, member.zip64 ? kIn64 : offset, 4);
    directory += member.name + extra;
  }
  const bool zip64 = !members.empty() && members[0].zip64;
  const uint64_t directory_offset = out.size();
  out += directory;
  if (zip64) {
    const uint64_t end64 = out.size();
    AppendLittle(out, 0x06064b50, 4);
    AppendLittle(out, 44, 8);
    AppendLittle(out, 45, 2);
    AppendLittle(out, 45, 2);
    AppendLittle(out, 0, 8);
    AppendLittle(out, members.size(), 8);
    AppendLittle(out, members.size(), 8);
    AppendLittle(out, directory.size(), 8);
    AppendLittle(out, directory_offset, 8);
    AppendLittle(out, 0x07064b50, 4);
    AppendLittle(out, 0, 4);
    AppendLittle(out, end64, 8);
    AppendLittle(out, 1, 4);
  }
  AppendLittle(out, 0x06054b50, 4);
  AppendLittle(out, 0, 4);
  AppendLittle(out, zip64 ? 0xFFFF : members.size(), 2);
  AppendLittle(out, zip64 ? 0xFFFF : members.size(), 2);
  AppendLittle(out, zip64 ? kIn64 : directory.size(), 4);
  AppendLittle(out, zip64 ? kIn64 : directory_offset, 4);
  AppendLittle(out, 0, 2);
  return out;
}

std::string SafetensorsBytes(const std::vector<TensorBytes>& tensors) {
  std::string header = "{\"__metadata__\":{\"made by\":\"a test\"}";
  std::string values;
  for (const TensorBytes& tensor : tensors) {
    absl::StrAppend(&header, ",\"", tensor.name, "\":{\"dtype\":\"", tensor.dtype, "\",\"shape\":[",
                    absl::StrJoin(tensor.dims, ","), "],\"data_offsets\":[", values.size(), ",",
                    values.size() + tensor.values.size(), "]}");
    values += tensor.values;
  }
  header += "}";
  std::string out;
  AppendLittle(out, header.size(), 8);
  return absl::StrCat(out, header, values);
}

std::string CifarBytes(const DecodedPart& part, bool coarse) {
  const size_t image = part.bytes.size() / part.labels.size();
  std::string out;
  for (size_t n = 0; n < part.labels.size(); ++n) {
    if (coarse) {
      out.push_back(static_cast<char>(part.labels[n] / 5));
    }
    out.push_back(static_cast<char>(part.labels[n]));
    out.append(part.bytes.begin() + static_cast<int64_t>(n * image),
               part.bytes.begin() + static_cast<int64_t>((n + 1) * image));
  }
  return out;
}

std::vector<std::string> Truncations(const std::string& contents) {
  std::vector<std::string> all;
  for (size_t length = 0; length < contents.size(); ++length) {
    all.push_back(contents.substr(0, length));
  }
  return all;
}

std::vector<std::string> Mutations(const std::string& contents, int flips, uint32_t seed) {
  const common::RandomStream random(seed, "mutations");
  std::vector<std::string> all;
  for (int i = 0; i < flips; ++i) {
    std::string changed = contents;
    const uint64_t places = 1 + random.Below(3, i, 0);
    for (uint64_t place = 0; place < places; ++place) {
      const size_t at = random.Below(contents.size(), i, 2 * place + 1);
      changed[at] = static_cast<char>(changed[at] ^ (1 + random.Below(255, i, 2 * place + 2)));
    }
    all.push_back(std::move(changed));
  }
  return all;
}

common::UniqueFd InMemoryFile(const std::string& contents) {
  common::UniqueFd fd(memfd_create("test", MFD_CLOEXEC));
  if (pwrite(fd.get(), contents.data(), contents.size(), 0) !=
      static_cast<ssize_t>(contents.size())) {
    std::perror("memfd");
    std::abort();
  }
  return fd;
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
