"""Recovery of the index: packs tell by themselves what they hold, so index objects can be made again from them."""

from collections import defaultdict
from dataclasses import dataclass, field, replace

from dumont.errors import Corrupt, NotStored, WrongKey
from dumont.repository.catalogue import Catalogue
from dumont.repository.record import PACKS, Pack, index_key
from dumont.repository.repository import Repository
from dumont.repository.upkeep.revision import put_index


@dataclass
class Recovered:
    """`packs` were put into the index again; `removed`: index objects that could not be read.

    `unreadable`: packs that don't tell what they hold, and why.
    """

    packs: int = 0
    removed: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)


async def repair_index(repo: Repository) -> Recovered:
    """Index every pack that no readable index object names, as its writer's; then delete unreadable index objects.

    Safe beside savers and prunes. Raises WrongKey for keys that can't read, StoreError.
    """
    if not repo.keys.secret:
        raise WrongKey("a writer's key can't repair: use the repository's passphrase")
    done = Recovered()
    own = replace(repo, cache=None, catalogue=Catalogue(), learned=frozenset())
    broken = []
    for name in sorted((await own.look()).indexes):
        try:
            index, writer = await own.read_index(name)
            own.catalogue.add(index.packs, trusted=not writer)
        except Corrupt:
            broken.append(name)
        except NotStored:
            continue
    found: dict[str, list[Pack]] = defaultdict(list)
    async for key in own.store.keys(PACKS):
        name = key.rpartition("/")[2]
        if name not in own.catalogue.packs:
            try:
                pack = await own.read_pack_record(name)
            except Corrupt as error:
                done.unreadable[name] = str(error)
                continue
            except NotStored:
                continue
            found[pack.writer].append(pack)
            done.packs += 1
    for writer, packs in found.items():
        await put_index(own, packs, writer)
    for name in broken:
        await own.store.delete(index_key(name))
        done.removed += 1
    return done
