// Data files that a spec can name. The first byte says which reader looks at the rest.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

#include "common/unique_fd.h"
#include "engine/checkpoint/safetensors_header.h"
#include "engine/data/array_file.h"
#include "engine/data/cifar_file.h"
#include "engine/data/idx_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace engine = normlab::engine;
  if (size == 0) {
    return 0;
  }
  const uint8_t kind = data[0];
  ++data;
  --size;
  if (kind == 's') {
    engine::ParseSafetensorsHeader(absl::string_view(reinterpret_cast<const char*>(data), size),
                                   1000, "fuzz", "try again")
        .status()
        .IgnoreError();
    return 0;
  }
  const normlab::common::UniqueFd fd(memfd_create("fuzz", MFD_CLOEXEC));
  if (!fd.valid() || write(fd.get(), data, size) != static_cast<ssize_t>(size) ||
      lseek(fd.get(), 0, SEEK_SET) != 0) {
    return 0;
  }
  switch (kind) {
    case 'i':
      engine::ReadIdxFile(fd.get(), "fuzz", {.rank = 3, .item_dims = {2, 3}})
          .status()
          .IgnoreError();
      break;
    case 'l':
      engine::ReadIdxFile(fd.get(), "fuzz", {.rank = 1, .item_dims = {}}).status().IgnoreError();
      break;
    case 'c':
      engine::ReadCifarFile(fd.get(), "fuzz", {.label_bytes = 1, .classes = 10})
          .status()
          .IgnoreError();
      break;
    case 'n':
      engine::ReadNpyFile(fd.get(), "fuzz").status().IgnoreError();
      break;
    default:
      engine::ReadArchive(fd.get(), "fuzz").status().IgnoreError();
  }
  return 0;
}
