"""A power cut during a save: the order of system calls tells what would be left; a killed process loses nothing."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from dumont.store.directory import DirectoryStore
from tests.integration.depot import Depot, settle
from tests.integration.victim import ROOT, Order, open_depot

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(shutil.which("strace") is None, reason="apt-get install strace"),
]
CALLS = "write,pwrite64,fsync,fdatasync,linkat,link,mkdir,mkdirat"
_BEGUN = re.compile(r"^(\d+) +(\w+)\((.*)$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")
_QUOTED = re.compile(r'"([^"]*)"')
_FD = re.compile(r"^\d+<([^>]*)>")


@dataclass
class Call:
    """A system call that succeeded: the paths it names, and its begin and end as lines of the trace."""

    name: str
    paths: list[str]
    begun: int
    ended: int


def read_trace(text: str) -> list[Call]:
    """What `strace -f -yy` saw succeed."""
    calls: list[Call] = []
    open_calls: dict[str, tuple[str, str, int]] = {}
    for line_number, line in enumerate(text.splitlines()):
        begun, said = line_number, line
        if resumed := _RESUMED.match(line):
            name, arguments, begun = open_calls.pop(resumed[1])
            said = f"{resumed[1]} {name}({arguments}{resumed[3]}"
        match = _BEGUN.match(said)
        if not match:
            continue
        if "<unfinished ...>" in said:
            open_calls[match[1]] = (match[2], match[3].replace("<unfinished ...>", ""), begun)
            continue
        result = said.rpartition(" = ")[2]
        if result.startswith(("-1", "?")):
            continue
        target = _FD.match(match[3])
        calls.append(Call(match[2], [target[1]] if target else _QUOTED.findall(match[3]), begun, line_number))
    return calls


class Trace:
    """The calls of one save, and what its objects rely on."""

    def __init__(self, calls: list[Call], store: Path) -> None:
        self.calls = calls
        self._store = store
        self.links = {self._key(call.paths[1]): call for call in calls if call.name in ("link", "linkat")}

    def _key(self, path: str) -> str:
        return os.path.relpath(path, self._store)

    def not_durable(self, key: str, at: int) -> list[str]:
        """What of the object `key` a power cut at that line might take: its bytes, its name, or a folder's."""
        link = self.links.get(key)
        if link is None or link.ended >= at:
            return ["object"]
        missing = []
        written = [call.ended for call in self.calls if "write" in call.name and call.paths == link.paths[:1]]
        if not self._flushed(link.paths[0], max(written), link.begun):
            missing.append("bytes")
        if not self._flushed(os.path.dirname(link.paths[1]), link.ended, at):
            missing.append("name")
        for call in self.calls:
            is_above = call.name.startswith("mkdir") and f"{link.paths[1]}".startswith(f"{call.paths[0]}/")
            if is_above and not self._flushed(os.path.dirname(call.paths[0]), call.ended, at):
                missing.append("folder")
        return missing

    def _flushed(self, path: str, after: int, before: int) -> bool:
        return any(
            call.name in ("fsync", "fdatasync") and call.paths == [path] and call.begun > after and call.ended < before
            for call in self.calls
        )


async def traced_save(top: Path, store: str) -> tuple[Trace, dict[str, list[str]]]:
    """A save with two processes as hands; which objects each index object and the commit rely on."""
    depot = await Depot.make(top / "depot")
    source = top / "source"
    source.mkdir()
    for number in range(3):
        (source / f"large-{number}").write_bytes(os.urandom(2_500_000))
    (source / "small").write_bytes(b"small")
    settle()
    order = Order("save", str(depot.top), str(source), hands=2, forked=True, start="small", store=store)
    trace = top / "trace"
    command = ["strace", "-f", "-yy", "-s", "200", "-e", f"trace={CALLS}", "-o", str(trace), sys.executable, "-m"]
    command += ["tests.integration.victim", json.dumps(msgspec.to_builtins(order))]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    subprocess.run(command, env=environment, check=True, timeout=60)
    repo = await open_depot(depot.top, DirectoryStore(depot.top / "store"), "reader")
    listing = await repo.look()
    needs = {}
    for name in listing.indexes:
        index, _ = await repo.read_index(name)
        needs[f"state/index/{name}"] = [f"packs/{pack.name[:2]}/{pack.name}" for pack in index.packs]
    (commit,) = listing.commits
    needs[commit] = [*needs, *(pack for packs in needs.values() for pack in packs)]
    needs["told"] = [commit]
    return Trace(read_trace(trace.read_text(errors="replace")), depot.top / "store"), needs


def too_early(trace: Trace, needs: dict[str, list[str]]) -> list[str]:
    """What was stored, or told, before what it relies on would survive a power cut."""
    found = []
    for key, relied in needs.items():
        at = trace.links[key].begun if key in trace.links else trace.calls[-1].ended + 1
        for other in relied:
            found += [f"{key} before {what} of {other}" for what in trace.not_durable(other, at)]
    return found


@pytest.mark.parametrize("store", ["directory", "forestalled"])
async def test_nothing_is_named_before_what_it_relies_on_is_durable(tmp_path: Path, store: str) -> None:
    """A commit whose packs a power cut took is worse than none: somebody deletes the original because of it.

    Another saver may have made a folder, and not come to flush its name.
    """
    trace, needs = await traced_save(tmp_path, store)
    assert sum(key.startswith("packs/") for key in trace.links) >= 6
    assert len(needs) >= 3
    assert too_early(trace, needs) == []


@pytest.mark.parametrize(("store", "what"), [("careless", "bytes"), ("nameless", "name")])
async def test_control_a_driver_that_does_not_flush_is_found_out(tmp_path: Path, store: str, what: str) -> None:
    """Negative control: one that flushes nothing, and one that flushes files but not their names."""
    trace, needs = await traced_save(tmp_path, store)
    found = too_early(trace, needs)
    assert any(f"before {what} of packs/" in one for one in found)
    assert any(one.startswith("told before name of state/commits/") for one in found)
    assert store == "careless" or not any("bytes" in one for one in found)
