#include "data/prepare/byte_stream.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/io/file.h"

namespace lacuna {
namespace {

class PlainStream : public ByteStream {
 public:
  PlainStream(FileDescriptor file, int64_t size) : file_(std::move(file)), size_(size) {}

  absl::StatusOr<int64_t> Read(char* data, int64_t bytes) override {
    const int64_t part = std::min(bytes, size_ - at_);
    if (part > 0) LACUNA_RETURN_IF_ERROR(file_.ReadAt(at_, data, part));
    at_ += part;
    return part;
  }
  const std::string& path() const { return file_.path(); }

 private:
  FileDescriptor file_;
  int64_t size_;
  int64_t at_ = 0;
};

constexpr size_t kInputBytes = size_t{1} << 18;

// Members of a .gz file follow each other; each is inflated in turn.
class GzipStream : public ByteStream {
 public:
  explicit GzipStream(PlainStream input) : input_(std::move(input)), buffer_(kInputBytes) {
    constexpr int kGzip = 16;
    LACUNA_CHECK(inflateInit2(&state_, MAX_WBITS + kGzip) == Z_OK, "zlib cannot start");
  }
  ~GzipStream() override { inflateEnd(&state_); }

  absl::StatusOr<int64_t> Read(char* data, int64_t bytes) override {
    state_.next_out = reinterpret_cast<Bytef*>(data);
    state_.avail_out = static_cast<uInt>(std::min<int64_t>(bytes, 1 << 30));
    const uInt room = state_.avail_out;
    while (state_.avail_out == room) {
      // What the decoder still holds comes out before more is read.
      if (state_.avail_in == 0 && !pending_) {
        LACUNA_ASSIGN_OR_RETURN(const int64_t size,
                                input_.Read(reinterpret_cast<char*>(buffer_.data()), kInputBytes));
        if (size == 0 && between_members_) return 0;
        if (size == 0) return DataError("{}: the gzip data end early", input_.path());
        state_.next_in = buffer_.data();
        state_.avail_in = static_cast<uInt>(size);
      }
      between_members_ = false;
      const int result = inflate(&state_, Z_NO_FLUSH);
      if (result == Z_STREAM_END) {
        between_members_ = true;
        inflateReset(&state_);
      } else if (result != Z_OK && result != Z_BUF_ERROR) {  // the latter: more input is needed
        return DataError("{}: damaged gzip data: {}", input_.path(),
                         state_.msg == nullptr ? "unknown error" : state_.msg);
      }
      pending_ = state_.avail_out == 0 && !between_members_;
    }
    return room - state_.avail_out;
  }

 private:
  PlainStream input_;
  std::vector<Bytef> buffer_;
  z_stream state_{};
  bool between_members_ = false;  // an empty file is no gzip file
  bool pending_ = false;
};

class ZstdStream : public ByteStream {
 public:
  explicit ZstdStream(PlainStream input)
      : input_(std::move(input)), buffer_(kInputBytes), state_(ZSTD_createDStream()) {
    LACUNA_CHECK(state_ != nullptr, "out of memory");
    // Files made with --long keep up to 2 GiB of history.
    ZSTD_DCtx_setParameter(state_.get(), ZSTD_d_windowLogMax, 31);
  }

  absl::StatusOr<int64_t> Read(char* data, int64_t bytes) override {
    ZSTD_outBuffer out{data, static_cast<size_t>(bytes), 0};
    while (out.pos == 0) {
      if (in_.pos == in_.size && !pending_) {
        LACUNA_ASSIGN_OR_RETURN(const int64_t size, input_.Read(buffer_.data(), kInputBytes));
        if (size == 0 && frame_ended_) return 0;
        if (size == 0) return DataError("{}: the zstd data end early", input_.path());
        in_ = {buffer_.data(), static_cast<size_t>(size), 0};
      }
      const size_t result = ZSTD_decompressStream(state_.get(), &out, &in_);
      if (ZSTD_isError(result))
        return DataError("{}: damaged zstd data: {}", input_.path(), ZSTD_getErrorName(result));
      frame_ended_ = result == 0;
      pending_ = !frame_ended_ && out.pos == out.size;
    }
    return static_cast<int64_t>(out.pos);
  }

 private:
  struct Free {
    void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
  };
  PlainStream input_;
  std::vector<char> buffer_;
  std::unique_ptr<ZSTD_DStream, Free> state_;
  ZSTD_inBuffer in_{nullptr, 0, 0};
  bool frame_ended_ = false;
  bool pending_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ByteStream>> ByteStream::Open(const std::string& path) {
  LACUNA_ASSIGN_OR_RETURN(FileDescriptor file, FileDescriptor::OpenRead(path, ExitCode::kData));
  LACUNA_ASSIGN_OR_RETURN(const int64_t size, file.Size());
  PlainStream plain(std::move(file), size);
  if (path.ends_with(".gz")) return std::unique_ptr<ByteStream>(new GzipStream(std::move(plain)));
  if (path.ends_with(".zst")) return std::unique_ptr<ByteStream>(new ZstdStream(std::move(plain)));
  return std::unique_ptr<ByteStream>(new PlainStream(std::move(plain)));
}

std::string UncompressedName(const std::string& path) {
  for (const std::string_view suffix : {".gz", ".zst"}) {
    if (path.ends_with(suffix)) return path.substr(0, path.size() - suffix.size());
  }
  return path;
}

}  // namespace lacuna
