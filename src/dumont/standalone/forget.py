"""`dumont snapshot forget`: commits go, by a policy or by their ids; what only they needed goes with a prune."""

import argparse
import asyncio
import time
from typing import Any

from dumont.errors import BadInput, Corrupt
from dumont.i18n import _, plural
from dumont.repository.record import CommitRecord
from dumont.repository.upkeep.forget import forget, readable
from dumont.repository.upkeep.retention import Decision, Kept, Policy, decide
from dumont.standalone.access import door
from dumont.standalone.commits import about_commit, commit_line
from dumont.standalone.output import name_some, show, warn
from dumont.standalone.prune import about_pruned, pruned, warn_of_damage, words_of
from dumont.standalone.sizes import number
from dumont.standalone.surroundings import Surroundings
from dumont.standalone.which import pick


def run(options: argparse.Namespace, surroundings: Surroundings) -> int:
    """Forget what the policy does not keep, or the commits that are named. Raises BadInput when neither is said."""
    return asyncio.run(_forget(options, surroundings))


async def _forget(options: argparse.Namespace, surroundings: Surroundings) -> int:
    opened = await door(options, surroundings).open()
    commits, damaged = await readable(opened.repository, opened.listing)
    if damaged:
        _allow(options, damaged)
    decision = _decide(options, commits)
    if decision.forgotten and not options.dry_run:
        ids = [record.commit.id for record in decision.forgotten]
        await forget(opened.repository, ids, options.even_last, options.despite_damage)
    about: dict[str, Any] = {
        "dry_run": options.dry_run,
        "damaged": damaged,
        "forgotten": [about_commit(record) for record in decision.forgotten],
        "kept": [{**about_commit(kept.record), "reasons": list(kept.reasons)} for kept in decision.kept],
    }
    words = _words(options, decision)
    status = 0
    if options.prune and not options.dry_run:
        done = await pruned(options, opened.repository)
        about["pruned"] = about_pruned(done)
        words += "\n" + words_of(done)
        status = warn_of_damage(done)
    show(options, about, words)
    return status


def _allow(options: argparse.Namespace, damaged: dict[str, str]) -> None:
    """Let a person decide about damaged commits. Raises Corrupt, BadInput, before anything is forgotten."""
    if not options.despite_damage:
        why = next(iter(damaged.values()))
        raise Corrupt(
            _("a damaged commit can't be judged: say --despite-damage to go on without it. {why}").format(why=why)
        )
    if options.prune:
        raise BadInput(_("with a damaged commit there, prune can't tell what it needs: leave --prune out"))
    name_some([_("a commit is damaged: {why}").format(why=why) for why in damaged.values()])
    warn(
        _(
            "{count} damaged commits stay; `prune` refuses as long as they are there, since nobody knows what they need"
        ).format(count=number(len(damaged)))
    )


def _decide(options: argparse.Namespace, commits: list[CommitRecord]) -> Decision:
    policy = Policy(
        last=options.keep_last,
        hourly=options.keep_hourly,
        daily=options.keep_daily,
        weekly=options.keep_weekly,
        monthly=options.keep_monthly,
        yearly=options.keep_yearly,
        within_s=options.keep_within,
        tags=frozenset(options.keep_tag),
        even_last=options.even_last,
    )
    if not options.commits:
        tags = set(options.tag)
        return decide([one for one in commits if not tags or tags.intersection(one.tags)], policy, int(time.time()))
    if policy != Policy(even_last=options.even_last) or options.tag:
        raise BadInput(_("name commits, or say what to keep: not both"))
    chosen = {pick(commits, word).commit.id for word in options.commits}
    return Decision(
        [Kept(one, ()) for one in commits if one.commit.id not in chosen],
        [one for one in commits if one.commit.id in chosen],
    )


def _words(options: argparse.Namespace, decision: Decision) -> str:
    count = len(decision.forgotten)
    head = (
        plural("would forget {count} commit:", "would forget {count} commits:", count)
        if options.dry_run
        else plural("forgot {count} commit:", "forgot {count} commits:", count)
    )
    if not count:
        head = _("nothing to forget")
    lines = [head.format(count=number(count)), *(f"  {commit_line(record)}" for record in decision.forgotten)]
    lines.append(_("{count} stay:").format(count=number(len(decision.kept))))
    lines += [f"  {commit_line(kept.record)}  {', '.join(kept.reasons)}".rstrip() for kept in decision.kept]
    return "\n".join(lines)
