#include "distributed/collective_arguments.h"

#include <algorithm>

namespace lacuna {
namespace {

// Offsets in bytes of `rows` of `tensor`, which they must fill.
std::vector<int64_t> Offsets(const char* side, const Tensor& tensor,
                             const std::vector<int64_t>& rows, int64_t row_bytes, int ranks) {
  LACUNA_CHECK(!rows.empty() && rows.size() % static_cast<size_t>(ranks) == 0,
               "all_to_all_rows: {} numbers of rows to {} for {} ranks", rows.size(), side, ranks);
  std::vector<int64_t> offsets = {0};
  for (const int64_t count : rows) {
    LACUNA_CHECK(count >= 0, "all_to_all_rows: {} rows to {}", count, side);
    offsets.push_back(offsets.back() + count * row_bytes);
  }
  LACUNA_CHECK(offsets.back() == tensor.dim(0) * row_bytes,
               "all_to_all_rows: rows to {} are {} in all, the tensor is {}", side,
               fmt::join(rows, " + "), ToString(tensor.shape()));
  return offsets;
}

}  // namespace

char* HostBytes(Tensor& tensor, const char* name) {
  LACUNA_CHECK(tensor.defined() && tensor.device() == kCpu, "{}: expected a tensor on the CPU",
               name);
  return static_cast<char*>(tensor.MutableRef().data);
}

const char* HostBytes(const Tensor& tensor, const char* name) {
  LACUNA_CHECK(tensor.defined() && tensor.device() == kCpu, "{}: expected a tensor on the CPU",
               name);
  return static_cast<const char*>(tensor.Ref().data);
}

void CheckSum(const char* name, const Tensor& tensor) {
  LACUNA_CHECK(tensor.defined(), "{}: the tensor is undefined", name);
  LACUNA_CHECK(tensor.dtype() != DType::kU8, "{}: expected f32, f64, bf16, i32 or i64, got {}",
               name, NameOf(tensor.dtype()));
}

void CheckParts(const char* name, const Tensor& part, const Tensor& whole, int ranks) {
  LACUNA_CHECK(part.defined() && whole.defined(), "{}: a tensor is undefined", name);
  LACUNA_CHECK(part.dtype() == whole.dtype() && part.device() == whole.device(),
               "{}: {} and {}, or two devices", name, NameOf(part.dtype()), NameOf(whole.dtype()));
  LACUNA_CHECK(part.numel() * ranks == whole.numel(), "{}: {} is not one of {} equal parts of {}",
               name, ToString(part.shape()), ranks, ToString(whole.shape()));
}

RowParts CheckRows(const Tensor& in, const std::vector<int64_t>& send_rows, const Tensor& out,
                   const std::vector<int64_t>& receive_rows, int rank, int ranks) {
  LACUNA_CHECK(in.defined() && out.defined() && in.rank() >= 1 && in.rank() == out.rank() &&
                   in.dtype() == out.dtype() && in.device() == out.device() &&
                   std::equal(in.shape().begin() + 1, in.shape().end(), out.shape().begin() + 1),
               "all_to_all_rows: rows of {} {} cannot become rows of {} {}", NameOf(in.dtype()),
               ToString(in.shape()), NameOf(out.dtype()), ToString(out.shape()));
  int64_t row_bytes = SizeOf(in.dtype());
  for (int d = 1; d < in.rank(); ++d) row_bytes *= in.dim(d);
  RowParts parts{Offsets("send", in, send_rows, row_bytes, ranks),
                 Offsets("receive", out, receive_rows, row_bytes, ranks),
                 static_cast<int>(send_rows.size()) / ranks};
  LACUNA_CHECK(send_rows.size() == receive_rows.size(),
               "all_to_all_rows: {} numbers of rows to send, {} to receive", send_rows.size(),
               receive_rows.size());
  for (auto me = static_cast<size_t>(rank); me < send_rows.size();
       me += static_cast<size_t>(ranks)) {
    LACUNA_CHECK(send_rows[me] == receive_rows[me],
                 "all_to_all_rows: rank {} sends itself {} rows and receives {}", rank,
                 send_rows[me], receive_rows[me]);
  }
  return parts;
}

}  // namespace lacuna
