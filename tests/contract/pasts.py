"""The part of the database's contract that is about the histories of removed workspaces."""

from dataclasses import replace
from datetime import timedelta

from dumont.db.base import Database
from dumont.model.past import Past
from dumont.model.workspace import State
from tests.records import AT, a_workspace

DAY = timedelta(days=1)


def a_past(**others: object) -> Past:
    past = Past(workspace="vox", generation=1, removed_at=AT, keep_until=AT + DAY)
    return replace(past, **others)  # type: ignore[arg-type]


async def remove(database: Database) -> None:
    """The workspace of that name is deleted."""
    await database.describe(replace(await database.workspace("vox"), state=State.DELETED))


class PastsContract:
    """What every driver promises of pasts."""

    async def test_a_past_is_told_once_its_workspace_is_deleted(self, database: Database) -> None:
        """It is written down before: until then its history is in use, and a death in between changes nothing."""
        await database.add_workspace(a_workspace())
        await database.leave_past(a_past())
        assert await database.pasts() == []
        await remove(database)
        assert await database.pasts() == [a_past()]

    async def test_the_last_word_before_the_end_counts(self, database: Database) -> None:
        """A second `rm --keep-history` is somebody who thought better of it."""
        await database.add_workspace(a_workspace())
        await database.leave_past(a_past())
        await database.leave_past(a_past(removed_at=AT + DAY, keep_until=None))
        await remove(database)
        assert await database.pasts() == [a_past(removed_at=AT + DAY, keep_until=None)]
        assert await database.change_past(a_past(keep_until=None), a_past(keep_until=None, ending=True))
        await database.leave_past(a_past())
        assert [past.ending for past in await database.pasts()] == [True], "half of it may be gone"

    async def test_a_past_changes_only_as_it_was_seen(self, database: Database) -> None:
        """Who decides that it is over must not overrule who has just given it more time."""
        await database.add_workspace(a_workspace())
        await database.leave_past(a_past())
        await remove(database)
        assert await database.change_past(a_past(), a_past(keep_until=None))
        assert not await database.change_past(a_past(), a_past(ending=True))
        assert await database.pasts() == [a_past(keep_until=None)]
        assert await database.change_past(a_past(keep_until=None), a_past(keep_until=None, ending=True))
        assert not await database.change_past(a_past(keep_until=None), a_past()), "what is decided is decided"

    async def test_the_history_of_a_living_workspace_never_ends(self, database: Database) -> None:
        """It is the only copy when both machines die."""
        await database.add_workspace(a_workspace())
        await database.leave_past(a_past())
        assert not await database.change_past(a_past(), a_past(ending=True))
        await database.drop_past(a_past())
        await remove(database)
        assert await database.pasts() == [a_past()]

    async def test_a_new_workspace_of_the_name_is_of_the_next_generation(self, database: Database) -> None:
        """Its history is another; that of the old one ends beside it."""
        await database.add_workspace(a_workspace())
        await database.leave_past(a_past())
        await remove(database)
        await database.add_workspace(a_workspace())
        assert (await database.workspace("vox")).folder == "vox.2"
        await database.leave_past(a_past(generation=2))
        assert await database.pasts() == [a_past()]
        assert not await database.change_past(a_past(generation=2), a_past(generation=2, ending=True))
        assert await database.change_past(a_past(), a_past(ending=True))
        await remove(database)
        assert [past.folder for past in await database.pasts()] == ["vox", "vox.2"]

    async def test_a_generation_that_is_asked_for_is_not_gone_below(self, database: Database) -> None:
        """A database that was restored from an old copy may not know of what lies in the store."""
        await database.add_workspace(replace(a_workspace(), generation=5))
        for asked, given in ((3, 6), (9, 9)):
            await remove(database)
            await database.add_workspace(replace(a_workspace(), generation=asked))
            assert (await database.workspace("vox")).generation == given

    async def test_only_a_past_that_is_ending_is_forgotten(self, database: Database) -> None:
        """A history that nobody knows of would lie there for ever."""
        await database.add_workspace(a_workspace())
        await database.leave_past(a_past())
        await remove(database)
        await database.drop_past(a_past())
        assert await database.pasts() == [a_past()]
        assert await database.change_past(a_past(), a_past(ending=True))
        for _ in range(2):
            await database.drop_past(a_past())
        assert await database.pasts() == []
