#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

#include "engine/data/data_files.h"
#include "engine/data/dataset_writer.h"
#include "engine/spec/violation.h"

#include "normlab/v1/spec.pb.h"

namespace normlab::engine {

// What is wrong with a data set, and whether that will stay so while the files do.
struct DataProblems {
  std::vector<Violation> violations;
  // False: the next look may end differently although the files are the same.
  bool lasting = true;
  // Some of them is the files' own, or the spec's; else all of them are the machine's: a folder that is
  // not there (a disk that is not mounted?), a read that failed, no room.
  bool own_fault = false;

  void Add(const std::string& field, absl::string_view description) {
    violations.push_back({field, std::string(description)});
    own_fault = true;
  }
  // INVALID_ARGUMENT is the file's own fault and lasts; anything else may pass.
  void Add(const std::string& field, const absl::Status& status) {
    if (absl::IsInvalidArgument(status)) {
      Add(field, status.message());
    } else {
      AddPassing(field, status.message());
    }
  }
  // The machine's fault.
  void AddPassing(const std::string& field, absl::string_view description) {
    violations.push_back({field, std::string(description)});
    lasting = false;
  }
  // What OpenDataFiles answered for `path`: "is "path", where the data set was not found: <places>;
  // <remedy>". The machine's fault when not even the folder is there.
  void AddNotFound(const std::string& field,
                   const std::string& path,
                   const absl::Status& status,
                   absl::string_view remedy);
};

// A data set that a spec names, found but not read yet. Not thread-safe; owns its open files.
class DataSource {
 public:
  virtual ~DataSource() = default;

  // The member of the oneof, as "cifar10": begins the name of the cache file.
  virtual const std::string& name() const = 0;
  // Field of the spec that names the set, for what concerns it as a whole.
  virtual const std::string& field() const = 0;
  // Everything that the decoded contents follow from.
  virtual std::string Identity() const = 0;
  // What messages about it may name; a remembered verdict is for these.
  virtual std::string Paths() const { return ""; }
  // The files that it was read from, as they were; none for one that is computed. Valid while it
  // lives.
  virtual absl::Span<const DataFile> LookedAt() const { return {}; }
  // Of a set that follows from the spec alone, without making it; none: only Decode tells.
  virtual std::optional<DatasetShape> KnownShape() const { return std::nullopt; }
  // Reads and checks everything. nullopt: `problems` has everything that is wrong.
  virtual std::optional<DecodedDataset> Decode(DataProblems& problems) = 0;
};

// Finds the data set of a valid, resolved spec. nullptr: `problems` says what was not found where,
// and what to do.
std::unique_ptr<DataSource> OpenDataSource(const v1::Data& data,
                                           absl::Span<const std::string> roots,
                                           DataProblems& problems);

// A source made of files.
class FileSource : public DataSource {
 public:
  FileSource(std::string name, std::string field, std::vector<DataFile> files)
      : name_(std::move(name)), field_(std::move(field)), files_(std::move(files)) {}

  const std::string& name() const override { return name_; }
  const std::string& field() const override { return field_; }
  std::string Identity() const override;
  std::string Paths() const override;
  absl::Span<const DataFile> LookedAt() const override { return files_; }

 protected:
  const std::vector<DataFile>& files() const { return files_; }

 private:
  const std::string name_;
  const std::string field_;
  const std::vector<DataFile> files_;
};

// The members of the oneof, one file each. As OpenDataSource.
std::unique_ptr<DataSource> OpenIdxSource(const std::string& name,
                                          const std::string& path,
                                          const std::string& remedy,
                                          absl::Span<const std::string> roots,
                                          DataProblems& problems);
std::unique_ptr<DataSource> OpenCifarSource(const std::string& name,
                                            const std::string& path,
                                            absl::Span<const std::string> roots,
                                            DataProblems& problems);
std::unique_ptr<DataSource> OpenArraySource(const v1::ArrayFiles& arrays,
                                            absl::Span<const std::string> roots,
                                            DataProblems& problems);
std::unique_ptr<DataSource> OpenGaussianClasses(const v1::Data& data, DataProblems& problems);
std::unique_ptr<DataSource> OpenLinearRegression(const v1::Data& data, DataProblems& problems);

}  // namespace normlab::engine
