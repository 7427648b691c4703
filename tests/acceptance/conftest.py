"""One real cloud for all acceptance tests that may share one; a test that finds it unwell gets a new one."""

from collections.abc import Iterator

import pytest

from tests.acceptance.cloud import Cloud, Clouds


@pytest.fixture(scope="package")
def clouds() -> Iterator[Clouds]:
    clouds = Clouds()
    try:
        yield clouds
    finally:
        clouds.close()


@pytest.fixture
def cloud(clouds: Clouds) -> Cloud:
    return clouds.whole()
