# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""Models of one's own, and accelerators: used where right, else the CPU and a reason."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict

import numpy as np
import onnxruntime
import pytest
from c10_builder import _session, open_index
from c10_builder._errors import BuilderError
from c10_builder._geo import WORLD_M, mercator_of
from c10_builder._head import DATA
from c10_builder._heads import open_head
from c10_builder._lite0 import BACKBONE, WORDS
from c10_builder._onnx_head import SpecHead, reference_pictures
from c10_builder._session import Runtime, Session, engine_key, parity
from PIL import Image
from support import X0, Y0, ZOOM, request, run_build


def spec(folder: Path, **changes: Any) -> Path:
    """A spec over the shipped backbone, which is as good a foreign model as any."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (BACKBONE[0], WORDS[0]):
        shutil.copy(DATA / name, folder / name)
    data: Dict[str, Any] = {
        "schema_version": 1,
        "id": "site-gem",
        "onnx": BACKBONE[0],
        "onnx_sha256": BACKBONE[1],
        "input": {"layout": "NHWC", "dtype": "uint8", "size_px": 224},
        "output": {"kind": "map", "aggregate": "gem"},
    }
    data.update(changes)
    path = folder / "spec.json"
    path.write_text(json.dumps(data))
    return path


def test_an_index_carries_the_model_it_was_built_with(the_map: Any, tmp_path: Path) -> None:
    image, archive, sha256 = the_map
    path = spec(
        tmp_path / "model",
        id="site-vlad",
        words=WORDS[0],
        words_sha256=WORDS[1],
        output={"kind": "map", "aggregate": "vlad"},
    )
    code, report, text = run_build(tmp_path, request(tmp_path, archive, sha256, model={"id": str(path)}))
    assert code == 0, text
    assert report["model"]["id"] == "site-vlad"
    # what searches it has the index alone
    shutil.rmtree(tmp_path / "model")
    index = open_index(tmp_path / "index", verify=True)
    unit = WORLD_M / (1 << ZOOM)
    side = int(index.sides_m[1] / index.meta["scales"][1]["gsd_m"])
    photo = Image.fromarray(image).crop((300, 250, 300 + side, 250 + side))
    match = index.query(photo, heading_deg=0.0, near=None)[0]
    mx, my = mercator_of(lon_deg=match.lon_deg, lat_deg=match.lat_deg)
    assert abs((mx / unit - X0) * 256 - 300 - side / 2) < side
    assert abs((my / unit - Y0) * 256 - 250 - side / 2) < side


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"onnx_sha256": "0" * 64}, "is not the one that onnx_sha256"),
        ({"onnx": "../../etc/passwd"}, "must name a file beside it"),
        ({"id": "Not Allowed"}, "id of the model's spec"),
        ({"output": {"kind": "embedding"}}, "its spec says a vector"),
        ({"output": {"kind": "tokens", "aggregate": "gem"}}, "its spec says tokens x channels"),
        ({"output": {"kind": "embedding", "aggregate": "gem"}}, "an embedding needs no aggregation"),
        ({"input": {"layout": "NCHW", "dtype": "uint8", "size_px": 224}}, "cannot be run"),
        ({"input": {"layout": "NHWC", "dtype": "float32", "size_px": 224}}, "cannot be run"),
        ({"input": {"std": [0, 1, 1]}}, "must be positive"),
        ({"inptu": {}}, "unknown key 'inptu'"),
        ({"schema_version": 2}, "schema_version 1"),
        ({"output": {"kind": "map", "aggregate": "vlad"}}, "words of the model's spec"),
    ],
)
def test_a_spec_that_does_not_fit_its_model(changes: Dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(BuilderError, match=words) as caught:
        SpecHead(spec(tmp_path, **changes), Runtime())
    assert caught.value.code == "model_invalid"


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "noise.onnx").write_bytes(b"\x08\x01noise" * 100)
    sha256 = hashlib.sha256((tmp_path / "noise.onnx").read_bytes()).hexdigest()
    with pytest.raises(BuilderError, match="onnxruntime cannot load the model"):
        SpecHead(spec(tmp_path, onnx="noise.onnx", onnx_sha256=sha256), Runtime())
    with pytest.raises(BuilderError, match="cannot be read") as caught:
        open_head(str(tmp_path / "absent.json"))
    assert caught.value.code == "model_unavailable"


def test_an_absent_accelerator_is_said_and_changes_nothing() -> None:
    plain, asked = open_head("lite0-vlad"), open_head("lite0-vlad", Runtime(provider="cuda"))
    assert asked.provider["used"] == "cpu"
    assert "no CUDAExecutionProvider" in str(asked.provider["fallback_reason"])
    pictures = reference_pictures(2, 224)
    assert np.array_equal(plain.describe(pictures), asked.describe(pictures))


class Accelerator:
    """The CPU in an accelerator's place, its answers shifted by `error`."""

    def __init__(self, model: bytes, error: float) -> None:
        self._session, self._error = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]), error

    def run(self, names: Any, inputs: Any) -> Any:
        out = self._session.run(names, inputs)[0]
        return [out + np.float32(self._error) * np.abs(out).max() * (np.arange(out.size).reshape(out.shape) % 2)]


