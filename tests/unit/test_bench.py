"""The snapshot bench's own arithmetic and data: a bench that errs would promise what is not so."""

import io
import json
import pickle
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dumont.errors import BadInput
from dumont.standalone.bench.bystanders import Usage, disturbance, look
from dumont.standalone.bench.datasets import Dataset, Variation
from dumont.standalone.bench.earlier import read_result, require_alike, taken_up
from dumont.standalone.bench.figures import FAIL, MIX, NOT_MEASURED, PASS, TARGETS, Findings, figures, wins
from dumont.standalone.bench.likeness import differences
from dumont.standalone.bench.peers import CP, OURS, RESTIC
from dumont.standalone.bench.programme import LIMITS, PARTS, RACES, Options, Programme
from dumont.standalone.bench.race import NOCHANGE, RESTORE, SAVE, Race, Tally
from dumont.standalone.bench.report import as_object, disturbed
from dumont.standalone.bench.tensorfile import Shape, write_safetensors, write_torch_zip
from dumont.standalone.bench.timing import Command, PeerFailed, Sample, run, turns
from dumont.standalone.bench.training import as_bf16


def tally(size: int = 0, **seconds: list[float]) -> Tally:
    made = Tally(sizes=[size] if size else [])
    for what, values in seconds.items():
        for value in values:
            made.note(what, Sample(value, value, 0, 0.0))
    return made


@pytest.fixture
def found(tmp_path: Path) -> Findings:
    """We save in 2 s what restic saves in 12 and cp in 1."""
    race = {
        OURS: tally(90, **{SAVE: [2, 1, 9], RESTORE: [2], NOCHANGE: [0.4]}),
        RESTIC: tally(100, **{SAVE: [12, 12, 13], RESTORE: [8], NOCHANGE: [1.2]}),
        CP: tally(200, **{SAVE: [1, 1, 1], RESTORE: [1]}),
    }
    return Findings(tallies={MIX: race}, datasets={MIX: Dataset(MIX, tmp_path, 4_000_000_000, 3)})


def test_each_figure_is_a_ratio_of_medians_the_right_way_round(found: Findings) -> None:
    """A ratio upside down would turn a defeat into a victory."""
    shown = figures(found)
    assert (shown["save_vs_restic"], shown["save_vs_cp"], shown["restore_vs_restic"]) == (6, 2, 4)
    assert shown["size_vs_restic"] == 0.9 and shown["nochange_vs_restic"] == pytest.approx(3)
    assert (shown["gb_per_s"], shown["seconds_per_100_gb"]) == (2, 50)


def test_what_was_not_measured_is_neither_passed_nor_failed(found: Findings) -> None:
    """Otherwise a missing peer would count as a beaten one."""
    shown = figures(found)
    assert shown["s3_bf16_vs_line"] is None and TARGETS["s3_bf16_vs_line"].met(None) == NOT_MEASURED
    assert TARGETS["save_vs_cp"].met(2.21) == FAIL and TARGETS["save_vs_cp"].met(2.2) == PASS
    assert TARGETS["save_vs_restic"].met(5.99) == FAIL and TARGETS["save_vs_restic"].met(6) == PASS


def test_a_peer_that_failed_has_no_figures(found: Findings) -> None:
    """The time of a restore that brought back something else says nothing."""
    found.tallies[MIX][OURS].failed = "what dumont restored is not what it saved"
    shown = figures(found)
    assert shown["save_vs_restic"] is None and shown["size_vs_restic"] is None and shown["gb_per_s"] is None


def test_peers_that_win_are_named_with_their_lead(found: Findings) -> None:
    """A bench that only lists victories persuades nobody."""
    assert [(win.peer, win.what, win.factor) for win in wins(found)] == [(CP, SAVE, 2), (CP, RESTORE, 2)]


def test_turns_are_taken_there_and_back() -> None:
    """A machine that slows down in the course of a run must not favour whoever runs first."""
    assert turns(["a", "b"], 3) == [["a", "b"], ["b", "a"], ["a", "b"]]


def _tree(top: Path) -> Path:
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "file").write_bytes(b"content")
    (top / "link").symlink_to("sub/file")
    return top


def _flip(tree: Path) -> None:
    (tree / "sub" / "file").write_bytes(b"contend")


def _truncate(tree: Path) -> None:
    (tree / "sub" / "file").write_bytes(b"conten")


def _lose(tree: Path) -> None:
    (tree / "sub" / "file").unlink()


def _add(tree: Path) -> None:
    (tree / "more").touch()


def _turn(tree: Path) -> None:
    (tree / "link").unlink()
    (tree / "link").symlink_to("elsewhere")


def _open_up(tree: Path) -> None:
    (tree / "sub" / "file").chmod(0o777)


