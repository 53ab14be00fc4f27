// lacuna tokenizer: learn a vocabulary; text to token ids and back.
#include "data/tokenizer/tokenizer.h"

#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "core/io/block_hash.h"
#include "core/io/file.h"
#include "core/parallel.h"
#include "core/status.h"
#include "data/prepare/document_reader.h"
#include "data/prepare/document_text.h"
#include "data/tokenizer/bpe_trainer.h"
#include "data/tokenizer/utf8.h"
#include "tools/command.h"

namespace lacuna::tools {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct TrainArguments {
  std::vector<std::string> inputs, extensions = {"txt", "md", "rst"}, special_tokens;
  std::string output, pattern = "llama3";
  TextOptions text;
  BpeTrainingOptions training;
  int threads = 0;
};

// Batches keep memory bounded; counts do not depend on where they end.
absl::Status AddDocuments(const TrainArguments& arguments, const std::vector<InputFile>& files,
                          BpeTrainer* trainer, int64_t* documents) {
  constexpr int64_t kBatchBytes = int64_t{64} << 20;
  DocumentReader reader(files);
  for (bool more = true; more;) {
    std::vector<std::string> texts, places;
    for (int64_t bytes = 0; bytes < kBatchBytes;) {
      RawDocument document;
      LACUNA_ASSIGN_OR_RETURN(more, reader.Next(&document));
      if (!more) break;
      places.push_back(document.Where());
      LACUNA_ASSIGN_OR_RETURN(DocumentText text, ExtractText(std::move(document), arguments.text));
      bytes += static_cast<int64_t>(text.text.size());
      texts.push_back(std::move(text.text));
    }
    *documents += static_cast<int64_t>(texts.size());
    LACUNA_RETURN_IF_ERROR(trainer->Add({texts.begin(), texts.end()}));
  }
  return absl::OkStatus();
}

absl::Status Train(TrainArguments& arguments) {
  if (arguments.threads > 0) SetNumThreads(arguments.threads);
  if (!arguments.special_tokens.empty())
    arguments.training.special_tokens = arguments.special_tokens;
  LACUNA_ASSIGN_OR_RETURN(arguments.training.words, ParseWordRules(arguments.pattern));
  LACUNA_ASSIGN_OR_RETURN(BpeTrainer trainer, BpeTrainer::Create(arguments.training));
  LACUNA_ASSIGN_OR_RETURN(const InputFiles inputs,
                          FindInputs(arguments.inputs, arguments.extensions));
  const Clock::time_point start = Clock::now();
  int64_t documents = 0;
  LACUNA_RETURN_IF_ERROR(AddDocuments(arguments, inputs.files, &trainer, &documents));
  const double counted = SecondsSince(start);
  LACUNA_ASSIGN_OR_RETURN(const Tokenizer tokenizer, trainer.Train());
  const double trained = SecondsSince(start);
  LACUNA_RETURN_IF_ERROR(tokenizer.Save(arguments.output));
  fmt::print("text        {} documents, {}, {} distinct words in {:.1f} s\n", documents,
             FormatBytes(trainer.num_bytes()), trainer.num_distinct_words(), counted);
  fmt::print("vocabulary  {} tokens of {} asked for, {} of them special, in {:.1f} s\n",
             tokenizer.vocab_size(), arguments.training.vocab_size,
             arguments.training.special_tokens.size(), trained - counted);
  fmt::print("written     {}, hash {}\n", arguments.output, ToHex(tokenizer.hash()));
  return absl::OkStatus();
}

struct ConvertArguments {
  std::string tokenizer, input = "-";
  bool special = false, pieces = false, stats = false;
};

// A file, or standard input for "-".
absl::StatusOr<std::string> ReadInput(const std::string& path) {
  constexpr int64_t kMaxBytes = int64_t{4} << 30;
  if (path != "-") return ReadFile(path, kMaxBytes, ExitCode::kData);
  std::string text;
  std::vector<char> buffer(size_t{1} << 16);
  while (const size_t bytes = std::fread(buffer.data(), 1, buffer.size(), stdin))
    text.append(buffer.data(), bytes);
  if (std::ferror(stdin)) return DataError("standard input: cannot be read");
  return text;
}

std::string InputName(const std::string& path) {
  return path == "-" ? "standard input" : path;
}

// What is not UTF-8 by itself (a part of a character) and control characters as \xHH.
std::string Printable(const std::string& bytes) {
  if (FirstInvalidUtf8(bytes) < 0) {
    std::string text;
    for (const char c : bytes)
      text += static_cast<uint8_t>(c) < ' ' || c == 0x7F ? fmt::format("\\x{:02x}", c)
                                                         : std::string(1, c);
    return text;
  }
  std::string text;
  for (const char c : bytes) text += fmt::format("\\x{:02x}", static_cast<uint8_t>(c));
  return text;
}

absl::Status Encode(const ConvertArguments& arguments) {
  LACUNA_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(arguments.tokenizer));
  LACUNA_ASSIGN_OR_RETURN(const std::string text, ReadInput(arguments.input));
  std::vector<int32_t> ids;
  const Clock::time_point start = Clock::now();
  const absl::Status status = tokenizer.Encode(
      text, &ids, arguments.special ? SpecialTokens::kParse : SpecialTokens::kAsText);
  const double seconds = SecondsSince(start);
  if (!status.ok()) return DataError("{}: {}", InputName(arguments.input), Message(status));
  if (arguments.stats) {
    fmt::print(
        "{} bytes, {} tokens, {:.3f} bytes a token, {:.1f} MB/s, decoded again: {}\n", text.size(),
        ids.size(),
        static_cast<double>(text.size()) / static_cast<double>(std::max<size_t>(ids.size(), 1)),
        text.size() / seconds / 1e6,
        tokenizer.Decode(ids) == text ? "the same" : "not the same (the tokenizer normalises)");
    return absl::OkStatus();
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    if (arguments.pieces) {
      fmt::print("{}\t{}\n", ids[i], Printable(tokenizer.Decode({&ids[i], 1})));
    } else {
      fmt::print("{}{}", i ? " " : "", ids[i]);
    }
  }
  if (!arguments.pieces) fmt::print("\n");
  return absl::OkStatus();
}