@pytest.mark.parametrize(("error", "used"), [(0.0, "cuda"), (0.5, "cpu"), (float("nan"), "cpu")])
def test_an_accelerator_is_used_only_if_it_agrees(error: float, used: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_session._NAMES, "cuda", "CPUExecutionProvider")
    monkeypatch.setattr(_session, "_accelerated", lambda model, *_: Accelerator(model, error))
    head = open_head("lite0-vlad", Runtime(provider="cuda"))
    assert head.provider["used"] == used
    assert (head.provider["fallback_reason"] is None) == (used == "cuda")
    pictures = reference_pictures(35, 224)[-3:]
    agreement = (head.describe(pictures) * open_head("lite0-vlad").describe(pictures)).sum(axis=1)
    assert agreement.min() > 0.9999


def test_an_engine_that_cannot_be_built_leaves_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the provider's name is one that this onnxruntime lists; the child process finds no TensorRT, really
    monkeypatch.setitem(_session._NAMES, "tensorrt", "CPUExecutionProvider")
    head = open_head("lite0-vlad", Runtime(provider="tensorrt", engine_dir=tmp_path))
    assert head.provider["used"] == "cpu"
    assert "building the engine ended with" in str(head.provider["fallback_reason"])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_engine_has_a_folder_for_all_that_decides_it() -> None:
    facts = {"gpu": "Orin", "cuda": 12020, "l4t": "R36"}
    keys = {
        engine_key("a" * 64, (32, 224, 224, 3), "fp32", facts),
        engine_key("b" * 64, (32, 224, 224, 3), "fp32", facts),
        engine_key("a" * 64, (16, 224, 224, 3), "fp32", facts),
        engine_key("a" * 64, (32, 224, 224, 3), "fp16", facts),
        engine_key("a" * 64, (32, 224, 224, 3), "fp32", dict(facts, cuda=12060)),
    }
    assert len(keys) == 5
    assert engine_key("a" * 64, (1,), "fp32", {"x": 1, "y": 2}) == engine_key("a" * 64, (1,), "fp32", {"y": 2, "x": 1})


@pytest.mark.parametrize("silent", [True, False])
def test_nothing_is_reported_home(silent: bool, tmp_path: Path) -> None:
    # what onnxruntime keeps for its reports is the sign that it would make them; without our word it does: the control
    code = "from c10_builder._heads import open_head; open_head('lite0-vlad')" if silent else "import onnxruntime"
    environment = {key: value for key, value in os.environ.items() if "TELEMETRY" not in key and key != "CI"}
    environment.update(HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"))
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)
    assert bool([path for path in tmp_path.rglob("*") if path.is_file()]) is not silent


def test_parity_is_the_worst_row() -> None:
    rows = np.eye(3, 4)
    assert parity(rows, rows) == pytest.approx(1.0)
    assert parity(rows, np.roll(rows, 1, axis=0)) == pytest.approx(0.0)
    assert parity(rows, np.full((3, 4), np.inf)) == 0.0


def test_a_model_of_two_inputs_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Two:
        def get_inputs(self) -> Any:
            return [1, 2]

    monkeypatch.setattr(_session, "_cpu_session", lambda _model: Two())
    with pytest.raises(BuilderError, match="2 inputs"):
        Session(b"", Runtime(), np.zeros((1, 2, 2, 3), np.uint8))