@pytest.mark.parametrize("harm", [_flip, _truncate, _lose, _add, _turn, _open_up])
def test_a_restore_that_brought_back_something_else_is_found(tmp_path: Path, harm: Any) -> None:
    """Speed is worth nothing when the files are wrong; a copy that is right differs in nothing."""
    saved = _tree(tmp_path / "saved")
    restored = tmp_path / "restored"
    shutil.copytree(saved, restored, symlinks=True)
    assert differences(saved, restored, dressed=True) == []
    harm(restored)
    assert differences(saved, restored, dressed=True)


def test_a_tile_holds_the_trained_numbers_in_other_places() -> None:
    """Noise-free: each magnitude is a trained one times one power of two; and no row of bytes stays as it was."""
    values = np.random.default_rng(1).standard_normal((64, 48), dtype=np.float32)
    bf16 = as_bf16(values)
    varied = Variation.of(3, "upper.weight", values.shape)
    tile = (varied.bits(bf16).astype(np.uint32) << 16).view(np.float32)
    plain = (bf16.astype(np.uint32) << 16).view(np.float32)
    assert np.array_equal(np.sort(np.abs(tile), axis=None), np.sort(np.ldexp(np.abs(plain), varied.power), axis=None))
    rows = {row.tobytes() for row in bf16}
    assert not any(row.tobytes() in rows for row in varied.bits(bf16))


def test_optimizer_state_is_varied_as_its_weights_are() -> None:
    """Signs and powers must fit together: v is a mean of squares, so its power counts twice and it has no sign."""
    gradient = np.random.default_rng(2).standard_normal((32, 16), dtype=np.float32)
    varied = Variation.of(1, "head.weight", gradient.shape)
    assert np.array_equal(varied.floats(gradient) ** 2, varied.floats(gradient**2, degree=2))


def test_a_safetensors_file_reads_back(tmp_path: Path) -> None:
    """The engine looks for tensor boundaries where the header says they are."""
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.arange(5, dtype=np.uint16)}
    path = tmp_path / "model.safetensors"
    write_safetensors(path, [Shape.of(*one) for one in tensors.items()], tensors.values(), {"step": "1"})
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    assert length % 8 == 0 and header["b"]["dtype"] == "BF16" and header["a"]["shape"] == [2, 3]
    for name, values in tensors.items():
        start, end = header[name]["data_offsets"]
        assert raw[8 + length + start : 8 + length + end] == values.tobytes()


class _Unpickler(pickle.Unpickler):
    """Reads torch's pickle without torch: globals become their names, storages what `persistent_load` is given."""

    def find_class(self, module: str, name: str) -> Any:
        return dict if name == "OrderedDict" else lambda *arguments: (name, arguments)

    def persistent_load(self, pid: Any) -> Any:
        return pid


def test_a_torch_zip_names_its_storages_and_aligns_them(tmp_path: Path) -> None:
    """As torch.save does: stored payloads at multiples of 64 bytes, and a pickle naming each by key and shape."""
    tensors = {"m": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "v": np.arange(3, dtype=np.float32)}
    path = tmp_path / "optimizer.pt"
    write_torch_zip(path, iter(tensors.items()), [Shape.of(*one) for one in tensors.items()], step=7)
    raw = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        read = _Unpickler(io.BytesIO(archive.read("optimizer/data.pkl"))).load()
        assert read["step"] == 7
        name, (storage, offset, size, stride, *_rest) = read["m"]
        assert (name, offset, size, stride) == ("_rebuild_tensor_v2", 0, (2, 3, 4), (12, 4, 1))
        assert storage[0] == "storage" and storage[2:] == ("0", "cpu", 24)
        for number, values in enumerate(tensors.values()):
            info = archive.getinfo(f"optimizer/data/{number}")
            local = raw[info.header_offset : info.header_offset + 30]
            at = (
                info.header_offset
                + 30
                + int.from_bytes(local[26:28], "little")
                + int.from_bytes(local[28:30], "little")
            )
            assert at % 64 == 0 and raw[at : at + values.nbytes] == values.tobytes()


def test_a_process_is_measured_apart_from_the_bench() -> None:
    """A large bench must not lend its memory to what it measures."""
    ballast = np.ones(64 * 2**20, np.uint8)
    sample = run(Command([sys.executable, "-I", "-S", "-c", "print('said')"]))
    assert sample.output == "said\n" and 0 < sample.memory_bytes_max < ballast.nbytes


def test_a_tool_that_fails_is_reported_with_its_last_words() -> None:
    """So that a reader of the table learns why there is no figure."""
    with pytest.raises(PeerFailed, match="ended with 3: no room"):
        run(Command(["sh", "-c", "echo no room >&2; exit 3"]))
    with pytest.raises(PeerFailed, match="can't be started"):
        run(Command(["there-is-no-such-tool"]))


def usage(busy_s: float, ours_s: float = 0.0, kernel_s: float = 0.0, **others: float) -> Usage:
    """After as many seconds of two processors as `busy_s` and idle time make 20."""
    return Usage(busy_s, 20.0, ours_s, kernel_s, dict(enumerate(others.items(), 100)))


