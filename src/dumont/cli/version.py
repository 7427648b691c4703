"""`dumont version`: which Dumont this is."""

from dumont import __version__
from dumont.cli.call import Json
from dumont.cli.output import print_json


def version(as_json: Json = False) -> None:
    """Print the version."""
    if as_json:
        print_json({"version": __version__})
    else:
        print(f"dumont {__version__}")
