# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Heads on an ONNX model: the frame that all share, and any model a site brings, described by a spec file.

The spec is a JSON file beside the model; docs/reference/builder.md of the project describes it. Model, words and spec
are copied into the index, so that what searches it describes pictures with the very same files.
"""

from __future__ import annotations

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

import numpy as np

from ._errors import BuilderError
from ._head import Head
from ._session import Runtime, Session
from ._vlad import unit_rows, vlad

__all__ = ["MODEL_SPEC_NAME", "ModelSpec", "OnnxHead", "SpecHead", "reference_pictures"]

#: Name of the spec inside an index; `model.onnx` and `model_words.npy` lie beside it.
MODEL_SPEC_NAME = "model.json"
_MODEL_BYTES_MAX = 256 * 1024 * 1024
_SPEC_BYTES_MAX = 64 * 1024


def reference_pictures(count: int, side_px: int) -> Any:
    """Pictures with structure at every size, the same everywhere: what an accelerator is held against the CPU on."""
    rng = np.random.RandomState(7)
    out = np.zeros((count, side_px, side_px, 3), dtype=np.float64)
    for cell in (4, 16, 56):
        cells = -(-side_px // cell)
        noise = rng.rand(count, cells, cells, 3)
        out += noise.repeat(cell, axis=1).repeat(cell, axis=2)[:, :side_px, :side_px]
    return (out / 3 * 255).astype(np.uint8)


class OnnxHead(Head):
    """The frame: pictures side by side on the CPU, in batches on an accelerator; each output aggregated on its own.

    Args:
        model: the ONNX file's bytes.
        runtime: what to compute it with.
        window_px: side of a picture.
        identity: all but model and runtime that decides the output.
    """

    def __init__(self, model: bytes, runtime: Runtime, *, window_px: int, identity: str) -> None:
        self.window_px = window_px
        self._session = Session(model, runtime, self._prepare(reference_pictures(8, window_px)))
        self.provider = dict(self._session.provider)
        self.parity_cos_min = self._session.parity_cos_min
        self._pool = ThreadPoolExecutor(max_workers=max(1, runtime.threads), thread_name_prefix="c10-describe")
        import onnxruntime

        text = "|".join([identity, hashlib.sha256(model).hexdigest(), "ort" + onnxruntime.__version__])
        self.sha256 = hashlib.sha256(text.encode()).hexdigest()

    def _prepare(self, pictures: Any) -> Any:
        """n x side x side x 3 uint8 -> what the model takes."""
        return np.ascontiguousarray(pictures)

    def _aggregate(self, output: Any) -> Any:
        """The model's output for one picture -> dim float32 of length one."""
        raise NotImplementedError

    def _checked(self, output: Any) -> Any:
        if not np.isfinite(output).all():
            raise BuilderError("model_invalid", "the model gave values that are not numbers")
        return self._aggregate(output).astype(np.float32)

    def describe(self, pictures: Any) -> Any:
        """See `Head.describe`."""
        if self._session.batched:
            return np.stack([self._checked(output) for output in self._session.run(self._prepare(pictures))])
        return np.stack(list(self._pool.map(self._one, pictures)))

    def _one(self, picture: Any) -> Any:
        return self._checked(self._session.run(self._prepare(picture[None]))[0])


def _bad(message: str) -> BuilderError:
    return BuilderError("model_invalid", message, hint="docs/reference/builder.md describes the spec file")


