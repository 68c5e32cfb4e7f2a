"""Ways to damage the files of a run: without a new checksum, and with one, as an attacker would."""

import hashlib
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from policygrad.runs import storage

HUGE = 10**400
STRANGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**31, 2**63, -(2**70), 1e308, 0.5, "", "x", "../../etc/passwd",
    "/etc/passwd", "\x00", "os.system", [], {}, [[]], {"a": {}}, [None], "nan", "Infinity", HUGE,
    [1] * 1000, "a" * 10_000, {"kind": "Box"}, [10**7, 10**7],
)  # fmt: skip


def flip_bits(content: bytes, rng: random.Random) -> bytes:
    """One to eight bits the other way round."""
    found = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def cut(content: bytes, rng: random.Random) -> bytes:
    """The beginning alone."""
    return content[: rng.randrange(len(content))]


def lengthen(content: bytes, rng: random.Random) -> bytes:
    """Something after the end."""
    return content + rng.randbytes(rng.randint(1, 200))


def zero(content: bytes, rng: random.Random) -> bytes:
    """Zeros over a part, as a lost block of a disk."""
    start = rng.randrange(len(content))
    size = rng.randint(1, len(content) - start)
    return content[:start] + bytes(size) + content[start + size :]


def swap(content: bytes, rng: random.Random) -> bytes:
    """Two parts exchanged."""
    a, b = sorted((rng.randrange(len(content)), rng.randrange(len(content))))
    return content[b:] + content[a:b] + content[:a]


def other(content: bytes, rng: random.Random) -> bytes:
    """Another kind of file altogether."""
    return rng.choice(
        [
            b"",
            b"{}",
            b"[]",
            b"null",
            b"\x80\x04K\x01.",
            b"PK\x03\x04",
            rng.randbytes(500),
            b"\n" * 99,
        ]
    )


def nest(content: bytes, rng: random.Random) -> bytes:
    """Deep nesting."""
    depth = rng.choice([500, 5_000, 200_000])
    return b"[" * depth + b"]" * depth


RAW: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flip_bits, cut, lengthen, zero, swap, other, nest,
)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in JSON."""
    found = [path] if path else []
    if isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            found += places(item, (*path, key))
    return found


def change_value(body: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """One entry removed, renamed, or with a strange value."""
    body = json.loads(json.dumps(body))
    *way, last = rng.choice(places(body))
    holder: Any = body
    for key in way:
        holder = holder[key]
    action = rng.random()
    if action < 0.2:
        del holder[last]
    elif action < 0.3 and isinstance(holder, dict):
        holder[f"{last}x"] = holder.pop(last)
    elif action < 0.4 and isinstance(holder, dict):
        holder[rng.choice(["extra", "../x", "", "__class__"])] = rng.choice(STRANGE)
    elif action < 0.5:
        deep: Any = 1
        for _ in range(rng.choice([10, 300])):
            deep = [deep]
        holder[last] = deep
    else:
        holder[last] = rng.choice(STRANGE)
    return body


def change_header(content: bytes, rng: random.Random) -> bytes:
    """Another header of a safetensors file: its length, shapes, types and offsets."""
    (size,) = struct.unpack("<Q", content[:8])
    if rng.random() < 0.2:
        length = rng.choice([0, 1, size - 1, size + 1, 2**40, 2**63, 2**64 - 1])
        return struct.pack("<Q", length) + content[8:]
    header = change_value(json.loads(content[8 : 8 + size]), rng)
    if rng.random() < 0.5:
        name = rng.choice(list(header)) if header else "x"
        if isinstance(header.get(name), dict):
            header[name][rng.choice(["shape", "dtype", "data_offsets"])] = rng.choice(
                [[2**40], [0], [-1], [2**31, 2**31], "F64", "BOOL", [0, 2**50], [5, 1], [1, 1, 1]]
            )
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


def signed(body: dict[str, Any]) -> bytes:
    """JSON with a checksum that fits."""
    body = {k: v for k, v in body.items() if k != "checksum"}
    return json.dumps({**body, "checksum": storage.checksum(body)}).encode()


def damage_signed(path: Path, rng: random.Random) -> None:
    """Change a file that has a checksum, and give it one that fits."""
    if path.suffix == ".json":
        path.write_bytes(signed(change_value(json.loads(path.read_bytes()), rng)))
        return
    tensors = change_header(path.read_bytes(), rng)
    path.write_bytes(tensors)
    beside = path.with_suffix(".json")
    body = json.loads(beside.read_bytes())
    beside.write_bytes(signed(body | {"sha256": hashlib.sha256(tensors).hexdigest()}))


def damage_lines(path: Path, rng: random.Random) -> None:
    """Change one line of JSON lines."""
    lines = path.read_bytes().splitlines()
    i = rng.randrange(len(lines))
    lines[i] = json.dumps(change_value(json.loads(lines[i]), rng)).encode()
    path.write_bytes(b"\n".join(lines) + b"\n")
