#include "data/tokenizer/tokenizer.h"

#include <xxhash.h>

#include <mutex>
#include <utility>

#include "core/io/file.h"
#include "data/tokenizer/bpe_model.h"
#include "data/tokenizer/tokenizer_json.h"
#include "data/tokenizer/utf8.h"

namespace lacuna {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{1} << 29;
constexpr std::string_view kEndOfDocument[] = {"<|endoftext|>", "<|end_of_text|>",
                                               "<｜end▁of▁sentence｜>", "</s>"};

// What one call of Encode works with.
struct Workspace {
  Matcher matcher;
  BpeModel::Workspace bpe;
  std::string normalized;
};

}  // namespace

struct Tokenizer::State {
  std::vector<std::string> tokens;  // bytes by id, added tokens included; empty where an id is free
  std::vector<AddedToken> added_tokens;
  BytesViewMap<const AddedToken*> added_by_text;
  std::vector<bool> special;
  int32_t eod_id = -1;
  std::vector<NormalForm> normal_forms;
  // of tokens searched before and after normalisation
  AddedTokenFinder raw_finder, normalized_finder;
  PreTokenizer pre_tokenizer;
  std::unique_ptr<const BpeModel> model;
  std::string canonical;
  uint64_t hash = 0;

  // Workspaces not in use: as many as there were calls at once. A workspace's recent words stay
  // warm from call to call.
  mutable std::mutex mutex;
  mutable std::vector<std::unique_ptr<Workspace>> idle;

  std::unique_ptr<Workspace> Borrow() const {
    const std::lock_guard lock(mutex);
    if (idle.empty()) return std::make_unique<Workspace>();
    std::unique_ptr<Workspace> workspace = std::move(idle.back());
    idle.pop_back();
    return workspace;
  }
  void Return(std::unique_ptr<Workspace> workspace) const {
    const std::lock_guard lock(mutex);
    idle.push_back(std::move(workspace));
  }

  // use_text(part) and use_token(token) over `text` in order.
  template <class F, class G>
  static absl::Status ForEachPart(const AddedTokenFinder& finder, bool parse, std::string_view text,
                                  F&& use_text, G&& use_token) {
    if (!finder.IsNeeded(parse)) return use_text(text);
    size_t at = 0;
    AddedTokenFinder::Match match;
    while (finder.FindNext(text, parse, &match)) {
      if (match.begin > at) LACUNA_RETURN_IF_ERROR(use_text(text.substr(at, match.begin - at)));
      use_token(*match.token);
      at = match.end;
    }
    return use_text(text.substr(at));
  }

  absl::Status Encode(std::string_view text, bool parse, Workspace* workspace,
                      std::vector<int32_t>* ids) const {
    const auto use_token = [&](const AddedToken& token) { ids->push_back(token.id); };
    const auto use_word = [&](std::string_view word) { model->Encode(word, &workspace->bpe, ids); };
    const auto use_normalized = [&](std::string_view part) {
      return pre_tokenizer.ForEachWord(part, &workspace->matcher, use_word);
    };
    const auto use_raw = [&](std::string_view part) {
      return ForEachPart(normalized_finder, parse,
                         Normalize(part, normal_forms, &workspace->normalized), use_normalized,
                         use_token);
    };
    return ForEachPart(raw_finder, parse, text, use_raw, use_token);
  }
};

absl::StatusOr<Tokenizer> Tokenizer::Load(const std::string& path) {
  LACUNA_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxFileBytes, ExitCode::kData));
  return FromJson(text, path);
}

