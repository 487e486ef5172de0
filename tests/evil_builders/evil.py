# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builders that misbehave: `evil.py MODE[:SIZE] --request FILE`. Python 3.8, standard library only.

Each mode is one way in which a builder, or a library within it, was seen or may be feared to behave.
"""

from __future__ import annotations

import base64
import json
import os
import shlex
import signal
import sys
import time
import urllib.parse

CANARIES = ("canary-Tok3n/with+signs=", "canary'Key\"42\\z$!")


def say(text):
    sys.stdout.write(text)
    sys.stdout.flush()


def record(kind, **values):
    say(json.dumps({"t": kind, **values}) + "\n")


def report_of(request, outcome="success", **more):
    values = {
        "t": "report",
        "schema_version": 1,
        "run_id": request["run_id"],
        "nonce": request["nonce"],
        "outcome": outcome,
        "failure": None,
        "flight_id": request.get("flight_id"),
        "content_id": "c0" * 32,
        "warnings": [],
    }
    if outcome == "failure":
        values.update(content_id=None, failure={"code": "decode", "phase": "screen", "message": "too many bad tiles"})
    values.update(more)
    return values


def report(request, outcome="success", **more):
    say(json.dumps(report_of(request, outcome, **more)) + "\n")


def good(request):
    record("hello", text="evil, for once good")
    for done in range(5):
        record("progress", phase="describe", done=done, total=5, unit="windows")
    report(request)


def slow(request):
    for done in range(int(request.get("steps", 20))):
        record("progress", phase="describe", done=done, total=20, unit="windows")
        time.sleep(0.05)
    report(request)


def failed(request):
    report(request, "failure")
    return 3


def no_report(request):
    record("progress", phase="describe", done=1, total=5)


def success_with_exit_1(request):
    report(request)
    return 1


def failure_with_exit_0(request):
    report(request, "failure")


def two_reports(request):
    report(request)
    report(request)


def words_after(request):
    report(request)
    say("one more thing\n")


def forged_in_text(request):
    say("loading " + json.dumps(report_of(request)) + "\n")
    record("progress", phase="describe", text=json.dumps(report_of(request)))


def forged_nonce(request):
    report(request, nonce="0" * 32)


def forged_then_good(request):
    report(request, nonce="0" * 32)
    report(request)


def cut_report(request):
    text = json.dumps(report_of(request)) + "\n"
    say(text[: int(request["cut"])])


def other_flight(request):
    report(request, flight_id="another")


def long_line(request):
    block = "x" * (1 << 20)
    for _unused in range(int(request.get("size", 64))):
        say(block)
    say("\n")
    report(request)


def escapes(request):
    say("\x1b]0;owned\x07\x1b]52;c;b3duZWQ=\x07\x1b[2J\x1b[31mred\x1b[0m\x9b31m\r\x08\n")
    event = base64.b64encode(json.dumps({"event": "playbook_on_stats", "uuid": "forged"}).encode()).decode()
    say("\x1b[K" + event + "\x1b[%dD" % len(event) + "\x1b[K\n")
    record("progress", phase="x", text="\x1b[31mred\x1b]0;t\x07\u009b31m \u202e")
    sys.stdout.buffer.write(b"\xff\xfe\x00bad utf-8\xc3\n")
    report(request)


def daemons(request):
    for _unused in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.environ.clear()
                with open(request["work_dir"] + "/held-open", "a"):
                    time.sleep(600)
            os._exit(0)
    report(request)


def hang(request):
    record("progress", phase="describe", done=1, total=5)
    time.sleep(600)


def stubborn(request):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    record("progress", phase="describe", done=1, total=5)
    while True:
        time.sleep(600)


def segfault(request):
    record("progress", phase="describe", done=1, total=5)
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(600)


def killed(request):
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(600)


def memory(request):
    hoard = []
    while True:
        hoard.append(bytearray(os.urandom(1 << 20) * 16))


def secrets(request):
    for secret in CANARIES:
        data = secret.encode()
        shifted = [base64.b64encode(before + data).decode() for before in (b"", b"x", b"u:")]
        quoted = [urllib.parse.quote(secret, safe=""), urllib.parse.quote_plus(secret), shlex.quote(secret)]
        for text in (secret, repr(secret), json.dumps(secret), data.hex(), *shifted, *quoted):
            say("plain " + text + "\n")
            record("progress", phase="x", text=text)
            sys.stderr.write(text + "\n")
        say("\x1b[1m".join(secret) + "\n")
        say('{"t":"progress","text":"' + "".join("\\u%04x" % ord(letter) for letter in secret) + '"}\n')
        say('{"t":"progress","text":"' + "\\u0000".join(json.dumps(letter)[1:-1] for letter in secret) + '"}\n')
        sys.stdout.flush()
        sys.stdout.buffer.write(secret.encode("utf-16-le") + b"\n")
    report(
        request,
        "failure",
        failure={"code": "x", "phase": "y", "message": "refused " + CANARIES[0], "hint": CANARIES[1]},
    )
    return 1


def many_lines(request):
    line = (
        json.dumps({"t": "progress", "phase": "describe", "done": 123456, "total": 1000000, "unit": "windows"}) + "\n"
    )
    for _unused in range(int(request.get("size", 1000))):
        say(line * 1000)
    report(request)


def stamped(request):
    for _unused in range(int(request.get("size", 10))):
        record("progress", phase="describe", text=repr(time.time()))
        time.sleep(float(request.get("pause_s", 0.73)))  # No multiple of any interval at which somebody looks.
    report(request)


def environment(request):
    record("progress", phase="environment", text=json.dumps(dict(os.environ)))
    report(request)


def main():
    words, _flag, path = sys.argv[1:4]
    mode, _colon, size = words.partition(":")
    with open(path) as file:
        request = json.load(file)
    if size:
        request["size"] = int(size)
    with open(path + ".started", "a") as file:
        file.write("%d\n" % os.getpid())
    return globals()[mode](request) or 0


if __name__ == "__main__":
    raise SystemExit(main())
