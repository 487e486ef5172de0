# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Defects to plant in a copy of the product, each with the test that must convict it; `controls.py` does the planting.

Each is one that somebody could make: a check that is left out, an order that is turned round, a limit that is not
there. `broken` replaces `sound`, which stands exactly once in the file, so that a control that no longer bites is said.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFECTS", "Defect"]

UNIT = "tests/unit/plugins/module_utils/test_"
HTTP = "tests/integration/test_tile_faults.py::"
POWER = "tests/faults/test_activation_power_cuts.py::test_a_power_cut_before_each_step_leaves_the_old_or_the_new_cache"
KILL = "tests/faults/test_activation_power_cuts.py::test_a_kill_before_each_step_leaves_the_old_or_the_new_cache"


@dataclass(frozen=True)
class Defect:
    """`invariant` is that of `invariants.py` which falls; `file` lies under `plugins/module_utils`.

    The quick ones are planted in the ordinary suite too.
    """

    name: str
    invariant: str
    file: str
    sound: str
    broken: str
    test: str
    quick: bool = False


DEFECTS = (
    # ------------------------------------------------------------------------------------------ the take-off check
    Defect(
        "the hash of a file is not compared", "I1", "_generation.py",
        "if hash_descriptor(descriptor, entry.path, entry.size_bytes) != entry.sha256:",
        "if not hash_descriptor(descriptor, entry.path, entry.size_bytes):",
        UNIT + "generation.py::test_every_corruption_is_found_and_its_file_named[bit flip]", quick=True,
    ),
    Defect(
        "files that the manifest does not list are let be", "I1", "_generation.py",
        "        if not is_evidence(path):\n            raise refuse(Reason.FILE_EXTRA",
        "        if False:\n            raise refuse(Reason.FILE_EXTRA",
        UNIT + "generation.py::test_every_corruption_is_found_and_its_file_named[extra file]",
    ),
    Defect(
        "a second name of a file is let be", "I1", "_generation.py",
        "    if status.st_nlink != 1:", "    if status.st_nlink < 1:",
        UNIT + "generation.py::test_every_corruption_is_found_and_its_file_named[hard link]",
    ),
    Defect(
        "a file that is still written to is sealed", "I1", "_generation.py",
        "            _check_no_writer(descriptor, path)\n", "",
        UNIT + "generation.py::test_a_file_that_is_open_for_writing_is_not_sealed",
    ),
    Defect(
        "the current generation's name is not held against its content", "I1", "_takeoff_check.py",
        "content_id[:12] != name.content_id12", "content_id[:12] is None",
        UNIT + "takeoff_check.py::test_a_generation_under_another_name_is_no_go",
    ),
    Defect(
        "the gate does not ask for the newest counter", "I1", "_takeoff_check.py",
        'if grant.counter != seen["counter"] or grant.counter < root.counter_floor():',
        'if grant.counter != seen["counter"]:',
        UNIT + "takeoff_check.py::test_current_turned_back_to_an_older_generation_is_no_go", quick=True,
    ),
    Defect(
        "a bug of the verifier is GO", "I1", "_takeoff_check_program.py",
        "            go=False,\n            mode=", "            go=True,\n            mode=",
        UNIT + "takeoff_check.py::test_a_defect_of_the_verifier_is_no_go_without_a_traceback",
    ),
    Defect(
        "the last part of the route is not looked for in the archive", "I1", "_takeoff_check_route.py",
        "for begin, end in zip(line, line[1:] or line):", "for begin, end in zip(line, line[1:-1] or line):",
        UNIT + "takeoff_check_route.py",
    ),
    # --------------------------------------------------------------------------------------------------- the grant
    Defect(
        "a grant for another vehicle counts", "I1", "_grant.py",
        "if vehicle_id is not None and grant.vehicle_id != vehicle_id:",
        "if vehicle_id is None and not grant.vehicle_id:",
        UNIT + "grant.py::test_a_grant_counts_for_its_content_vehicle_flight_and_time_only",
    ),
    Defect(
        "a grant never ends", "I1", "_grant.py",
        "if now_epoch_s >= parse_time(grant.not_after):", "if now_epoch_s < 0:",
        UNIT + "grant.py::test_a_grant_counts_for_its_content_vehicle_flight_and_time_only",
    ),
    Defect(
        "a grant may name a key twice", "I1", "_grant.py",
        "    if len(found) != len(pairs):", "    if not pairs:",
        UNIT + "grant.py::test_what_is_no_grant_is_refused",
    ),
    Defect(
        "a used grant counts again", "I1", "_activation.py",
        "elif grant.counter <= floor:", "elif grant.counter < floor:",
        UNIT + "activation.py::test_a_grant_counts_once_and_only_upwards", quick=True,
    ),
    Defect(
        "an enrolled companion takes unsigned grants", "I1", "_activation.py",
        "            if root.enrolled():\n                signer", "            if signature:\n                signer",
        UNIT + "activation.py::test_once_enrolled_only_signed_grants_count",
    ),
    Defect(
        "the word of ssh-keygen is not heard", "I1", "_ssh_signature.py",
        "    if done.returncode != 0:\n        raise refuse(Reason.SIGNATURE_INVALID",
        "    if done.returncode < 0:\n        raise refuse(Reason.SIGNATURE_INVALID",
        UNIT + "ssh_signature.py::test_every_changed_bit_of_a_signature_is_refused",
    ),
    Defect(
        "a signature for another purpose counts", "I1", "_ssh_signature.py",
        "if parsed.namespace != namespace:", "if not parsed.namespace:",
        UNIT + "ssh_signature.py::test_each_refusal_has_its_own_reason",
    ),
    Defect(
        "a revoked key may sign", "I1", "_ssh_signature.py",
        "        if key in words or signature.fingerprint in words:", "        if key in words and not words:",
        UNIT + "ssh_signature.py::test_a_rotated_key_counts_beside_the_old_one_and_the_old_one_until_it_is_revoked",
    ),
    Defect(
        "a signature has a second form (S at or above the group's order)", "I1", "_ssh_signature.py",
        'int.from_bytes(raw[32:], "little") < _ED25519_ORDER', "len(raw) > 0",
        UNIT + "ssh_signature.py::test_a_signature_whose_number_is_raised_by_the_group_order_is_refused",
    ),
    Defect(
        "a key of small order may sign", "I1", "_ssh_signature.py",
        "y < _ED25519_PRIME and y not in _ED25519_SMALL", "y < _ED25519_PRIME",
        UNIT + "ed25519_edges.py::test_a_key_of_small_order_signs_nothing",
    ),
    # --------------------------------------------------------------------------------------------- seal, activation
    Defect(
        "`current` is removed and made again", "I2", "_activation.py",
        '    os.symlink(f"generations/{name}", temporary)\n    os.rename(temporary, root.join(link))',
        "    with contextlib.suppress(FileNotFoundError):\n        os.unlink(root.join(link))\n"
        '    os.symlink(f"generations/{name}", root.join(link))',
        KILL,
    ),
    Defect(
        "the switch comes before the check of the files", "I2", "_activation.py",
        "                _place(root, sealed_path, signed)\n                _switch(root, current, name)",
        "                _switch(root, current, name)\n                _place(root, sealed_path, signed)",
        KILL,
    ),
    Defect(
        "the manifest is not asked when a build is activated", "I2", "_activation.py",
        "        remove_temporaries(folder_fd)\n        _check_content(folder_fd, signed.grant)\n",
        "        remove_temporaries(folder_fd)\n",
        UNIT + "activation.py::test_bytes_that_changed_after_the_seal_are_refused", quick=True,
    ),
    Defect(
        "files are not flushed before the rename", "I2", "_activation.py",
        "        sync_filesystem(folder_fd)\n        if not placed:", "        if not placed:",
        POWER,
    ),
    Defect(
        "what was renamed is not what was verified", "I2", "_activation.py",
        "if (verified.st_dev, verified.st_ino) != (named.st_dev, named.st_ino):", "if verified.st_dev != named.st_dev:",
        UNIT + "activation.py::test_a_folder_that_is_swapped_after_the_check_never_becomes_current",
    ),
    Defect(
        "a cache in flight is replaced", "I2", "_activation.py",
        "if current is not None and in_use(root, current):", "if current is None and in_use(root, name):",
        UNIT + "activation.py::test_a_cache_in_flight_is_neither_replaced_nor_removed",
    ),
    Defect(
        "counter and audit are left to the next run", "I3", "_activation.py",
        '            _settle(root, signed, {"run_id": run_id, "signer": signer, "at": format_time(now)})\n', "",
        POWER,
    ),
    Defect(
        "the audit's chain is not checked", "I10", "_audit.py",
        'if entry.get("previous_sha256") != previous:', 'if not entry.get("previous_sha256"):',
        UNIT + "audit.py::test_a_changed_a_removed_and_a_swapped_line_break_the_chain",
    ),
    # ----------------------------------------------------------------------------------------------------- the locks
    Defect(
        "the fencing token is ignored", "I6", "_activation_lock.py",
        "elif last is None or not last.held or last.token != token or last.run_id != run_id:", "elif last is None:",
        UNIT + "activation.py::test_a_run_that_was_superseded_can_neither_seal_nor_activate", quick=True,
    ),
    Defect(
        "a run whose lock was given back wakes up and acts", "I6", "_activation_lock.py",
        "elif last is None or not last.held or last.token", "elif last is None or last.token",
        UNIT + "activation_lock.py::test_a_token_counts_no_longer_than_its_lock",
    ),
    Defect(
        "a second workstation takes the companion's lock", "I6", "_activation_lock.py",
        "elif last and last.is_live() and last.owner != owner:", "elif last and not last.owner:",
        UNIT + "activation_lock.py::test_another_workstation_is_told_who_holds_it",
    ),
    Defect(
        "the companion's lock is shared", "I6", "_activation_lock.py",
        "fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        UNIT + "activation_lock.py::test_who_waits_for_the_short_lock_too_long_is_told",
    ),
    Defect(
        "the workstation's lock file is no lock", "I6", "_lock.py",
        "        lock.acquire()\n", "        open(lock_path, 'a').close()\n",
        UNIT + "lock.py::test_a_second_run_is_told_who_holds_it",
    ),
    Defect(
        "the lock outlives the run", "I9", "_lock.py",
        "        select.select([served, end_read], [], [])\n", "        select.select([end_read], [], [])\n",
        UNIT + "lock.py::test_the_lock_is_free_once_the_served_process_is_gone[9]",
    ),
    # --------------------------------------------------------------------------------------------- the builder's word
    Defect(
        "a report without this run's nonce counts", "I4", "_build_stream.py",
        'if value.get("nonce") != self._nonce or value.get("run_id") != self._run_id:',
        'if value.get("run_id") != self._run_id:',
        UNIT + "build_stream.py::test_a_report_of_another_run_is_only_text", quick=True,
    ),
    Defect(
        "of two reports the first counts", "I4", "_build_stream.py",
        "            if len(self._reports) > 1:", "            if len(self._reports) > 2:",
        UNIT + "build_stream.py::test_nothing_comes_after_the_report",
    ),
    Defect(
        "a report counts without its exit status", "I4", "_build_stream.py",
        '    _must(failed == (exit_code != 0), "the report says %s" % outcome)\n', "",
        UNIT + "build_stream.py::test_a_report_that_is_not_valid_is_refused",
    ),
    Defect(
        "a line without its end counts", "I4", "_build_stream.py",
        "            self._ends_whole = False\n", "            self._line(rest[0], cut=rest[1])\n            return\n",
        UNIT + "build_stream.py::test_a_report_cut_at_any_byte_is_no_report",
    ),
    # ------------------------------------------------------------------------------------------- report and exit code
    Defect(
        "two exit codes are exchanged", "I4", "_errors.py",
        "    SYNC_FAILED = 32\n    VERIFY_OR_ACTIVATE_FAILED = 33",
        "    SYNC_FAILED = 33\n    VERIFY_OR_ACTIVATE_FAILED = 32",
        UNIT + "errors.py::test_each_failure_class_maps_to_its_exit_code",
    ),
    Defect(
        "a companion that fell silent counts as done", "I4", "_report_fold.py",
        "    if failure is None and outcome is None:", "    if False:",
        UNIT + "report_fold.py::test_a_companion_without_a_last_word_is_no_success",
    ),
    Defect(
        "holes are counted as tiles", "I4", "_tile_coverage.py",
        "    absent = report.requested - report.present\n", "    absent = report.failed\n",
        HTTP + "test_a_lasting_fault_of_one_tile_is_a_hole_in_the_report[missing]",
    ),
    # -------------------------------------------------------------------------------------------------------- secrets
    Defect(
        "each piece of output is redacted by itself", "I8", "_redact.py",
        "return self._emit(min(reading.live_from(self._end) for reading in self._readings))",
        "return self._emit(self._end)",
        UNIT + "redact.py::test_every_cut_in_three_gives_the_same_output", quick=True,
    ),
    Defect(
        "a secret may begin one byte before what is held back", "I8", "_redact.py",
        "return self._places[-live] if live else end", "return self._places[-live] + 1 if live else end",
        UNIT + "redact.py::test_every_cut_in_three_gives_the_same_output",
    ),
    Defect(
        "escape sequences hide a secret", "I8", "_redact.py",
        "                if not counts:\n                    reading.skip()",
        "                if reading is None:\n                    reading.skip()",
        UNIT + "redact.py",
    ),
    Defect(
        "the flights API's token follows a redirect", "I8", "_flights_api.py",
        "        if urlsplit(target)[:2] != home:", "        if not home:",
        "tests/integration/test_flights_api.py::test_a_redirect_to_another_host_never_sees_the_token",
    ),
    Defect(
        "the tile provider's key follows a redirect", "I8", "_tile_download_http.py",
        "if (here.scheme, here.netloc) != (there.scheme, there.netloc) or job.request.body is not None:",
        "if here.scheme != there.scheme:",
        HTTP + "test_a_redirect_to_another_server_is_not_followed_and_the_key_stays_here",
    ),
    # ---------------------------------------------------------------------------------------- what comes from outside
    Defect(
        "the flights API may answer with another flight", "I4", "_flights_api.py",
        "    if document.id != flight_id:", "    if not document.id:",
        "tests/integration/test_flights_api.py::test_nonsense_is_called_nonsense",
    ),
    Defect(
        "the revision is not asked for again", "I4", "_flights_api.py",
        '    return (answer.headers.get("etag") or _document(answer, flight_id).revision) == revision',
        "    return True",
        "tests/integration/test_flights_api.py::test_a_served_folder_gives_the_flights_of_its_files",
    ),
    Defect(
        "a small answer may unfold into a large one", "I7", "_flights_api.py",
        'if response.headers.get("content-encoding", "identity").lower() != "identity":',
        'if not response.headers.get("content-encoding", "identity"):',
        "tests/integration/test_flights_api.py::test_a_compressed_answer_is_refused",
    ),
    Defect(
        "Retry-After is obeyed without a cap", "I7", "_tile_pacing.py",
        "        return min(cap_s, float(text[:12]))", "        return float(text[:12])",
        UNIT + "tile_pacing.py::test_retry_after_is_read_and_capped",
    ),
    Defect(
        "a tile that is cut short is kept", "I5", "_tile_check.py",
        "                reason = _FAULTS[kind](body)", "                reason = None",
        UNIT + "tile_check.py::test_a_tile_cut_anywhere_is_refused",
    ),
    Defect(
        "a picture whose data end too soon is one", "I5", "_tile_decode_program.py",
        'return "truncated" if', 'return "doubtful" if',
        UNIT + "tile_check.py::test_a_jpeg_that_lost_data_and_has_its_end_is_refused",
    ),
    Defect(
        "tiles are decoded without limits", "I7", "_tile_decode_program.py",
        "    _limit()\n    with socket", "    with socket",
        UNIT + "tile_decoder.py::test_a_tile_that_ends_its_decoder_is_bad_and_the_others_are_not",
    ),
    Defect(
        "tiles whose rows are flipped are taken", "I4", "_tile_placement.py",
        "flipped >= MIN_SHARE * len(votes):", "flipped > len(votes):",
        UNIT + "tile_placement.py::test_flipped_rows_are_a_fault_that_names_the_other_kind",
    ),
    Defect(
        "an orthophoto's empty edge counts as imagery", "I4", "_tile_source_geotiff.py",
        "if np.count_nonzero(alpha) < MIN_IMAGERY_RATIO * alpha.size:", "if not alpha.size:",
        UNIT + "tile_source_geotiff.py::test_what_is_no_imagery_is_transparent_and_half_a_tile_of_it_a_hole",
    ),
    Defect(
        "a page of text is kept as a tile's reason and not counted", "I7", "_tile_download_breaker.py",
        "        if self._useless >= self._limits.breaker_failures:", "        if self._useless < 0:",
        HTTP + "test_a_provider_that_is_down_ends_the_download_in_seconds",
    ),
    Defect(
        "the store's index names bytes that are not durable", "I5", "_tile_store_pack.py",
        "os.fdatasync", "(lambda _descriptor: None)",
        UNIT + "tile_store.py::test_a_failed_sync_puts_nothing_into_the_index",
    ),
    Defect(
        "XML may declare a DTD", "I11", "_mission_xml.py",
        "forbid_dtd=True", "forbid_dtd=False",
        UNIT + "flight_file.py::test_bad_input_is_refused_with_its_reason_in_one_line_and_soon",
    ),
    Defect(
        "a cache may name its files as it likes", "I12", "_manifest.py",
        "    if len(path) > MAX_PATH_BYTES or len(parts) > 8 or not all(_COMPONENT.fullmatch(part) for part in parts):",
        "    if len(path) > MAX_PATH_BYTES:",
        UNIT + "manifest.py::test_a_path_that_is_a_trick_is_refused",
    ),
    Defect(
        "a build outside the cache is sealed", "I12", "_activation_seal.py",
        "    if not found.startswith(os.path.realpath(root.path) + os.sep):", "    if not found:",
        "tests/unit/plugins/modules/test_cache_doors.py",
    ),
    Defect(
        "a settings file with secrets may be read by others", "I8", "_config.py",
        "status.st_mode & 0o077", "status.st_mode & 0o007",
        UNIT + "config.py::test_a_secret_file_that_cannot_be_trusted_is_refused",
    ),
    # ---------------------------------------------------------------------------------------------------- the sync
    Defect(
        "an archive made from a delta is not held against its hash", "I4", "_tile_delta.py",
        "        if digest.hexdigest() != sha256:", "        if not digest.hexdigest():",
        UNIT + "tile_delta.py::test_no_damage_gives_an_archive",
    ),
    Defect(
        "what lies on the companion counts by its size", "I4", "_sync_program.py",
        "_size(path) == self.size_bytes and hash_file(path) == self.sha256", "_size(path) == self.size_bytes",
        UNIT + "tile_sync.py::test_wrong_bytes_that_lie_there_are_mended[byte]",
    ),
    Defect(
        "what arrives is believed without its hash", "I4", "_sync_program.py",
        '"complete": digest.hexdigest() == wanted.sha256, "taken', '"complete": done == wanted.size_bytes, "taken',
        UNIT + "tile_sync.py::test_what_arrives_otherwise_than_it_was_sent_is_mended",
    ),
    Defect(
        "what has arrived when the link breaks is written anew", "I5", "_tile_sync.py",
        'if feed is not None and found.get("begun") is False:', "if feed is not None:",
        UNIT + "tile_sync.py::test_cuts_at_any_byte_and_then_on[whole]",
    ),
    Defect(
        "a program that took less than all is taken for a whole transfer", "I5", "_tile_sync.py",
        "        if taken_bytes < self._size_bytes:", "        if taken_bytes < 0:",
        UNIT + "tile_sync.py::test_cuts_at_any_byte_and_then_on[whole]",
    ),
    Defect(
        "a transfer that was cut begins anew", "I5", "_rsync.py",
        '"--ignore-times", "--inplace", "--partial"', '"--ignore-times"',
        UNIT + "tile_sync.py::test_cuts_at_any_byte_and_then_on[whole]",
    ),
)  # fmt: skip
