// From text, conversations or the token ids of Megatron's data sets to token shards: reads, tokenizes
// in parallel, splits held-out documents off and writes shards of a limited size. The shards' bytes
// depend on the inputs and the options only, not on the number of threads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/chat/chat_template.h"
#include "data/prepare/document_text.h"
#include "data/prepare/holdout.h"

namespace lacuna {

struct PrepareOptions {
  std::vector<std::string> inputs;  // files and folders
  std::vector<std::string> extensions = {"txt", "md", "rst", "jsonl",
                                         "ndjson"};  // of a folder's files
  std::string tokenizer;                             // tokenizer.json; that of the token ids, too
  std::string output;                                // folder, made where it does not exist
  std::string name = "train";                        // shards: <output>/<name>_00000.h5, ...
  std::string source;                                // where the text is from; kept in the shards
  std::string licence;
  std::vector<Holdout> holdouts;            // the first that takes a document has it
  int64_t shard_tokens = int64_t{1} << 28;  // a document that would pass it begins another shard
  TextOptions text;
  // Not kNone: every line is a conversation (data/chat/conversation.h) and becomes a document with a
  // loss mask, its template and options stand in the shards' attribute `chat`.
  ChatTemplateKind chat_template = ChatTemplateKind::kNone;
  ChatOptions chat;
  int64_t max_tokens = 0;  // longer conversations are left out; 0: none is
  bool overwrite = false;  // remove shards of these names that are already there
};

struct SplitReport {
  std::string name;
  int64_t shards = 0;
  int64_t documents = 0;
  int64_t bytes = 0;        // of text
  int64_t tokens = 0;       // with one end of document each
  int64_t loss_tokens = 0;  // not masked
};

struct PrepareReport {
  std::vector<SplitReport> splits;  // training first, then the hold-outs as given
  std::string chat;                 // DescribeChat; empty: text
  int64_t max_tokens = 0;           // of a conversation, as in the options
  int64_t files = 0;
  int64_t other_files = 0;
  int64_t empty_documents = 0;        // left out
  int64_t long_conversations = 0;     // left out: of more than max_tokens
  int64_t no_loss_conversations = 0;  // left out: no token of theirs has a loss
  int64_t byte_order_marks = 0;
  int64_t crlf_documents = 0;
  int64_t repaired_documents = 0;
  int64_t id_documents = 0;         // read as token ids
  int64_t ends_added = 0;           // of these, which did not end with the end of document
  int64_t inner_end_documents = 0;  // of these, which hold another one before their end
};

// All shards appear under their names when all are complete; on an error none does.
absl::StatusOr<PrepareReport> Prepare(const PrepareOptions& options);
// A table for people.
std::string ToString(const PrepareReport& report);

}  // namespace lacuna