absl::Status Decode(const ConvertArguments& arguments) {
  LACUNA_ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(arguments.tokenizer));
  LACUNA_ASSIGN_OR_RETURN(const std::string text, ReadInput(arguments.input));
  std::vector<int32_t> ids;
  constexpr std::string_view kSpace = " \t\r\n,";
  constexpr size_t kMostShown = 40;  // bytes of what is no id
  for (size_t at = text.find_first_not_of(kSpace); at != std::string::npos;
       at = text.find_first_not_of(kSpace, at)) {
    const size_t end = std::min(text.find_first_of(kSpace, at), text.size());
    int32_t id = -1;
    const auto [stopped, error] = std::from_chars(text.data() + at, text.data() + end, id);
    if (error != std::errc() || stopped != text.data() + end || id < 0 ||
        id >= tokenizer.vocab_size()) {
      return DataError("{}: id {}: found \"{}\", allowed are 0 to {}", InputName(arguments.input),
                       ids.size(), Printable(text.substr(at, std::min(end - at, kMostShown))),
                       tokenizer.vocab_size() - 1);
    }
    ids.push_back(id);
    at = end;
  }
  const std::string decoded = tokenizer.Decode(ids);
  std::fwrite(decoded.data(), 1, decoded.size(), stdout);
  if (::isatty(STDOUT_FILENO)) std::fputc('\n', stdout);
  return absl::OkStatus();
}

