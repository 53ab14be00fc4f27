"""nsa_moe in plain PyTorch: exact, with memory linear in the context, not fast.

Native Sparse Attention (arXiv 2502.11089): a query attends to compressed blocks of all tokens before it, to the tokens of the few
blocks it selects by the compressed scores, and to a sliding window; three gates for each head mix the results. Each branch has keys
and values of its own.

Padding: a row of a batch begins at its first token that attention_mask does not hide. Positions and all block grids count from there,
so that a row gives the same in any batch. Padding behind the tokens needs no mask.
"""
import math

import torch
import torch.nn.functional as F
import transformers
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from .configuration_nsa_moe import NsaMoeConfig

# What outputs call the cache: "past_key_values", or "cache" in newer versions of transformers.
_CACHE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"
# What stays f32 in a bf16 model: the router. transformers 4 compares the parts of a name, 5 looks for a pattern in it.
_ALWAYS_F32 = ["gate"] if transformers.__version__.startswith("4.") else ["gate.weight", "e_score_correction_bias"]
# Elements of the largest matrix of attention scores.
_SCORES = 1 << 26


def _wide(x):
    """x in the type that sums are taken in."""
    return x if x.dtype == torch.float64 else x.float()


class RotaryTable:
    """Cosines and sines [positions, rotary dims / 2], scaled by YaRN's attention factor; the same for every length."""

    def __init__(self, config):
        rope = config.rope_parameters
        theta = rope["rope_theta"]
        dims = int(config.head_dim * rope["partial_rotary_factor"])
        if dims % 2:
            raise ValueError(f"partial_rotary_factor {rope['partial_rotary_factor']} of head_dim {config.head_dim} is an odd number of dims")
        # Numbers, not tensors: models are built on a device without storage and then filled.
        inverse = [theta ** (-i / dims) for i in range(0, dims, 2)]
        self.attention_factor = 1.0
        kind = rope.get("rope_type", "default")
        if kind == "yarn":
            factor = rope["factor"]

            def correction_dim(rotations):
                return dims * math.log(rope["original_max_position_embeddings"] / (rotations * 2 * math.pi)) / (2 * math.log(theta))

            low = max(math.floor(correction_dim(rope.get("beta_fast", 32.0))), 0)
            high = min(math.ceil(correction_dim(rope.get("beta_slow", 1.0))), dims - 1)
            ramp = [min(max((i - low) / (0.001 if low == high else high - low), 0.0), 1.0) for i in range(dims // 2)]
            inverse = [f / factor * r + f * (1 - r) for f, r in zip(inverse, ramp)]
            self.attention_factor = rope.get("attention_factor") or 0.1 * math.log(factor) + 1
        elif kind != "default":
            raise ValueError(f"rope_type {kind}: supported are default and yarn")
        self.inverse_frequencies = inverse
        self._tables = {}

    def __call__(self, length, device, dtype):
        key = (device, dtype)
        if key not in self._tables or self._tables[key][0].shape[0] < length:
            frequencies = torch.tensor(self.inverse_frequencies, dtype=torch.float64, device="cpu")
            angles = torch.arange(max(length, 256), dtype=torch.float64, device="cpu")[:, None] * frequencies
            self._tables[key] = tuple((f(angles) * self.attention_factor).to(device=device, dtype=dtype) for f in (torch.cos, torch.sin))
        return self._tables[key]


def rotate(x, cos, sin):
    """Rotates the first dims of x [..., D]; cos and sin [..., half] broadcast against it."""
    half = cos.shape[-1]
    a, b, rest = _wide(x[..., :half]), _wide(x[..., half : 2 * half]), x[..., 2 * half :]
    return torch.cat([(a * cos - b * sin).to(x.dtype), (b * cos + a * sin).to(x.dtype), rest], -1)


class NsaMoeRMSNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        y = _wide(x)
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)
        return (y * self.weight.to(y.dtype)).to(x.dtype)


class NsaMoeMLP(nn.Module):
    def __init__(self, config, intermediate_size):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, intermediate_size, bias=False)
        self.down_proj = nn.Linear(intermediate_size, config.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class NsaMoeRouter(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.n_routed_experts, config.hidden_size))
        if config.scoring_func == "sigmoid":
            self.register_buffer("e_score_correction_bias", torch.zeros(config.n_routed_experts))

    def forward(self, x):
        """x [N, C] -> weights and experts [N, K]."""
        logits = F.linear(_wide(x), self.weight.to(_wide(x).dtype))
        if self.config.scoring_func == "sigmoid":
            scores = logits.sigmoid()
            choice = scores + self.e_score_correction_bias
        else:
            scores = choice = logits.softmax(-1)
        # A stable sort gives ties to the lower expert; topk does not promise it.
        experts = choice.sort(dim=-1, descending=True, stable=True).indices[:, : self.config.num_experts_per_tok]
        weights = scores.gather(1, experts)
        if self.config.norm_topk_prob:
            weights = weights / (weights.sum(-1, keepdim=True) + 1e-20)
        return weights * self.config.routed_scaling_factor, experts


class NsaMoeSparseMLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate = NsaMoeRouter(config)
        self.experts = nn.ModuleList(NsaMoeMLP(config, config.moe_intermediate_size) for _ in range(config.n_routed_experts))
        self.shared_experts = None
        if config.n_shared_experts:
            self.shared_experts = NsaMoeMLP(config, config.n_shared_experts * config.moe_intermediate_size)

    def forward(self, hidden):
        x = hidden.reshape(-1, hidden.shape[-1])
        weights, experts = self.gate(x)
        routed = torch.zeros_like(_wide(x))
        for e in experts.unique().tolist():
            rows, place = (experts == e).nonzero(as_tuple=True)
            routed.index_add_(0, rows, self.experts[e](x[rows]).to(routed.dtype) * weights[rows, place, None])
        y = routed.to(x.dtype)
        if self.shared_experts is not None:
            y = y + self.shared_experts(x)
        return y.view_as(hidden)


class NsaMoePhi(nn.Module):
    """Compresses a block of l keys (or values) to one: y = w2 act(w1 vec(block)), or y = w vec(block), or the block's mean."""

    def __init__(self, nsa, width):
        super().__init__()
        self.kind = nsa["phi"]
        block = nsa["compress_block"] * width
        if self.kind == "mlp":
            hidden = nsa["phi_hidden"] * width
            self.w1 = nn.Linear(block, hidden, bias=False)
            self.w2 = nn.Linear(hidden, width, bias=False)
            self.tanh_gelu = nsa["phi_activation"] == "gelu_tanh"
        elif self.kind == "linear":
            self.w = nn.Linear(block, width, bias=False)

    def forward(self, blocks, position):
        """blocks [..., l, D]; position [l, D] is added to each, or None -> [..., D]."""
        if self.kind == "mean":
            return blocks.mean(-2)
        flat = (blocks + position).flatten(-2)
        if self.kind == "linear":
            return self.w(flat)
        hidden = self.w1(flat)
        return self.w2(F.gelu(hidden, approximate="tanh") if self.tanh_gelu else F.silu(hidden))


def attend(q, k, v, visible):
    """q [c, G, R, Dk], k [u, G, Dk], v [u, G, Dv], visible [c, 1 or G, u] -> output [c, G, R, Dv], probabilities [c, G, R, u]. A query that
    sees nothing gets 0."""
    scores = torch.einsum("cgrd,ugd->cgru", q, k) * q.shape[-1] ** -0.5
    scores = scores.masked_fill(~visible[:, :, None], float("-inf"))
    p = scores.softmax(-1).masked_fill(~visible.any(-1)[:, :, None, None], 0.0)
    return torch.einsum("cgru,ugd->cgrd", p, v), p


