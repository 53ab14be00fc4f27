"""Configuration of nsa_moe: a mixture-of-experts decoder with Native Sparse Attention (arXiv 2502.11089)."""
from transformers import PretrainedConfig


class NsaMoeConfig(PretrainedConfig):
    """Names are Glm4Moe's where it has them. Of its own:

    attention      "nsa", or "full": causal attention over all keys
    v_head_dim     width of a value head; head_dim is that of queries and keys
    scoring_func   "sigmoid" (with a correction bias for the choice of experts) or "softmax"
    nsa_config     lengths in tokens: compress_block l, compress_stride d, select_block l', window w; select_topk n blocks a query
                   reads, init_blocks and local_blocks among them; phi "mlp", "linear" or "mean" with phi_hidden (in head widths) and
                   phi_activation ("silu", "gelu_tanh")
    """

    model_type = "nsa_moe"
    keys_to_ignore_at_inference = ["past_key_values", "cache"]

    def __init__(
        self,
        vocab_size=102400,
        hidden_size=2560,
        intermediate_size=12288,
        moe_intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=64,
        num_key_value_heads=4,
        head_dim=192,
        v_head_dim=128,
        attention="nsa",
        nsa_config=None,
        use_qk_norm=False,
        n_routed_experts=72,
        n_shared_experts=2,
        num_experts_per_tok=6,
        first_k_dense_replace=1,
        scoring_func="sigmoid",
        norm_topk_prob=True,
        routed_scaling_factor=1.0,
        hidden_act="silu",
        rms_norm_eps=1e-5,
        max_position_embeddings=8192,
        rope_parameters=None,
        partial_rotary_factor=1.0,
        rope_theta=10000.0,
        initializer_range=0.02,
        tie_word_embeddings=False,
        use_cache=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        **kwargs,
    ):
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.moe_intermediate_size = moe_intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads
        self.head_dim = head_dim
        self.v_head_dim = v_head_dim
        self.attention = attention
        self.nsa_config = nsa_config
        self.use_qk_norm = use_qk_norm
        self.n_routed_experts = n_routed_experts
        self.n_shared_experts = n_shared_experts
        self.num_experts_per_tok = num_experts_per_tok
        self.first_k_dense_replace = first_k_dense_replace
        self.scoring_func = scoring_func
        self.norm_topk_prob = norm_topk_prob
        self.routed_scaling_factor = routed_scaling_factor
        self.hidden_act = hidden_act
        self.rms_norm_eps = rms_norm_eps
        self.max_position_embeddings = max_position_embeddings
        self.initializer_range = initializer_range
        self.use_cache = use_cache
        # transformers 4 writes rope_scaling beside rope_theta, transformers 5 has all of it in rope_parameters.
        rope = dict(rope_parameters or kwargs.pop("rope_scaling", None) or {"rope_type": "default"})
        kwargs.pop("rope_scaling", None)
        rope.setdefault("rope_theta", rope_theta)
        rope.setdefault("partial_rotary_factor", partial_rotary_factor)
        self.rope_parameters = rope
        self.rope_theta = rope["rope_theta"]
        self.partial_rotary_factor = rope["partial_rotary_factor"]
        super().__init__(
            tie_word_embeddings=tie_word_embeddings,
            bos_token_id=bos_token_id,
            eos_token_id=eos_token_id,
            pad_token_id=pad_token_id,
            **kwargs,
        )


__all__ = ["NsaMoeConfig"]
