"""Branches: the divergent files of fenced primaries, to browse and to copy from, never to be merged."""

from collections.abc import AsyncIterator

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from dumont.api.names import find_workspace
from dumont.api.site import Here, Site
from dumont.client.results import BranchFile, BranchShown
from dumont.errors import Corrupt, NotStored
from dumont.i18n import _
from dumont.model.branch import Branch
from dumont.model.commit import HOLE, Entry, Kind
from dumont.repository.fetch import Fetcher, data_fetcher
from dumont.repository.record import branch_prefix
from dumont.repository.repository import Repository
from dumont.repository.restoring.restore import read_tree
from dumont.snapshot.chunk import block_ranges
from dumont.snapshot.tree import Tree

KINDS = {Kind.FILE: "file", Kind.DIRECTORY: "directory", Kind.SYMLINK: "symlink", Kind.FIFO: "fifo"}

router = APIRouter()


@router.get("/workspaces/{name}/branches")
async def list_branches(site: Here, name: str) -> list[BranchShown]:
    """Oldest first."""
    return [
        BranchShown(
            name=branch.name,
            commit=str(branch.commit),
            root=branch.root,
            created_at=branch.created_at.isoformat(),
            forked_from=str(branch.forked_from) if branch.forked_from else None,
            paths=list(branch.paths),
        )
        for branch in await _branches(site, name)
    ]


@router.get("/workspaces/{name}/branches/{branch_name}/files")
async def list_files(site: Here, name: str, branch_name: str) -> list[BranchFile]:
    """Every name in the branch's tree, sorted by path. Bytes that are no text are written as `\\xNN`."""
    _repo, tree = await _open(site, await _find(site, name, branch_name))
    return [
        BranchFile(
            path=path.decode(errors="backslashreplace"),
            kind=KINDS[entry.kind],
            size=entry.size,
            mode=entry.mode,
            mtime_ns=entry.mtime_ns,
            target=entry.target.decode(errors="backslashreplace"),
        )
        for path, entry in tree.entries()
        if path
    ]


@router.get("/workspaces/{name}/branches/{branch_name}/content")
async def content(site: Here, name: str, branch_name: str, path: str) -> StreamingResponse:
    """The bytes of one file, each block verified as it is read."""
    repo, tree = await _open(site, await _find(site, name, branch_name))
    found = {known.decode(errors="backslashreplace"): entry for known, entry in tree.entries()}
    entry = found.get(path.strip("/"))
    if entry is None or entry.kind is not Kind.FILE:
        raise NotStored(_("Branch {branch} holds no file {path}.").format(branch=branch_name, path=path))
    missing = [chunk for chunk in entry.chunks if chunk != HOLE and repo.catalogue.find(chunk) is None]
    if missing:
        raise Corrupt(f"{len(missing)} blocks of {path} are not in the store")
    headers = {"content-length": str(entry.size)}
    return StreamingResponse(_blocks(data_fetcher(repo), entry), media_type="application/octet-stream", headers=headers)


async def _branches(site: Site, name: str) -> list[Branch]:
    """Those of a removed workspace of the same name lie in its own history."""
    row = await find_workspace(site, name)
    return [branch for branch in await site.parts.database.branches(name) if branch.created_at >= row.created_at]


async def _find(site: Site, name: str, branch_name: str) -> Branch:
    for branch in await _branches(site, name):
        if branch.name == branch_name:
            return branch
    raise NotStored(_("{name} has no branch {branch}.").format(name=name, branch=branch_name))


async def _open(site: Site, branch: Branch) -> tuple[Repository, Tree]:
    repo = await site.parts.vault.learned(branch.workspace)
    record = await repo.commit(branch.commit, branch_prefix(branch.name))
    return repo, await read_tree(repo, record.commit.root)


async def _blocks(fetcher: Fetcher, entry: Entry) -> AsyncIterator[bytes]:
    for chunk, (_start, length) in zip(entry.chunks, block_ranges(entry.size, entry.bounds), strict=True):
        data = b"" if chunk == HOLE else await fetcher.chunk(chunk)
        yield data.ljust(length, b"\0")
