// The tables of a decode step (core/ops/cache_rows.h), kept on the device for as long as they hold.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/packed_sequences.h"

namespace lacuna {

// The newest token of a sequence: its row in the step's tensors, and the sequence's tokens, this one
// included.
struct NewToken {
  int64_t row, length;
};

struct DecodeTokens {
  DecodeTokens(const std::vector<NewToken>& tokens, Device device);
  // The same for all layers: made once for a step's `sequences`.
  static std::shared_ptr<const DecodeTokens> Of(const PackedSequences& sequences,
                                                const std::vector<NewToken>& tokens);

  Tensor table;  // [B, 4] i32
  int64_t max_length = 0;
};
// One entry of such a table, which says which row of the addresses is its sequence's.
void AddToken(const NewToken& token, int64_t row_of_addresses, std::vector<int32_t>* table);
// "17:4096.18:33..." for names of what depends on these alone.
std::string KeyOf(const std::vector<NewToken>& tokens);

// Where a layer's caches are. Caches move seldom, so that most steps find the table they need.
class AddressTable {
 public:
  // addresses: row-major, `columns` of each sequence -> [S, columns] i64 on `device`.
  const Tensor& Update(std::vector<int64_t> addresses, int64_t columns, Device device);

 private:
  std::vector<int64_t> addresses_;
  Tensor table_;
};

inline int64_t AddressOf(const void* data) {
  return static_cast<int64_t>(reinterpret_cast<intptr_t>(data));
}

}  // namespace lacuna
