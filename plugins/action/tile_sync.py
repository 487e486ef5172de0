# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ship the archive and the build request. Documentation: the module file of the same name."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import time
from typing import Any, Callable, ClassVar, Dict, List, Optional

from ..module_utils._build_request import request_for_run
from ..module_utils._errors import FailurePhase, SyncError
from ..module_utils._known_archives import KnownArchives
from ..module_utils._rsync import push_file
from ..module_utils._run import Run
from ..module_utils._ssh_feed import feed_file
from ..module_utils._tile_sync import CompanionArchive, Feed, ShippedArchive, sync_archive
from ..plugin_utils._companion_action import CompanionAction


class ActionModule(CompanionAction):
    phase = FailurePhase.SYNC
    argument_spec: ClassVar[Dict[str, Any]] = {"limit_kib_per_s": {"type": "int"}}

    def perform(self, run: Run, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        if self._task.check_mode:
            return {"changed": True}
        started = time.monotonic()
        ends_at = started + run.config.sync_timeout_s
        root, archive, facts = run.config.companion_cache_root, run.facts()["archive"], self.facts_of(run)
        if facts.get("job_run_id"):
            sync = {"bytes_sent": 0, "bytes_total": archive["size_bytes"], "elapsed_s": 0.0}
            run.journal.record("fact", phase=self.phase, host=self.host, sync=sync)
            return {"changed": False, "sync": sync}
        shipped = ShippedArchive(run.archive_path, archive["sha256"], archive["size_bytes"])
        # The folder is named after the content, so that the next run finds what a cut run has sent.
        incoming = f"{root}/incoming/{shipped.sha256[:16]}"
        ssh = self.ssh_command()
        given = arguments["limit_kib_per_s"]
        limit = run.config.sync_limit_kib_per_s if given is None else max(0, given)
        companion = CompanionArchive(
            lambda command, data: self.shell(command, stdin=data),
            shipped,
            name=str(self.host),
            root=root,
            incoming=incoming,
            python=self.companion_python(task_vars),
        )
        sent, has_index = sync_archive(
            shipped,
            companion,
            folders=[incoming, f"{root}/work/{run.run_id}", f"{root}/jobs/{run.run_id}/scratch"],
            work_folder=run.run_dir,
            known=KnownArchives(run.config.cache_staging_root),
            push=lambda source, target: self._push(ssh, source, target, limit=limit, ends_at=ends_at),
            # rsync is the one that can be told a rate.
            feed=None if limit else self._feed(shipped, ends_at=ends_at),
            on_step=lambda text: self.sink.emit("phase", phase=self.phase, text=text),
            use_bases=ssh is not None,
        )
        request = request_for_run(
            facts["request"],
            run_id=run.run_id,
            nonce=facts["nonce"],
            root=root,
            archive_path=companion.target,
            current_index=f"{root}/current/index" if has_index else None,
        )
        request_path = f"{root}/jobs/{run.run_id}/request.json"
        self._write(request_path, json.dumps(request).encode())
        sync = {
            "bytes_sent": sent,
            "bytes_total": shipped.size_bytes,
            "elapsed_s": round(time.monotonic() - started, 3),
        }
        run.journal.record("fact", phase=self.phase, host=self.host, sync=sync, archive_path=companion.target)
        self.sink.emit("phase", phase=self.phase, text=f"{sent / 1e6:.1f} of {shipped.size_bytes / 1e6:.1f} MB sent")
        return {"changed": True, "sync": {**sync, "request_path": request_path, "archive_path": companion.target}}

    def _push(self, ssh: Optional[List[str]], source: str, target: str, *, limit: int, ends_at: float) -> int:
        """Send one file; the deadline is that of the whole sync."""
        size = os.path.getsize(source)
        if ssh is None:
            try:
                shutil.copyfile(source, target)
            except OSError as exc:
                raise SyncError(f"cannot write {target}: {exc.strerror}") from None
            return size
        return push_file(
            source,
            ssh=ssh,
            host=str(self._connection.get_option("host")),
            target=target,
            deadline_s=max(1.0, ends_at - time.monotonic()),
            limit_kib_per_s=limit,
            on_progress=self._told(size),
        )

    def _feed(self, shipped: ShippedArchive, *, ends_at: float) -> Optional[Feed]:
        """The way for an archive that is new to the companion; the deadline is that of the whole sync."""
        ssh = self.ssh_client()
        if ssh is None:
            return None
        return lambda command: feed_file(
            shipped.path,
            ssh=ssh,
            host=str(self._connection.get_option("host")),
            command=command,
            deadline_s=max(1.0, ends_at - time.monotonic()),
            on_progress=self._told(shipped.size_bytes),
        )

    def _told(self, total: int) -> Callable[[int, str], None]:
        return lambda done, text: self.sink.emit(
            "progress", phase=self.phase, done=done, total=total, unit="bytes", text=text
        )

    def _write(self, path: str, content: bytes) -> None:
        final, temporary = shlex.quote(path), shlex.quote(path + ".tmp")
        answer = self.shell(f"cat > {temporary} && mv {temporary} {final}", stdin=content)
        if answer.rc != 0:
            raise SyncError(f"cannot write {path} on {self.host}: {answer.stderr.strip()[:200]}")
