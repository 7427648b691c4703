"""Files of tensors, written by hand as safetensors and `torch.save` write them."""

import io
import json
import struct
import zipfile
from collections.abc import Mapping

_TORCH_ALIGNMENT = 64


def safetensors(tensors: Mapping[str, bytes], metadata: Mapping[str, str] | None = None) -> bytes:
    """Eight bytes of length, JSON padded with spaces to a multiple of eight, then the tensors."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name, data in tensors.items():
        header[name] = {"dtype": "U8", "shape": [len(data)], "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(tensors.values())


def torch_zip(tensors: Mapping[str, bytes], pickled: bytes = b"\x80\x02}q\x00.", zip64: bool = False) -> bytes:
    """A zip of `archive/data.pkl` and `archive/data/N`, stored, the local extra field filled with `FB…ZZZ` to align."""
    out = io.BytesIO()
    members = {"data.pkl": pickled, **{f"data/{name}": data for name, data in tensors.items()}, "version": b"3\n"}
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(f"archive/{name}")
            bare = out.tell() + 30 + len(info.filename) + (20 if zip64 else 0) + 4
            padding = -bare % _TORCH_ALIGNMENT
            info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
            with archive.open(info, "w", force_zip64=zip64) as member:
                member.write(data)
    return out.getvalue()


def with_zip64_end(body: bytes) -> bytes:
    """`body`, a zip without a comment, with the end that says nothing and the zip64 end that torch always adds."""
    end = len(body) - 22
    count, length, at = struct.unpack_from("<HII", body, end + 10)
    end_64 = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, length, at)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    silent = body[end : end + 8] + b"\xff" * 12 + bytes(2)
    return body[:end] + end_64 + locator + silent
