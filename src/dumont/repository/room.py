"""Room: a large buffer that grows. On huge pages where the kernel has them, since touching memory anew costs as much as
copying it does."""

import mmap

_HUGE_BYTES = 2 * 2**20


class Room:
    """Bytes to write into. What was in it is kept when it grows by `at_least`, lost when it is `cleared`."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray())

    def at_least(self, size: int, keep: int = 0) -> memoryview:
        """The whole room, which holds `size` bytes or more; its first `keep` bytes are as they were.

        A view that was given before this grew goes on showing the old bytes.
        """
        if len(self.view) < size:
            grown = memoryview(_memory(max(size, 2 * len(self.view) if keep else size)))
            grown[:keep] = self.view[:keep]
            self.view = grown
        return self.view


def _memory(size: int) -> mmap.mmap:
    whole = -(-size // _HUGE_BYTES) * _HUGE_BYTES if size >= _HUGE_BYTES else size
    memory = mmap.mmap(-1, max(whole, mmap.PAGESIZE))
    if size >= _HUGE_BYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        try:
            memory.madvise(mmap.MADV_HUGEPAGE)
        except OSError:
            return memory  # a kernel without them
    return memory
