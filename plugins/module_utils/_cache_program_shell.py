# Copyright (c) 2026 gps_denied.preflight contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The check at take-off a second time, from other people's tools: sh, ssh-keygen, sha256sum, awk, find, stat, sort.

The script shares no line with the Python verifier, so that a defect of one shows as a disagreement with the other.
Runs on the companion.
"""

from __future__ import annotations

__all__ = ["SHELL_CHECK"]

SHELL_CHECK = r"""#!/bin/sh
# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# An independent check of the active cache: usage gps-denied-verify.sh [ROOT [TRUST_DIR]]; exit 0 GO, 1 NO-GO.
set -u
LC_ALL=C
export LC_ALL
root=${1:-/var/lib/gps-denied}
trust=${2:-$root/trust}
say_no() {
    printf 'NO-GO %s\n' "$1"
    exit 1
}
target=$(readlink "$root/current") || say_no "no current"
case $target in
generations/[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]-????????????) ;;
*) say_no "current points elsewhere" ;;
esac
[ ! -L "$root/$target" ] && [ -d "$root/$target" ] || say_no "no generation"
cd "$root/$target" || say_no "generation cannot be entered"
work=$(mktemp -d) || say_no "no temporary folder"
trap 'rm -rf "$work"' EXIT

# Only folders and regular files with one name, named as the manifest's grammar allows.
[ -z "$(find . ! -type d ! -type f -print)" ] || say_no "a link or a special file"
[ -z "$(find . -type f -links +1 -print)" ] || say_no "a file with a second name"
[ -z "$(find . -mindepth 1 -type d -empty -print)" ] || say_no "an empty folder"
[ -f MANIFEST ] || say_no "no manifest"
[ -n "$(tail -c 1 MANIFEST | tr -d '\n')" ] && say_no "manifest cut"
[ "$(tr -d '\n -~' <MANIFEST | wc -c)" -eq 0 ] || say_no "manifest not ASCII"
awk '
    NF != 3 || $0 != $1 " " $2 " " $3 { exit 1 }
    length($1) != 64 || $1 ~ /[^0-9a-f]/ || $2 !~ /^(0|[1-9][0-9]*)$/ || length($2) > 16 { exit 1 }
    length($3) > 240 || $3 !~ /^[A-Za-z0-9_][A-Za-z0-9_.+=@-]*(\/[A-Za-z0-9_][A-Za-z0-9_.+=@-]*)*$/ { exit 1 }
    $3 == "MANIFEST" || $3 == "grant.json" || $3 == "grant.json.sig" || $3 == "report.json" { exit 1 }
    NR > 1 && !($3 "" > last "") { exit 1 }
    seen[tolower($3)]++ { exit 1 }
    { last = $3 }
    END { if (NR == 0) exit 1 }
' MANIFEST || say_no "manifest malformed"
cut -d ' ' -f 3 MANIFEST | sort >"$work/wanted"
evidence='MANIFEST|grant\.json|grant\.json\.sig|report\.json'
find . -type f -print | sed 's|^\./||' | grep -vxE "$evidence" | sort >"$work/found"
cmp -s "$work/wanted" "$work/found" || say_no "files missing or extra"
while read -r _sum size path; do
    [ "$(stat -c %s "./$path")" = "$size" ] || say_no "size of $path"
done <MANIFEST || exit 1
awk '{ print $1 "  ./" $3 }' MANIFEST | sha256sum --check --strict --status || say_no "bytes differ"

# The grant, as ssh-keygen and a plain reading see it.
field() { sed -n "s/^ *\"$1\": *\"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\} *$/\1/p" grant.json; }
[ -f grant.json ] || say_no "no grant"
content_id=$(sha256sum <MANIFEST | cut -d ' ' -f 1)
[ "$(field content_id)" = "$content_id" ] || say_no "grant for other content"
name=${target#generations/}
[ "${name#*-}" = "$(printf %s "$content_id" | cut -c 1-12)" ] || say_no "generation of another name"
[ "${name%%-*}" = "$(printf %08d "$(field counter)" 2>/dev/null)" ] || say_no "grant of another counter"
floor=$(sed -n 's/.*"floor": *\([0-9]*\).*/\1/p' "$root/counter" 2>/dev/null)
[ "$(field counter)" -ge "${floor:-0}" ] || say_no "grant replayed"
now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
first_of() { printf '%s\n%s\n' "$1" "$2" | sort | head -n 1; }
[ "$(first_of "$(field not_before)" "$now")" = "$(field not_before)" ] || say_no "not yet valid"
[ "$(first_of "$now" "$(field not_after)")" = "$now" ] || say_no "expired"
[ "$now" != "$(field not_after)" ] || say_no "expired"
if [ -e "$trust/allowed_signers" ] || grep -q '"enrolled": *true' "$root/counter" 2>/dev/null; then
    [ -f "$trust/allowed_signers" ] || say_no "no allowed signers"
    [ -s "$trust/vehicle_id" ] || say_no "no vehicle id"
    [ "$(field vehicle_id)" = "$(head -n 1 "$trust/vehicle_id" | tr -d ' \t')" ] || say_no "grant for another vehicle"
    [ -f grant.json.sig ] || say_no "grant not signed"
    space=gps-denied-grant@v1
    signer=$(ssh-keygen -Y find-principals -s grant.json.sig -f "$trust/allowed_signers" 2>/dev/null | head -n 1)
    [ -n "$signer" ] || say_no "signer unknown"
    set -- -Y verify -f "$trust/allowed_signers" -I "$signer" -n "$space" -s grant.json.sig
    [ ! -f "$trust/revoked_keys" ] || set -- "$@" -r "$trust/revoked_keys"
    ssh-keygen "$@" <grant.json >/dev/null 2>&1 || say_no "signature refused"
elif [ -s "$trust/vehicle_id" ]; then
    [ "$(field vehicle_id)" = "$(head -n 1 "$trust/vehicle_id" | tr -d ' \t')" ] || say_no "grant for another vehicle"
fi
printf 'GO %s\n' "$name"
"""
