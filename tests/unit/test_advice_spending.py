"""Spending in a file: the month's limit holds across processes and restarts."""

from datetime import UTC, datetime
from pathlib import Path

from dumont.advisor.spendfile import FileSpending

NOW = datetime(2026, 11, 24, tzinfo=UTC)


async def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    """Otherwise a restart would start the month's limit anew."""
    path = tmp_path / "spent.json"
    assert await FileSpending(path, 100).reserve("lab", 80, NOW)
    assert not await FileSpending(path, 100).reserve("lab", 30, NOW)
    await FileSpending(path, 100).settle("lab", 80, 10, NOW)
    assert await FileSpending(path, 100).reserve("lab", 90, NOW)
    assert path.stat().st_mode & 0o077 == 0


async def test_organisations_and_months_are_counted_apart(tmp_path: Path) -> None:
    """One organisation's month says nothing about another's."""
    spending = FileSpending(tmp_path / "spent.json", 100)
    assert await spending.reserve("lab", 100, NOW)
    assert await spending.reserve("studio", 100, NOW)
    assert await spending.reserve("lab", 100, NOW.replace(month=12))
    assert not await spending.reserve("lab", 1, NOW)


async def test_a_damaged_file_lets_nobody_spend(tmp_path: Path) -> None:
    """What is unknown must not be taken for nothing spent."""
    path = tmp_path / "spent.json"
    path.write_text("{not json")
    assert not await FileSpending(path, 100).reserve("lab", 1, NOW)
    await FileSpending(path, 100).settle("lab", 1, 0, NOW)
    assert path.read_text() == "{not json"
