"""Which points of a run's event files count: a restart voids points, and two trainings are refused.

A training that was restarted logs some steps anew. Where the session log declares it, that is followed, as TensorBoard
does; where it does not, it is seen by a tag that goes back to an earlier step with other values.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fa_tracking.errors import FATrackError
from fa_tracking.importers._log import Point


@dataclass(frozen=True)
class Part:
    """What a file holds up to its next declared restart.

    Attributes:
        file: its name.
        restart: the step from which on the session log declares void what was written before; None: nothing.
        values: tag and point in the order in which they were written.
        results: those that are results of hyperparameters, which are written at step 0 at any time.
    """

    file: str
    restart: int | None = None
    values: list[tuple[str, Point]] = field(default_factory=list)
    results: list[tuple[str, Point]] = field(default_factory=list)


class _Written(NamedTuple):
    file: str
    point: Point


class Course:
    """The points that count, and what a reader must be told of the others.

    Args:
        parts: of all files, in the order in which they were begun.
        is_judged: whether an audit reads a tag.

    Attributes:
        points: by tag. Of several values at a step the last has the latest time.
        steps: every step; that of the results of hyperparameters, 0, is none where there are others.
        notes: what does not count, and why.

    Raises:
        FATrackError: the files hold two trainings.
    """

    def __init__(self, parts: Sequence[Part], is_judged: Callable[[str], bool]) -> None:
        self.notes: list[str] = []
        self._live: dict[str, list[_Written]] = defaultdict(list)
        self._free: dict[str, list[_Written]] = defaultdict(list)
        """Of tags that count their steps anew."""
        self._results: dict[str, list[_Written]] = defaultdict(list)
        self._is_judged = is_judged
        self._anew = self._counted_anew([value for part in parts for value in part.values])
        for part in parts:
            if part.restart is not None and (voided := self._void(part.restart)):
                self.notes.append(f"its restart at step {part.restart} voids {_counted(voided)}")
            for tag, point in part.results:
                self._results[tag].append(_Written(part.file, point))
            for piece in self._pieces(part):
                self._join(piece.file, self._sorted_out(piece))
        self._tell_of_tags(parts)
        measured = {tag: found for tag, found in [*self._live.items(), *self._free.items()] if found}
        found = {tag: found for tag, found in self._results.items() if found} | measured
        self.points = {tag: _in_time([each.point for each in written]) for tag, written in found.items()}
        self.steps = frozenset(each.point.step for written in (measured or found).values() for each in written)

    def _sorted_out(self, piece: Part) -> dict[str, list[Point]]:
        """The points by tag of which steps are expected; the others are put aside."""
        series: dict[str, list[Point]] = defaultdict(list)
        for tag, point in piece.values:
            if tag in self._anew:
                self._free[tag].append(_Written(piece.file, point))
            else:
                series[tag].append(point)
        return series

    def _tell_of_tags(self, parts: Sequence[Part]) -> None:
        merged = {
            tag
            for part in parts
            for tag, found in _by_tag(part.values).items()
            if self._is_judged(tag) and not _turns(found) and found != sorted(found, key=lambda each: each[1].step)
        }
        left_out = {tag for tag, found in self._results.items() if found and (self._live[tag] or self._free[tag])}
        told = {
            "not imported at step 0, where it is the result of hyperparameters": left_out,
            "counts its steps anew while others go on, so that of several values at a step the last counts": self._anew,
            "goes back to steps that it had left out, and is put in order": merged,
        }
        for what, tags in told.items():
            self.notes += [f"{tag!r}: {what}" for tag in sorted(tags)]

    def _join(self, file: str, series: Mapping[str, list[Point]]) -> None:
        """Add what one file goes on with; exact copies of the points of another are left out."""
        shared = {tag: points for tag, points in series.items() if self._live[tag]}
        back = {tag: points for tag, points in shared.items() if self._goes_back(tag, points)}
        if back:
            step = min(point.step for points in back.values() for point in points)
            if step <= min(each.point.step for tag in back for each in self._live[tag]):
                raise self._two_trainings(file, back)
            voided = self._void(step, back)
            others = " and ".join(sorted({each.file for each in voided} - {file}))
            again = ", ".join(map(repr, [*back][:4])) + (f" and {len(back) - 4} more" if len(back) > 4 else "")
            taken = f"taken as a restart, which voids {_counted(voided)} of {again}"
            if others:
                self.notes.append(
                    f"{file} goes back to step {step} of {others}, and no session log says why: {taken}; if they are "
                    "two trainings, import each file by its own name"
                )
            else:
                self.notes.append(f"{file} goes back to step {step}: {taken}")
        elif repeated := self._repeated(file, shared):
            raise self._two_trainings(file, repeated)
        for tag, points in series.items():
            known = {each.point.step: repr(each.point.value) for each in self._live[tag] if each.file != file}
            for point in points:
                if known.get(point.step) != repr(point.value):
                    known.pop(point.step, None)
                    self._live[tag].append(_Written(file, point))

    def _goes_back(self, tag: str, points: Sequence[Point]) -> bool:
        """Whether a tag that stood at a later step is logged at an earlier one, other than as an exact copy."""
        known = {written.point.step: repr(written.point.value) for written in self._live[tag]}
        last = max(known)
        again = [point for point in points if point.step <= last]
        return min(point.step for point in points) < last and any(known.get(p.step) != repr(p.value) for p in again)

    def _repeated(self, file: str, shared: Mapping[str, list[Point]]) -> dict[str, list[Point]]:
        """The tags with other values where all that other files hold is one step, and this one begins with it too."""
        others = {each.file for tag in shared for each in self._live[tag]} - {file}
        theirs = {tag: found for tag, found in self._live.items() if others & {each.file for each in found}}
        steps = {each.point.step for found in theirs.values() for each in found}
        first = {tag: min(points, key=lambda point: point.step) for tag, points in shared.items()}
        if len(steps) != 1 or theirs.keys() != first.keys() or {point.step for point in first.values()} != steps:
            return {}
        return {tag: shared[tag] for tag in first if repr(first[tag].value) != repr(theirs[tag][-1].point.value)}

    def _two_trainings(self, file: str, back: Mapping[str, list[Point]]) -> FATrackError:
        tag = next(iter(back))
        before = self._live[tag]
        others = sorted({written.file for written in before} - {file})
        stood = _steps([written.point for written in before])
        again = _steps(back[tag])
        if others:
            return FATrackError(
                f"holds two trainings: {tag!r} is at {stood} in {' and '.join(others)}, and at {again} with other "
                f"values in {file}: import the file that is meant by its own name (a --map can `ignore` a tag)"
            )
        return FATrackError(
            f"{file} holds two trainings: {tag!r} is at {stood}, and then goes back to {again} with other values: each "
            "needs an event file of its own (a --map can `ignore` a tag)"
        )

    def _void(self, step: int, tags: Collection[str] | None = None) -> list[_Written]:
        """Take the points from ``step`` on out, of ``tags`` or of all that there is."""
        voided: list[_Written] = []
        for kept in (self._live, self._free, self._results):
            for tag in list(kept) if tags is None else tags:
                voided += [each for each in kept[tag] if each.point.step >= step]
                kept[tag] = [each for each in kept[tag] if each.point.step < step]
        return voided

    def _pieces(self, part: Part) -> Iterator[Part]:
        """A part, cut where one of its tags goes back to an earlier step and contradicts what it said there."""
        values = part.values
        while True:
            turns = (_turns(found) for tag, found in _by_tag(values).items() if tag not in self._anew)
            first = min((at for found in turns for at, _ in found), default=len(values))
            yield Part(part.file, values=values[:first])
            if first == len(values):
                return
            values = values[first:]

    def _counted_anew(self, values: Sequence[tuple[str, Point]]) -> set[str]:
        """The tags that begin again while one that an audit reads goes on, such as the batches of each epoch."""
        series = _by_tag(values)
        judged = [_Steps(found) for tag, found in series.items() if self._is_judged(tag)]
        return {
            tag
            for tag, found in series.items()
            if not self._is_judged(tag)
            and any(is_to_start and any(steps.goes_on(at) for steps in judged) for at, is_to_start in _turns(found))
        }


class _Steps:
    """At which steps a tag stands where in the files."""

    def __init__(self, found: Sequence[tuple[int, Point]]) -> None:
        self._places = [at for at, _ in found]
        self._steps = [point.step for _, point in found]

    def goes_on(self, at: int) -> bool:
        """Whether all its steps from a place on are later than all before it."""
        cut = bisect_left(self._places, at)
        return 0 < cut < len(self._steps) and max(self._steps[:cut]) < min(self._steps[cut:])


def _by_tag(values: Sequence[tuple[str, Point]]) -> dict[str, list[tuple[int, Point]]]:
    """The points of each tag, each with its place."""
    series: dict[str, list[tuple[int, Point]]] = defaultdict(list)
    for at, (tag, point) in enumerate(values):
        series[tag].append((at, point))
    return series


def _turns(found: Sequence[tuple[int, Point]]) -> list[tuple[int, bool]]:
    """Where the steps of a tag go back to some that have other values, and whether to its first step or before."""
    turns: dict[int, bool] = {}
    older: dict[int, str] = {}
    rising: dict[int, str] = {}
    begun, lowest, previous = found[0][0], found[0][1].step, found[0][1].step
    for at, point in found:
        if point.step < previous:
            older |= rising
            rising, begun, lowest = {}, at, point.step
        if begun not in turns and older.get(point.step, repr(point.value)) != repr(point.value):
            turns[begun] = lowest <= min(older)
        rising[point.step] = repr(point.value)
        previous = point.step
    return list(turns.items())


def _in_time(points: Sequence[Point]) -> list[Point]:
    """Points of which the later at a step has the later time: at one time MLflow takes the largest for the last."""
    times: dict[int, int] = {}
    found = []
    for point in points:
        before = times.get(point.step)
        time = point.time if before is None or point.time is None else max(point.time, before + 1)
        if time is not None:
            times[point.step] = time
        found.append(point._replace(time=time))
    return found


def _counted(written: Sequence[_Written]) -> str:
    return f"{len(written)} point{'s' if len(written) > 1 else ''} of {_steps([each.point for each in written])}"


def _steps(points: Sequence[Point]) -> str:
    low, high = (found(point.step for point in points) for found in (min, max))
    return f"step {low}" if low == high else f"steps {low} to {high}"
