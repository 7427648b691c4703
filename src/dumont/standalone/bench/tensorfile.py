"""Files of tensors, as checkpoints have them: safetensors, and the zip of torch.save, both written piece by piece.

safetensors: u64 length of a JSON header, the header padded with blanks to 8 bytes, then the tensors one after another.
torch's zip: stored members, each payload at a multiple of 64 bytes (padding in the extra field `FB`), `data.pkl` naming
storages that lie in `data/0`, `data/1` …; written here without torch, opcode by opcode.
"""

import json
import math
import pickle
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

BF16 = "BF16"
TORCH_ALIGNMENT_BYTES = 64
_SAFETENSORS_TYPES = {"float32": "F32", "uint16": BF16}  # numpy has no bfloat16; its 16 bits stand for it


@dataclass(frozen=True)
class Shape:
    """What a header says of a tensor before its bytes are made."""

    name: str
    dtype: str
    dimensions: tuple[int, ...]
    nbytes: int

    @classmethod
    def of(cls, name: str, values: Array) -> "Shape":
        """The shape of `values` under `name`."""
        return cls(name, values.dtype.name, values.shape, values.nbytes)


def write_safetensors(path: Path, shapes: list[Shape], values: Iterable[Array], metadata: dict[str, str]) -> None:
    """`values` in the order of `shapes`; made one by one, so that a file may be larger than memory."""
    header: dict[str, object] = {"__metadata__": metadata}
    at = 0
    for shape in shapes:
        header[shape.name] = {
            "dtype": _SAFETENSORS_TYPES[shape.dtype],
            "shape": list(shape.dimensions),
            "data_offsets": [at, at + shape.nbytes],
        }
        at += shape.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for value in values:
            file.write(np.ascontiguousarray(value).data)
        assert file.tell() == 8 + len(text) + at


def write_torch_zip(path: Path, tensors: Iterator[tuple[str, Array]], shapes: list[Shape], step: int) -> None:
    """What `torch.save({"step": step, name: tensor, …})` writes. `tensors` come in the order of `shapes`, fp32."""
    root = path.stem
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        _member(archive, f"{root}/data.pkl", _pickled(shapes, step))
        _member(archive, f"{root}/byteorder", b"little")
        for number, (_name, values) in enumerate(tensors):
            _member(archive, f"{root}/data/{number}", np.ascontiguousarray(values).tobytes())
        _member(archive, f"{root}/version", b"3\n")


def _member(archive: zipfile.ZipFile, name: str, payload: bytes) -> None:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    assert archive.fp is not None
    before = archive.fp.tell() + 30 + len(name.encode())  # 30: the fixed part of a local header
    padding = -(before + 4) % TORCH_ALIGNMENT_BYTES
    info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
    archive.writestr(info, payload)


def _pickled(shapes: list[Shape], step: int) -> bytes:
    """Protocol 2: a dict of step and of tensors, each rebuilt from a storage that a persistent id names."""
    parts = [pickle.PROTO, b"\x02", pickle.EMPTY_DICT, pickle.MARK, _text("step"), _number(step)]
    for number, shape in enumerate(shapes):
        count = shape.nbytes // 4
        strides = [math.prod(shape.dimensions[at + 1 :]) for at in range(len(shape.dimensions))]
        parts += [
            _text(shape.name), _global("torch._utils", "_rebuild_tensor_v2"), pickle.MARK,
            pickle.MARK, _text("storage"), _global("torch", "FloatStorage"), _text(str(number)), _text("cpu"),
            _number(count), pickle.TUPLE, pickle.BINPERSID,
            _number(0), _tuple(shape.dimensions), _tuple(strides), pickle.NEWFALSE,
            _global("collections", "OrderedDict"), pickle.EMPTY_TUPLE, pickle.REDUCE, pickle.TUPLE, pickle.REDUCE,
        ]  # fmt: skip
    return b"".join([*parts, pickle.SETITEMS, pickle.STOP])


def _text(text: str) -> bytes:
    raw = text.encode()
    return pickle.BINUNICODE + len(raw).to_bytes(4, "little") + raw


def _number(number: int) -> bytes:
    return pickle.BININT + number.to_bytes(4, "little", signed=True)


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _tuple(numbers: Iterable[int]) -> bytes:
    return pickle.MARK + b"".join(map(_number, numbers)) + pickle.TUPLE
