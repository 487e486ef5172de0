# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: 2026 The gps_denied.preflight authors
"""The command ``c10-builder``. Thin: it parses, calls, and turns every way out into a report and an exit code."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

# One BLAS thread: products then have the same bits whatever the machine's core count, and the build's thread
# budget is the model's alone. Must be set before numpy is imported.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

from ._errors import EXIT_CODES, BuildCancelled, BuilderError  # noqa: E402
from ._version import __version__  # noqa: E402

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="c10-builder", description="Builds and searches the place index of a map.")
    parser.add_argument("--version", action="version", version="c10-builder " + __version__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    build = verbs.add_parser("build", help="build an index; JSON lines on stdout, the report last")
    build.add_argument("--request", type=Path, required=True, help="the request file")
    verify = verbs.add_parser("verify", help="hold every file of an index against its hash")
    verify.add_argument("index", type=Path)
    verify.add_argument("--probes", action="store_true", help="describe the reference pictures again as well")
    inspect = verbs.add_parser("inspect", help="say what is in an index")
    inspect.add_argument("index", type=Path)
    bench = verbs.add_parser("bench", help="look real photos up on a real map, beside baselines")
    bench.add_argument("--map", type=Path, required=True, help="PMTiles archive")
    bench.add_argument("--queries", type=Path, required=True, help="CSV: file, heading_deg, gsd_m, lat_deg, lon_deg")
    bench.add_argument("--models", default="orb-vlad,lite0-vlad")
    bench.add_argument("--prior-m", type=float, default=300.0)
    bench.add_argument("--dims", type=int, default=128)
    bench.add_argument(
        "--grids", type=int, default=1, choices=range(1, 6), metavar="1..5",
        help="window sizes within 3 %% of what the photos see, to average over: steadier figures",
    )  # fmt: skip
    attach = verbs.add_parser("attach", help="follow a build that is under way, from its first line to its report")
    attach.add_argument("work_dir", type=Path, help="the work_dir of the build's request")
    cancel = verbs.add_parser("cancel", help="end a build that is under way, and wait until it has ended")
    cancel.add_argument("work_dir", type=Path, help="the work_dir of the build's request")
    doctor = verbs.add_parser("doctor", help="whether this machine can build, and how fast")
    doctor.add_argument("--provider", choices=("cpu", "cuda", "tensorrt"), default="cpu")
    doctor.add_argument("--model", help="spec file of a model to try besides the shipped ones")
    query = verbs.add_parser("query", help="find where a picture was taken")
    query.add_argument("index", type=Path)
    query.add_argument("--image", type=Path, required=True)
    query.add_argument("--heading-deg", type=float, help="clockwise from north, of the picture's upper edge")
    query.add_argument("--agl-m", type=float, help="height above ground")
    query.add_argument("--hfov-deg", type=float, help="horizontal field of view; the build's camera if left out")
    query.add_argument("--near", metavar="LAT,LON,RADIUS_M", help="position prior")
    query.add_argument("--top", type=int, default=5)
    return parser


def _on_signal(number: int, _frame: Any) -> None:
    # a second signal while the report is being written must not interrupt it
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    raise BuildCancelled(signal.Signals(number).name)


def _build(request_path: Path) -> int:
    from ._voice import Voice

    voice = Voice()
    report: Dict[str, Any] = {}
    failure: Optional[BuilderError] = None
    work_dir: Optional[Path] = None
    build: Any = None
    try:
        for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(each, _on_signal)
        from ._build import Build
        from ._report import empty_report
        from ._request import BuildRequest

        report = empty_report("", "")
        try:
            request = BuildRequest.read(request_path)
        except BuilderError:
            report.update(_identity_of(request_path))
            raise
        work_dir = request.work_dir
        voice.hello(version=__version__, run_id=request.run_id, nonce=request.nonce)
        build = Build(request, voice)
        report = build.report
        build.run()
    except BuilderError as error:
        failure = error
    except BuildCancelled as stop:
        failure = BuilderError(
            "cancelled", "the build was stopped by %s" % stop.signal_name, hint="run it again", retryable=True
        )
    except MemoryError:
        failure = BuilderError("out_of_memory", "memory ran out", hint="stop other programs, or split the area")
    except Exception as error:  # noqa: BLE001 - a bug is reported like any failure, and its traceback goes to people
        traceback.print_exc(file=sys.stderr)
        failure = BuilderError(
            "internal",
            "a bug in the builder: %s" % type(error).__name__,
            hint="please report it with the text on stderr",
        )
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    if failure is not None:
        report["outcome"] = "failure"
        report["failure"] = {
            "code": failure.code,
            "phase": voice.phase_name,
            "message": failure.message[:500],
            "hint": failure.hint[:300],
            "retryable": failure.retryable,
        }
        report["warnings"] = voice.warnings
        print("c10-builder: %s" % failure.message, file=sys.stderr)
    line = voice.report(report)
    if work_dir is not None:
        with contextlib.suppress(OSError):
            (work_dir / "report.json").write_bytes(line)
    if build is not None:
        build.close()
    if failure is not None:
        return failure.exit_code
    return 1 if voice.broken else 0


def _identity_of(path: Path) -> Dict[str, Any]:
    """run_id, nonce and flight_id of a request that is otherwise refused, so that its report can be recognised."""
    try:
        data = json.loads(path.read_bytes().decode("utf-8"))
        return {key: data[key] for key in ("run_id", "nonce", "flight_id") if isinstance(data.get(key), str)}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


def _near(text: Optional[str]) -> Any:
    from ._index import Near

    if text is None:
        return None
    try:
        lat, lon, radius = (float(part) for part in text.split(","))
    except ValueError as error:
        raise BuilderError("bad_request", "--near needs LAT,LON,RADIUS_M, not %r" % text) from error
    return Near(lat_deg=lat, lon_deg=lon, radius_m=radius)


def _bench(options: argparse.Namespace) -> Dict[str, Any]:
    from ._request import Settings
    from ._voice import Voice
    from .bench import bench

    silent = os.open(os.devnull, os.O_WRONLY)
    return bench(
        options.map,
        options.queries,
        models=options.models.split(","),
        prior_m=options.prior_m,
        settings=Settings(dims=options.dims),
        grids=options.grids,
        voice=Voice(descriptor=silent),
    )


def _attach(work_dir: Path) -> int:
    """Exit code of the build that was followed: its report says it, 1 where it was killed without one."""
    from ._follow import attach

    last = b""

    def write(line: bytes) -> None:
        nonlocal last
        last = line
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()

    if not attach(work_dir, write):
        raise BuilderError("internal", "the build ended without a report: it was killed", hint="run it again")
    failure = json.loads(last)["failure"]
    return EXIT_CODES.get(failure["code"], 1) if failure else 0


def _other(options: argparse.Namespace) -> Dict[str, Any]:
    from dataclasses import asdict

    if options.verb == "cancel":
        from ._follow import cancel

        return {"cancelled": cancel(options.work_dir)}
    if options.verb == "doctor":
        from ._doctor import examine

        findings = examine(provider=options.provider, model=options.model)
        return {"ok": all(each["level"] != "fail" for each in findings), "findings": findings}

    from ._index import open_index, replay_probes, verify_files

    if options.verb == "verify":
        meta = verify_files(options.index)
        probes = None
        if options.probes:
            probes = replay_probes(open_index(options.index))
            if probes["cos_min"] < 0.999 or probes["rows_agree"] < probes["probes"]:
                raise BuilderError(
                    "index_invalid",
                    "the reference pictures do not give the stored descriptors on this machine: %r" % probes,
                )
        return {
            "ok": True,
            "probes": probes,
            "content_id": meta["content_id"],
            "rows": meta["rows"],
            "files": len(meta["files"]) + 2,
        }
    if options.verb == "bench":
        return _bench(options)
    index = open_index(options.index)
    if options.verb == "inspect":
        binding = json.loads((options.index / "binding.json").read_text("utf-8"))
        meta = {key: value for key, value in index.meta.items() if key != "files"}
        return {"index": meta, "binding": binding, "bytes": sum(f["size"] for f in index.meta["files"].values())}
    matches = index.query(
        options.image,
        heading_deg=options.heading_deg,
        agl_m=options.agl_m,
        hfov_deg=options.hfov_deg,
        near=_near(options.near),
        top=options.top,
    )
    rows: List[Dict[str, Any]] = []
    for match in matches:
        row = asdict(match)
        rows.append({key: (None if value != value else value) for key, value in row.items()})  # noqa: PLR0124 - NaN
    return {"matches": rows}


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; returns the exit code."""
    options = _parser().parse_args(argv)
    if options.verb == "build":
        return _build(options.request)
    try:
        if options.verb == "attach":
            return _attach(options.work_dir)
        answer = _other(options)
        print(json.dumps(answer, indent=2, sort_keys=True), flush=True)
        if options.verb == "doctor" and not answer["ok"]:
            return EXIT_CODES["model_unavailable"]
    except BrokenPipeError:
        # the reader has seen enough; keep the interpreter from complaining when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except BuilderError as error:
        print("c10-builder: %s%s" % (error.message, ". " + error.hint if error.hint else ""), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_CODES["cancelled"]
    return 0


if __name__ == "__main__":
    sys.exit(main())
