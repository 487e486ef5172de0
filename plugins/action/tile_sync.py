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
from typing import Any, Dict

from ..module_utils._build_request import request_for_run
from ..module_utils._errors import FailurePhase, SyncError
from ..module_utils._rsync import push_file
from ..module_utils._run import Run
from ..plugin_utils._companion_action import CompanionAction


class ActionModule(CompanionAction):
    phase = FailurePhase.SYNC

    def perform(self, run: Run, arguments: Dict[str, Any], task_vars: Dict[str, Any]) -> Dict[str, Any]:
        if self._task.check_mode:
            return {"changed": True}
        started = time.monotonic()
        root, archive, facts = run.config.companion_cache_root, run.facts()["archive"], self.facts_of(run)
        if facts.get("job_run_id"):
            sync = {"bytes_sent": 0, "bytes_total": archive["size_bytes"], "elapsed_s": 0.0}
            run.journal.record("fact", phase=self.phase, host=self.host, sync=sync)
            return {"changed": False, "sync": sync}
        # The folder is named after the content, so that the next run finds what a cut run has sent.
        incoming = f"{root}/incoming/{archive['sha256'][:16]}"
        target = f"{incoming}/tiles.pmtiles"
        self._must("mkdir", "-p", incoming, f"{root}/work/{run.run_id}", f"{root}/jobs/{run.run_id}/scratch")
        sent = self._send(run, target)
        self._check(target, archive["sha256"])
        has_index = self.command("test", "-d", f"{root}/current/index").rc == 0
        request = request_for_run(
            facts["request"],
            run_id=run.run_id,
            nonce=facts["nonce"],
            root=root,
            archive_path=target,
            current_index=f"{root}/current/index" if has_index else None,
        )
        request_path = f"{root}/jobs/{run.run_id}/request.json"
        self._write(request_path, json.dumps(request).encode())
        sync = {
            "bytes_sent": sent,
            "bytes_total": archive["size_bytes"],
            "elapsed_s": round(time.monotonic() - started, 3),
        }
        run.journal.record("fact", phase=self.phase, host=self.host, sync=sync, archive_path=target)
        self.sink.emit("phase", phase=self.phase, text=f"{sent / 1e6:.1f} of {archive['size_bytes'] / 1e6:.1f} MB sent")
        return {"changed": True, "sync": {**sync, "request_path": request_path, "archive_path": target}}

    def _send(self, run: Run, target: str) -> int:
        size = os.path.getsize(run.archive_path)
        ssh = self.ssh_command()
        if ssh is None:
            try:
                shutil.copyfile(run.archive_path, target)
            except OSError as exc:
                raise SyncError(f"cannot write {target}: {exc.strerror}") from None
            return size
        return push_file(
            run.archive_path,
            ssh=ssh,
            host=str(self._connection.get_option("host")),
            target=target,
            basis_folder=f"{run.config.companion_cache_root}/current",
            on_progress=lambda done: self.sink.emit("progress", phase=self.phase, done=done, total=size, unit="bytes"),
        )

    def _check(self, target: str, sha256: str) -> None:
        answer = self.command("sha256sum", "--", target)
        if answer.rc != 0 or answer.stdout.split(" ", 1)[0] != sha256:
            self.command("rm", "-f", "--", target)
            raise SyncError(f"{target} on {self.host} does not hold what was sent; it was removed")

    def _write(self, path: str, content: bytes) -> None:
        final, temporary = shlex.quote(path), shlex.quote(path + ".tmp")
        answer = self.shell(f"cat > {temporary} && mv {temporary} {final}", stdin=content)
        if answer.rc != 0:
            raise SyncError(f"cannot write {path} on {self.host}: {answer.stderr.strip()[:200]}")

    def _must(self, *words: str) -> None:
        answer = self.command(*words)
        if answer.rc != 0:
            raise SyncError(f"{words[0]} failed on {self.host}: {answer.stderr.strip()[:200]}")
