#include "recipes/export/exporter.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "core/io/file.h"
#include "core/parallel.h"
#include "core/status.h"
#include "data/tokenizer/tokenizer.h"
#include "recipes/export/hf_config.h"
#include "recipes/export/side_files.h"
#include "recipes/trainer/load_model.h"

namespace lacuna {
namespace {

constexpr ExitCode kCode = ExitCode::kData;
constexpr int64_t kElementsAtOnce = int64_t{1} << 22;

absl::Status CheckTarget(const std::string& path) {
  std::error_code error;
  if (!PathExists(path)) return absl::OkStatus();
  if (!std::filesystem::is_directory(path, error))
    return ConfigError("{}: is there and no folder", path);
  LACUNA_ASSIGN_OR_RETURN(const auto names, ListDirectory(path, ExitCode::kConfig));
  if (names.empty()) return absl::OkStatus();
  return ConfigError("{}: is not empty; an export makes a new folder", path);
}

// A folder beside `target` that takes its place at the end or goes.
class NewFolder {
 public:
  static absl::StatusOr<NewFolder> Make(std::string target) {
    while (target.size() > 1 && target.ends_with('/')) target.pop_back();
    NewFolder folder(target, fmt::format("{}.tmp.{}", target, ::getpid()));
    LACUNA_RETURN_IF_ERROR(RemoveTree(folder.path_, kCode));
    LACUNA_RETURN_IF_ERROR(MakeDirectories(folder.path_, kCode));
    return folder;
  }
  NewFolder(NewFolder&& other) noexcept
      : target_(std::move(other.target_)), path_(std::exchange(other.path_, "")) {}
  ~NewFolder() {
    if (!path_.empty()) (void)RemoveTree(path_, kCode);
  }

  const std::string& path() const { return path_; }
  absl::Status Finish() {
    LACUNA_RETURN_IF_ERROR(FsyncDirectory(path_, kCode));
    LACUNA_RETURN_IF_ERROR(RenamePath(path_, target_, kCode));
    path_.clear();
    const std::string parent = std::filesystem::path(target_).parent_path().string();
    return FsyncDirectory(parent.empty() ? "." : parent, kCode);
  }

 private:
  NewFolder(std::string target, std::string path)
      : target_(std::move(target)), path_(std::move(path)) {}

  std::string target_, path_;
};

// One export.
class Exporter {
 public:
  explicit Exporter(const ExportOptions& options) : options_(options) {}

  absl::StatusOr<ExportSummary> Run() {
    LACUNA_RETURN_IF_ERROR(CheckTarget(options_.out_dir));
    LACUNA_RETURN_IF_ERROR(Load());
    LACUNA_ASSIGN_OR_RETURN(NewFolder folder, NewFolder::Make(options_.out_dir));
    const LogitRows unrounded = RowsOf(TraceModel(run_.model, recipe(), probe_.ids).logits);
    LACUNA_RETURN_IF_ERROR(WriteWeights(folder.path()));
    LACUNA_RETURN_IF_ERROR(WriteOthers(folder.path()));

    // The model is rounded in place: there is no second copy of it.
    RoundModel();
    const ModelTrace trained = TraceModel(run_.model, recipe(), probe_.ids);
    ExportSummary summary;
    LACUNA_ASSIGN_OR_RETURN(
        summary.verification,
        Explained(VerifyExport(folder.path(), run_.model, recipe(), probe_, trained)));
    summary.rounding = CompareLogits(static_cast<int64_t>(probe_.ids.size()),
                                     recipe().model.vocab_size, unrounded, RowsOf(trained.logits));
    LACUNA_RETURN_IF_ERROR(
        WriteText(folder.path(), "parity_probe.json",
                  ParityProbe(probe_, trained, summary.verification, recipe().nsa)));
    LACUNA_RETURN_IF_ERROR(
        WriteText(folder.path(), "export_report.json",
                  ExportReport(facts_, probe_, summary.verification, summary.rounding)));
    LACUNA_RETURN_IF_ERROR(folder.Finish());
    summary.facts = std::move(facts_);
    summary.probe = std::move(probe_);
    return summary;
  }

 private:
  const Recipe& recipe() const { return run_.recipe; }

