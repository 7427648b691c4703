"""A terminal: a pseudo-terminal with the size and the modes that an SSH client asked for."""

import fcntl
import os
import struct
import termios
from collections.abc import Mapping

from asyncssh import constants

Size = tuple[int, int, int, int]
"""Columns, rows, and pixels both ways; 0 is unknown."""

# RFC 4254, section 8: an opcode names a control character or a flag. `termios` lists flags in this order of fields.
_INPUT, _OUTPUT, _CONTROL, _LOCAL, _CHARACTERS = 0, 1, 2, 3, 6

_CHARACTER_NAMES = (
    *("VINTR", "VQUIT", "VERASE", "VKILL", "VEOF", "VEOL", "VEOL2", "VSTART", "VSTOP", "VSUSP"),
    *("VREPRINT", "WERASE", "VLNEXT", "VDISCARD"),
)
_FLAG_NAMES = {
    _INPUT: (
        *("IGNPAR", "PARMRK", "INPCK", "ISTRIP", "INLCR", "IGNCR", "ICRNL"),
        *("IXON", "IXANY", "IXOFF", "IMAXBEL", "IUTF8"),
    ),
    _OUTPUT: ("OPOST", "ONLCR", "OCRNL", "ONOCR", "ONLRET"),
    _LOCAL: (
        *("ISIG", "ICANON", "ECHO", "ECHOE", "ECHOK", "ECHONL", "NOFLSH", "TOSTOP", "IEXTEN"),
        *("ECHOCTL", "ECHOKE"),
    ),
}
_IUTF8 = 0o40000  # from <asm-generic/termbits.h>; Python's termios does not name it
_UNSET = 255  # a control character that the client has none for


def open_terminal(size: Size, modes: Mapping[int, int]) -> tuple[int, int]:
    """A new pair (our end, the program's end) of file descriptors, neither inherited. Raises OSError without ptys."""
    ours, theirs = os.openpty()
    try:
        _set_modes(theirs, modes)
        resize(ours, size)
    except (OSError, termios.error) as error:
        os.close(ours)
        os.close(theirs)
        raise OSError(f"the terminal can't be set up: {error}") from error
    return ours, theirs


def resize(terminal: int, size: Size) -> None:
    """Give the terminal this size; the kernel tells its foreground programs (SIGWINCH)."""
    columns, rows, width, height = (min(number, 0xFFFF) for number in size)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, width, height))


def _set_modes(terminal: int, modes: Mapping[int, int]) -> None:
    attributes = termios.tcgetattr(terminal)
    characters = attributes[_CHARACTERS]
    for name in _CHARACTER_NAMES:
        value = modes.get(getattr(constants, f"PTY_{name}"))
        if value is not None:
            characters[getattr(termios, name if name.startswith("V") else f"V{name}")] = (
                b"\0" if value == _UNSET else bytes([value & 0xFF])
            )
    for field, names in _FLAG_NAMES.items():
        for name in names:
            value = modes.get(getattr(constants, f"PTY_{name}"))
            bit = _IUTF8 if name == "IUTF8" else getattr(termios, name, 0)
            if value is not None:
                attributes[field] = attributes[field] | bit if value else attributes[field] & ~bit
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)
