#include "recipes/export/side_files.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "core/io/file.h"
#include "core/status.h"
#include "recipes/export/chat_template.h"
#include "recipes/export/remote_code.h"

namespace lacuna {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kMaxTokenizerBytes = int64_t{1} << 30;

std::string TokenText(const Tokenizer& tokenizer, int64_t id) {
  return tokenizer.Decode({static_cast<int32_t>(id)});
}

absl::Status WriteJson(const std::string& folder, const std::string& name,
                       const ordered_json& json) {
  return WriteText(folder, name, json.dump(2) + "\n");
}

}  // namespace

SpecialIds SpecialIdsOf(const Tokenizer& tokenizer) {
  SpecialIds ids;
  ids.bos = ids.eos = ids.pad = tokenizer.eod_id();
  for (const char* pad : {"<|pad|>", "<pad>", "[PAD]"}) {
    const std::optional<int32_t> id = tokenizer.SpecialId(pad);
    if (!id) continue;
    ids.pad = *id;
    break;
  }
  return ids;
}

absl::Status WriteText(const std::string& folder, const std::string& name,
                       const std::string& text) {
  return WriteFileDurably(folder + "/" + name, text, ExitCode::kData);
}

absl::Status WriteTokenizerFiles(const std::string& folder, const Recipe& recipe,
                                 const Tokenizer& tokenizer, int64_t max_positions) {
  const SpecialIds ids = SpecialIdsOf(tokenizer);
  const ordered_json tokens = {{"bos_token", TokenText(tokenizer, ids.bos)},
                               {"eos_token", TokenText(tokenizer, ids.eos)},
                               {"pad_token", TokenText(tokenizer, ids.pad)}};
  ordered_json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                         {"model_max_length", max_positions},
                         {"clean_up_tokenization_spaces", false}};
  config.update(tokens);
  LACUNA_ASSIGN_OR_RETURN(const std::string text,
                          ReadFile(recipe.data.tokenizer, kMaxTokenizerBytes, ExitCode::kData));
  LACUNA_RETURN_IF_ERROR(WriteText(folder, "tokenizer.json", text));
  LACUNA_RETURN_IF_ERROR(WriteJson(folder, "tokenizer_config.json", config));
  LACUNA_RETURN_IF_ERROR(WriteJson(folder, "special_tokens_map.json", tokens));
  LACUNA_ASSIGN_OR_RETURN(const std::optional<ExportedChat> chat,
                          ExportChatTemplate(recipe, tokenizer));
  // An answer's end stops generation as a document's does.
  std::vector<int64_t> stops = {ids.eos};
  for (const int32_t stop : chat ? chat->stop_ids : std::vector<int32_t>{}) {
    if (stop != ids.eos) stops.push_back(stop);
  }
  LACUNA_RETURN_IF_ERROR(WriteJson(folder, "generation_config.json",
                                   {{"bos_token_id", ids.bos},
                                    {"eos_token_id", stops},
                                    {"pad_token_id", ids.pad},
                                    {"do_sample", true},
                                    {"temperature", 0.8},
                                    {"top_p", 0.95}}));
  return chat ? WriteText(folder, "chat_template.jinja", chat->jinja) : absl::OkStatus();
}

absl::Status WriteRemoteCode(const std::string& folder) {
  LACUNA_RETURN_IF_ERROR(WriteText(folder, "configuration_nsa_moe.py", kConfigurationNsaMoe));
  return WriteText(folder, "modeling_nsa_moe.py", kModelingNsaMoe);
}

}  // namespace lacuna
