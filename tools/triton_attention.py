"""Causal attention with grouped keys in Triton, FlashAttention-2's two passes (Dao, arXiv 2307.08691): a peer of `lacuna bench cuda`.

  q: [H, T, Dk]   k: [G, T, Dk]   v: [G, T, Dv]   o: [H, T, Dv], all bf16 and contiguous   lse: [H, T] f32

Dk is taken as a power of two and a smaller one (192 = 128 + 64): tiles have such widths. dk and dv are first those of each head of q, then
summed over the heads of a group, so that no two programs add to the same number. Scores are in units of log 2.
"""
import math
import os

import torch
import triton
import triton.language as tl

LOG2_E = 1.4426950408889634


def tuned(*tiles):
    """Tiles (rows, keys, warps, stages) that are tried once for each length; those that do not fit are left out."""
    configs = [triton.Config({"tile_rows": rows, "tile_keys": keys}, num_warps=warps, num_stages=stages) for rows, keys, warps, stages in tiles]
    return triton.autotune(configs[:1] if os.environ.get("TRITON_INTERPRET") == "1" else configs, key=["t"])


@triton.jit
def load(base, rows, rows_end, width: tl.constexpr, first: tl.constexpr, columns: tl.constexpr):
    """Columns [first, first + columns) of rows of `width`; zeros behind the end."""
    at = rows[:, None] * width + first + tl.arange(0, columns)[None, :]
    return tl.load(base + at, mask=rows[:, None] < rows_end, other=0.0)


@triton.jit
def store(base, x, rows, rows_end, width: tl.constexpr, first: tl.constexpr, columns: tl.constexpr):
    at = rows[:, None] * width + first + tl.arange(0, columns)[None, :]
    tl.store(base + at, x.to(base.dtype.element_ty), mask=rows[:, None] < rows_end)


@triton.jit
def attend_tile(q1, q2, k, v, o, top, total, rows, first_key, t, factor, masked: tl.constexpr, dk: tl.constexpr, d1: tl.constexpr,
                d2: tl.constexpr, dv: tl.constexpr, tile_keys: tl.constexpr):
    keys = first_key + tl.arange(0, tile_keys)
    s = tl.dot(q1, load(k, keys, t, dk, 0, d1).T)
    if d2 > 0:
        s += tl.dot(q2, load(k, keys, t, dk, d1, d2).T)
    s *= factor
    if masked:
        s = tl.where(keys[None, :] <= rows[:, None], s, float("-inf"))
    new_top = tl.maximum(top, tl.max(s, 1))
    p = tl.exp2(s - new_top[:, None])
    shrink = tl.exp2(top - new_top)
    total = total * shrink + tl.sum(p, 1)
    o = tl.dot(p.to(v.dtype.element_ty), load(v, keys, t, dv, 0, dv), o * shrink[:, None])
    return o, new_top, total


@tuned((128, 64, 8, 2), (128, 64, 8, 3), (128, 128, 8, 2), (64, 64, 4, 2), (128, 32, 8, 3))
@triton.jit
def forward_kernel(q, k, v, o, lse, t, factor, rep: tl.constexpr, dk: tl.constexpr, d1: tl.constexpr, d2: tl.constexpr, dv: tl.constexpr,
                   tile_rows: tl.constexpr, tile_keys: tl.constexpr):
    tl.static_assert(tile_rows % tile_keys == 0)
    head, first = tl.program_id(1).to(tl.int64), (tl.num_programs(0) - 1 - tl.program_id(0)) * tile_rows  # the longest first
    q, o, lse = q + head * t * dk, o + head * t * dv, lse + head * t
    k, v = k + head // rep * t * dk, v + head // rep * t * dv
    rows = first + tl.arange(0, tile_rows)
    q1 = load(q, rows, t, dk, 0, d1)
    q2 = q1
    if d2 > 0:
        q2 = load(q, rows, t, dk, d1, d2)
    out = tl.zeros([tile_rows, dv], tl.float32)
    top = tl.full([tile_rows], float("-inf"), tl.float32)
    total = tl.zeros([tile_rows], tl.float32)
    for first_key in range(0, first, tile_keys):
        out, top, total = attend_tile(q1, q2, k, v, out, top, total, rows, first_key, t, factor, False, dk, d1, d2, dv, tile_keys)
    for first_key in range(first, tl.minimum(first + tile_rows, t), tile_keys):
        out, top, total = attend_tile(q1, q2, k, v, out, top, total, rows, first_key, t, factor, True, dk, d1, d2, dv, tile_keys)
    store(o, out / total[:, None], rows, t, dv, 0, dv)
    tl.store(lse + rows, top + tl.log2(total), mask=rows < t)


