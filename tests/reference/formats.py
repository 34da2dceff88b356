"""Number formats of the specification (3.3, 4.4, 4.6.4, 4.8, 5.3, 5.4): exact rounding in FP64 and the packed cache bytes.

Every rounding is round-to-nearest-even straight from FP64, subnormals and the sign of zero included, so no result
depends on a detour through FP32. Scales are powers of two; a last block may be short and has its own scale.
"""

import numpy as np


def round_to(x, mantissa_bits, min_exponent):
    """x rounded to `mantissa_bits` bits after the leading one; below 2^min_exponent the spacing stays fixed."""
    x = np.asarray(x, np.float64)
    _, e = np.frexp(x)  # x = m * 2^e with 0.5 <= |m| < 1
    step = np.maximum(e - 1, min_exponent) - mantissa_bits
    return np.ldexp(np.rint(np.ldexp(x, -step)), step)  # both ldexp are exact in this range; rint is half-to-even


def bf16(x):
    return round_to(x, 7, -126)


def fp8(x):
    """E4M3 "fn"; callers clamp to +-448 before, and so does this."""
    return round_to(np.clip(x, -448.0, 448.0), 3, -6)


def fp4(x):
    """E2M1, magnitudes 0 .5 1 1.5 2 3 4 6."""
    return round_to(np.clip(x, -6.0, 6.0), 1, 0)


def ceil_log2(x):
    m, e = np.frexp(x)
    return np.where(m == 0.5, e - 1, e)


E4M3 = np.array(
    [
        (1 - 2 * (b >> 7))
        * ((b & 7) * 2.0**-9 if not b >> 3 & 15 else (1 + (b & 7) / 8) * 2.0 ** ((b >> 3 & 15) - 7))
        for b in range(256)
    ]
)
E4M3[[0x7F, 0xFF]] = np.nan
E4M3[0x80] = -0.0
E8M0 = np.array([2.0 ** (b - 127) for b in range(255)] + [np.nan])
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


def blocks_of(n, size):
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


def quantise(x, size, rounder, largest, floor):
    """Blockwise along the last axis: (values / scale after rounding, scale exponent per block)."""
    codes, exponents = np.empty_like(x), []
    for b in blocks_of(x.shape[-1], size):
        amax = np.maximum(np.abs(x[..., b]).max(-1), floor)
        k = ceil_log2(amax / largest)  # exact: amax is BF16, so only largest*2^k lands on a power of two
        codes[..., b] = rounder(np.ldexp(x[..., b], -k[..., None]))
        exponents.append(k)
    return codes, np.stack(exponents, -1)


def dequantise(codes, exponents, size):
    out = np.empty_like(codes)
    for i, b in enumerate(blocks_of(codes.shape[-1], size)):
        out[..., b] = np.ldexp(codes[..., b], exponents[..., i, None])
    return out


FP8_FLOOR = float(np.float32(1e-4))  # amax is kept above this (3.3, 3.8)
FP4_FLOOR = 6 * 2.0**-126  # 4.6.4


def fp8_blocks(x, size):
    return quantise(x, size, fp8, 448.0, FP8_FLOOR)


def fp4_blocks(x):
    return quantise(x, 32, fp4, 6.0, FP4_FLOOR)


def fake_fp8(x, size):
    """Quantise and back, BF16 result: size 128 for activations of FP8/FP4 linears, 64 for cache entries."""
    return bf16(dequantise(*fp8_blocks(x, size), size))


def fake_fp4(x):
    return bf16(dequantise(*fp4_blocks(x), 32))


def hadamard(x):
    """Sylvester butterfly over the last axis times D^-1/2; D must be a power of two."""
    size, h, y = x.shape[-1], 1, x
    if size & (size - 1):
        raise ValueError(f"index_head_dim: {size}, expected a power of two in `reference` numerics")
    while h < size:
        y = y.reshape(*x.shape[:-1], -1, 2, h)
        y = np.stack([y[..., 0, :] + y[..., 1, :], y[..., 0, :] - y[..., 1, :]], -2).reshape(x.shape)
        h *= 2
    return y * size**-0.5


# ---- packed cache -------------------------------------------------------------------------------------------------
def fp8_bytes(codes):
    magnitude = np.searchsorted(E4M3[:127], np.abs(codes)).astype(np.uint8)
    return magnitude | (np.signbit(codes).astype(np.uint8) << 7)


def fp4_nibbles(codes):
    magnitude = np.searchsorted(E2M1[:8], np.abs(codes)).astype(np.uint8)
    return magnitude | (np.signbit(codes).astype(np.uint8) << 3)


def bf16_bytes(x):
    bits = np.asarray(x, np.float32).view(np.uint32) >> 16
    return bits.astype("<u2").view(np.uint8).reshape(*x.shape[:-1], -1)


def entry_bytes(c, rope):
    return -(-((c - rope) + 2 * rope + -(-(c - rope) // 64)) // 8) * 8


def index_key_bytes(size):
    return -(-size // 2) + -(-size // 32)


def pack_entry(x, rope):
    """[..., c] BF16 values -> bytes: c-R FP8 codes, R BF16 (little endian), one E8M0 per block of 64, zeros to a multiple of 8."""
    c = x.shape[-1]
    codes, k = fp8_blocks(x[..., : c - rope], 64)
    out = np.zeros((*x.shape[:-1], entry_bytes(c, rope)), np.uint8)
    parts = np.concatenate([fp8_bytes(codes), bf16_bytes(x[..., c - rope :]), (k + 127).astype(np.uint8)], -1)
    out[..., : parts.shape[-1]] = parts
    return out


def unpack_entry(b, c, rope):
    u, n = c - rope, -(-(c - rope) // 64)
    main = dequantise(E4M3[b[..., :u]], b[..., u + 2 * rope : u + 2 * rope + n].astype(int) - 127, 64)
    rotated = np.ascontiguousarray(b[..., u : u + 2 * rope]).view("<u2").astype(np.uint32) << 16
    return np.concatenate([main, rotated.view(np.float32).astype(np.float64)], -1)


def pack_index_key(x):
    """[..., D] BF16 values -> bytes: nibbles (low nibble = even dim), then one E8M0 per block of 32."""
    codes, k = fp4_blocks(x)
    n = fp4_nibbles(codes)
    return np.concatenate([n[..., 0::2] | (n[..., 1::2] << 4), (k + 127).astype(np.uint8)], -1)


def unpack_index_key(b, size):
    n = np.stack([b[..., : size // 2] & 15, b[..., : size // 2] >> 4], -1).reshape(*b.shape[:-1], size)
    return dequantise(E2M1[n], b[..., size // 2 :].astype(int) - 127, 32)
