#include "tests/support/compare.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace lacuna::test {
namespace {

enum class Kind { kFinite, kNan, kPlusInf, kMinusInf };
Kind KindOf(double x) {
  if (std::isnan(x)) return Kind::kNan;
  if (std::isinf(x)) return x > 0 ? Kind::kPlusInf : Kind::kMinusInf;
  return Kind::kFinite;
}

double RootMeanSquareError(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return a.empty() ? 0 : std::sqrt(sum / static_cast<double>(a.size()));
}

}  // namespace

testing::AssertionResult Close(const std::vector<double>& actual,
                               const std::vector<double>& expected, double tolerance) {
  if (actual.size() != expected.size())
    return testing::AssertionFailure()
           << actual.size() << " elements, expected " << expected.size();
  double scale = 1;
  for (size_t i = 0; i < actual.size(); ++i) {
    if (KindOf(actual[i]) != KindOf(expected[i])) {
      return testing::AssertionFailure()
             << "element " << i << " is " << actual[i] << ", expected " << expected[i];
    }
    if (std::isfinite(expected[i])) scale = std::max(scale, std::abs(expected[i]));
  }
  size_t worst = 0;
  double error = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    if (!std::isfinite(expected[i])) continue;
    if (const double e = std::abs(actual[i] - expected[i]); e > error) {
      error = e;
      worst = i;
    }
  }
  if (error <= tolerance * scale) return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << "worst element " << worst << " of " << actual.size() << ": " << actual[worst]
         << ", expected " << expected[worst] << " (error " << error << " > " << tolerance << " * "
         << scale << ")";
}

testing::AssertionResult Close(const Tensor& actual, const Tensor& expected, double tolerance) {
  if (actual.shape() != expected.shape()) {
    return testing::AssertionFailure()
           << "shape " << ToString(actual.shape()) << ", expected " << ToString(expected.shape());
  }
  return Close(actual.ToDoubles(), expected.ToDoubles(), tolerance);
}

testing::AssertionResult Close(const Tensor& actual, const std::vector<double>& expected,
                               double tolerance) {
  return Close(actual.ToDoubles(), expected, tolerance);
}

testing::AssertionResult WithinNaiveError(const Tensor& actual, const std::vector<double>& naive,
                                          const std::vector<double>& exact, double factor) {
  const std::vector<double> ours = actual.ToDoubles();
  if (ours.size() != exact.size() || naive.size() != exact.size()) {
    return testing::AssertionFailure()
           << ours.size() << " elements against " << naive.size() << " and " << exact.size();
  }
  double scale = 0;
  for (size_t i = 0; i < exact.size(); ++i) {
    if (KindOf(ours[i]) != KindOf(exact[i])) {
      return testing::AssertionFailure()
             << "element " << i << " is " << ours[i] << ", expected " << exact[i];
    }
    scale = std::max(scale, std::abs(exact[i]));
  }
  const double unit = actual.dtype() == DType::kF64   ? 1e-15
                      : actual.dtype() == DType::kF32 ? 1e-7
                                                      : 4e-3;
  const double error = RootMeanSquareError(ours, exact),
               allowed = factor * RootMeanSquareError(naive, exact) + unit * scale;
  if (error <= allowed) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "root mean square error " << error << " > " << allowed;
}

testing::AssertionResult SameBits(const Tensor& actual, const Tensor& expected) {
  if (actual.shape() != expected.shape() || actual.dtype() != expected.dtype()) {
    return testing::AssertionFailure()
           << ToString(actual.shape()) << " " << NameOf(actual.dtype()) << ", expected "
           << ToString(expected.shape()) << " " << NameOf(expected.dtype());
  }
  const auto* a = static_cast<const char*>(actual.Ref().data);
  const auto* b = static_cast<const char*>(expected.Ref().data);
  const int64_t size = SizeOf(actual.dtype());
  for (int64_t i = 0; i < actual.numel(); ++i) {
    if (std::memcmp(a + i * size, b + i * size, static_cast<size_t>(size)) != 0) {
      return testing::AssertionFailure() << "first difference at element " << i << ": "
                                         << actual.ToDoubles()[static_cast<size_t>(i)] << " and "
                                         << expected.ToDoubles()[static_cast<size_t>(i)];
    }
  }
  return testing::AssertionSuccess();
}

}  // namespace lacuna::test
