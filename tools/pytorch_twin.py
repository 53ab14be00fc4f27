#!/usr/bin/env python3
"""Trains the full-attention model of a recipe in PyTorch on random tokens, to measure its speed: the peer of `lacuna bench cpu`.

  python3 tools/pytorch_twin.py '{"tokens": 2048, "vocab_size": 4096, "width": 256, ...}'     (lacuna bench cpu writes the JSON)

The same architecture (pre-norm RMSNorm, grouped-query attention with Dk != Dv, half-split RoPE on the first dims, SwiGLU, sigmoid
top-k routing with shared experts), the same AdamW, the same batch; PyTorch's own fused kernels wherever it has them. Prints one JSON
object with the seconds of every step (forward, backward, update).
"""
import json
import sys
import time

import torch
import torch.nn.functional as F


class Attention(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        heads, groups, dk, dv = c["num_heads"], c["num_groups"], c["head_dim_qk"], c["head_dim_v"]
        self.sizes = [heads * dk, groups * dk, groups * dv]
        self.qkv = torch.nn.Linear(c["width"], sum(self.sizes), bias=False)
        self.o = torch.nn.Linear(heads * dv, c["width"], bias=False)

    def rotate(self, x, cos, sin):
        half = self.c["rotary_dims"] // 2
        a, b, rest = x[..., :half], x[..., half:2 * half], x[..., 2 * half:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1)

    def forward(self, x, cos, sin):
        c, n = self.c, x.shape[0]
        q, k, v = self.qkv(x).split(self.sizes, -1)
        q = self.rotate(q.view(n, c["num_heads"], -1).transpose(0, 1), cos, sin)
        k = self.rotate(k.view(n, c["num_groups"], -1).transpose(0, 1), cos, sin)
        v = v.view(n, c["num_groups"], -1).transpose(0, 1)
        # The fused CPU kernel wants one head width: values are padded where that is faster than the unfused form.
        pad = q.shape[-1] - v.shape[-1] if c["pad_values"] else 0
        v = F.pad(v, (0, pad)) if pad > 0 else v
        o = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True, enable_gqa=True)[0]
        return self.o(o[..., :c["head_dim_v"]].transpose(0, 1).reshape(n, -1))


class SwiGlu(torch.nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.gate_up = torch.nn.Linear(width, 2 * hidden, bias=False)
        self.down = torch.nn.Linear(hidden, width, bias=False)

    def forward(self, x):
        gate, up = self.gate_up(x).chunk(2, -1)
        return self.down(F.silu(gate) * up)


class Moe(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.k = c["experts_per_token"]
        self.gate = torch.nn.Linear(c["width"], c["num_experts"], bias=False)
        self.register_buffer("bias", torch.zeros(c["num_experts"]))
        self.experts = torch.nn.ModuleList(SwiGlu(c["width"], c["expert_width"]) for _ in range(c["num_experts"]))
        self.shared = SwiGlu(c["width"], c["num_shared"] * c["expert_width"]) if c["num_shared"] else None

    def forward(self, x):
        scores = torch.sigmoid(self.gate(x))
        ids = torch.topk(scores + self.bias, self.k, dim=-1).indices
        weights = scores.gather(1, ids)
        weights = weights / weights.sum(-1, keepdim=True)
        order = torch.argsort(ids.flatten(), stable=True)
        counts = torch.bincount(ids.flatten(), minlength=len(self.experts)).tolist()
        token = order // self.k
        rows = x[token].split(counts)
        y = torch.cat([expert(row) for expert, row in zip(self.experts, rows)])
        out = torch.zeros_like(x).index_add(0, token, y * weights.flatten()[order, None])
        return out + self.shared(x) if self.shared is not None else out


class Block(torch.nn.Module):
    def __init__(self, c, dense):
        super().__init__()
        self.norm1, self.norm2 = torch.nn.RMSNorm(c["width"], c["norm_eps"]), torch.nn.RMSNorm(c["width"], c["norm_eps"])
        self.attention = Attention(c)
        self.feed_forward = SwiGlu(c["width"], c["dense_width"]) if dense else Moe(c)

    def forward(self, x, cos, sin):
        x = x + self.attention(self.norm1(x), cos, sin)
        return x + self.feed_forward(self.norm2(x))


class Model(torch.nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embedding = torch.nn.Embedding(c["vocab_size"], c["width"])
        self.blocks = torch.nn.ModuleList(Block(c, i < c["num_dense_layers"]) for i in range(c["num_layers"]))
        self.norm = torch.nn.RMSNorm(c["width"], c["norm_eps"])
        self.head = torch.nn.Linear(c["width"], c["vocab_size"], bias=False)
        half = c["rotary_dims"] // 2
        angle = torch.arange(c["tokens"])[:, None] * c["rope_theta"] ** (-torch.arange(half) / half)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def forward(self, ids, targets):
        x = self.embedding(ids)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return F.cross_entropy(self.head(self.norm(x)), targets)


def measure(c, compile_model):
    torch.manual_seed(1)
    model = Model(c)
    step_model = torch.compile(model, dynamic=False) if compile_model else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    ids, targets = torch.randint(c["vocab_size"], (2, c["tokens"]))
    seconds = []
    for _ in range(c["warmup"] + c["steps"]):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=False)
        loss = step_model(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return seconds[c["warmup"]:]


def main():
    c = json.loads(sys.argv[1])
    torch.set_num_threads(c["threads"])
    best = None
    # The faster of its two ways of attending is the peer.
    for pad in (False, True):
        seconds = sorted(measure(c | {"pad_values": pad}, c.get("compile", False)))
        if best is None or seconds[len(seconds) // 2] < best["median"]:
            best = {"median": seconds[len(seconds) // 2], "seconds": seconds, "padded_values": pad}
    best |= {"torch": torch.__version__, "parameters": sum(p.numel() for p in Model(c | {"pad_values": False}).parameters())}
    print(json.dumps(best))


if __name__ == "__main__":
    main()