class NsaMoeAttention(nn.Module):
    """What full and sparse attention share. `branches` kinds of keys and values stand side by side in the cache."""

    branches = ()

    def __init__(self, config, layer_idx):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.q_proj = nn.Linear(config.hidden_size, self.heads * config.head_dim, bias=False)
        if config.use_qk_norm:
            self.q_norm = NsaMoeRMSNorm(config.head_dim, config.rms_norm_eps)
        for branch in self.branches:
            setattr(self, branch + "k_proj", nn.Linear(config.hidden_size, self.groups * config.head_dim, bias=False))
            setattr(self, branch + "v_proj", nn.Linear(config.hidden_size, self.groups * config.v_head_dim, bias=False))
            if config.use_qk_norm:
                setattr(self, branch + "k_norm", NsaMoeRMSNorm(config.head_dim, config.rms_norm_eps))
        self.o_proj = nn.Linear(self.heads * config.v_head_dim, config.hidden_size, bias=False)

    def heads_of(self, x, projection, norm, width):
        y = projection(x).unflatten(-1, (-1, width))
        return getattr(self, norm)(y) if self.config.use_qk_norm and norm else y

    def forward(self, x, starts, seen, table, cache):
        """x [B, T, C], tokens `seen` .. of their rows; row b begins at column starts[b]; table (length, device, dtype) -> cos, sin."""
        config, length = self.config, x.shape[1]
        cos, sin = table(seen + length, x.device, _wide(x).dtype)
        columns = torch.arange(seen, seen + length, device=x.device)
        positions = (columns[None] - torch.tensor(starts, device=x.device)[:, None]).clamp(min=0)
        cos_here, sin_here = cos[positions][:, :, None], sin[positions][:, :, None]

        q = rotate(self.heads_of(x, self.q_proj, "q_norm", config.head_dim), cos_here, sin_here)
        keys, values = [], []
        for branch in self.branches:
            k = self.heads_of(x, getattr(self, branch + "k_proj"), branch + "k_norm", config.head_dim)
            # phi reads keys as they are before rotation.
            keys.append(k if branch == "cmp_" else rotate(k, cos_here, sin_here))
            values.append(self.heads_of(x, getattr(self, branch + "v_proj"), None, config.v_head_dim))
        keys, values = torch.cat(keys, 2).transpose(1, 2), torch.cat(values, 2).transpose(1, 2)
        if cache is not None:
            keys, values = cache.update(keys, values, self.layer_idx)
        gate = self.gates(x)

        out = x.new_zeros(x.shape[0], length, self.heads * config.v_head_dim)
        for b, start in enumerate(starts):
            first = max(start - seen, 0)  # of this call's columns
            if first >= length:
                continue
            # [branches, tokens of the row, G, D]
            k = keys[b, :, start:].unflatten(0, (len(self.branches), self.groups)).transpose(1, 2)
            v = values[b, :, start:].unflatten(0, (len(self.branches), self.groups)).transpose(1, 2)
            o = self.attend_row(q[b, first:], k, v, None if gate is None else gate[b, first:], seen + first - start, (cos, sin))
            out[b, first:] = o.flatten(-2)
        return self.o_proj(out)

    def gates(self, x):
        return None

    def chunks(self, queries, tokens):
        size = max(1, _SCORES // (self.heads * max(tokens, 1)))
        return [(begin, min(begin + size, queries)) for begin in range(0, queries, size)]


class NsaMoeFullAttention(NsaMoeAttention):
    branches = ("",)

    def attend_row(self, q, k, v, gate, first, rope):
        """q [n, H, Dk] of the tokens `first` .. of a row; k, v [1, T, G, D] -> [n, H, Dv]."""
        out = []
        for begin, end in self.chunks(q.shape[0], k.shape[1]):
            t = torch.arange(first + begin, first + end, device=q.device)
            seen = first + end
            visible = (torch.arange(seen, device=q.device) <= t[:, None])[:, None]
            heads = _wide(q[begin:end]).unflatten(1, (self.groups, -1))
            out.append(attend(heads, _wide(k[0, :seen]), _wide(v[0, :seen]), visible)[0].flatten(1, 2))
        return torch.cat(out).to(q.dtype)


class NsaMoeSparseAttention(NsaMoeAttention):
    branches = ("cmp_", "slc_", "win_")

    def __init__(self, config, layer_idx):
        super().__init__(config, layer_idx)
        self.nsa = nsa = config.nsa_config
        self.gate_proj = nn.Linear(config.hidden_size, 3 * self.heads, bias=False)  # row 3 h + branch
        self.phi_k, self.phi_v = NsaMoePhi(nsa, config.head_dim), NsaMoePhi(nsa, config.v_head_dim)
        self.cmp_pos_k = self.cmp_pos_v = None
        if nsa["phi"] != "mean":
            self.cmp_pos_k = nn.Parameter(torch.empty(nsa["compress_block"], config.head_dim))
            self.cmp_pos_v = nn.Parameter(torch.empty(nsa["compress_block"], config.v_head_dim))

    def gates(self, x):
        return _wide(self.gate_proj(x)).sigmoid().unflatten(-1, (self.heads, 3))

    def compress(self, k, v, rope):
        """k, v [T, G, D] of the compression branch -> compressed rows [Tc, G, D], keys rotated to their block's last token."""
        block, stride = self.nsa["compress_block"], self.nsa["compress_stride"]
        if k.shape[0] < block:
            return k[:0], v[:0]
        kc, vc = (phi(x.unfold(0, block, stride).transpose(-1, -2), pos) for phi, x, pos in
                  ((self.phi_k, k, self.cmp_pos_k), (self.phi_v, v, self.cmp_pos_v)))
        last = torch.arange(kc.shape[0], device=k.device) * stride + block - 1
        return rotate(kc, rope[0][last][:, None], rope[1][last][:, None]), vc

    def select(self, p, t, blocks):
        """p [c, G, R, Tc] of the compression branch, t [c] -> which of `blocks` blocks a query reads [c, G, blocks]."""
        nsa = self.nsa
        pieces = nsa["select_block"] // nsa["compress_stride"]
        # Below the least normal f32 a probability counts as 0: some hardware keeps denormals, some does not.
        p = p.masked_fill(p < torch.finfo(torch.float32).tiny, 0.0).sum(2)
        scores = p.new_zeros(*p.shape[:2], blocks)
        # Each compressed block counts once for each stride of it that lies in a selection block.
        for k in range(nsa["compress_block"] // nsa["compress_stride"]):
            scores.index_add_(2, (torch.arange(p.shape[2], device=p.device) + k) // pieces, p)
        scores = torch.where(scores.isnan(), -1.0, scores)  # the last choice
        j, own = torch.arange(blocks, device=p.device), (t // nsa["select_block"])[:, None, None]
        scores = scores.masked_fill((j < nsa["init_blocks"]) | (j > own - nsa["local_blocks"]), float("inf"))
        scores = scores.masked_fill(j > own, float("-inf"))
        order = scores.sort(dim=-1, descending=True, stable=True).indices[..., : nsa["select_topk"]]
        return torch.zeros_like(scores, dtype=torch.bool).scatter(2, order, True) & (j <= own)

    def attend_row(self, q, k, v, gate, first, rope):
        """q [n, H, Dk] of the tokens `first` .. of a row; k, v [3, T, G, D]; gate [n, H, 3] -> [n, H, Dv]."""
        nsa, device = self.nsa, q.device
        kc, vc = (_wide(x) for x in self.compress(k[0], v[0], rope))
        out = []
        for begin, end in self.chunks(q.shape[0], k.shape[1]):
            t = torch.arange(first + begin, first + end, device=device)
            seen = first + end
            heads = _wide(q[begin:end]).unflatten(1, (self.groups, -1))

            # Compressed blocks that are complete at each query, the last query seeing the most.
            complete = (t - nsa["compress_block"] + 1).div(nsa["compress_stride"], rounding_mode="floor") + 1
            rows = max(0, int(complete[-1]))
            visible = (torch.arange(rows, device=device) < complete[:, None])[:, None]
            o_cmp, p = attend(heads, kc[:rows], vc[:rows], visible)

            chosen = self.select(p, t, -(-seen // nsa["select_block"]))
            u = torch.arange(seen, device=device)
            visible = chosen[:, :, u // nsa["select_block"]] & (u <= t[:, None])[:, None]
            o_slc, _ = attend(heads, _wide(k[1, :seen]), _wide(v[1, :seen]), visible)

            oldest = max(0, first + begin - nsa["window"] + 1)
            u = torch.arange(oldest, seen, device=device)
            visible = ((u <= t[:, None]) & (u > t[:, None] - nsa["window"]))[:, None]
            o_win, _ = attend(heads, _wide(k[2, oldest:seen]), _wide(v[2, oldest:seen]), visible)

            g = gate[begin:end, ..., None]
            out.append(sum(g[:, :, c] * o.flatten(1, 2) for c, o in enumerate((o_cmp, o_slc, o_win))))
        return torch.cat(out).to(q.dtype)


class NsaMoeDecoderLayer(nn.Module):
    def __init__(self, config, layer_idx):
        super().__init__()
        kinds = {"nsa": NsaMoeSparseAttention, "full": NsaMoeFullAttention}
        self.input_layernorm = NsaMoeRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = kinds[config.attention](config, layer_idx)
        self.post_attention_layernorm = NsaMoeRMSNorm(config.hidden_size, config.rms_norm_eps)
        dense = layer_idx < config.first_k_dense_replace
        self.mlp = NsaMoeMLP(config, config.intermediate_size) if dense else NsaMoeSparseMLP(config)

    def forward(self, x, starts, seen, table, cache):
        x = x + self.self_attn(self.input_layernorm(x), starts, seen, table, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


class NsaMoePreTrainedModel(PreTrainedModel):
    config_class = NsaMoeConfig
    base_model_prefix = "model"
    _no_split_modules = ["NsaMoeDecoderLayer"]

    def __init__(self, config):
        super().__init__(config)
        if config.first_k_dense_replace < config.num_hidden_layers:
            self._keep_in_fp32_modules_strict = list(_ALWAYS_F32)

    def _init_weights(self, module):
        std = self.config.initializer_range
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=std)
        elif isinstance(module, NsaMoeRouter):
            nn.init.normal_(module.weight, std=std)
            if self.config.scoring_func == "sigmoid":
                nn.init.zeros_(module.e_score_correction_bias)
        elif isinstance(module, NsaMoeRMSNorm):
            nn.init.ones_(module.weight)
        elif isinstance(module, NsaMoeSparseAttention) and module.cmp_pos_k is not None:
            nn.init.normal_(module.cmp_pos_k, std=0.02)
            nn.init.normal_(module.cmp_pos_v, std=0.02)


def row_starts(attention_mask, batch, columns):
    """The column at which each row begins. Hidden columns may stand before a row's tokens and behind them, not between."""
    if attention_mask is None:
        return [0] * batch
    if attention_mask.dim() != 2 or attention_mask.shape != (batch, columns):
        raise ValueError(f"attention_mask has shape {tuple(attention_mask.shape)}, expected {(batch, columns)}: a row for each sequence, cached tokens included")
    starts = []
    for row in attention_mask.bool().cpu():
        tokens = row.nonzero()
        first, last = (tokens[0].item(), tokens[-1].item()) if len(tokens) else (columns, columns)
        if not row[first : last + 1].all():
            raise ValueError("attention_mask hides a column between a row's tokens; padding may stand before and behind them only")
        starts.append(first)
    return starts


class NsaMoeModel(NsaMoePreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(NsaMoeDecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = NsaMoeRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary_table = RotaryTable(config)
        self.post_init()

    def get_input_embeddings(self):
        return self.embed_tokens

    def set_input_embeddings(self, value):
        self.embed_tokens = value

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        inputs_embeds=None,
        use_cache=None,
        output_hidden_states=None,
        cache=None,
        **kwargs,
    ):
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        cache = past_key_values if cache is None else cache
        use_cache = self.config.use_cache and not self.training if use_cache is None else use_cache
        if use_cache and cache is None:
            cache = DynamicCache()
        seen = 0 if cache is None else cache.get_seq_length()
        batch, length = x.shape[:2]
        starts = row_starts(attention_mask, batch, seen + length)
        if position_ids is not None:
            self._check_positions(position_ids, starts, seen, length)
        states = [x]
        for layer in self.layers:
            x = layer(x, starts, seen, self.rotary_table, cache)
            states.append(x)
        x = self.norm(x)
        states[-1] = x
        return BaseModelOutputWithPast(
            last_hidden_state=x,
            hidden_states=tuple(states) if output_hidden_states else None,
            **{_CACHE: cache if use_cache else None},
        )

    def _check_positions(self, position_ids, starts, seen, length):
        columns = torch.arange(seen, seen + length, device=position_ids.device)
        expected = columns[None] - torch.tensor(starts, device=position_ids.device)[:, None]
        if not ((position_ids == expected) | (expected < 0)).all():
            raise ValueError("position_ids must count from each row's first token: block grids begin there, and packed sequences are not supported")


class NsaMoeForCausalLM(NsaMoePreTrainedModel, GenerationMixin):
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config):
        super().__init__(config)
        self.model = NsaMoeModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.model.embed_tokens

    def set_input_embeddings(self, value):
        self.model.embed_tokens = value

    def get_output_embeddings(self):
        return self.lm_head

    def set_output_embeddings(self, value):
        self.lm_head = value

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        position_ids=None,
        past_key_values=None,
        inputs_embeds=None,
        labels=None,
        use_cache=None,
        output_hidden_states=None,
        logits_to_keep=0,
        cache=None,
        **kwargs,
    ):
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            output_hidden_states=output_hidden_states,
            cache=cache,
        )
        hidden = outputs.last_hidden_state
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(hidden[:, kept])
        loss = None
        if labels is not None:
            shifted = F.pad(labels, (0, 1), value=-100)[:, 1:]
            loss = F.cross_entropy(_wide(logits).flatten(0, 1), shifted.flatten(), ignore_index=-100)
        return CausalLMOutputWithPast(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, **{_CACHE: getattr(outputs, _CACHE)}
        )


__all__ = ["NsaMoeForCausalLM", "NsaMoeModel", "NsaMoePreTrainedModel"]
