#include "data/prepare/document_reader.h"

#include <algorithm>
#include <filesystem>

#include "core/io/file.h"
#include "core/status.h"

namespace lacuna {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

bool HasExtension(const std::string& name, const std::vector<std::string>& extensions) {
  const std::string plain = UncompressedName(name);
  return std::any_of(extensions.begin(), extensions.end(), [&](const std::string& extension) {
    return plain.ends_with("." + extension);
  });
}

absl::Status AddFolder(const std::string& folder, const std::vector<std::string>& extensions,
                       InputFiles* inputs) {
  std::vector<InputFile> found;
  std::error_code error;
  std::filesystem::recursive_directory_iterator it(folder, error);
  for (const std::filesystem::recursive_directory_iterator end; !error && it != end;
       it.increment(error)) {
    std::error_code ignored;  // a dangling link is no regular file
    if (!it->is_regular_file(ignored)) continue;
    const std::string path = it->path().string();
    if (HasExtension(path, extensions)) {
      found.push_back({path, it->path().lexically_relative(folder).string()});
    } else {
      ++inputs->other_files;
    }
  }
  if (error) return FileError(ExitCode::kData, folder, "list", error.value());
  if (found.empty())
    return DataError("{}: holds no files *.{{{}}}", folder, fmt::join(extensions, ","));
  std::sort(found.begin(), found.end(),
            [](const InputFile& a, const InputFile& b) { return a.name < b.name; });
  inputs->files.insert(inputs->files.end(), found.begin(), found.end());
  return absl::OkStatus();
}

}  // namespace

bool InputFile::is_json_lines() const {
  const std::string plain = UncompressedName(path);
  return plain.ends_with(".jsonl") || plain.ends_with(".ndjson");
}

absl::StatusOr<InputFiles> FindInputs(const std::vector<std::string>& paths,
                                      const std::vector<std::string>& extensions) {
  InputFiles inputs;
  for (const std::string& path : paths) {
    std::error_code error;
    const auto status = std::filesystem::status(path, error);
    if (std::filesystem::is_directory(status)) {
      LACUNA_RETURN_IF_ERROR(AddFolder(path, extensions, &inputs));
    } else if (std::filesystem::is_regular_file(status)) {
      if (const std::string index = path.substr(0, path.size() - 4) + ".idx";
          path.ends_with(".bin") && std::filesystem::exists(index, error))
        return DataError("{}: the tokens of {}; give that one", path, index);
      inputs.files.push_back({path, std::filesystem::path(path).filename().string()});
    } else if (std::filesystem::exists(status)) {
      return DataError("{}: is no file or folder", path);
    } else {
      return FileError(ExitCode::kData, path, "open", error ? error.value() : ENOENT);
    }
  }
  return inputs;
}

std::string RawDocument::Where() const {
  if (megatron) return fmt::format("{}: document {}", file->path, number);
  return line == 0 ? file->path : fmt::format("{}:{}", file->path, line);
}

absl::Status DocumentReader::TooLarge(const std::string& where) const {
  return DataError("{}: a document of more than {}; split it", where,
                   FormatBytes(kMaxDocumentBytes));
}

absl::Status DocumentReader::ReadMore() {
  constexpr size_t kPart = size_t{1} << 20;
  buffer_.erase(0, at_);
  at_ = 0;
  const size_t size = buffer_.size();
  buffer_.resize(size + kPart);
  const absl::StatusOr<int64_t> read = stream_->Read(buffer_.data() + size, kPart);
  buffer_.resize(size + static_cast<size_t>(read.ok() ? *read : 0));
  if (!read.ok()) return read.status();
  ended_ = *read == 0;
  return absl::OkStatus();
}

absl::StatusOr<bool> DocumentReader::NextLine(std::string* line) {
  for (size_t searched = 0;;) {
    const size_t end = buffer_.find('\n', at_ + searched);
    if (end != std::string::npos || ended_) {
      const size_t stop = std::min(end, buffer_.size());
      if (end == std::string::npos && stop == at_) return false;
      line->assign(buffer_, at_, stop - at_);
      at_ = end == std::string::npos ? stop : stop + 1;
      ++line_;
      return true;
    }
    searched = buffer_.size() - at_;
    if (static_cast<int64_t>(searched) > kMaxDocumentBytes) {
      return TooLarge(fmt::format("{}:{}", files_[next_file_ - 1].path, line_ + 1));
    }
    LACUNA_RETURN_IF_ERROR(ReadMore());
  }
}

absl::StatusOr<bool> DocumentReader::NextOfMegatron(const InputFile& file, RawDocument* document) {
  if (!megatron_) {
    LACUNA_ASSIGN_OR_RETURN(MegatronFile opened, MegatronFile::Open(file.path));
    megatron_ = std::make_shared<const MegatronFile>(std::move(opened));
    number_ = 0;
  }
  if (number_ == megatron_->num_documents()) return false;
  *document = {.bytes = "", .file = &file, .megatron = megatron_, .number = number_};
  const int64_t tokens = megatron_->DocumentTokens(number_++);
  if (tokens > kMaxDocumentBytes / 8) return TooLarge(document->Where());
  LACUNA_RETURN_IF_ERROR(megatron_->ReadBytes(document->number, tokens, &document->bytes));
  return true;
}

absl::StatusOr<bool> DocumentReader::Next(RawDocument* document) {
  for (;;) {
    if (stream_ == nullptr) {
      if (next_file_ == files_.size()) return false;
      if (files_[next_file_].is_megatron()) {
        LACUNA_ASSIGN_OR_RETURN(const bool found, NextOfMegatron(files_[next_file_], document));
        if (found) return true;
        megatron_ = nullptr;
        ++next_file_;
        continue;
      }
      LACUNA_ASSIGN_OR_RETURN(stream_, ByteStream::Open(files_[next_file_++].path));
      buffer_.clear();
      at_ = 0;
      ended_ = false;
      line_ = 0;
    }
    const InputFile& file = files_[next_file_ - 1];
    *document = {.bytes = "", .file = &file};
    if (file.is_json_lines()) {
      LACUNA_ASSIGN_OR_RETURN(const bool found, NextLine(&document->bytes));
      if (!found) {
        stream_ = nullptr;
        continue;
      }
      document->line = line_;
    } else {
      while (!ended_) {
        LACUNA_RETURN_IF_ERROR(ReadMore());
        if (static_cast<int64_t>(buffer_.size()) > kMaxDocumentBytes) return TooLarge(file.path);
      }
      document->bytes = std::move(buffer_);
      stream_ = nullptr;
    }
    if (document->line <= 1 && document->bytes.starts_with(kByteOrderMark)) {
      document->had_byte_order_mark = true;
      document->bytes.erase(0, kByteOrderMark.size());
    }
    if (document->line > 0 && document->bytes.find_first_not_of(" \t\r") == std::string::npos)
      continue;
    return true;
  }
}

}  // namespace lacuna
