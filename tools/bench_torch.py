#!/usr/bin/env python3
"""The rows of `lacuna bench cuda` in PyTorch: the same operators and layers at the same sizes, timed the same way on the same card.

  python3 tools/bench_torch.py '{"device": "cuda", "rows": [["rms_norm_fwd", 8192], ...], "width": 2560, ...}'     (lacuna writes the JSON)

A row is what a user of PyTorch would run: its fused operators where it has them (F.scaled_dot_product_attention on cuDNN,
torch._grouped_mm, AdamW(fused=True)), else plain code under torch.compile. Prints JSON lines: {"torch": version}, then for each row
{"op", "tokens", "ms"}, or {"op", "tokens", "left_out": why}. Full attention has "triton_ms", too, of a kernel in Triton
(tools/triton_attention.py), or "triton_left_out".
"""
import functools
import json
import math
import sys
import time

import torch
import torch._dynamo.config
import torch._functorch.config
import torch.nn.functional as F

BUILDERS, LEFT_OUT = {}, {
    "adamw_bf16_moments": "AdamW(fused=True) keeps the moments in the parameters' type",
    **{f"grouped_{matrix}_dw_add": "torch._grouped_mm only sets" for matrix in ("up", "down")},
    "select_blocks": "PyTorch has no such operator",
    "gate_combine_bwd": "PyTorch's makes gated copies of do, which ours does without",
    "selected_attention_fwd": "PyTorch has no attention to a list of blocks for each query",
    "selected_attention_bwd": "PyTorch has no attention to a list of blocks for each query",
    "nsa_attention_core_fwd": "PyTorch has no native sparse attention",
    "nsa_attention_core_bwd": "PyTorch has no native sparse attention",
    "decode_nsa": "PyTorch has no native sparse attention",
    "attention_nsa_fwd": "PyTorch has no native sparse attention",
    "attention_nsa_fwd_bwd": "PyTorch has no native sparse attention",
}


def row(*names):
    """A function (config, tokens) -> one call on inputs of its own; called with the row's name, too, where it stands for several."""
    def add(builder):
        for name in names:
            BUILDERS[name] = functools.partial(builder, name) if len(names) > 1 else builder
        return builder
    return add


class Config(dict):
    __getattr__ = dict.__getitem__

    def normal(self, *shape, dtype=torch.bfloat16, std=1.0, grad=False):
        return (torch.randn(shape, device=self.device) * std).to(dtype).requires_grad_(grad)

    def ids(self, n, bound):
        return torch.randint(bound, (n,), device=self.device)

    def compiled(self, function):
        return compiled(function) if self.get("compile", True) else function


@functools.cache
def compiled(function):
    return torch.compile(function, dynamic=False)


def backward(y, inputs, dy):
    """One call of the backward pass alone, of a graph made before."""
    return lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)


def forward_or_backward(name, function, inputs, dy):
    """Of a differentiable function: its forward, or where the row's name says so its backward."""
    if name.endswith("_bwd"):
        inputs = [x.requires_grad_() for x in inputs]
        return backward(function(*inputs), inputs, dy)
    return lambda: function(*inputs)


# --- core/ops ---

@row("add")
def add(c, n):
    a, b = c.normal(n, c.width), c.normal(n, c.width)
    y = torch.empty_like(a)
    return lambda: torch.add(a, b, out=y)


def rms_norm(x, w):
    return F.rms_norm(x, (x.shape[-1],), w, 1e-5)


@row("rms_norm_fwd", "rms_norm_bwd", "qk_norm_fwd", "qk_norm_bwd")
def norm(name, c, n):
    shape = (n * c.num_heads, c.head_dim_qk) if name.startswith("qk") else (n, c.width)
    return forward_or_backward(name, c.compiled(rms_norm), [c.normal(*shape), c.normal(shape[1])], c.normal(*shape))


def rotate(x, cos, sin):
    half = cos.shape[-1]
    a, b, rest = x[..., :half].float(), x[..., half:2 * half].float(), x[..., 2 * half:]
    return torch.cat([(a * cos - b * sin).to(x.dtype), (b * cos + a * sin).to(x.dtype), rest], -1)


