"""`python -m tests.simulation.saving 5000 [first]` runs so many worlds; those that fail are named. `SEED=7` replays."""

import collections
import sys
import time
import traceback

from dumont.errors import DumontError
from tests.simulation.saving.trees import made_trees
from tests.simulation.saving.world import World, run_world


def main(arguments: list[str]) -> int:
    if arguments[0].startswith("SEED="):
        return _replay(int(arguments[0].removeprefix("SEED=")))
    count, first = int(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 0
    failed, steps, began = [], 0, time.process_time()
    done: collections.Counter[str] = collections.Counter()
    with made_trees() as trees:
        for seed in range(first, first + count):
            try:
                world = run_world(seed, trees)
            except (AssertionError, DumontError) as error:
                failed.append(seed)
                print(f"SEED={seed}: {type(error).__name__}: {error}", flush=True)
                continue
            steps += world.gate.steps
            done.update(world.done, saved=len(world.witness.acked))
    print(
        f"{count} worlds, {steps} steps, {dict(done)}, {time.process_time() - began:.0f} s; failed: {failed or 'none'}"
    )
    return bool(failed)


def _replay(seed: int) -> int:
    with made_trees() as trees:
        worlds: list[World] = []
        try:
            run_world(seed, trees, watch=worlds.append)
        except (AssertionError, DumontError):
            traceback.print_exc()
        print("\n".join(worlds[0].gate.trace))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
