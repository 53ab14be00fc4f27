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

// Byte offsets of the ranks' rows of one side: rank r's are [offset[r], offset[r + 1]).
struct RowParts {
  std::vector<int64_t> send, receive;
  int64_t SendBytes(int rank) const { return BytesOf(send, rank); }
  int64_t ReceiveBytes(int rank) const { return BytesOf(receive, rank); }

 private:
  static int64_t BytesOf(const std::vector<int64_t>& offset, int rank) {
    return offset[static_cast<size_t>(rank) + 1] - offset[static_cast<size_t>(rank)];
  }
};
RowParts CheckRows(const Tensor& in, const std::vector<int64_t>& send_rows, const Tensor& out,
                   const std::vector<int64_t>& receive_rows, int rank, int ranks);

}  // namespace lacuna
