// From text, or the token ids of Megatron's data sets, to token shards: reads, tokenizes in parallel,
// splits held-out documents off and writes shards of a limited size. The shards' bytes depend on the
// inputs and the options only, not on the number of threads.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/prepare/document_text.h"

namespace lacuna {

// Documents kept out of training, in shards <name>_*.h5 of their own: those whose file lies below
// `prefix` (relative to its input folder), or else a `fraction` of all documents, chosen by a hash
// of their text (of token ids: what they decode to): equal documents stay together, and a longer
// input keeps the choice.
struct Holdout {
  std::string name;
  std::string prefix;
  double fraction = 0;

  // "validation=0.01" or "xfs=fs/xfs". A config error for anything else.
  static absl::StatusOr<Holdout> Parse(const std::string& text);
};

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
  bool overwrite = false;  // remove shards of these names that are already there
};

struct SplitReport {
  std::string name;
  int64_t shards = 0;
  int64_t documents = 0;
  int64_t bytes = 0;   // of text
  int64_t tokens = 0;  // with one end of document each
};

struct PrepareReport {
  std::vector<SplitReport> splits;  // training first, then the hold-outs as given
  int64_t files = 0;
  int64_t other_files = 0;
  int64_t empty_documents = 0;  // left out
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
