#include "engine/data/data_source.h"

#include "absl/strings/str_cat.h"

namespace normlab::engine {

std::string FileSource::Identity() const {
  std::string identity;
  for (const DataFile& file : files_) {
    absl::StrAppend(&identity, file.name, "=", file.identity.ToString(), "|");
  }
  return identity;
}

std::string FileSource::Paths() const {
  std::string paths = field_;
  for (const DataFile& file : files_) {
    absl::StrAppend(&paths, "|", file.path);
  }
  return paths;
}

void DataProblems::AddNotFound(const std::string& field,
                               const std::string& path,
                               const absl::Status& status,
                               absl::string_view remedy) {
  const std::string text = absl::StrCat(
      "is ", Quoted(path), ", where the data set was not found: ", status.message(), "; ", remedy);
  if (FolderIsMissing(status)) {
    AddPassing(field, text);
  } else {
    Add(field, text);
  }
}

std::unique_ptr<DataSource> OpenDataSource(const v1::Data& data,
                                           absl::Span<const std::string> roots,
                                           DataProblems& problems) {
  switch (data.source_case()) {
    case v1::Data::kFashionMnist:
      return OpenIdxSource(
          "fashion_mnist", data.fashion_mnist().path(),
          "run `apt-get install dataset-fashion-mnist` on the server, or copy the four files below "
          "a data root and name their folder",
          roots, problems);
    case v1::Data::kMnist:
      return OpenIdxSource("mnist", data.mnist().path(),
                           "copy the four files of MNIST below a data root and name their folder",
                           roots, problems);
    case v1::Data::kCifar10:
      return OpenCifarSource("cifar10", data.cifar10().path(), roots, problems);
    case v1::Data::kCifar100:
      return OpenCifarSource("cifar100", data.cifar100().path(), roots, problems);
    case v1::Data::kArrays:
      return OpenArraySource(data.arrays(), roots, problems);
    case v1::Data::kGaussianClasses:
      return OpenGaussianClasses(data, problems);
    case v1::Data::kLinearRegression:
      return OpenLinearRegression(data, problems);
    default:
      break;
  }
  problems.Add("data", "names no data set; give for example {\"fashion_mnist\": {}}");
  return nullptr;
}

}  // namespace normlab::engine
