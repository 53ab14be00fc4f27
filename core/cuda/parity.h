// Every CUDA kernel against the CPU's in double precision, on the tensors of the calls as they come.
//
// While it is installed, each call on a CUDA stream is made three times: on the CPU in f64 from the
// same (rounded) inputs, on the CPU in the tensors' own types, and on the device, into outputs that
// hold NaN before. For each output ||x - exact|| / ||exact|| is formed with x from the device
// (`error`) and with x from the CPU in the same types (`cpu_error`): the device may be at most a
// factor worse, since both round alike. Exact integers have to agree; choices (ids, blocks) may
// differ in `kMaxDisagreement` of their entries, where rounding tips a near tie.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/kernel.h"

namespace lacuna::cuda {

struct ParityRow {
  std::string kernel, argument;
  DType dtype = DType::kF32;
  int64_t calls = 0;
  // Of the call that was worst against its limit.
  std::string shape;
  double error = 0;      // of integers: the share of entries that differ
  double cpu_error = 0;  // the same of the CPU in the tensors' own types
  double limit = 0;
  bool passed() const { return error <= limit; }
};

class ParityChecker : public KernelObserver {
 public:
  // error <= kFactor * cpu_error + kTiny(dtype)
  static constexpr double kFactor = 3;
  static constexpr double kMaxDisagreement = 0.005;
  static constexpr double Tiny(DType dtype) { return dtype == DType::kBF16 ? 1e-4 : 1e-6; }

  void OnCall(const KernelCall& call, const std::function<void()>& run) override;

  // One a kernel, argument and dtype, in the order of their first calls.
  const std::vector<ParityRow>& rows() const { return rows_; }
  bool passed() const;
  // The rows as a table, for people.
  std::string Table() const;

 private:
  void Record(const KernelCall& call, size_t argument, double error, double cpu_error,
              double limit);

  std::vector<ParityRow> rows_;
};

}  // namespace lacuna::cuda
