"""A planned round: the workspace comes back to a GPU by a switchover, and the address's own pause is measured."""

import time

from dumont.client.results import WorkspaceShown
from dumont.demo import faults, marks
from dumont.demo.acklog import NONCE, lost
from dumont.demo.cloud import is_healthy
from dumont.demo.pause import asking
from dumont.demo.report import Round
from dumont.demo.rounds import PROMOTION_TIMEOUT_S, RETURN_TIMEOUT_S, Stage, calm, find, on_gpu
from dumont.i18n import _


async def play_planned(stage: Stage, round_: Round) -> None:
    """Kill the GPU, let the standby take over, and look at nothing but the planned move back.

    Raises TookTooLong or CommandFailed when it can't be finished.
    """
    before = await calm(stage)
    round_.old_id = before.primary
    await faults.kill(stage.cloud.home, before.primary)
    at = time.time()

    def took_over(shown: WorkspaceShown) -> bool:
        leads = any(replica.id == shown.primary and replica.ready for replica in shown.replicas)
        return leads and shown.epoch > before.epoch

    standby = await stage.cloud.until(_("a promotion"), took_over, PROMOTION_TIMEOUT_S)
    address = standby.address
    async with asking(f"http://{address.host}:{address.http_port}/.dumont/probe") as answers:
        await stage.cloud.until(
            _("the return to a GPU"), lambda shown: is_healthy(shown) and on_gpu(shown), RETURN_TIMEOUT_S
        )
        after = await calm(stage)
    round_.new_id = after.primary
    told = marks.after(await stage.cloud.events(), at)
    moves = [mark for mark in told if mark.event.kind == "switchover"]
    if len(moves) != 1 or after.epoch != standby.epoch + 1:
        round_.notes.append(_("This was not one planned move, so no pause is told."))
        return
    round_.pause_ms = answers.pause_ms(after.epoch)
    stage.acks.read()
    acked = [ack for ack in stage.acks.all if ack.kind == NONCE]
    missing = lost(acked, await find(stage))
    round_.acked_commits, round_.acked_lost = len(acked), len(missing)
    round_.notes += [_("Lost at the switchover: {ack}").format(ack=ack.token) for ack in missing]