  absl::Status Load() {
    // Products of f32 weights in f32, also of a model that was trained in bf16.
    LACUNA_ASSIGN_OR_RETURN(run_, LoadModel(options_.run_dir, options_.step,
                                            {.overrides = {}, .full_precision = true}));
    facts_ = {.checkpoint = run_.path,
              .step = run_.state.step,
              .architecture = options_.architecture.value_or(
                  recipe().uses_nsa() ? ExportArchitecture::kNsaMoe : ExportArchitecture::kGlm4Moe),
              .dtype = options_.dtype,
              .transformers = options_.transformers,
              .files = {},
              .map = {}};
    LACUNA_RETURN_IF_ERROR(CheckExpressible(recipe(), facts_.architecture));
    LACUNA_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Load(recipe().data.tokenizer));
    if (tokenizer.hash() != run_.state.tokenizer_hash)
      return DataError("{}: is not the tokenizer that the checkpoint was trained with",
                       recipe().data.tokenizer);
    tokenizer_.emplace(std::move(tokenizer));
    sources_ = TensorsByName(run_.model);
    LACUNA_ASSIGN_OR_RETURN(facts_.map, MapModel(sources_, recipe().model, facts_.architecture));
    LACUNA_ASSIGN_OR_RETURN(max_positions_, MaxPositions(recipe()));
    const int64_t tokens = options_.probe_tokens > 0 ? options_.probe_tokens
                                                     : DefaultProbeTokens(recipe(), max_positions_);
    probe_ = ChooseProbe(recipe(), *tokenizer_, tokens, max_positions_);
    return absl::OkStatus();
  }

  absl::Status WriteWeights(const std::string& folder) {
    std::map<std::string, const Tensor*> source_of;
    for (const NamedTensor& source : sources_) source_of[source.name] = &source.tensor;
    std::map<std::string, const ExportTensor*> exported_of;
    for (const ExportTensor& exported : facts_.map) exported_of[exported.name] = &exported;
    std::map<std::string, std::string> metadata;
    // Nothing else in the folder says how much of a value head is padding.
    if (facts_.architecture == ExportArchitecture::kGlm4Moe)
      metadata["v_head_dim"] = std::to_string(recipe().model.head_dim_v);

    const auto files =
        PlanSafetensorsFiles(GroupTensors(facts_.map, options_.dtype), options_.max_file_bytes);
    for (const SafetensorsFilePlan& file : files) {
      LACUNA_ASSIGN_OR_RETURN(
          SafetensorsWriter writer,
          SafetensorsWriter::Create(folder + "/" + file.name, file.tensors, metadata));
      for (const SafetensorsSpec& spec : file.tensors) {
        const ExportTensor& exported = *exported_of.at(spec.name);
        LACUNA_RETURN_IF_ERROR(
            WriteTensor(exported, *source_of.at(exported.source), spec, &writer));
        facts_.bytes += spec.bytes();
      }
      LACUNA_RETURN_IF_ERROR(writer.Close());
      facts_.files.push_back(file.name);
    }
    return files.size() == 1 ? absl::OkStatus() : WriteSafetensorsIndex(folder, files);
  }

  static absl::Status WriteTensor(const ExportTensor& exported, const Tensor& source,
                                  const SafetensorsSpec& spec, SafetensorsWriter* writer) {
    const int64_t elements = NumElements(spec.shape), size = SizeOf(spec.dtype);
    std::vector<char> part(static_cast<size_t>(std::min(elements, kElementsAtOnce) * size));
    for (int64_t begin = 0; begin < elements; begin += kElementsAtOnce) {
      const int64_t count = std::min(kElementsAtOnce, elements - begin);
      GatherExported(exported, source, begin, count, spec.dtype, part.data());
      LACUNA_RETURN_IF_ERROR(writer->Write(spec.name, part.data(), count * size));
    }
    return absl::OkStatus();
  }

  absl::Status WriteOthers(const std::string& folder) {
    LACUNA_ASSIGN_OR_RETURN(const auto config,
                            HfConfig(recipe(), facts_.architecture, options_.dtype,
                                     options_.transformers, SpecialIdsOf(*tokenizer_)));
    LACUNA_RETURN_IF_ERROR(WriteText(folder, "config.json", config.dump(2) + "\n"));
    LACUNA_RETURN_IF_ERROR(WriteTokenizerFiles(folder, recipe(), *tokenizer_, max_positions_));
    return facts_.architecture == ExportArchitecture::kNsaMoe ? WriteRemoteCode(folder)
                                                              : absl::OkStatus();
  }

  void RoundModel() {
    std::map<std::string, Tensor*> source_of;
    for (NamedTensor& source : sources_) source_of[source.name] = &source.tensor;
    for (const ExportTensor& exported : facts_.map)
      RoundLikeExported(exported, options_.dtype, source_of.at(exported.source));
    run_.model.parameters->SyncValueFromMaster();
  }

  template <class T>
  absl::StatusOr<T> Explained(absl::StatusOr<T> result) const {
    if (result.ok()) return result;
    return MakeError(ExitCode::kCheckpoint,
                     fmt::format("{}: the exported folder does not compute what the model does, "
                                 "nothing was written: {}",
                                 run_.path, Message(result.status())));
  }

  const ExportOptions& options_;
  LoadedModel run_;
  std::optional<Tokenizer> tokenizer_;
  int64_t max_positions_ = 0;
  std::vector<NamedTensor> sources_;
  Probe probe_;
  ExportFacts facts_;
};

}  // namespace

absl::StatusOr<ExportSummary> ExportRun(const ExportOptions& options) {
  return Exporter(options).Run();
}

}  // namespace lacuna