void AddTrain(CLI::App* parent, Runner& run) {
  auto arguments = std::make_shared<TrainArguments>();
  CLI::App* command = parent->add_subcommand("train", "Learn a byte-level BPE vocabulary");
  command
      ->add_option("inputs", arguments->inputs,
                   "Files and folders; *.jsonl has a document a line, any other file is one")
      ->required();
  command
      ->add_option("--vocab-size", arguments->training.vocab_size,
                   "Tokens in all, special ones and bytes included")
      ->required();
  command->add_option("--output", arguments->output, "tokenizer.json to write")->required();
  command->add_option("--extensions", arguments->extensions, "Of the files to take from folders")
      ->delimiter(',')
      ->capture_default_str();
  command
      ->add_option("--pattern", arguments->pattern,
                   fmt::format("How text is cut into words: {}, or a regular expression that "
                               "matches them",
                               fmt::join(WordRulesNames(), ", ")))
      ->capture_default_str();
  command
      ->add_option("--special", arguments->special_tokens,
                   "A special token, instead of the default 64 (may be repeated; the first ids)")
      ->allow_extra_args(false);
  command
      ->add_option("--min-frequency", arguments->training.min_frequency,
                   "Least count of a pair that is merged")
      ->capture_default_str();
  command->add_option("--text-key", arguments->text.text_key, "Key of the text in a JSON line")
      ->capture_default_str();
  command->add_flag("--replace-invalid-utf8", arguments->text.replace_invalid_utf8,
                    "Put U+FFFD for bytes that are not UTF-8 (else an error)");
  command
      ->add_option("--threads", arguments->threads,
                   "Threads; the result does not depend on it (default: all cores)")
      ->check(CLI::NonNegativeNumber);
  command->footer(
      "Example: lacuna tokenizer train text/ --extensions txt --vocab-size 16384 --output "
      "tokenizer.json");
  command->callback([arguments, &run] { run = [arguments] { return Train(*arguments); }; });
}

void AddEncode(CLI::App* parent, Runner& run) {
  auto arguments = std::make_shared<ConvertArguments>();
  CLI::App* command = parent->add_subcommand("encode", "Text to token ids");
  command->add_option("input", arguments->input, "A text file; - is standard input")
      ->capture_default_str();
  command->add_option("--tokenizer", arguments->tokenizer, "tokenizer.json")->required();
  command->add_flag("--special", arguments->special,
                    "Special tokens' strings become their ids (else they are text)");
  CLI::Option* pieces = command->add_flag("--pieces", arguments->pieces,
                                          "A line for each token: its id, a tab, its text");
  command
      ->add_flag("--stats", arguments->stats,
                 "Only counts, bytes a token, speed, and whether decoding gives the text again")
      ->excludes(pieces);
  command->footer(
      "Example: echo 'Hello world' | lacuna tokenizer encode --tokenizer tokenizer.json --pieces");
  command->callback([arguments, &run] { run = [arguments] { return Encode(*arguments); }; });
}

void AddDecode(CLI::App* parent, Runner& run) {
  auto arguments = std::make_shared<ConvertArguments>();
  CLI::App* command = parent->add_subcommand("decode", "Token ids to text");
  command
      ->add_option("input", arguments->input,
                   "A file of ids between spaces, commas or line ends; - is standard input")
      ->capture_default_str();
  command->add_option("--tokenizer", arguments->tokenizer, "tokenizer.json")->required();
  command->footer("Example: echo 319 1402 88 | lacuna tokenizer decode --tokenizer tokenizer.json");
  command->callback([arguments, &run] { run = [arguments] { return Decode(*arguments); }; });
}

}  // namespace

void AddTokenizerCommand(CLI::App& app, Runner& run) {
  CLI::App* command = app.add_subcommand(
      "tokenizer", "Train a byte-level BPE tokenizer; encode and decode with any");
  command->require_subcommand(1);
  AddTrain(command, run);
  AddEncode(command, run);
  AddDecode(command, run);
  command->footer(
      "Example: lacuna tokenizer train text/ --vocab-size 16384 --output tokenizer.json");
}

}  // namespace lacuna::tools
