// Section `data` of a recipe: what a run trains on and is evaluated on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/chat/chat_template.h"

namespace lacuna {

// How documents fill samples of sequence_length tokens.
enum class Packing {
  kConcat,       // one stream, cut every sequence_length tokens
  kBestFit,      // whole documents where they fit (best fit decreasing), longer ones cut
  kOneDocument,  // one document a sample, padded
  kWhole,        // whole documents only, best fit decreasing; longer ones are left out
};

struct SourceConfig {
  std::string name;
  std::string path;     // a token shard, a folder of shards or a glob
  double weight = 1.0;  // share of the samples, relative to the other sources
};

struct ValidationConfig {
  std::string name;
  std::string path;
};

struct DataConfig {
  std::string tokenizer;  // tokenizer.json that the shards were made with
  std::vector<SourceConfig> sources;
  std::vector<ValidationConfig> validation;
  Packing packing = Packing::kConcat;
  // Of the conversations among the shards, and of those with the model.
  ChatTemplateKind chat_template = ChatTemplateKind::kNone;
  std::string cache;  // folder of the sample index; empty: beside the shards

  // Appends one line for every violated rule, naming `section`.key and value.
  void Validate(const std::string& section, std::vector<std::string>* violations) const;
};

}  // namespace lacuna
