// A preparation's report for people.
#include <fmt/format.h>

#include <algorithm>

#include "data/prepare/prepare.h"

namespace lacuna {
namespace {

double Ratio(int64_t a, int64_t b) {
  return static_cast<double>(a) / static_cast<double>(std::max<int64_t>(b, 1));
}

std::string TextTable(const PrepareReport& report) {
  std::string text = fmt::format("{:<16} {:>7} {:>11} {:>15} {:>15} {:>11}\n", "split", "shards",
                                 "documents", "bytes", "tokens", "bytes/token");
  for (const SplitReport& split : report.splits) {
    text +=
        fmt::format("{:<16} {:>7} {:>11} {:>15} {:>15} {:>11.3f}\n", split.name, split.shards,
                    split.documents, split.bytes, split.tokens, Ratio(split.bytes, split.tokens));
  }
  return text;
}

std::string ChatTable(const PrepareReport& report) {
  std::string text = fmt::format("{:<16} {:>7} {:>13} {:>15} {:>15} {:>7}\n", "split", "shards",
                                 "conversations", "tokens", "in the loss", "share");
  for (const SplitReport& split : report.splits) {
    text += fmt::format("{:<16} {:>7} {:>13} {:>15} {:>15} {:>6.1f}%\n", split.name, split.shards,
                        split.documents, split.tokens, split.loss_tokens,
                        100 * Ratio(split.loss_tokens, split.tokens));
  }
  return text;
}

}  // namespace

std::string ToString(const PrepareReport& report) {
  const bool chat = !report.chat.empty();
  std::string text = chat ? ChatTable(report) : TextTable(report);
  text += fmt::format("files: {} read", report.files);
  if (report.other_files > 0)
    text += fmt::format(", {} with other extensions left out", report.other_files);
  text += chat ? fmt::format("\nchat: {}\nconversations: ", report.chat) : "\ndocuments: ";
  if (!chat) {
    text += fmt::format("{} empty left out", report.empty_documents);
  } else {
    if (report.max_tokens > 0)
      text += fmt::format("{} of more than {} tokens left out, ", report.long_conversations,
                          report.max_tokens);
    text += fmt::format("{} without a token in the loss left out", report.no_loss_conversations);
  }
  text += fmt::format(
      ", {} with a byte order mark removed, {} with CRLF made LF, {} repaired to UTF-8\n",
      report.byte_order_marks, report.crlf_documents, report.repaired_documents);
  if (report.id_documents > 0) {
    text += fmt::format(
        "token ids: {} documents, the end of document added to {}, {} with another one inside\n",
        report.id_documents, report.ends_added, report.inner_end_documents);
  }
  return text;
}

}  // namespace lacuna