def _part(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = data.get(name, {})
    if not isinstance(part, dict):
        raise _bad("%s of the model's spec must be an object" % name)
    return part


def _triple(data: Mapping[str, Any], name: str, default: float) -> Any:
    value = data.get(name, [default] * 3)
    if not (
        isinstance(value, list)
        and len(value) == 3
        and all(isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < 1e6 for v in value)
    ):
        raise _bad("input.%s of the model's spec must be three numbers" % name)
    return np.array(value, dtype=np.float32)


@dataclass(frozen=True)
class ModelSpec:
    """A model that a site brings, read and checked.

    Attributes:
        id: its name in reports and in the index.
        files: what belongs to it, by the name it has inside an index.
        size_px: side of the picture it takes.
        layout: `NHWC` or `NCHW`.
        as_uint8: whether it takes bytes; else float32 of (value / 255 - mean) / std.
        output: `embedding`, `map` (channels first) or `tokens`.
        drop_tokens: leading tokens that stand for no place of the picture.
        aggregate: `none`, `gem` or `vlad`.
    """

    id: str
    files: Dict[str, bytes]
    size_px: int
    layout: str
    as_uint8: bool
    mean: Any
    std: Any
    output: str
    drop_tokens: int
    aggregate: str
    gem_p: float
    words: Optional[Any]

    @staticmethod
    def read(path: Path) -> ModelSpec:
        """Read a spec and the files it names, which lie beside it.

        Raises:
            BuilderError: `model_unavailable` where a file is missing, `model_invalid` for everything else.
        """
        raw = _read(path, _SPEC_BYTES_MAX)
        try:
            data = json.loads(raw.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise _bad("the model's spec %s is not JSON" % path.name) from error
        if not isinstance(data, dict) or data.get("schema_version") != 1:
            raise _bad("the model's spec %s must be an object of schema_version 1" % path.name)
        known = {"schema_version", "id", "licence", "onnx", "onnx_sha256", "words", "words_sha256"}
        unknown = set(data) - known - {"input", "output"}
        if unknown:
            raise _bad("the model's spec has the unknown key %r" % sorted(unknown)[0])
        name = data.get("id")
        if not isinstance(name, str) or not re.match(r"^[a-z0-9][a-z0-9._-]{0,63}$", name):
            raise _bad("id of the model's spec must be 1 to 64 of a-z, 0-9, '.', '_' and '-'")
        given, result = _part(data, "input"), _part(data, "output")
        size = given.get("size_px", 224)
        drop = result.get("drop_tokens", 0)
        power = result.get("gem_p", 3.0)
        if isinstance(size, bool) or not isinstance(size, int) or not 32 <= size <= 1024:
            raise _bad("input.size_px of the model's spec must be a whole number of 32 to 1024")
        if isinstance(drop, bool) or not isinstance(drop, int) or not 0 <= drop <= 64:
            raise _bad("output.drop_tokens of the model's spec must be a whole number of 0 to 64")
        if isinstance(power, bool) or not isinstance(power, (int, float)) or not 1 <= power <= 10:
            raise _bad("output.gem_p of the model's spec must be a number of 1 to 10")
        for part, key, default, values in (
            (given, "layout", "NCHW", ("NCHW", "NHWC")),
            (given, "dtype", "float32", ("float32", "uint8")),
            (result, "kind", "embedding", ("embedding", "map", "tokens")),
            (result, "aggregate", "none", ("none", "gem", "vlad")),
        ):
            if part.get(key, default) not in values:
                raise _bad("%s of the model's spec must be one of %s" % (key, ", ".join(values)))
        kind, aggregate = result.get("kind", "embedding"), result.get("aggregate", "none")
        if (kind == "embedding") != (aggregate == "none"):
            raise _bad("an embedding needs no aggregation, a map or tokens need gem or vlad")
        std = _triple(given, "std", 1.0)
        if (std <= 0).any():
            raise _bad("input.std of the model's spec must be positive")
        files = {MODEL_SPEC_NAME: b"", "model.onnx": _pinned(path.parent, data, "onnx")}
        words = None
        if aggregate == "vlad":
            files["model_words.npy"] = _pinned(path.parent, data, "words")
            words = _words(files["model_words.npy"])
        # as it is inside an index: the files by the names they have there
        inside = dict(data, onnx="model.onnx")
        if words is not None:
            inside["words"] = "model_words.npy"
        files[MODEL_SPEC_NAME] = json.dumps(inside, sort_keys=True, indent=1).encode("utf-8")
        return ModelSpec(
            id=name, files=files, size_px=size, layout=given.get("layout", "NCHW"),
            as_uint8=given.get("dtype", "float32") == "uint8", mean=_triple(given, "mean", 0.0), std=std, output=kind,
            drop_tokens=drop, aggregate=aggregate, gem_p=float(power), words=words,
        )  # fmt: skip


def _read(path: Path, limit: int) -> bytes:
    try:
        with open(path, "rb") as stream:
            raw = stream.read(limit + 1)
    except OSError as error:
        raise BuilderError(
            "model_unavailable",
            "the model's file %s cannot be read: %s" % (path, error.strerror),
            hint="put the model and its spec on the companion, and give the spec's path",
        ) from error
    if len(raw) > limit:
        raise _bad("the model's file %s is larger than %d MB" % (path.name, limit // 1_000_000))
    return raw


def _pinned(folder: Path, data: Mapping[str, Any], key: str) -> bytes:
    name, sha256 = data.get(key), data.get(key + "_sha256")
    if not isinstance(name, str) or not name or "/" in name or name.startswith("."):
        raise _bad("%s of the model's spec must name a file beside it" % key)
    raw = _read(folder / name, _MODEL_BYTES_MAX)
    if hashlib.sha256(raw).hexdigest() != sha256:
        raise _bad("the model's file %s is not the one that %s_sha256 of its spec names" % (name, key))
    return raw


def _words(raw: bytes) -> Any:
    import io

    try:
        words = np.load(io.BytesIO(raw), allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise _bad("the model's words are not a numpy array") from error
    if words.ndim != 2 or words.dtype != np.float32 or not 1 <= len(words) <= 256 or not np.isfinite(words).all():
        raise _bad("the model's words must be float32, 1 to 256 rows of finite numbers")
    return words


class SpecHead(OnnxHead):
    """A model by its spec file."""

    def __init__(self, path: Path, runtime: Runtime) -> None:
        self.spec = spec = ModelSpec.read(path)
        self.id = spec.id
        identity = "spec v1|" + hashlib.sha256(b"\0".join(spec.files[k] for k in sorted(spec.files))).hexdigest()
        super().__init__(spec.files["model.onnx"], runtime, window_px=spec.size_px, identity=identity)
        self.dim = len(self._one(reference_pictures(1, spec.size_px)[0]))

    @property
    def files(self) -> Dict[str, bytes]:
        """See `Head.files`."""
        return self.spec.files

    def _prepare(self, pictures: Any) -> Any:
        spec = self.spec
        if not spec.as_uint8:
            pictures = (pictures.astype(np.float32) / np.float32(255) - spec.mean) / spec.std
        return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2) if spec.layout == "NCHW" else pictures)

    def _aggregate(self, output: Any) -> Any:
        spec = self.spec
        wanted: Tuple[int, str] = {
            "embedding": (1, "a vector"),
            "map": (3, "channels x height x width"),
            "tokens": (2, "tokens x channels"),
        }[spec.output]
        if output.ndim != wanted[0] or not output.size:
            raise _bad(
                "the model gives %s a picture, its spec says %s" % (" x ".join(map(str, output.shape)), wanted[1])
            )
        if spec.output == "embedding":
            return unit_rows(output)
        local = output.reshape(len(output), -1).T if spec.output == "map" else output[spec.drop_tokens :]
        if spec.aggregate == "gem":
            return unit_rows((np.maximum(local, 1e-6) ** spec.gem_p).mean(axis=0) ** (1 / spec.gem_p))
        if spec.words is None or spec.words.shape[1] != local.shape[1]:
            raise _bad("the model gives %d channels, its words have another number" % local.shape[1])
        return vlad(unit_rows(local).astype(np.float32), spec.words)
