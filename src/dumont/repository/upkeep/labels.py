"""Labels: a commit's name and tags, changed after it was made. A name keeps it for ever."""

from collections import defaultdict

from msgspec.structs import replace

from dumont.errors import AlreadyStored, BadInput, NotStored
from dumont.model.commit import CommitId
from dumont.repository.record import STATE, VERSION, CommitRecord, Labels, commit_key
from dumont.repository.repository import Listing, Repository, gather

_NAME_CHARACTERS_MAX = 128
_TAGS_MAX = 64
_DIGITS = 6


async def label(repo: Repository, id: CommitId, name: str | None = None, tags: tuple[str, ...] | None = None) -> Labels:
    """Give the commit `id` another name or tags; None leaves what it has. `name` "" takes its name away.

    When two do so at once the later one counts, with what it left as it was from the earlier. Raises NotStored when
    there is no such commit, BadInput for a name that another commit has, or that makes no sense.
    """
    for text in [*([name] if name else []), *(tags or ())]:
        check_label(text)
    if tags and len(tags) > _TAGS_MAX:
        raise BadInput(f"a commit has at most {_TAGS_MAX} tags")
    while True:
        listing = await repo.look()
        records = {record.commit.id: record for record in await labelled(repo, listing)}
        if id not in records:
            raise NotStored(f"there is no commit {id}; `dumont snapshot ls` shows what there is")
        now = records[id]
        if name and any(record.name == name for other, record in records.items() if other != id):
            raise BadInput(f"another commit is named {name!r}: take that name away first, or choose another")
        labels = Labels(VERSION, now.name if name is None else name, now.tags if tags is None else tags)
        numbers = _numbers(listing).get(_part(id), [0])
        number = max(numbers) + 1
        try:
            await repo.put_record(label_key(id, number), labels)
        except AlreadyStored:
            continue  # somebody was first: see what it said
        if max(_numbers(await repo.look()).get(_part(id), [0])) > number:
            await repo.store.delete(label_key(id, number))  # we were so late that the number was free again
            continue
        for old in numbers:
            await repo.store.delete(label_key(id, old))
        return labels


async def labelled(repo: Repository, listing: Listing) -> list[CommitRecord]:
    """The commits of the main line, oldest first, with the names and tags that they have by now."""
    numbers = _numbers(listing)
    records = await repo.commits(listing)
    return await gather(_with_labels(repo, record, numbers.get(_part(record.commit.id), [])) for record in records)


def check_label(text: str) -> None:
    """Raises BadInput for a name or tag that could not be read on one line."""
    if not 0 < len(text) <= _NAME_CHARACTERS_MAX or not text.isprintable() or "," in text or text != text.strip():
        raise BadInput(f"{text[:40]!r} is no name or tag: up to {_NAME_CHARACTERS_MAX} printable characters, no comma")


def label_key(id: CommitId, number: int) -> str:
    """Where the labels of that number of a commit lie."""
    return f"{STATE}labels/{_part(id)}/{number:0{_DIGITS}d}"


def label_keys(listing: Listing, id: CommitId) -> list[str]:
    """Where all labels of a commit lie."""
    return [label_key(id, number) for number in _numbers(listing).get(_part(id), [])]


def _part(id: CommitId) -> str:
    return commit_key(id).rpartition("/")[2]


def _numbers(listing: Listing) -> dict[str, list[int]]:
    """The numbers of labels by the last part of their commit's key."""
    found: dict[str, list[int]] = defaultdict(list)
    for key in listing.others:
        part, _, number = key.removeprefix(f"{STATE}labels/").partition("/")
        if key.startswith(f"{STATE}labels/") and number.isdigit():
            found[part].append(int(number))
    return found


async def _with_labels(repo: Repository, record: CommitRecord, numbers: list[int]) -> CommitRecord:
    for number in sorted(numbers, reverse=True):
        try:
            labels = await repo.get_record(label_key(record.commit.id, number), Labels)
        except NotStored:
            continue  # replaced meanwhile
        return replace(record, name=labels.name, tags=labels.tags)
    return record
