// What every backend asks of a collective's tensors. Each function throws Error (misuse) naming the
// collective, the shapes and the number of ranks.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace lacuna {

// The address of a tensor on the CPU, for writing; for reading.
char* HostBytes(Tensor& tensor, const char* name);
const char* HostBytes(const Tensor& tensor, const char* name);
// f32, f64, bf16, i32 or i64.
void CheckSum(const char* name, const Tensor& tensor);
// `whole` has `ranks` times the elements of `part`, in the same dtype on the same device.
void CheckParts(const char* name, const Tensor& part, const Tensor& whole, int ranks);

// Byte offsets of the ranks' rows of one side, round by round: those of number i = round * ranks + rank
// are [offset[i], offset[i + 1]).
struct RowParts {
  std::vector<int64_t> send, receive;
  int rounds;
  int64_t SendBytes(int i) const { return BytesOf(send, i); }
  int64_t ReceiveBytes(int i) const { return BytesOf(receive, i); }

 private:
  static int64_t BytesOf(const std::vector<int64_t>& offset, int i) {
    return offset[static_cast<size_t>(i) + 1] - offset[static_cast<size_t>(i)];
  }
};
RowParts CheckRows(const Tensor& in, const std::vector<int64_t>& send_rows, const Tensor& out,
                   const std::vector<int64_t>& receive_rows, int rank, int ranks);

}  // namespace lacuna
