// Data sets that are drawn: every value is a function of the set's own seed (docs/numerics.md).
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "common/random.h"
#include "engine/data/data_source.h"
#include "engine/spec/run_length.h"

namespace normlab::engine {
namespace {

class SyntheticSource : public DataSource {
 public:
  SyntheticSource(std::string name, const DatasetShape& shape)
      : name_(std::move(name)), field_(absl::StrCat("data.", name_)), shape_(shape) {}

  const std::string& name() const override { return name_; }
  const std::string& field() const override { return field_; }

  std::optional<DatasetShape> KnownShape() const override { return shape_; }

  std::optional<DecodedDataset> Decode(DataProblems& /*problems*/) override {
    DecodedDataset data;
    data.shape = shape_;
    Prepare();
    Draw("train", shape_.train_examples, data.train);
    Draw("test", shape_.test_examples, data.test);
    return data;
  }

 protected:
  const DatasetShape& shape() const { return shape_; }
  // Draws what both parts share.
  virtual void Prepare() = 0;
  // Draws `examples` examples from the streams of part "train" or "test".
  virtual void Draw(absl::string_view part, int64_t examples, DecodedPart& to) const = 0;

 private:
  const std::string name_;
  const std::string field_;
  const DatasetShape shape_;
};

class GaussianClassesSource : public SyntheticSource {
 public:
  GaussianClassesSource(const v1::GaussianClasses& set, const DatasetShape& shape)
      : SyntheticSource("gaussian_classes", shape), set_(set) {}

  std::string Identity() const override {
    return absl::StrFormat("%d|%s|%d|%d|%a|%d", set_.classes(), absl::StrJoin(set_.dims(), "x"),
                           set_.train_examples(), set_.test_examples(), set_.separation(),
                           set_.seed());
  }

 protected:
  void Prepare() override {
    const common::RandomStream random(set_.seed(), "gaussian_classes/means");
    const int64_t values = shape().example_values();
    const double deviation = set_.separation() / std::sqrt(static_cast<double>(values));
    means_.reserve(static_cast<size_t>(shape().classes * values));
    for (int64_t c = 0; c < shape().classes; ++c) {
      for (int64_t i = 0; i < values; ++i) {
        means_.push_back(deviation * random.Normal(c, i));
      }
    }
  }

  void Draw(absl::string_view part, int64_t examples, DecodedPart& to) const override {
    const common::RandomStream random(set_.seed(), absl::StrCat("gaussian_classes/", part));
    const int64_t values = shape().example_values();
    to.labels.reserve(static_cast<size_t>(examples));
    to.floats.reserve(static_cast<size_t>(examples * values));
    for (int64_t n = 0; n < examples; ++n) {
      // As many of each class as of the others, in any prefix of the set too.
      const int64_t label = n % shape().classes;
      to.labels.push_back(static_cast<int32_t>(label));
      for (int64_t i = 0; i < values; ++i) {
        to.floats.push_back(static_cast<float>(means_[label * values + i] + random.Normal(n, i)));
      }
    }
  }

 private:
  const v1::GaussianClasses set_;
  std::vector<double> means_;  // [classes, values]
};

class LinearRegressionSource : public SyntheticSource {
 public:
  LinearRegressionSource(const v1::LinearRegression& set, const DatasetShape& shape)
      : SyntheticSource("linear_regression", shape), set_(set) {}

  std::string Identity() const override {
    return absl::StrFormat("%d|%d|%d|%d|%a|%d", set_.inputs(), set_.outputs(),
                           set_.train_examples(), set_.test_examples(), set_.noise(), set_.seed());
  }

 protected:
  void Prepare() override {
    const common::RandomStream random(set_.seed(), "linear_regression/matrix");
    for (int64_t j = 0; j < set_.outputs(); ++j) {
      for (int64_t i = 0; i < set_.inputs(); ++i) {
        matrix_.push_back(random.Normal(j, i));
      }
    }
  }

  void Draw(absl::string_view part, int64_t examples, DecodedPart& to) const override {
    const common::RandomStream inputs(set_.seed(), absl::StrCat("linear_regression/", part));
    const common::RandomStream noise(set_.seed(),
                                     absl::StrCat("linear_regression/", part, "/noise"));
    std::vector<float> x(static_cast<size_t>(set_.inputs()));
    for (int64_t n = 0; n < examples; ++n) {
      for (size_t i = 0; i < x.size(); ++i) {
        x[i] = static_cast<float>(inputs.Normal(n, i));
      }
      to.floats.insert(to.floats.end(), x.begin(), x.end());
      for (int64_t j = 0; j < set_.outputs(); ++j) {
        // From the rounded inputs: without noise the targets are A x of what the network sees.
        const double* row = matrix_.data() + j * set_.inputs();
        double y = 0;
        for (size_t i = 0; i < x.size(); ++i) {
          y += row[i] * x[i];
        }
        if (set_.noise() > 0) {
          y += set_.noise() * noise.Normal(n, j);
        }
        to.targets.push_back(static_cast<float>(y));
      }
    }
  }

 private:
  const v1::LinearRegression set_;
  std::vector<double> matrix_;  // [outputs, inputs]
};

// nullopt and a problem: nobody validated this.
std::optional<DatasetShape> ShapeOf(const v1::Data& data, DataProblems& problems) {
  v1::JobSpec spec;
  *spec.mutable_data() = data;
  std::optional<DatasetShape> shape = KnownDatasetShape(spec);
  if (!shape.has_value()) {
    problems.Add("data", "has sizes that cannot be drawn; validate the spec");
  }
  return shape;
}

}  // namespace

std::unique_ptr<DataSource> OpenGaussianClasses(const v1::Data& data, DataProblems& problems) {
  const std::optional<DatasetShape> shape = ShapeOf(data, problems);
  return shape.has_value()
             ? std::make_unique<GaussianClassesSource>(data.gaussian_classes(), *shape)
             : nullptr;
}

std::unique_ptr<DataSource> OpenLinearRegression(const v1::Data& data, DataProblems& problems) {
  const std::optional<DatasetShape> shape = ShapeOf(data, problems);
  return shape.has_value()
             ? std::make_unique<LinearRegressionSource>(data.linear_regression(), *shape)
             : nullptr;
}

}  // namespace normlab::engine
