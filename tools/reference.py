# SPDX-License-Identifier: GPL-3.0-or-later
"""The part of the reference that is made from the code: settings, commands, exit codes, schemas of the reports.

`python -m tools.reference` writes what is out of date; with `--check` it says what is, and ends with status 1.
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import click
from ansible_collections.gps_denied.preflight.plugins.module_utils import (
    _config,
    _errors,
    _landing_report,
    _provider_profiles,
    _reloc_report,
    _report,
)
from pydantic import TypeAdapter

from operator_tool import _cli, _cli_options

__all__ = ["documents", "main", "out_of_date"]

DOCS = Path(__file__).resolve().parents[1] / "docs"
MADE = "<!-- Made by `make docs` from the code; changes here are lost. -->\n"
SCHEMAS = (
    _report.CacheBuildReport,
    _report.CompanionReport,
    _report.DownloadBatchReport,
    _report.FlightResolveReport,
    _report.RemoteBuildReport,
    _landing_report.LandingReport,
    _reloc_report.HintReport,
)
SHOWN: dict[str, Any] = {"terminal_width": 100, "max_content_width": 100, "help_option_names": ["-h", "--help"]}


def documents(root: Path = DOCS) -> dict[Path, str]:
    """Every made file with what it should hold."""
    made = {
        root / "reference" / "settings.md": settings_page(),
        root / "reference" / "cli.md": cli_page(),
        root / "reference" / "help.txt": help_text(),
        root / "reference" / "operator-tool.1": man_page(),
        root / "reference" / "exit-codes.md": exit_codes_page(),
        root / "reference" / "tile-providers.md": tile_providers_page(),
    }
    for cls in SCHEMAS:
        made[root / "schemas" / f"{cls.__name__}.schema.json"] = schema(cls)
    return made


def out_of_date(root: Path = DOCS) -> list[Path]:
    """The made files that are missing or hold something else."""
    return [path for path, text in documents(root).items() if not path.is_file() or path.read_text("utf-8") != text]


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _table(*rows: tuple[object, ...]) -> str:
    head, *body = rows
    lines = [head, tuple("---" for _ in head), *body]
    return "".join("| " + " | ".join(_cell(cell) for cell in line) + " |\n" for line in lines)


def _default(item: Field[Any]) -> str:
    if item.default is None:
        return "none"
    if isinstance(item.default, tuple):
        return "`" + (",".join(map(str, item.default)) or "auto") + "`"
    return "none" if item.default is MISSING else f"`{item.default}`"


def settings_page() -> str:
    """The fields of `PreflightConfig`."""
    flags = {name: flag for flag, name, _metavar, _text in _cli_options.SETTING_FLAGS}
    rows = [
        (f"`{item.name}`", f"`{flags[item.name]}`" if item.name in flags else "", _default(item), item.metadata["help"])
        for item in fields(_config.PreflightConfig)
    ]
    secrets = " and ".join(f"`{name}`" for name in _config.SECRET_NAMES)
    prefix = _config.ENVIRONMENT_PREFIX
    return (
        f"# Settings\n\n{MADE}\n"
        f"A setting may be given in these places, the strongest first:\n\n"
        f"1. a flag of `operator-tool`: the one named below, or `--set NAME=VALUE`; or a variable of the playbook;\n"
        f"2. `{prefix}<NAME>` in the environment;\n"
        f"3. a settings file: the one named by `--config`, by `{prefix}CONFIG`, or `{_config.CONFIG_FILENAME}` in the\n"
        f"   working folder. Relative paths in it count from its own folder.\n\n"
        f"An unknown setting is refused.\n\n"
        f"The secrets {secrets} are no settings. Each is read from the file\n"
        f"that its setting `…_file` names, which only you may read (`chmod 600`), or, last, from `{prefix}<NAME>`.\n"
        f"A settings file that holds one is refused.\n\n"
    ) + _table(("setting", "flag", "default", "meaning"), *rows)


def _commands(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[str, click.Command, click.Context]]:
    context = click.Context(command, info_name=" ".join(words), **SHOWN)
    if isinstance(command, click.Group):
        for name in sorted(command.commands):
            yield from _commands(command.commands[name], (*words, name))
    else:
        yield " ".join(words), command, context


def cli_page() -> str:
    """The commands of `operator-tool`; the options that many share once."""
    settings = {flag for flag, _name, _metavar, _text in _cli_options.SETTING_FLAGS} | {"--set", "--config"}
    shared: dict[str, tuple[str, str]] = {}
    sections = []
    for name, command, context in _commands(_cli.cli, ("operator-tool",)):
        rows, takes_settings = [], False
        for parameter in command.get_params(context):
            record = parameter.get_help_record(context)
            if record is None or not record[1] or "--help" in parameter.opts:
                continue
            row = (f"`{record[0]}`", record[1])
            if set(parameter.opts) & settings:
                takes_settings = True
                shared[parameter.opts[0]] = row
            else:
                rows.append(row)
        pieces = " ".join(command.collect_usage_pieces(context))
        text = inspect.cleandoc(command.help or "")
        more = "\nAlso takes the [settings](#settings).\n" if takes_settings else ""
        sections.append(f"## {name}\n\n`{name} {pieces}`\n\n{text}\n\n" + _table(("option", "meaning"), *rows) + more)
    return (
        f"# Commands\n\n{MADE}\n"
        "`operator-tool --version` says the release; every command takes `--help`. Results go to stdout, progress and\n"
        "errors to stderr. How a command ends is in [exit-codes.md](exit-codes.md).\n\n"
        + "\n".join(sections)
        + "\n## Settings\n\nFlags for [settings](settings.md), the same for every command that takes them.\n\n"
        + _table(("option", "meaning"), *shared.values())
    )


def help_text() -> str:
    """What `--help` of every command prints, word for word."""
    groups = [("operator-tool", _cli.cli, click.Context(_cli.cli, info_name="operator-tool", **SHOWN))]
    commands = [*groups, *_commands(_cli.cli, ("operator-tool",))]
    return "\n".join(f"$ {name} --help\n{command.get_help(context)}\n" for name, command, context in commands)


def man_page() -> str:
    """The manual page of `operator-tool`: every command with its options, shared ones once; settings; exit codes."""
    settings = {flag for flag, _name, _metavar, _text in _cli_options.SETTING_FLAGS} | {"--set", "--config"}
    shared: dict[str, str] = {}
    commands = []
    for name, command, context in _commands(_cli.cli, ("operator-tool",)):
        own = []
        for parameter in command.get_params(context):
            record = parameter.get_help_record(context)
            if record is None or "--help" in parameter.opts:
                continue
            entry = f".TP\n.B {_roff(record[0])}\n{_roff(record[1] or 'Given to the command.')}\n"
            if set(parameter.opts) & settings:
                shared[parameter.opts[0]] = entry
            else:
                own.append(entry)
        pieces = " ".join(command.collect_usage_pieces(context))
        text = _roff(" ".join((command.help or "").split()))
        commands.append(f".SS {_roff(name)} {_roff(pieces)}\n{text}\n" + "".join(own))
    codes = "".join(
        f".TP\n.B {int(code)}\n{_roff(code.name.lower().replace('_', ' '))}\n" for code in sorted(_errors.ExitCode)
    )
    return (
        '.TH OPERATOR\\-TOOL 1 "" "gps\\-denied\\-preflight" "User Commands"\n'
        ".SH NAME\noperator\\-tool \\- prepare a companion computer for a flight without satellite navigation\n"
        ".SH SYNOPSIS\n.B operator\\-tool\n.I COMMAND\n[\n.I OPTIONS\n]\n"
        f".SH DESCRIPTION\n{_roff((_cli.cli.help or '').strip())}\n"
        "Results go to standard output, progress and errors to standard error.\n"
        ".SH COMMANDS\n" + "".join(commands) + ".SH SETTINGS\nFor every command that takes OPTIONS about a flight or "
        "a companion.\n" + "".join(shared.values()) + ".SH EXIT STATUS\n" + codes + ".SH FILES\n"
        f".TP\n.I {_roff(_config.CONFIG_FILENAME)}\nSettings, in the working folder.\n"
    )


def _roff(text: str) -> str:
    """Text for a manual page: nothing in it is a request or an escape."""
    line = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + line if line.startswith((".", "'")) else line


def exit_codes_page() -> str:
    """The exit codes with the errors that carry them, and the next step that each proposes."""
    # A class without a code of its own only gathers others.
    kinds = sorted(
        (cls for cls in _errors.error_types().values() if cls.code is not _errors.ExitCode.UNEXPECTED),
        key=lambda cls: (int(cls.code), cls.__name__),
    )
    rows = []
    for code in _errors.ExitCode:
        raised = [cls for cls in kinds if cls.code is code]
        rows.append((int(code), f"`{code.name}`", ", ".join(f"`{cls.__name__}`" for cls in raised)))
    steps = [
        (f"`{cls.__name__}`", int(cls.code), cls.phase.value if cls.phase else "", _yes(cls.retryable), cls.remediation)
        for cls in kinds
    ]
    phases = ", ".join(f"`{phase.value}`" for phase in _errors.FailurePhase)
    return (
        f"# Exit codes and errors\n\n{MADE}\n"
        "`operator-tool` ends with one of these; they do not change between releases. What to do about each is in\n"
        "[troubleshooting.md](../troubleshooting.md). `ansible-playbook` has exit codes of its own: read `exit_code`\n"
        "in the report there.\n\n"
        + _table(("code", "name", "`failure_exception_type` in the report"), *rows)
        + "\n## Errors\n\nThe next step is the usual one; an error may carry a better one. Retryable means that the\n"
        "same run may well succeed a moment later.\n\n"
        + _table(("error", "code", "phase", "retryable", "next step"), *steps)
        + f"\nPhases, in the order of the work: {phases}.\n"
    )


def tile_providers_page() -> str:
    """The shipped provider profiles."""
    rows = []
    for name in _provider_profiles.profile_ids():
        profile = _provider_profiles.load_profile(name)
        needs_key = any(key.startswith("api_key") for key in profile)
        rows.append(
            (
                f"`{name}`",
                profile["description"],
                profile["max_zoom"],
                _yes(profile.get("offline_allowed", True)) or "refused",
                _yes(needs_key),
                f"[terms]({profile['terms_url']}): {profile['terms_note']}",
            )
        )
    return (
        f"# Shipped provider profiles\n\n{MADE}\n"
        "Use one by its name: `--tile-source NAME`. Providers change addresses and terms: read the terms before the\n"
        "first download. The last column says what was found in them in November 2026, and what was not. Offline use\n"
        "is refused where they forbid it, and where it could not be verified that they allow it. How to say that you\n"
        "have read them or hold a permission, and how to write a profile of your own, is in\n"
        "[how-to/tile-provider.md](../how-to/tile-provider.md).\n\n"
        + _table(("profile", "what", "highest zoom", "offline use", "needs a key", "terms"), *rows)
    )


def _yes(value: bool) -> str:  # noqa: FBT001
    return "yes" if value else ""


def schema(cls: type) -> str:
    """The JSON Schema of a report as it is written: every key is there."""
    made = TypeAdapter(cls).json_schema(mode="serialization")
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **made}, indent=2) + "\n"


def main(arguments: list[str] | None = None, *, say: Callable[[str], None] = print) -> int:
    """Write or check the made files."""
    parser = argparse.ArgumentParser(prog="python -m tools.reference", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 where a file is out of date")
    parser.add_argument("--docs", type=Path, default=DOCS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    made = documents(options.docs)
    for path in (stale := out_of_date(options.docs)):
        if options.check:
            say(f"{path} is out of date: run `make docs`")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(made[path], encoding="utf-8")
            say(f"wrote {path}")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
