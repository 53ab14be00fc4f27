// Documents of text files, JSON lines and Megatron's indexed data sets, in a fixed order, as they
// stand in the files.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/prepare/byte_stream.h"
#include "data/prepare/megatron_file.h"

namespace lacuna {

struct InputFile {
  std::string path;
  // relative to the folder it was found in; the file's own name where it was given itself
  std::string name;

  // One JSON object a line (*.jsonl, *.ndjson, also compressed).
  bool is_json_lines() const;
  // An index whose documents are token ids (*.idx). All other files are one document each.
  bool is_megatron() const { return path.ends_with(".idx"); }
};

struct InputFiles {
  std::vector<InputFile> files;
  int64_t other_files = 0;  // in folders, with other extensions
};

// Files as given; folders with everything below them, sorted by relative name, where the name ends
// in "." + one of `extensions`, maybe compressed. A data error where a path does not exist or
// nothing is found.
absl::StatusOr<InputFiles> FindInputs(const std::vector<std::string>& paths,
                                      const std::vector<std::string>& extensions);

struct RawDocument {
  // the file, or a line without its end; without a byte order mark at the file's beginning. Of
  // token ids: as `megatron` parses them
  std::string bytes;
  const InputFile* file = nullptr;
  int64_t line = 0;  // from 1; 0 for a whole file
  bool had_byte_order_mark = false;
  std::shared_ptr<const MegatronFile> megatron = {};  // where the document is token ids
  int64_t number = 0;                                 // of it in that file

  // "a.jsonl:12", "a.idx: document 3" or "a.txt".
  std::string Where() const;
};

class DocumentReader {
 public:
  // A larger document is a data error.
  static constexpr int64_t kMaxDocumentBytes = int64_t{1} << 30;

  // `files` must outlive this.
  explicit DocumentReader(const std::vector<InputFile>& files) : files_(files) {}

  // False at the end. Lines of white space are left out.
  absl::StatusOr<bool> Next(RawDocument* document);

 private:
  absl::StatusOr<bool> NextLine(std::string* line);
  absl::StatusOr<bool> NextOfMegatron(const InputFile& file, RawDocument* document);
  absl::Status ReadMore();
  absl::Status TooLarge(const std::string& where) const;

  const std::vector<InputFile>& files_;
  size_t next_file_ = 0;
  std::unique_ptr<ByteStream> stream_;
  std::string buffer_;  // read, not yet handed out from at_ on
  size_t at_ = 0;
  bool ended_ = false;  // nothing of the stream is left but the buffer
  int64_t line_ = 0;
  std::shared_ptr<const MegatronFile> megatron_;  // the file whose documents are read
  int64_t number_ = 0;                            // the next of them
};

}  // namespace lacuna