def rotary_table(c, n):
    half = c.rotary_dims // 2
    angle = torch.arange(n, device=c.device)[:, None] * c.rope_theta ** (-torch.arange(half, device=c.device) / half)
    return angle.cos(), angle.sin()


@row("rope")
def rope(c, n):
    x, (cos, sin) = c.normal(n, c.num_heads, c.head_dim_qk), rotary_table(c, n)
    cos, sin, function = cos[:, None], sin[:, None], c.compiled(rotate)
    return lambda: function(x, cos, sin)


def swiglu(x):
    gate, up = x.chunk(2, -1)
    return F.silu(gate.float()).mul(up).to(x.dtype)


@row("swiglu_experts_fwd", "swiglu_experts_bwd", "swiglu_dense_fwd", "swiglu_dense_bwd")
def swiglu_row(name, c, n):
    n, f = (n * c.experts_per_token, c.expert_width) if "experts" in name else (n, c.dense_width)
    return forward_or_backward(name, c.compiled(swiglu), [c.normal(n, 2 * f)], c.normal(n, f))


@row("embedding_fwd")
def embedding_fwd(c, n):
    w, ids = c.normal(c.vocab_size, c.width), c.ids(n, c.vocab_size)
    return lambda: F.embedding(ids, w)


@row("embedding_bwd")
def embedding_bwd(c, n):
    """Added to an f32 gradient that is there already, as ours."""
    dw, ids, dy = torch.zeros(c.vocab_size, c.width, device=c.device), c.ids(n, c.vocab_size), c.normal(n, c.width)
    return lambda: dw.index_add_(0, ids, dy.float())


def mean_loss(logits, targets):
    return F.cross_entropy(logits.float(), targets)


@row("cross_entropy")
def cross_entropy(c, n):
    logits, targets, function = c.normal(n, c.vocab_size, grad=True), c.ids(n, c.vocab_size), c.compiled(mean_loss)
    return lambda: torch.autograd.grad(function(logits, targets), logits)


def head_loss(x, w, targets):
    return F.cross_entropy(F.linear(x, w).float(), targets)


@row("linear_cross_entropy")
def linear_cross_entropy(c, n):
    x, w = c.normal(n, c.width, grad=True), c.normal(c.vocab_size, c.width, std=c.init_std, grad=True)
    targets, function = c.ids(n, c.vocab_size), c.compiled(head_loss)
    return lambda: torch.autograd.grad(function(x, w, targets), (x, w))


@row("sum_of_squares")
def sum_of_squares(c, _):
    x = c.normal(c.parameters, dtype=torch.float32)
    return lambda: torch.linalg.vector_norm(x)


