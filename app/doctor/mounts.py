"""Mounts: whether a file is on this machine's own disk."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")

_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|9p|afs|ceph|glusterfs|lustre|gfs2|ocfs2|beegfs|"
    r"fuse\.(?:sshfs|s3fs|glusterfs|ceph|rclone|gcsfuse|smbnetfs|goofys|mount-s3)"
)


def network_file_system(file: Path) -> str | None:
    """Name the network file system that the file is on; None on a local disk, or if unknown."""
    if not MOUNTS.exists():
        return None
    resolved = file.resolve()
    holding = [mount for mount in _mounts() if resolved.is_relative_to(mount[0])]
    _, kind = max(reversed(holding), key=lambda mount: len(mount[0].parts))
    return kind if _NETWORK.fullmatch(kind) else None


def _mounts() -> list[tuple[Path, str]]:
    """Return every mount's place and kind, in the order of mounting."""
    found = []
    for line in MOUNTS.read_text().splitlines():
        before, _, after = line.partition(" - ")
        place = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), before.split()[4])
        found.append((Path(place), after.split()[0]))
    return found
