// How recipes/evaluation/loss.h's results are shown.
#include <algorithm>

#include "core/status.h"
#include "recipes/evaluation/loss.h"
#include "recipes/trainer/progress.h"

namespace lacuna {
namespace {

nlohmann::ordered_json BucketJson(const LossBucket& bucket) {
  nlohmann::ordered_json json = {{"from", bucket.begin},
                                 {"to", bucket.end - 1},
                                 {"tokens", bucket.tokens},
                                 {"bytes", bucket.bytes},
                                 {"loss", bucket.loss()}};
  // A token of a document's end has no bytes: a bucket may be of such alone.
  if (bucket.bytes > 0) json["bits_per_byte"] = bucket.bits_per_byte();
  return json;
}

std::string Row(const std::string& set, const std::string& positions, const LossBucket& bucket,
                size_t width) {
  return fmt::format("{:<{}}  {:>16}  {:>12}  {:>9.4f}  {:>9}\n", set, width, positions,
                     FormatCount(bucket.tokens), bucket.loss(),
                     bucket.bytes > 0 ? fmt::format("{:.4f}", bucket.bits_per_byte()) : "-");
}

std::string Scored(const LossOptions& options) {
  if (!options.by_document())
    return fmt::format("documents packed into samples of {} tokens", FormatCount(options.length));
  std::string text =
      fmt::format("documents in pieces of up to {} tokens, scored from position {} on",
                  FormatCount(options.length), FormatCount(options.first_target()));
  if (options.context > 0) {
    text += fmt::format("; each token sees {} to {} tokens before it",
                        FormatCount(options.context / 2), FormatCount(options.context - 1));
  }
  return text;
}

}  // namespace

std::string LossText(const std::vector<SetLoss>& losses, const LossOptions& options) {
  size_t width = 3;
  for (const SetLoss& set : losses) width = std::max(width, set.name.size());
  std::string text = Scored(options) + "\n\n";
  text += fmt::format("{:<{}}  {:>16}  {:>12}  {:>9}  {:>9}\n", "set", width, "position", "tokens",
                      "loss", "bits/byte");
  for (const SetLoss& set : losses) {
    std::string name = set.name;
    for (const LossBucket& bucket : set.buckets) {
      const std::string positions =
          bucket.begin + 1 == bucket.end
              ? FormatCount(bucket.begin)
              : fmt::format("{} - {}", FormatCount(bucket.begin), FormatCount(bucket.end - 1));
      text += Row(name, positions, bucket, width);
      name.clear();
    }
    text += Row("", "all", set.total, width);
  }
  return text;
}

nlohmann::ordered_json LossJson(const std::vector<SetLoss>& losses, const LossOptions& options) {
  nlohmann::ordered_json json = {{"length", options.length},
                                 {"by_document", options.by_document()}};
  if (options.by_document()) json["targets_from"] = options.first_target();
  if (options.context > 0) json["context"] = options.context;
  for (const SetLoss& set : losses) {
    nlohmann::ordered_json buckets = nlohmann::ordered_json::array();
    for (const LossBucket& bucket : set.buckets) buckets.push_back(BucketJson(bucket));
    nlohmann::ordered_json total = BucketJson(set.total);
    total.erase("from");
    total.erase("to");
    json["sets"].push_back(
        {{"name", set.name}, {"samples", set.samples}, {"total", total}, {"by_position", buckets}});
  }
  return json;
}

}  // namespace lacuna
