#include "recipes/schema/recipe_keys.h"

namespace lacuna {

template <>
const std::vector<Key<RunConfig>>& KeysOf<RunConfig>() {
  static const std::vector<Key<RunConfig>> keys = {
      MakeKey("name", &RunConfig::name, "name of the run, in logs and file names"),
      MakeKey("dir", &RunConfig::dir,
              "folder that the run writes to: checkpoints, logs, the resolved recipe"),
      MakeKey("seed", &RunConfig::seed, "of the initial weights and the order of the data"),
      MakeKey(
          "stage", &RunConfig::stage,
          "name of this part of a training plan; another stage meets the data in another order"),
  };
  return keys;
}

template <>
const std::vector<Key<InitConfig>>& KeysOf<InitConfig>() {
  static const std::vector<Key<InitConfig>> keys = {
      MakeKey(
          "path", &InitConfig::path,
          "folder of a run (its last whole checkpoint) or of a checkpoint; empty: from run.seed"),
      MakeKey("load", &InitConfig::load,
              "what is taken over; the step, the schedule and the data begin anew"),
  };
  return keys;
}

template <>
const std::vector<Key<BatchPhase>>& KeysOf<BatchPhase>() {
  static const std::vector<Key<BatchPhase>> keys = {
      MakeKey("steps", &BatchPhase::steps, "for how long"),
      MakeKey("global_batch", &BatchPhase::global_batch, "samples of such a step"),
  };
  return keys;
}

template <>
const std::vector<Key<YarnConfig>>& KeysOf<YarnConfig>() {
  static const std::vector<Key<YarnConfig>> keys = {
      MakeKey("factor", &YarnConfig::factor, "context extension; 1 is plain RoPE"),
      MakeKey("original_length", &YarnConfig::original_length,
              "tokens the model was pretrained on"),
      MakeKey("beta_fast", &YarnConfig::beta_fast,
              "rotations above which a dimension keeps its frequency"),
      MakeKey("beta_slow", &YarnConfig::beta_slow,
              "rotations below which a frequency is divided by the factor"),
  };
  return keys;
}

template <>
const std::vector<Key<ModelConfig>>& KeysOf<ModelConfig>() {
  static const std::vector<Key<ModelConfig>> keys = {
      MakeKey("attention", &ModelConfig::attention,
              "full causal attention, or native sparse attention (section nsa)"),
      MakeKey("num_layers", &ModelConfig::num_layers, "transformer blocks"),
      MakeKey("num_dense_layers", &ModelConfig::num_dense_layers,
              "the first blocks, with a dense SwiGLU instead of experts"),
      MakeKey("width", &ModelConfig::width, "of the residual stream"),
      MakeKey("vocab_size", &ModelConfig::vocab_size, "at least the tokenizer's"),
      MakeKey("num_heads", &ModelConfig::num_heads, "query heads"),
      MakeKey("num_groups", &ModelConfig::num_groups, "key/value groups; divides num_heads"),
      MakeKey("head_dim_qk", &ModelConfig::head_dim_qk, "width of a query and key head"),
      MakeKey("head_dim_v", &ModelConfig::head_dim_v, "width of a value head"),
      MakeKey("rotary_dims", &ModelConfig::rotary_dims,
              "the first dims of queries and keys, rotated by position; even"),
      MakeKey("rope_theta", &ModelConfig::rope_theta, "base of the rotary frequencies"),
      MakeKey("yarn", &ModelConfig::yarn, "context extension (YaRN)"),
      MakeKey("qk_norm", &ModelConfig::qk_norm, "RMS norm of each query and key head"),
      MakeKey("dense_width", &ModelConfig::dense_width, "feed-forward width of the dense blocks"),
      MakeKey("tie_embeddings", &ModelConfig::tie_embeddings,
              "one matrix for the embedding and the head"),
      MakeKey("norm_eps", &ModelConfig::norm_eps, "epsilon of the RMS norms"),
      MakeKey("init_std", &ModelConfig::init_std, "standard deviation of the initial weights"),
  };
  return keys;
}

template <>
const std::vector<Key<NsaConfig>>& KeysOf<NsaConfig>() {
  static const std::vector<Key<NsaConfig>> keys = {
      MakeKey("block", &NsaConfig::block, "l, tokens of a compression block"),
      MakeKey("stride", &NsaConfig::stride,
              "d, tokens between compression blocks; divides block and select_block"),
      MakeKey("select_block", &NsaConfig::select_block,
              "l', tokens of a selection block; >= block"),
      MakeKey("num_selected", &NsaConfig::num_selected,
              "n, blocks a query reads, the forced ones included"),
      MakeKey("num_init", &NsaConfig::num_init, "forced blocks at the start of the document"),
      MakeKey("num_local", &NsaConfig::num_local,
              "forced blocks at the query: its own and those before it"),
      MakeKey("window", &NsaConfig::window,
              "w, tokens of the sliding window, the query's own included"),
      MakeKey("phi", &NsaConfig::phi, "how a block is compressed"),
      MakeKey("phi_hidden", &NsaConfig::phi_hidden, "hidden width of phi's MLP, in head widths"),
      MakeKey("activation", &NsaConfig::activation, "of phi's MLP"),
      MakeKey("phi_start", &NsaConfig::phi_start,
              "before training: random, or the block's mean, of keys or of both"),
  };
  return keys;
}

template <>
const std::vector<Key<MoeConfig>>& KeysOf<MoeConfig>() {
  static const std::vector<Key<MoeConfig>> keys = {
      MakeKey("num_experts", &MoeConfig::num_experts, "routed experts of a block"),
      MakeKey("experts_per_token", &MoeConfig::experts_per_token,
              "routed experts a token goes through"),
      MakeKey("expert_width", &MoeConfig::expert_width, "feed-forward width of an expert"),
      MakeKey("num_shared", &MoeConfig::num_shared,
              "experts that every token goes through, as one of their joint width"),
      MakeKey("router", &MoeConfig::router, "scores of the experts"),
      MakeKey("normalize_weights", &MoeConfig::normalize_weights,
              "the weights of a token's experts sum to one ..."),
      MakeKey("routed_scale", &MoeConfig::routed_scale, "... times this"),
      MakeKey("bias_update_rate", &MoeConfig::bias_update_rate,
              "sigmoid router: step of the balancing bias; 0 keeps it"),
      MakeKey("aux_loss", &MoeConfig::aux_loss, "over what the balance loss is taken"),
      MakeKey("aux_loss_coef", &MoeConfig::aux_loss_coef, "weight of the balance loss"),
      MakeKey("z_loss_coef", &MoeConfig::z_loss_coef, "weight of the router's z-loss"),
  };
  return keys;
}

template <>
const std::vector<Key<SourceConfig>>& KeysOf<SourceConfig>() {
  static const std::vector<Key<SourceConfig>> keys = {
      MakeKey("name", &SourceConfig::name, "of the source, in logs"),
      MakeKey("path", &SourceConfig::path, "a token shard, a folder of shards, or a glob"),
      MakeKey("weight", &SourceConfig::weight,
              "share of the samples, relative to the other sources"),
  };
  return keys;
}

template <>
const std::vector<Key<ValidationConfig>>& KeysOf<ValidationConfig>() {
  static const std::vector<Key<ValidationConfig>> keys = {
      MakeKey("name", &ValidationConfig::name, "of the set, in logs"),
      MakeKey("path", &ValidationConfig::path, "a token shard, a folder of shards, or a glob"),
  };
  return keys;
}

template <>
const std::vector<Key<DataConfig>>& KeysOf<DataConfig>() {
  static const std::vector<Key<DataConfig>> keys = {
      MakeKey("tokenizer", &DataConfig::tokenizer, "tokenizer.json that the shards were made with"),
      MakeKey("sources", &DataConfig::sources, "what is trained on"),
      MakeKey("validation", &DataConfig::validation, "what is evaluated on"),
      MakeKey("packing", &DataConfig::packing,
              "how documents fill a sample; they never see each other"),
      MakeKey("chat_template", &DataConfig::chat_template,
              "that shards of conversations must be made with, and `generate --chat` asks by"),
      MakeKey("cache", &DataConfig::cache, "folder of the sample index; empty: beside the shards"),
  };
  return keys;
}

template <>
const std::vector<Key<OptimizerConfig>>& KeysOf<OptimizerConfig>() {
  static const std::vector<Key<OptimizerConfig>> keys = {
      MakeKey("learning_rate", &OptimizerConfig::learning_rate, "at its peak"),
      MakeKey("min_learning_rate_ratio", &OptimizerConfig::min_learning_rate_ratio,
              "of the peak, at the end"),
      MakeKey("schedule", &OptimizerConfig::schedule, "of the learning rate after the warm-up"),
      MakeKey("warmup_steps", &OptimizerConfig::warmup_steps, "in which the rate rises from 0"),
      MakeKey("decay_steps", &OptimizerConfig::decay_steps,
              "wsd: the last steps, in which the rate falls"),
      MakeKey("beta1", &OptimizerConfig::beta1, "decay of AdamW's first moment"),
      MakeKey("beta2", &OptimizerConfig::beta2, "decay of AdamW's second moment"),
      MakeKey("eps", &OptimizerConfig::eps, "of AdamW"),
      MakeKey("weight_decay", &OptimizerConfig::weight_decay,
              "decoupled; of matrices, not of norms"),
      MakeKey("clip_norm", &OptimizerConfig::clip_norm,
              "of the global gradient norm; 0 switches clipping off"),
      MakeKey("moments", &OptimizerConfig::moments,
              "type of AdamW's moments; bf16 halves their memory (f32 is f64 in an f64 run)"),
  };
  return keys;
}

template <>
const std::vector<Key<TrainConfig>>& KeysOf<TrainConfig>() {
  static const std::vector<Key<TrainConfig>> keys = {
      MakeKey("sequence_length", &TrainConfig::sequence_length, "tokens of a sample"),
      MakeKey("micro_batch", &TrainConfig::micro_batch,
              "samples that a rank takes through the model at once"),
      MakeKey("global_batch", &TrainConfig::global_batch,
              "samples of an optimizer step, over all ranks"),
      MakeKey("batch_warmup", &TrainConfig::batch_warmup,
              "phases with fewer samples a step, one after the other, at the run's beginning"),
      MakeKey("steps", &TrainConfig::steps, "optimizer steps of the whole run"),
      MakeKey("threads", &TrainConfig::threads,
              "of a rank; 0: OMP_NUM_THREADS, or the machine's cores shared among its ranks"),
      MakeKey("dtype", &TrainConfig::dtype,
              "of weights and activations; bf16 keeps f32 master weights"),
      MakeKey("device", &TrainConfig::device,
              "where a rank computes; auto: a CUDA card where there is one"),
      MakeKey("deterministic", &TrainConfig::deterministic,
              "two runs give the same bits; false: full attention on CUDA may sum gradients in any "
              "order, which may be faster and has no longest document"),
      MakeKey("recompute", &TrainConfig::recompute,
              "what runs forward again in backward instead of keeping activations"),
      KeyWithin(
          &TrainConfig::recompute,
          MakeKey("recompute_keeps", &RecomputePolicy::keeps,
                  "what recomputed blocks keep all the same: nothing but choices, or the outputs "
                  "of attention's kernels, too, which then run forward once")),
      MakeKey("checkpoint_every", &TrainConfig::checkpoint_every,
              "steps; 0: only at the end and when asked to stop"),
      MakeKey("async_checkpoint", &TrainConfig::async_checkpoint,
              "training goes on while a checkpoint is written from a copy in host memory"),
      MakeKey("keep_latest", &TrainConfig::keep_latest, "checkpoints that are kept"),
      MakeKey("eval_every", &TrainConfig::eval_every, "steps; 0: only at the end"),
      MakeKey("eval_samples", &TrainConfig::eval_samples, "of each validation set; 0: all"),
      MakeKey("log_every", &TrainConfig::log_every, "steps"),
      MakeKey("max_nonfinite_steps", &TrainConfig::max_nonfinite_steps,
              "skipped steps in a row before the run ends"),
      MakeKey("bucket_mb", &TrainConfig::bucket_mb, "MiB of gradients that are reduced together"),
      MakeKey("memory_limit_gib", &TrainConfig::memory_limit_gib,
              "GiB of tensors that a rank may hold on its device, for one it shares; 0: no limit"),
  };
  return keys;
}

template <>
const std::vector<Key<ParallelConfig>>& KeysOf<ParallelConfig>() {
  static const std::vector<Key<ParallelConfig>> keys = {
      MakeKey("expert", &ParallelConfig::expert,
              "ranks that share the experts of a block; divides the ranks and moe.num_experts"),
      MakeKey(
          "expert_chunks", &ParallelConfig::expert_chunks,
          "in which tokens travel to experts of other ranks, one while another is worked on; 0: "
          "2, where a rank's micro-batch has 512 tokens for each, else 1"),
      MakeKey("context", &ParallelConfig::context,
              "consecutive ranks that share each sample; divides the ranks, and twice it "
              "train.sequence_length"),
      MakeKey("zero", &ParallelConfig::zero,
              "of the parameters that are not dealt out as experts, every rank holds all (0), "
              "shares of "
              "gradients and optimizer state (2), or shares of the weights, too (3), which are "
              "gathered "
              "for a block at a time"),
      MakeKey(
          "shard", &ParallelConfig::shard,
          "consecutive ranks, as those of a node, over which shares are cut, so that only sums of "
          "shares leave it; divides the ranks, 0: all of them"),
      MakeKey("timeout_seconds", &ParallelConfig::timeout_seconds,
              "for which a rank waits for others before it names who is to blame and ends the run; "
              "the environment's LACUNA_TIMEOUT_SECONDS comes first"),
  };
  return keys;
}

template <>
const std::vector<Key<Recipe>>& KeysOf<Recipe>() {
  static const std::vector<Key<Recipe>> keys = {
      MakeKey("run", &Recipe::run, "the run's name and place"),
      MakeKey("init_from", &Recipe::init_from, "the model that this stage starts from"),
      MakeKey("model", &Recipe::model, "the transformer"),
      MakeKey("nsa", &Recipe::nsa, "native sparse attention; read where model.attention is nsa"),
      MakeKey("moe", &Recipe::moe, "mixture of experts, of the blocks after num_dense_layers"),
      MakeKey("data", &Recipe::data, "what is trained and evaluated on"),
      MakeKey("optimizer", &Recipe::optimizer, "AdamW and its schedule"),
      MakeKey("train", &Recipe::train, "batches, steps, precision, checkpoints"),
      MakeKey("parallel", &Recipe::parallel, "how the ranks share the model"),
  };
  return keys;
}

}  // namespace lacuna
