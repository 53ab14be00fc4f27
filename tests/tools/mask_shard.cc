// mask_shard IN.h5 OUT.h5 BEGIN END: a copy of a token shard in which tokens [BEGIN, END) of every
// document are masked.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "core/error.h"
#include "data/token_shard.h"
#include "data/token_shard_writer.h"

namespace lacuna {
namespace {

absl::Status MaskShard(const std::string& from, const std::string& to, int64_t mask_begin,
                       int64_t mask_end) {
  LACUNA_ASSIGN_OR_RETURN(const TokenShard shard, TokenShard::Open(from));
  const std::vector<uint16_t> token_bytes(shard.token_bytes().begin(), shard.token_bytes().end());
  LACUNA_ASSIGN_OR_RETURN(TokenShardWriter writer,
                          TokenShardWriter::Create(to, shard.info(), token_bytes));
  for (int64_t d = 0; d < shard.num_documents(); ++d) {
    const auto at = static_cast<size_t>(d);
    const int64_t begin = shard.document_offsets()[at],
                  length = shard.document_offsets()[at + 1] - begin;
    std::vector<int32_t> ids(static_cast<size_t>(length));
    shard.Read(begin, length, ids.data());
    std::vector<uint8_t> mask;
    for (int64_t i = 0; i < length; ++i) mask.push_back(i >= mask_begin && i < mask_end ? 0 : 1);
    LACUNA_RETURN_IF_ERROR(writer.AddDocument(ids, shard.document_bytes()[at], mask));
  }
  return writer.Finish();
}

}  // namespace
}  // namespace lacuna

int main(int argc, char** argv) {
  LACUNA_CHECK(argc == 5, "mask_shard IN.h5 OUT.h5 BEGIN END");
  const absl::Status status =
      lacuna::MaskShard(argv[1], argv[2], std::atoll(argv[3]), std::atoll(argv[4]));
  if (!status.ok()) std::fprintf(stderr, "mask_shard: %s\n", lacuna::Message(status).c_str());
  return status.ok() ? 0 : 1;
}
