# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Of which date is the imagery: a map of two summers at once is harder to recognise, and the operator should know.

Only what is told counts. The day on which it was taken is known where the provider says it (`imagery_date_header`).
That it has changed is known where a tile says that it was last modified after another one was fetched; tiles that were
made when they were asked for (modified at the time of their own fetch) say nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Dict, List, Optional, Tuple

from ._tile_source import TileSource
from ._tile_store import TileStore
from ._tiles import TileSet

__all__ = ["ImageryDates", "date_warnings", "examine_dates", "parse_day"]

MAX_SPREAD_DAYS = 366
MADE_ON_DEMAND_S = 86_400
_DAY = re.compile(r"(\d{4})(?:[-/.]?(\d{2})(?:[-/.]?(\d{2}))?)?(?:[T Z].*)?")


@dataclass(frozen=True)
class ImageryDates:
    """Days as `YYYY-MM-DD`, null where nothing is told.

    Attributes:
        tiles: tiles with data.
        dated: how many of them tell when their imagery was taken: from `oldest` to `newest`.
        fetched_oldest: when the first of them was fetched or confirmed by the provider; `fetched_newest` the last.
        changed: last day on which the provider changed one of these tiles.
        before_change: tiles that were fetched before that, and may be of older imagery than the others.
    """

    tiles: int
    dated: int
    oldest: Optional[str]
    newest: Optional[str]
    fetched_oldest: Optional[str]
    fetched_newest: Optional[str]
    changed: Optional[str]
    before_change: int


def parse_day(text: str) -> Optional[date]:
    """The day in a header: ISO 8601 (a year or month alone is its first day) or an HTTP date; None for all else."""
    match = _DAY.fullmatch(text.strip())
    try:
        if match:
            return date(int(match.group(1)), int(match.group(2) or 1), int(match.group(3) or 1))
        return parsedate_to_datetime(text).date()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _moment_s(text: str) -> Optional[int]:
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _day_of(moment_s: int) -> str:
    return datetime.fromtimestamp(moment_s, tz=timezone.utc).date().isoformat()


def examine_dates(*, tiles: TileSet, source: TileSource, store: TileStore) -> ImageryDates:
    """What the store knows of the dates of these tiles."""
    number = store.source_number(source.source_key)
    fetched: "Counter[int]" = Counter()
    taken: "Counter[str]" = Counter()
    modified: Dict[str, int] = {}
    for run in tiles.runs if number is not None else ():
        for fetched_s, last_modified, imagery_date, count in store.dates(number or 0, run):
            fetched[fetched_s] += count
            if imagery_date:
                taken[imagery_date] += count
            if last_modified:
                modified[last_modified] = max(modified.get(last_modified, 0), fetched_s)
    days: List[Tuple[date, int]] = []
    for text, count in taken.items():
        day = parse_day(text)
        if day is not None:
            days.append((day, count))
    changes = [_moment_s(text) for text, fetched_s in modified.items() if not _on_demand(text, fetched_s)]
    changed = max((moment for moment in changes if moment is not None), default=None)
    return ImageryDates(
        tiles=sum(fetched.values()),
        dated=sum(count for _day, count in days),
        oldest=min(days)[0].isoformat() if days else None,
        newest=max(days)[0].isoformat() if days else None,
        fetched_oldest=_day_of(min(fetched)) if fetched else None,
        fetched_newest=_day_of(max(fetched)) if fetched else None,
        changed=None if changed is None else _day_of(changed),
        before_change=0 if changed is None else sum(n for fetched_s, n in fetched.items() if fetched_s < changed),
    )


def _on_demand(last_modified: str, fetched_s: int) -> bool:
    moment_s = _moment_s(last_modified)
    return moment_s is None or moment_s > fetched_s - MADE_ON_DEMAND_S


def date_warnings(dates: ImageryDates) -> Tuple[str, ...]:
    """What the operator should know, in a sentence each; none for imagery of one date, or of no known one."""
    found: List[str] = []
    if dates.oldest and dates.newest:
        spread = (date.fromisoformat(dates.newest) - date.fromisoformat(dates.oldest)).days
        if spread > MAX_SPREAD_DAYS:
            found.append(
                f"the imagery is of different dates: from {dates.oldest} to {dates.newest} "
                f"({dates.dated} of {dates.tiles} tiles tell)"
            )
    if dates.before_change:
        found.append(
            f"{dates.before_change} of {dates.tiles} tiles were fetched before the provider changed others on "
            f"{dates.changed}, and may show older imagery: --refresh-after asks for them again"
        )
    return tuple(found)
