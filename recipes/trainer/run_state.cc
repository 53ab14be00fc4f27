#include "recipes/trainer/run_state.h"

#include "core/io/block_hash.h"
#include "core/status.h"

namespace lacuna {

nlohmann::json ToScalars(const RunState& state) {
  nlohmann::json sources = nlohmann::json::object();
  for (const auto& [name, source] : state.sources) {
    sources[name] = {{"fingerprint", source.fingerprint},
                     {"samples", source.samples},
                     {"tokens", source.tokens}};
  }
  return {{"step", state.step},
          {"samples", state.samples},
          {"tokens", state.tokens},
          {"updates", state.updates},
          {"tokenizer_hash", ToHex(state.tokenizer_hash)},
          {"mixture", state.mixture},
          {"sources", sources}};
}

absl::StatusOr<RunState> FromScalars(const nlohmann::json& scalars, const std::string& path) {
  RunState state;
  try {
    state.step = scalars.at("step");
    state.samples = scalars.at("samples");
    state.tokens = scalars.at("tokens");
    state.updates = scalars.at("updates");
    const std::string hash = scalars.at("tokenizer_hash");
    if (!FromHex(hash, &state.tokenizer_hash)) {
      return CheckpointError("{}: tokenizer_hash = \"{}\", must be 16 hexadecimal digits", path,
                             hash);
    }
    state.mixture = scalars.at("mixture");
    for (const auto& [name, source] : scalars.at("sources").items()) {
      state.sources[name] = {.fingerprint = source.at("fingerprint"),
                             .samples = source.at("samples"),
                             .tokens = source.at("tokens")};
    }
  } catch (const nlohmann::json::exception& error) {
    return CheckpointError("{}: its scalars are not those of a run: {}", path, error.what());
  }
  return state;
}

}  // namespace lacuna