absl::StatusOr<Tokenizer> Tokenizer::FromJson(std::string_view text, const std::string& name) {
  LACUNA_ASSIGN_OR_RETURN(TokenizerDefinition definition, ParseTokenizerJson(text, name));
  auto state = std::make_shared<State>();
  state->tokens = std::move(definition.tokens);
  state->added_tokens = std::move(definition.added_tokens);
  std::vector<const AddedToken*> raw, normalized;
  std::vector<std::string> raw_texts, normalized_texts;
  for (const AddedToken& token : state->added_tokens) {
    const size_t id = static_cast<size_t>(token.id);
    if (id >= state->tokens.size()) state->tokens.resize(id + 1);
    state->special.resize(state->tokens.size());
    state->tokens[id] = token.content;
    state->special[id] = token.special;
    state->added_by_text.emplace(token.content, &token);
    std::string buffer;
    (token.normalized ? normalized : raw).push_back(&token);
    const std::string_view searched =
        token.normalized ? Normalize(token.content, definition.normal_forms, &buffer)
                         : token.content;
    (token.normalized ? normalized_texts : raw_texts).emplace_back(searched);
  }
  state->special.resize(state->tokens.size());
  for (const std::string_view name_of_end : kEndOfDocument) {
    const auto found = state->added_by_text.find(name_of_end);
    if (found != state->added_by_text.end() && state->eod_id < 0) state->eod_id = found->second->id;
  }
  if (state->eod_id < 0) {
    return DataError(
        "{}: added_tokens: no end of document; one of \"{}\", \"{}\", \"{}\", \"{}\" is expected",
        name, kEndOfDocument[0], kEndOfDocument[1], kEndOfDocument[2], kEndOfDocument[3]);
  }
  state->raw_finder = AddedTokenFinder(raw, raw_texts);
  state->normalized_finder = AddedTokenFinder(normalized, normalized_texts);
  state->normal_forms = std::move(definition.normal_forms);
  state->pre_tokenizer = PreTokenizer(std::move(definition.split_rules));
  state->model = std::make_unique<const BpeModel>(definition.byte_ids, definition.merges,
                                                  std::move(definition.whole_words));
  state->canonical = std::move(definition.canonical);
  state->hash = XXH3_64bits(state->canonical.data(), state->canonical.size());
  return Tokenizer(std::move(state));
}

absl::Status Tokenizer::Save(const std::string& path) const {
  return WriteFileDurably(path, state_->canonical, ExitCode::kData);
}

absl::Status Tokenizer::Encode(std::string_view text, std::vector<int32_t>* ids,
                               SpecialTokens specials) const {
  if (const int64_t bad = FirstInvalidUtf8(text); bad >= 0) {
    return DataError("byte {} of {} (0x{:02x}) is not UTF-8", bad, text.size(),
                     static_cast<uint8_t>(text[static_cast<size_t>(bad)]));
  }
  std::unique_ptr<Workspace> workspace = state_->Borrow();
  const size_t before = ids->size();
  const absl::Status status =
      state_->Encode(text, specials == SpecialTokens::kParse, workspace.get(), ids);
  state_->Return(std::move(workspace));
  if (!status.ok()) ids->resize(before);
  return status;
}

std::string Tokenizer::Decode(absl::Span<const int32_t> ids) const {
  std::string text;
  for (const int32_t id : ids) {
    const bool known = id >= 0 && static_cast<size_t>(id) < state_->tokens.size() &&
                       !state_->tokens[static_cast<size_t>(id)].empty();
    text += known ? state_->tokens[static_cast<size_t>(id)] : "\xEF\xBF\xBD";
  }
  return text;
}

int64_t Tokenizer::vocab_size() const {
  return static_cast<int64_t>(state_->tokens.size());
}

std::optional<int32_t> Tokenizer::AddedTokenId(std::string_view token) const {
  const auto found = state_->added_by_text.find(token);
  return found == state_->added_by_text.end() ? std::nullopt : std::optional(found->second->id);
}

std::optional<int32_t> Tokenizer::SpecialId(std::string_view token) const {
  const std::optional<int32_t> id = AddedTokenId(token);
  return id && IsSpecial(*id) ? id : std::nullopt;
}

bool Tokenizer::IsSpecial(int32_t id) const {
  return id >= 0 && static_cast<size_t>(id) < state_->special.size() &&
         state_->special[static_cast<size_t>(id)];
}

int32_t Tokenizer::eod_id() const {
  return state_->eod_id;
}

uint64_t Tokenizer::hash() const {
  return state_->hash;
}

}  // namespace lacuna