@row("adamw")
def adamw(c, _):
    """The f32 update and the rounding to the bf16 copy."""
    master = c.normal(c.parameters, dtype=torch.float32, grad=True)
    master.grad = c.normal(c.parameters, dtype=torch.float32)
    value = torch.empty_like(master, dtype=torch.bfloat16, requires_grad=False)
    optimizer = torch.optim.AdamW([master], lr=1e-6, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def call():
        optimizer.step()
        value.copy_(master.detach())
    return call


# --- moe ---

def wide_linear(x, w):
    return torch.mm(x, w.t(), out_dtype=torch.float32) if x.is_cuda else F.linear(x, w).float()


@row("router_logits")
def router_logits(c, n):
    x, w = c.normal(n, c.width), c.normal(c.num_experts, c.width, std=c.init_std)
    return lambda: wide_linear(x, w)


def router_weights(logits, k):
    scores = torch.sigmoid(logits)
    chosen, ids = torch.topk(scores, k, dim=-1)
    return chosen / (chosen.sum(-1, keepdim=True) + 1e-20), ids


def router_forward(logits, k):
    weights, ids = router_weights(logits, k)
    return weights, ids, count(ids, logits.shape[1]), torch.logsumexp(logits, -1)


def count(ids, experts):
    flat = ids.flatten()
    return torch.zeros(experts, dtype=torch.int32, device=ids.device).scatter_add_(0, flat, torch.ones_like(flat, dtype=torch.int32))


@row("router_fwd", "router_bwd")
def router(name, c, n):
    logits, k = c.normal(n, c.num_experts, dtype=torch.float32, grad=name.endswith("_bwd")), c.experts_per_token
    if name == "router_fwd":
        return functools.partial(c.compiled(router_forward), logits, k)
    return backward(c.compiled(router_weights)(logits, k)[0], logits, c.normal(n, k, dtype=torch.float32))


def choices(c, n):
    """Experts of each token [N, K], as the benchmark's `--routing` says."""
    if c.routing == "real":
        x, w = c.normal(n, c.width), c.normal(c.num_experts, c.width, std=c.init_std)
        return torch.topk(torch.sigmoid(wide_linear(x, w)), c.experts_per_token, dim=-1).indices
    if c.routing == "zipf":
        popularity = 1 / (1 + torch.arange(c.num_experts, device=c.device, dtype=torch.float32))
        return torch.multinomial(popularity.expand(n, -1), c.experts_per_token)
    return (torch.arange(n * c.experts_per_token, device=c.device) % c.num_experts).view(n, -1)


def sort_by_expert(ids, experts):
    """Where choices stand by expert: routed row -> choice, choice -> routed row, ends of the experts' rows."""
    order = torch.argsort(ids.flatten(), stable=True)
    position = torch.empty_like(order).scatter_(0, order, torch.arange(order.numel(), device=ids.device))
    return order, position, torch.cumsum(count(ids, experts), 0, dtype=torch.int32)


@row("sort_by_expert")
def sort_row(c, n):
    ids = choices(c, n)
    return lambda: sort_by_expert(ids, c.num_experts)


def gather(x, token):
    return x.index_select(0, token)


def combine(rows, position, w):
    return (rows.index_select(0, position).view(*w.shape, -1).float() * w[..., None]).sum(1).to(rows.dtype)


@row("permute_rows", "unpermute_rows")
def permute(name, c, n):
    k = c.experts_per_token
    order, position, _ = sort_by_expert(choices(c, n), c.num_experts)
    token, w = order // k, c.normal(n, k, dtype=torch.float32)
    x = c.normal(n, c.width)
    if name == "permute_rows":
        return lambda: gather(x, token)
    rows = c.normal(n * k, c.width)
    return functools.partial(c.compiled(combine), rows, position, w)


@row(*(f"grouped_{matrix}_{what}" for matrix in ("up", "down") for what in ("fwd", "dx", "dw")))
def grouped(name, c, n):
    _, matrix, what = name.split("_")
    inner, outer = (c.width, 2 * c.expert_width) if matrix == "up" else (c.expert_width, c.width)
    ends = sort_by_expert(choices(c, n), c.num_experts)[2]
    routed = n * c.experts_per_token
    if what == "dw":
        x, dy = c.normal(routed, inner), c.normal(routed, outer)
        return lambda: torch._grouped_mm(dy.t(), x, offs=ends)
    w = c.normal(c.num_experts, outer, inner, std=0.02)
    if what == "dx":
        dy = c.normal(routed, outer)
        return lambda: torch._grouped_mm(dy, w, offs=ends)
    x = c.normal(routed, inner)
    return lambda: torch._grouped_mm(x, w.transpose(-2, -1), offs=ends)


@row("grouped_swiglu")
def grouped_swiglu(c, n):
    ends = sort_by_expert(choices(c, n), c.num_experts)[2]
    x = c.normal(n * c.experts_per_token, c.width)
    w = c.normal(c.num_experts, 2 * c.expert_width, c.width, std=0.02)
    activation = c.compiled(swiglu)
    return lambda: activation(torch._grouped_mm(x, w.transpose(-2, -1), offs=ends))


def routed_swiglu_bwd_of(dh, z, weight):
    gate, up = z.float().chunk(2, -1)
    sigmoid = torch.sigmoid(gate)
    h, d = gate * sigmoid * up, dh * weight
    dz = torch.cat([d * up * sigmoid * (1 + gate * (1 - sigmoid)), d * gate * sigmoid], -1)
    return dz.to(z.dtype), (weight * h).to(z.dtype), (dh * h).sum(-1)


@row("routed_swiglu_bwd")
def routed_swiglu_bwd(c, n):
    ends = sort_by_expert(choices(c, n), c.num_experts)[2]
    routed = n * c.experts_per_token
    dy, z = c.normal(routed, c.width), c.normal(routed, 2 * c.expert_width)
    weight = c.normal(routed, 1).float()
    w = c.normal(c.num_experts, c.width, c.expert_width, std=0.02)
    backward = c.compiled(routed_swiglu_bwd_of)
    return lambda: backward(torch._grouped_mm(dy, w, offs=ends), z, weight)


# --- attention and nsa ---

def blocks_of(x, pos, stride):
    return (x.unfold(0, pos.shape[0], stride).transpose(-1, -2) + pos).flatten(2)


def blocks_of_16(x, pos):
    return blocks_of(x, pos, 16)


@row("gather_blocks_fwd", "gather_blocks_bwd")
def gather_blocks(name, c, t):
    x, pos = c.normal(t, c.num_groups, c.head_dim_qk), c.normal(c.block, c.head_dim_qk)
    function = c.compiled(blocks_of_16) if c.stride == 16 else lambda x, pos: blocks_of(x, pos, c.stride)
    dy = torch.randn_like(function(x, pos))
    return forward_or_backward(name, function, [x, pos], dy)


def gate_combine(gate, o_cmp, o_slc, o_win):
    return (gate[..., 0:1] * o_cmp + gate[..., 1:2] * o_slc + gate[..., 2:3] * o_win).to(o_cmp.dtype)


@row("gate_combine_fwd")
def gate(name, c, n):
    shape = (n, c.num_heads, c.head_dim_v)
    inputs = [c.normal(n, c.num_heads, 3, dtype=torch.float32), *(c.normal(*shape) for _ in range(3))]
    return forward_or_backward(name, c.compiled(gate_combine), inputs, c.normal(*shape))


def causal_attention(q, k, v):
    backends = [torch.nn.attention.SDPBackend.CUDNN_ATTENTION] if q.is_cuda else [torch.nn.attention.SDPBackend.MATH]
    with torch.nn.attention.sdpa_kernel(backends):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


def heads(c, queries, keys):
    return [c.normal(1, c.num_heads, queries, c.head_dim_qk), c.normal(1, c.num_groups, keys, c.head_dim_qk),
            c.normal(1, c.num_groups, keys, c.head_dim_v)]


@row("attention_fwd", "attention_bwd")
def attention(name, c, t):
    return forward_or_backward(name, causal_attention, heads(c, t, t), c.normal(1, c.num_heads, t, c.head_dim_v))


def triton_attention(name, c, t):
    from triton_attention import attention_backward, attention_forward
    q, k, v = (x[0] for x in heads(c, t, t))
    if name == "attention_fwd":
        return lambda: attention_forward(q, k, v)
    o, lse = attention_forward(q, k, v)
    do = c.normal(*o.shape)
    return lambda: attention_backward(q, k, v, o, lse, do)


@row("decode_full")
def decode(c, t):
    """A query a sequence at the end of its cache; what PyTorch takes for it."""
    sequences = 8
    q, k, v = (c.normal(sequences, h, n, w) for h, n, w in ((c.num_heads, 1, c.head_dim_qk), (c.num_groups, t, c.head_dim_qk),
                                                            (c.num_groups, t, c.head_dim_v)))
    return lambda: F.scaled_dot_product_attention(q, k, v, enable_gqa=True)


def masked_attention(q, k, v, mask):
    return torch.nn.attention.flex_attention.flex_attention(q, k, v, block_mask=mask, enable_gqa=True)


@row("window_attention_fwd", "window_attention_bwd", "compressed_attention_fwd", "compressed_attention_bwd")
def masked(name, c, t):
    """FlexAttention."""
    from torch.nn.attention.flex_attention import create_block_mask
    window, block, stride = c.window, c.block, c.stride
    if name.startswith("window"):
        keys, visible = t, lambda b, h, i, j: (j <= i) & (i < j + window)
    else:
        keys, visible = (t - block) // stride + 1, lambda b, h, i, j: j * stride + block - 1 <= i
    mask = create_block_mask(visible, None, None, t, keys, device=c.device)
    function = c.compiled(masked_attention)
    return forward_or_backward(name, lambda *qkv: function(*qkv, mask), heads(c, t, keys), c.normal(1, c.num_heads, t, c.head_dim_v))


# --- layers ---

class Attention(torch.nn.Module):
    def __init__(self, c, t):
        super().__init__()
        self.c, heads, groups, dk, dv = c, c.num_heads, c.num_groups, c.head_dim_qk, c.head_dim_v
        self.sizes = [heads * dk, groups * dk, groups * dv]
        self.qkv = torch.nn.Linear(c.width, sum(self.sizes), bias=False)
        self.o = torch.nn.Linear(heads * dv, c.width, bias=False)
        cos, sin = rotary_table(c, t)
        self.cos, self.sin = cos[:, None], sin[:, None]

    def forward(self, x):
        c, n = self.c, x.shape[0]
        q, k, v = self.qkv(x).split(self.sizes, -1)
        q = rotate(q.view(n, c.num_heads, -1), self.cos, self.sin)
        k = rotate(k.view(n, c.num_groups, -1), self.cos, self.sin)
        o = causal_attention(*(a.transpose(0, 1)[None] for a in (q, k, v.view(n, c.num_groups, -1))))
        return self.o(o[0].transpose(0, 1).reshape(n, -1))


class Moe(torch.nn.Module):
    def __init__(self, c, _):
        super().__init__()
        experts, width, hidden, shared = c.num_experts, c.width, c.expert_width, c.num_shared * c.expert_width
        self.k = c.experts_per_token
        self.gate = torch.nn.Parameter(torch.empty(experts, width))
        self.up = torch.nn.Parameter(torch.empty(experts, 2 * hidden, width))
        self.down = torch.nn.Parameter(torch.empty(experts, width, hidden))
        self.shared_up = torch.nn.Parameter(torch.empty(2 * shared, width))
        self.shared_down = torch.nn.Parameter(torch.empty(width, shared))

    def forward(self, x):
        weights, ids = router_weights(F.linear(x, self.gate).float(), self.k)
        order, position, ends = sort_by_expert(ids, self.gate.shape[0])
        rows = torch._grouped_mm(x[order // self.k], self.up.transpose(-2, -1), offs=ends)
        rows = torch._grouped_mm(swiglu(rows), self.down.transpose(-2, -1), offs=ends)
        return combine(rows, position, weights) + F.linear(swiglu(F.linear(x, self.shared_up)), self.shared_down)


class Block(torch.nn.Module):
    def __init__(self, c, t):
        super().__init__()
        self.attention_norm, self.moe_norm = (torch.nn.Parameter(torch.empty(c.width)) for _ in range(2))
        self.attention, self.moe = Attention(c, t), Moe(c, t)

    def forward(self, x):
        x = x + self.attention(rms_norm(x, self.attention_norm))
        return x + self.moe(rms_norm(x, self.moe_norm))


# PyTorch's attention has one backward pass: dq by atomics.
LAYERS = {"attention_full": Attention, "attention_full_atomics": Attention, "moe": Moe, "block_full": Block}


@row(*(layer + what for layer in LAYERS for what in ("_fwd", "_fwd_bwd")))
def layer(name, c, n):
    back = name.endswith("_bwd")
    with torch.device(c.device):
        module = LAYERS[name.removesuffix("_bwd").removesuffix("_fwd")](c, n).to(torch.bfloat16)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=c.init_std)
    function = torch.compile(module, dynamic=False) if c.get("compile", True) else module
    x, dy = c.normal(n, c.width, grad=back), c.normal(n, c.width)
    inputs = [x, *module.parameters()]

    def call():
        if back:
            return torch.autograd.grad(function(x), inputs, dy)
        with torch.no_grad():
            return function(x)

    def held():
        function(x)  # compiles
        before = torch.cuda.memory_allocated()
        y = function(x)
        return torch.cuda.memory_allocated() - before + x.nbytes - y.nbytes
    if back and c.device == "cuda":
        call.held = held
    return call


# --- timing, as recipes/benchmark/device_timer.cc ---

class Clock:
    """Points in the device's work."""

    def __init__(self, device):
        self.cuda = device == "cuda"

    def mark(self):
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def wait(self):
        if self.cuda:
            torch.cuda.synchronize()

    def milliseconds(self, begin, end):
        return begin.elapsed_time(end) if self.cuda else 1e3 * (end - begin)


def input_sets(c, builder, tokens):
    """Enough of them to leave nothing in the cache."""
    before = torch.cuda.memory_allocated() if c.device == "cuda" else 0
    first = builder(c, tokens)
    size = max(1, torch.cuda.memory_allocated() - before) if c.device == "cuda" else 2e8
    count = min(64, max(1, math.ceil(2e8 / size)))
    return [first, *(builder(c, tokens) for _ in range(count - 1))]


def measure(c, builder, tokens, scratch, seconds=0.12):
    clock, sets = Clock(c.device), input_sets(c, builder, tokens)
    number = iter(range(1 << 62))
    def call():
        return sets[next(number) % len(sets)]()
    for _ in range(max(2, len(sets))):  # compiles, and lets allocations settle
        call()
    clock.wait()
    begin = time.perf_counter()
    call()
    clock.wait()
    estimate = max(1e-7, time.perf_counter() - begin)
    calls = int(min(16, max(1, 3e-4 / estimate)))
    marks = []
    for _ in range(int(min(50, max(5, seconds / (estimate * (calls + 1) + 1e-4))))):
        if scratch is not None:
            scratch.zero_()
        call()
        begin = clock.mark()
        for _ in range(calls):
            call()
        marks.append((begin, clock.mark()))
    clock.wait()
    times = sorted(clock.milliseconds(*pair) / calls for pair in marks)
    result = {"ms": times[len(times) // 2]}
    if hasattr(sets[0], "held"):
        result["held_bytes"] = sets[0].held()
    return result


def measured_or_why_not(c, builder, tokens, scratch):
    try:
        return measure(c, builder, tokens, scratch)
    except Exception as error:  # one operator that this PyTorch lacks must not lose the others
        return {"left_out": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160] if str(error).strip() else ''}"}


def answer(c, op, tokens, scratch):
    if op in LEFT_OUT:
        return {"left_out": LEFT_OUT[op]}
    if op not in BUILDERS:
        return {"left_out": "tools/bench_torch.py does not know it"}
    result = measured_or_why_not(c, BUILDERS[op], tokens, scratch)
    if op in ("attention_fwd", "attention_bwd"):
        triton = measured_or_why_not(c, functools.partial(triton_attention, op), tokens, scratch)
        result.update({f"triton_{key}": triton[key] for key in ("ms", "left_out") if key in triton})
    return result


def main():
    c = Config(json.loads(sys.argv[1]))
    if c.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit(f"torch {torch.__version__} sees no CUDA card")
    torch.manual_seed(1)
    torch._dynamo.config.recompile_limit = 64  # one function serves many shapes
    # Backward passes are timed again and again on one graph.
    torch._functorch.config.donated_buffer = False
    print(json.dumps({"torch": torch.__version__}), flush=True)
    scratch = torch.empty(1 << 28, dtype=torch.uint8, device="cuda") if c.device == "cuda" else None
    for op, tokens in c.rows:
        print(json.dumps({"op": op, "tokens": tokens, **answer(c, op, tokens, scratch)}), flush=True)
        if c.device == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
