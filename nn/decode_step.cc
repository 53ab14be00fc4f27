#include "nn/decode_step.h"

#include <algorithm>
#include <utility>

namespace lacuna {

void AddToken(const NewToken& token, int64_t row_of_addresses, std::vector<int32_t>* table) {
  for (const int64_t n : {token.row, token.length - 1, row_of_addresses, int64_t{0}})
    table->push_back(static_cast<int32_t>(n));
}

std::string KeyOf(const std::vector<NewToken>& tokens) {
  std::string key;
  for (const NewToken& token : tokens) {
    key += std::to_string(token.row);
    key += ':';
    key += std::to_string(token.length);
    key += '.';
  }
  return key;
}

DecodeTokens::DecodeTokens(const std::vector<NewToken>& tokens, Device device) {
  std::vector<int32_t> entries;
  for (size_t i = 0; i < tokens.size(); ++i) {
    AddToken(tokens[i], static_cast<int64_t>(i), &entries);
    max_length = std::max(max_length, tokens[i].length);
  }
  table = Tensor::FromVector(entries, {static_cast<int64_t>(tokens.size()), 4}).To(device);
}

std::shared_ptr<const DecodeTokens> DecodeTokens::Of(const PackedSequences& sequences,
                                                     const std::vector<NewToken>& tokens) {
  return sequences.Derived<DecodeTokens>("decode_tokens." + KeyOf(tokens),
                                         [&] { return DecodeTokens(tokens, sequences.device()); });
}

const Tensor& AddressTable::Update(std::vector<int64_t> addresses, int64_t columns, Device device) {
  if (!table_.defined() || addresses != addresses_ || table_.device() != device) {
    addresses_ = std::move(addresses);
    const auto rows = static_cast<int64_t>(addresses_.size()) / columns;
    table_ = Tensor::FromVector(addresses_, {rows, columns}).To(device);
  }
  return table_;
}

}  // namespace lacuna