def test_what_others_took_is_what_was_busy_without_us_and_the_kernel() -> None:
    """A run beside a stray process measures that process, and has to say so."""
    start = Usage(0.0, 0.0, 0.0, 0.0)
    calm = disturbance(start, usage(12.0, ours_s=10.0, kernel_s=1.5))
    assert calm.share == pytest.approx(0.025) and not calm.is_grave
    stray = disturbance(start, usage(12.0, ours_s=8.0, kernel_s=1.0, idler=0.1, stray=2.9))
    assert stray.share == pytest.approx(0.15) and stray.is_grave and stray.who == "stray"
    assert disturbance(start, usage(1.0, ours_s=1.2)).share == 0.0, "clocks that tick differently are no bystanders"


def test_our_own_children_are_no_bystanders() -> None:
    """The tools that race, and the server they race to, are what is measured; whoever else runs is not."""
    before = look()
    run(Command([sys.executable, "-c", "sum(range(6_000_000))"]))
    after = look()
    assert after.ours_s > before.ours_s and after.whole_s >= before.whole_s
    assert all(name for name, _seconds in after.others.values())


def test_a_disturbed_round_is_warned_of_and_kept(tmp_path: Path) -> None:
    """Whoever watches stops in time; whoever reads the result later learns it too."""
    looks = iter([Usage(0, 0, 0, 0), usage(1.0), usage(1.0), Usage(9.0, 40.0, 0, 0, {7: ("stray", 8.0)})])
    said: list[str] = []
    race = Race(tmp_path, [], 2, said.append, look=lambda: next(looks))
    race.run(Dataset(MIX, tmp_path, 1, 1))
    assert [one.is_grave for one in race.disturbances] == [False, True]
    assert [line for line in said if "WARNING" in line and "stray" in line and "40%" in line] == said
    assert disturbed(Findings(others={MIX: race.disturbances})) == {MIX: [2]}


ALIKE = {
    "machine": {"kernel": "6", "load_before": 0.1},
    "peers": {OURS: "1", RESTIC: "0.14"},
    "scale": 1,
    "quick": False,
}


def test_a_result_is_taken_up_as_it_was_written(found: Findings, tmp_path: Path) -> None:
    """Figures of parts that ran before must come out the same as on the day they were measured."""
    found.parts = {MIX: {"ran_at": "then", "code": "a"}}
    found.rounds, found.facts = {MIX: 3}, {key: ALIKE[key] for key in ("machine", "peers")}
    found.tallies[MIX][OURS].working_set_s, found.tallies[MIX][OURS].working_set_shares = [0.5], [0.25]
    options = Options(tmp_path, tmp_path)
    written = tmp_path / "result.json"
    written.write_text(json.dumps(as_object(found, options, "bench", 1.0)))
    result = read_result(written)
    assert result is not None
    again = as_object(taken_up(result, RACES), options, "bench", 1.0)
    assert {name: again[name] for name in figures(found)} == {name: result[name] for name in figures(found)}
    assert (again["races"], again["parts"]) == (result["races"], result["parts"])


@pytest.mark.parametrize(
    "other",
    [
        {"machine": {"kernel": "7", "load_before": 0.1}},
        {"peers": {OURS: "1", RESTIC: "0.18"}},
        {"scale": 0.5},
        {"quick": True},
    ],
)
def test_parts_from_elsewhere_are_not_put_into_one_table(other: dict[str, Any]) -> None:
    """A ratio over two machines or two versions of a peer says nothing; another load before is no other machine."""
    now = {"machine": {"kernel": "6", "load_before": 1.9}, "peers": {OURS: "1"}}
    require_alike(ALIKE, now, 1, quick=False)
    with pytest.raises(BadInput, match="has changed"):
        require_alike({**ALIKE, **other}, {**now, "peers": ALIKE["peers"]}, 1, quick=False)


def test_a_file_that_is_no_result_is_not_overwritten_by_a_resumed_run(tmp_path: Path) -> None:
    """It may be somebody's only copy of something else."""
    assert read_result(tmp_path / "none.json") is None
    for text in ("{", "[]", "{}"):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(BadInput):
            read_result(tmp_path / "other.json")


def test_each_part_is_kept_when_it_is_done(tmp_path: Path) -> None:
    """An interruption in the last part must not cost the half hour before it."""
    kept: list[list[str]] = []
    programme = Programme(Options(tmp_path, tmp_path, parts=PARTS), lambda _text: None, 0.0)
    programme.keep = lambda found: kept.append(list(found.parts))
    programme.run_part(LIMITS, lambda: None)
    with pytest.raises(KeyboardInterrupt):
        programme.run_part(MIX, _interrupted)
    assert kept == [[LIMITS]]


def _interrupted() -> None:
    raise KeyboardInterrupt
