"""The workspace's files over SFTP, which today's `scp` speaks too. Paths are those that programs there see."""

import os
import posixpath
import stat
from pathlib import Path

import asyncssh


class WorkspaceFiles(asyncssh.SFTPServer):
    """SFTP on the real file system; relative paths start in the workspace."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], directory: Path) -> None:
        super().__init__(channel)
        self._workspace_path = os.fsencode(directory)

    def map_path(self, path: bytes) -> bytes:
        return posixpath.join(self._workspace_path, path)

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        self._refuse_endless(path)
        return super().open(path, pflags, attrs)

    def open56(self, path: bytes, desired_access: int, flags: int, attrs: asyncssh.SFTPAttrs) -> object:
        self._refuse_endless(path)
        return super().open56(path, desired_access, flags, attrs)

    def exit(self) -> None:
        # Without a status OpenSSH's scp takes a finished copy for a failed one.
        self.channel.exit(0)

    def _refuse_endless(self, path: bytes) -> None:
        """Opening a pipe waits for its other end, for ever perhaps, and with it would everybody else here."""
        try:
            mode = os.stat(self.map_path(path)).st_mode
        except OSError:
            return  # to be created, or to fail with the right error
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise asyncssh.SFTPFailure("only regular files can be copied")
