"""Routes: which one the gateway follows when several were offered, and what a restart finds."""

from pathlib import Path

import msgspec
import pytest

from dumont.errors import BadInput, Fenced
from dumont.gateway.routes import Table, follow, load, save
from dumont.wire.control import Endpoints
from dumont.wire.route import Route, Routes

A = Endpoints("10.0.0.1", ssh_port=22, http_port=80)
B = Endpoints("10.0.0.2", ssh_port=22, http_port=80)


def route(epoch: int, instance_id: str = "a", endpoints: Endpoints | None = A) -> Route:
    return Route("w", epoch, 2200, 8000, instance_id, endpoints)


def test_a_higher_epoch_is_followed() -> None:
    """That is what a promotion is."""
    assert follow(route(3), route(4, "b", B)) == route(4, "b", B)


def test_a_lower_epoch_is_not_followed() -> None:
    """A server that was frozen during a promotion must not lead clients back to the old primary."""
    with pytest.raises(Fenced, match="epoch 3 came after one of 4"):
        follow(route(4, "b", B), route(3))


def test_an_epoch_has_one_primary() -> None:
    """Two instances in one epoch would be two writers behind one address."""
    with pytest.raises(Fenced, match="belongs to a"):
        follow(route(3), route(3, "b", B))


def test_the_same_primary_may_move_its_ports() -> None:
    """Its session was started again by the watchdog and got other ones."""
    assert follow(route(3), route(3, "a", B)) == route(3, "a", B)


def test_a_withdrawn_primary_still_fences_others_off() -> None:
    """Nobody is primary for a moment; that doesn't make the epoch free for another."""
    withdrawn = follow(route(3), route(3, "", None))
    assert withdrawn == route(3, "a", None)
    with pytest.raises(Fenced):
        follow(withdrawn, route(3, "b", B))


def test_the_first_primary_of_a_new_workspace_is_followed() -> None:
    """Its address exists before any instance does."""
    assert follow(route(0, "", None), route(0)) == route(0)


def test_a_new_workspace_under_an_old_name_begins_anew() -> None:
    """Removed and launched again while the gateway was away: its epochs begin at one, its ports differ."""
    anew = Route("w", 1, 2201, 8001, "x", B)
    assert follow(route(9), anew) == anew


@pytest.mark.parametrize(
    "offered",
    [
        Route("w", 1, 99_999, 8000, "a", A),
        Route("w", 1, -1, 8000, "a", A),
        route(4, "a", Endpoints("h", 22, 2**40)),
        route(4, "a", Endpoints("h\0", 22, 80)),
        route(4, "a", Endpoints("", 22, 80)),
        route(4, "a", Endpoints("h" * 1000, 22, 80)),
    ],
)
def test_a_route_that_makes_no_sense_leaves_the_held_one(offered: Route) -> None:
    """Endpoints come from hosts, and hosts are strangers."""
    table = Table([route(3)])
    (complaint,) = table.take(Routes((offered,)))
    assert complaint.startswith("w: ")
    assert table.held == {"w": route(3)}


def test_one_bad_route_does_not_hold_the_others_back() -> None:
    """A farm must not stand still for one of its machines."""
    table = Table([route(3)])
    other = Route("v", 1, 2300, 8100, "v-1", B)
    assert len(table.take(Routes((route(2), other)))) == 1
    assert table.held == {"w": route(3), "v": other}


def test_a_workspace_that_is_left_out_is_removed() -> None:
    """That is how the server says that it was deleted."""
    table = Table([route(3)])
    assert table.take(Routes(())) == []
    assert table.held == {}


def test_saved_routes_are_loaded_whole(tmp_path: Path) -> None:
    """A gateway that starts without a server has nothing else; epochs in it go on fencing."""
    save(tmp_path / "routes.json", Table([route(3), Route("v", 1, 1, 2)]).whole())
    table = load(tmp_path / "routes.json")
    assert table.held == {"w": route(3), "v": Route("v", 1, 1, 2)}
    assert len(table.take(Routes((route(2), Route("v", 1, 1, 2))))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["routes.json"]


def test_no_file_is_an_empty_table(tmp_path: Path) -> None:
    """The first start of all."""
    assert load(tmp_path / "routes.json").held == {}


@pytest.mark.parametrize(
    "written", [b"", b"{", b"[1]", b'{"type":"routes","routes":[{}]}', b"\xff\xfe", b"[" * 100_000]
)
def test_a_damaged_file_is_refused_in_words(tmp_path: Path, written: bytes) -> None:
    """A gateway that can't read it starts empty and says so; it must not die of it."""
    (tmp_path / "routes.json").write_bytes(written)
    with pytest.raises(BadInput, match="damaged"):
        load(tmp_path / "routes.json")


def test_a_half_written_file_is_never_the_one_that_is_loaded(tmp_path: Path) -> None:
    """A crash in the middle of a save leaves the routes before it."""
    path = tmp_path / "routes.json"
    save(path, Table([route(3)]).whole())
    (tmp_path / "routes.json.new").write_bytes(msgspec.json.encode(Table([route(4)]).whole())[:20])
    assert load(path).held == {"w": route(3)}
    save(path, Table([route(5)]).whole())
    assert load(path).held == {"w": route(5)}