@triton.jit
def delta_kernel(o, do, delta, t, dv: tl.constexpr, tile_rows: tl.constexpr):
    head = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * tile_rows + tl.arange(0, tile_rows)
    product = load(o + head * t * dv, rows, t, dv, 0, dv).to(tl.float32) * load(do + head * t * dv, rows, t, dv, 0, dv).to(tl.float32)
    tl.store(delta + head * t + rows, tl.sum(product, 1), mask=rows < t)


@tuned((64, 128, 8, 1), (64, 128, 8, 2), (64, 64, 8, 1), (64, 64, 4, 1), (32, 128, 8, 2), (32, 64, 4, 2))
@triton.jit
def keys_kernel(q, k, v, do, lse, delta, dk_out, dv_out, t, factor, scale, rep: tl.constexpr, dk: tl.constexpr, d1: tl.constexpr,
                d2: tl.constexpr, dv: tl.constexpr, tile_rows: tl.constexpr, tile_keys: tl.constexpr):
    """dk and dv of a tile of keys and a head of q."""
    tl.static_assert(tile_keys % tile_rows == 0)
    head, first = tl.program_id(1).to(tl.int64), tl.program_id(0) * tile_keys
    q, do, lse, delta = q + head * t * dk, do + head * t * dv, lse + head * t, delta + head * t
    k, v = k + head // rep * t * dk, v + head // rep * t * dv
    keys = first + tl.arange(0, tile_keys)
    k1, values = load(k, keys, t, dk, 0, d1), load(v, keys, t, dv, 0, dv)
    dk1, dvs = tl.zeros([tile_keys, d1], tl.float32), tl.zeros([tile_keys, dv], tl.float32)
    if d2 > 0:
        k2 = load(k, keys, t, dk, d1, d2)
        dk2 = tl.zeros([tile_keys, d2], tl.float32)
    for first_row in range(first, t, tile_rows):
        rows = first_row + tl.arange(0, tile_rows)
        q1, gradient = load(q, rows, t, dk, 0, d1), load(do, rows, t, dv, 0, dv)
        s = tl.dot(k1, q1.T)
        if d2 > 0:
            q2 = load(q, rows, t, dk, d1, d2)
            s += tl.dot(k2, q2.T)
        of_row = tl.load(lse + rows, mask=rows < t, other=float("inf"))
        p = tl.exp2(s * factor - of_row[None, :])
        p = tl.where(keys[:, None] <= rows[None, :], p, 0.0)
        dvs = tl.dot(p.to(do.dtype.element_ty), gradient, dvs)
        dp = tl.dot(values, gradient.T)
        ds = (p * (dp - tl.load(delta + rows, mask=rows < t, other=0.0)[None, :])).to(q.dtype.element_ty)
        dk1 = tl.dot(ds, q1, dk1)
        if d2 > 0:
            dk2 = tl.dot(ds, q2, dk2)
    store(dk_out + head * t * dk, dk1 * scale, keys, t, dk, 0, d1)
    if d2 > 0:
        store(dk_out + head * t * dk, dk2 * scale, keys, t, dk, d1, d2)
    store(dv_out + head * t * dv, dvs, keys, t, dv, 0, dv)


