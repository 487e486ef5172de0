# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""An onnxruntime session on the provider that was asked for, where that gives the same answers as the CPU.

CUDA and TensorRT are tried only where onnxruntime has them, and used only after they gave on reference pictures what
the CPU gives. Everything else falls back to the CPU and says why: a slower build is a nuisance, a wrong index is not
seen before the flight.
"""

from __future__ import annotations

import ctypes
import glob
import hashlib
import json
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from ._errors import BuilderError

__all__ = ["BATCH", "PARITY_COS_MIN", "Runtime", "Session", "device_facts", "engine_key", "parity"]

#: Pictures a run on an accelerator; a fixed shape, as an engine is built for one.
BATCH = 32
PARITY_COS_MIN = 0.999
_ENGINE_TIMEOUT_S = 1800.0
#: Its wheels report home and keep a file that identifies the machine, unless told otherwise before they are loaded.
_SILENCE = ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED")
_NAMES = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}


@dataclass(frozen=True)
class Runtime:
    """What computes a model.

    Attributes:
        threads: pictures described side by side on the CPU.
        provider: `cpu`, or what to try first: `cuda`, `tensorrt`.
        engine_dir: where built TensorRT engines are kept; None: they are not kept, and TensorRT is not used.
    """

    threads: int = 1
    provider: str = "cpu"
    engine_dir: Optional[Path] = None


def _onnxruntime() -> Any:
    for name in _SILENCE:
        os.environ[name] = "1"
    try:
        import onnxruntime
    except ImportError as error:
        raise BuilderError(
            "model_unavailable",
            "this model needs onnxruntime, which is not installed",
            hint="pip install 'gps-denied-c10-builder[lite0]', or use the model orb-vlad",
        ) from error
    onnxruntime.set_default_logger_severity(4)
    return onnxruntime


def _cpu_session(model: bytes) -> Any:
    onnxruntime = _onnxruntime()
    options = onnxruntime.SessionOptions()
    # pictures run side by side on threads of ours: each picture's bits are then independent of the thread count
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions have no common, public parent
        raise BuilderError("model_invalid", "onnxruntime cannot load the model: %s" % _first_line(error)) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def parity(reference: Any, other: Any) -> float:
    """Least cosine between the rows of two outputs, each flattened; 0 where either is not finite."""
    a, b = (np.asarray(part, dtype=np.float64).reshape(len(part), -1) for part in (reference, other))
    if a.shape != b.shape or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return 0.0
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / np.where(lengths > 0, lengths, 1)).min())


def device_facts() -> Dict[str, Any]:
    """What of this machine decides a TensorRT engine: GPU, its capability and memory, driver, libraries, L4T."""
    facts: Dict[str, Any] = {"machine": platform.machine(), "ort": _onnxruntime().__version__}
    try:
        facts["ort_build"] = _onnxruntime().get_build_info()
    except AttributeError:
        facts["ort_build"] = ""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
        number, handle, name = ctypes.c_int(), ctypes.c_int(), ctypes.create_string_buffer(100)
        memory = ctypes.c_size_t()
        if cuda.cuInit(0) == 0 and cuda.cuDeviceGet(ctypes.byref(handle), 0) == 0:
            cuda.cuDriverGetVersion(ctypes.byref(number))
            facts["cuda"] = number.value
            cuda.cuDeviceGetName(name, len(name), handle)
            facts["gpu"] = name.value.decode("ascii", "replace")
            capability = []
            for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
                cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, handle)
                capability.append(number.value)
            facts["capability"] = capability
            cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), handle)
            facts["memory"] = memory.value
    except (OSError, AttributeError):
        facts["cuda"] = None
    try:
        facts["tensorrt"] = ctypes.CDLL(_newest("libnvinfer.so.*")).getInferLibVersion()
    except (OSError, AttributeError):
        facts["tensorrt"] = None
    try:
        facts["l4t"] = Path("/etc/nv_tegra_release").read_text("utf-8", "replace").strip()[:200]
    except OSError:
        facts["l4t"] = None
    return facts


def _newest(pattern: str) -> str:
    given = [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    folders = [*given, "/usr/lib/aarch64-linux-gnu", "/usr/lib/x86_64-linux-gnu"]
    found = sorted(path for folder in folders for path in glob.glob(os.path.join(folder, pattern)))
    if not found:
        raise OSError("no %s" % pattern)
    return found[-1]


def engine_key(model_sha256: str, input_shape: Tuple[int, ...], precision: str, facts: Dict[str, Any]) -> str:
    """Name of an engine's folder: equal only where the engine would be the same.

    onnxruntime names its cached engines by the graph's structure; models of equal structure and other weights, and
    other static shapes, then share one (microsoft/onnxruntime 6455, 32254). A folder of its own for each key cannot.
    """
    text = json.dumps([model_sha256, list(input_shape), precision, facts], sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]


def _accelerated(model: bytes, provider: str, folder: Optional[Path]) -> Any:
    onnxruntime = _onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    settings: Dict[str, Any] = {}
    if provider == "tensorrt":
        settings = {
            "trt_engine_cache_enable": True,
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": True,
            "trt_timing_cache_path": str(folder),
            "trt_fp16_enable": False,
        }
    session = onnxruntime.InferenceSession(model, options, providers=[(_NAMES[provider], settings)])
    if session.get_providers()[0] != _NAMES[provider]:
        raise RuntimeError("onnxruntime did not take the provider")
    return session


def _build_engine(model: bytes, example: Any, folder: Path) -> None:
    """Build a TensorRT engine in a process of its own: a builder that dies or hangs takes nothing with it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model)
    np.save(folder / "example.npy", example)
    child = subprocess.Popen(
        [sys.executable, "-m", "c10_builder._session", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        child.wait(timeout=_ENGINE_TIMEOUT_S)
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        for name in ("model.onnx", "example.npy"):
            (folder / name).unlink()
    if child.returncode != 0:
        raise RuntimeError("building the engine ended with %d" % child.returncode)
    (folder / "complete").write_text(str(int(time.time())), "ascii")


class Session:
    """A model with one picture input, on the provider it was given.

    Args:
        model: the ONNX file's bytes.
        runtime: what to compute it with.
        examples: model inputs of several pictures, to hold an accelerator against the CPU.

    Attributes:
        provider: {requested, used, fallback_reason}, as in the report.
        parity_cos_min: least cosine between accelerator and CPU on the examples; 1 on the CPU.

    Raises:
        BuilderError: `model_unavailable`, `model_invalid`.
    """

    def __init__(self, model: bytes, runtime: Runtime, examples: Any) -> None:
        self._cpu = _cpu_session(model)
        inputs = self._cpu.get_inputs()
        if len(inputs) != 1:
            raise BuilderError("model_invalid", "the model takes %d inputs instead of one picture" % len(inputs))
        self._name = inputs[0].name
        self._fast: Any = None
        self.parity_cos_min = 1.0
        self._run(self._cpu, examples[:1])
        reason = None if runtime.provider == "cpu" else self._try(model, runtime, examples)
        used = runtime.provider if self.batched else "cpu"
        self.provider = {"requested": runtime.provider, "used": used, "fallback_reason": reason}

    def _run(self, session: Any, pictures: Any) -> Any:
        try:
            return np.asarray(session.run(None, {self._name: pictures})[0])
        except Exception as error:
            raise BuilderError("model_invalid", "the model cannot be run: %s" % _first_line(error)) from error

    def _try(self, model: bytes, runtime: Runtime, examples: Any) -> Optional[str]:
        """Take the accelerator if it is there and right; else why not."""
        provider = runtime.provider
        if _NAMES[provider] not in _onnxruntime().get_available_providers():
            return "this onnxruntime has no %s" % _NAMES[provider]
        batch = np.resize(examples, (BATCH, *examples.shape[1:]))
        try:
            folder: Optional[Path] = None
            if provider == "tensorrt":
                if runtime.engine_dir is None:
                    return "there is no folder for its engine"
                key = engine_key(hashlib.sha256(model).hexdigest(), batch.shape, "fp32", device_facts())
                folder = runtime.engine_dir / key
                if not (folder / "complete").exists():
                    _build_engine(model, batch, folder)
            fast = _accelerated(model, provider, folder)
            found = self._run(fast, batch)[: len(examples)]
        except Exception as error:  # noqa: BLE001 - onnxruntime's own exceptions have no common, public parent
            return _first_line(error)
        one_by_one = np.concatenate([self._run(self._cpu, examples[k : k + 1]) for k in range(len(examples))])
        self.parity_cos_min = parity(one_by_one, found)
        if self.parity_cos_min < PARITY_COS_MIN:
            return "its answers differ from the CPU's (least cosine %.4f)" % self.parity_cos_min
        self._fast = fast
        return None

    @property
    def batched(self) -> bool:
        """Whether `run` wants many pictures at once."""
        return self._fast is not None

    def run(self, pictures: Any) -> Any:
        """The model's first output for n pictures, n first."""
        if self._fast is None:
            return self._run(self._cpu, pictures)
        parts: List[Any] = []
        for start in range(0, len(pictures), BATCH):
            part = pictures[start : start + BATCH]
            padded = np.zeros((BATCH, *part.shape[1:]), dtype=part.dtype)
            padded[: len(part)] = part
            parts.append(self._run(self._fast, padded)[: len(part)])
        return np.concatenate(parts)


def _main(folder: Path) -> None:
    """The engine builder's process: open and run once, which writes the cache."""
    session = _accelerated((folder / "model.onnx").read_bytes(), "tensorrt", folder)
    session.run(None, {session.get_inputs()[0].name: np.load(folder / "example.npy")})


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
