"""How fast a program brings the messages of a topic into a store, and what it takes for that."""

import os
import statistics
import sys
import time
from dataclasses import dataclass

from servers import PATIENCE, Process

# Of what is compiled while it runs the start is not counted: figures are those from this share of the messages on.
WARM = 0.3


def watched(process, rows, until, seen, pause: float = 0.25) -> None:
    """Looks at it until it is done; `seen` is told rows, and when. It is an error if nothing comes any more."""
    last, since = 0, time.monotonic()
    while not until(last):
        time.sleep(pause)
        process.must_live()
        now, found = time.monotonic(), max(rows(), last)
        if found > last:
            last, since = found, now
        seen(now, found)
        if now - since > PATIENCE:
            sys.exit(f"{process.process.args[0]} brings nothing any more:\n{process.said()}")


def measure(process: Process, rows, messages: int, share: float = 0, pause: float = 0.25) -> dict:
    """From `share` of the messages on; with 0 from the first rows on, and CPU time from the start of the process on."""
    samples, memory, load = [(time.monotonic(), 0, 0.0)], [], os.getloadavg()[0]

    def seen(now: float, found: int) -> None:
        samples.append((now, found, process.cpu_seconds()))
        memory.append(process.anonymous_mib())

    watched(process, rows, lambda found: found >= messages, seen, pause)
    begun = next(sample for sample in samples if sample[1] >= max(share * messages, 1))
    worked = begun if share else samples[0]
    end = samples[-1]
    return {
        "events_per_second": (end[1] - begun[1]) / max(end[0] - begun[0], pause),
        "cpu_seconds_per_million": (end[2] - worked[2]) / (end[1] - worked[1]) * 1e6,
        "anonymous_mib": max(memory),
        "seconds": end[0] - samples[0][0],
        "rows": end[1],
        "load_before": load,
    }


@dataclass
class Row:
    """A line of a table: the figures of each round, by who they are of."""

    what: str
    modelog: list[float]
    peers: dict[str, list[float]]
    # By peer.
    asked: dict[str, str]


def rows_of(what: str, rounds: list[dict[str, dict]], asked: dict[str, dict[str, str]]) -> list[Row]:
    """Each round has what was measured of "Modelog" and of its peers; `asked` says by figure and peer what ratio is wanted."""
    titles = {
        "events_per_second": f"{what}, events/s",
        "cpu_seconds_per_million": "CPU seconds a million",
        "anonymous_mib": "resident anonymous memory, MiB",
    }
    found = []
    for figure, title in titles.items():
        of = {who: [a_round[who][figure] for a_round in rounds] for who in rounds[0]}
        found.append(Row(title, of.pop("Modelog"), of, asked.get(figure, {})))
    return found


def shown(figures: list[float]) -> str:
    """To three digits, with the range of several."""

    def digits(figure: float) -> str:
        return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"

    spread = f" ({digits(min(figures))}–{digits(max(figures))})" if len(figures) > 1 else ""
    return digits(statistics.median(figures)) + spread


def table(rows: list[Row]) -> str:
    peers = list(rows[0].peers)
    heads = ["what", "Modelog", *(head for peer in peers for head in (peer, "Modelog by it", "asked for"))]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [row.what, shown(row.modelog)]
        for peer, figures in row.peers.items():
            # What was measured in one round was measured one after the other.
            ratios = [ours / theirs for ours, theirs in zip(row.modelog, figures, strict=True)]
            spread = f" ({min(ratios):.2f}–{max(ratios):.2f})" if len(ratios) > 1 else ""
            cells += [shown(figures), f"{statistics.median(ratios):.2f}{spread}", row.asked.get(peer, "")]
        lines.append(f"| {' | '.join(cells)} |")
    load = os.getloadavg()
    return "\n".join([*lines, "", f"{os.cpu_count()} cores; load {load[0]:.1f} (1 min), {load[1]:.1f} (5 min)."])