@tuned((128, 64, 8, 1), (128, 64, 8, 2), (64, 64, 4, 1), (64, 64, 4, 2), (128, 32, 8, 2))
@triton.jit
def queries_kernel(q, k, v, do, lse, delta, dq_out, t, factor, scale, rep: tl.constexpr, dk: tl.constexpr, d1: tl.constexpr,
                   d2: tl.constexpr, dv: tl.constexpr, tile_rows: tl.constexpr, tile_keys: tl.constexpr):
    head, first = tl.program_id(1).to(tl.int64), (tl.num_programs(0) - 1 - tl.program_id(0)) * tile_rows
    q, do, lse, delta = q + head * t * dk, do + head * t * dv, lse + head * t, delta + head * t
    k, v = k + head // rep * t * dk, v + head // rep * t * dv
    rows = first + tl.arange(0, tile_rows)
    q1, gradient = load(q, rows, t, dk, 0, d1), load(do, rows, t, dv, 0, dv)
    dq1 = tl.zeros([tile_rows, d1], tl.float32)
    if d2 > 0:
        q2 = load(q, rows, t, dk, d1, d2)
        dq2 = tl.zeros([tile_rows, d2], tl.float32)
    of_row = tl.load(lse + rows, mask=rows < t, other=float("inf"))
    minus = tl.load(delta + rows, mask=rows < t, other=0.0)
    for first_key in range(0, tl.minimum(first + tile_rows, t), tile_keys):
        keys = first_key + tl.arange(0, tile_keys)
        k1 = load(k, keys, t, dk, 0, d1)
        s = tl.dot(q1, k1.T)
        if d2 > 0:
            k2 = load(k, keys, t, dk, d1, d2)
            s += tl.dot(q2, k2.T)
        p = tl.where(keys[None, :] <= rows[:, None], tl.exp2(s * factor - of_row[:, None]), 0.0)
        dp = tl.dot(gradient, load(v, keys, t, dv, 0, dv).T)
        ds = (p * (dp - minus[:, None])).to(k.dtype.element_ty)
        dq1 = tl.dot(ds, k1, dq1)
        if d2 > 0:
            dq2 = tl.dot(ds, k2, dq2)
    store(dq_out + head * t * dk, dq1 * scale, rows, t, dk, 0, d1)
    if d2 > 0:
        store(dq_out + head * t * dk, dq2 * scale, rows, t, dk, d1, d2)


def widths(q, k, v):
    dk, d1 = q.shape[2], 1 << (q.shape[2].bit_length() - 1)
    d2 = dk - d1
    assert v.shape[2] & (v.shape[2] - 1) == 0 and d2 & (d2 - 1) == 0, "widths must be sums of powers of two"
    return {"rep": q.shape[0] // k.shape[0], "dk": dk, "d1": d1, "d2": d2, "dv": v.shape[2]}


def attention_forward(q, k, v):
    """o, lse"""
    heads, t, dk = q.shape
    o, lse = torch.empty(heads, t, v.shape[2], dtype=q.dtype, device=q.device), torch.empty(heads, t, device=q.device)
    forward_kernel[lambda c: (triton.cdiv(t, c["tile_rows"]), heads)](q, k, v, o, lse, t, LOG2_E / math.sqrt(dk), **widths(q, k, v))
    return o, lse


def attention_backward(q, k, v, o, lse, do):
    """dq, dk, dv"""
    heads, t, dk = q.shape
    sizes, scale, groups = widths(q, k, v), 1 / math.sqrt(dk), k.shape[0]
    delta, dq, of_heads_k, of_heads_v = (torch.empty_like(x) for x in (lse, q, q, o))
    delta_kernel[(triton.cdiv(t, 64), heads)](o, do, delta, t, dv=sizes["dv"], tile_rows=64)
    call = (q, k, v, do, lse, delta)
    keys_kernel[lambda c: (triton.cdiv(t, c["tile_keys"]), heads)](*call, of_heads_k, of_heads_v, t, LOG2_E * scale, scale, **sizes)
    queries_kernel[lambda c: (triton.cdiv(t, c["tile_rows"]), heads)](*call, dq, t, LOG2_E * scale, scale, **sizes)
    return dq, of_heads_k.view(groups, -1, t, dk).sum(1), of_heads_v.view(groups, -1, t, sizes["dv"]).sum(1)
