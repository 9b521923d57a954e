"""Sentences that can be walked back: each with the rows it is about and a condition, as a file states them."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fa_tracking import untrusted
from fa_tracking.errors import UsageError
from fa_tracking.results.database import find_query

HOLDS, WALKED_BACK, MIXED, NO_EVIDENCE = "holds", "walked back", "mixed", "no evidence"
VERDICT = "holds"
"""The column that a condition becomes, in an evidence summary."""


class Claim(BaseModel):
    """A sentence and what would make it true.

    Attributes:
        query: a name of the catalogue, or SQL that returns rows.
        experiment: the query's ``$experiment``; SQL without it asks the whole database.
        where: an SQL condition that chooses rows.
        holds: an SQL condition of one row: the sentence holds where it is true on every chosen row. NULL, or a NaN
            anywhere in a column that a condition names or in what it computes: the row was not measured.
        show: columns, or SQL expressions, that the evidence summary shows of each row.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    sentence: str = Field(min_length=1)
    query: str = Field(min_length=1)
    experiment: str | None = None
    where: str = Field(default="true", min_length=1)
    holds: str = Field(min_length=1)
    show: tuple[str, ...] = ()

    @property
    def sql(self) -> str:
        """The query as SQL.

        Raises:
            UsageError: it is a name that the catalogue does not hold.
        """
        return self.query if self.is_sql else find_query(self.query.strip()).sql

    @property
    def is_sql(self) -> bool:
        """Whether ``query`` is SQL: a name of the catalogue has no white space in it."""
        return len(self.query.split()) > 1

    @property
    def key(self) -> str:
        """Changes with the sentence, the rows and the condition: an edited claim has no history."""
        said = [self.sentence, self.query, self.experiment, self.where, self.holds]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


class Claims(BaseModel):
    """A file of claims.

    Attributes:
        title: of the evidence summary.
        experiment: of the claims that name none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = "Claims"
    experiment: str | None = None
    claims: tuple[Claim, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Held:
    """When a claim last held, to the record, and on which content."""

    date: str
    digest: str
    n: int
    sentence: str


@dataclass(frozen=True)
class Checked:
    """What the database says of a claim.

    Attributes:
        verdict: ``HOLDS`` on every measured row, ``WALKED_BACK`` on none of them, ``MIXED`` on some, or
            ``NO_EVIDENCE``: no row was measured.
        true, false, unmeasured: rows on which the condition is true, false and NULL.
        runs: ids of the runs behind the rows; None where the rows do not tell.
        last_held: None where no record says so.
        columns, rows: what is shown of each row, the condition last.
        note: why there is no evidence; empty where the rows say it.
    """

    claim: Claim
    verdict: str
    true: int
    false: int
    unmeasured: int
    runs: tuple[str, ...] | None
    digest: str
    last_held: Held | None
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""

    @property
    def n(self) -> int:
        """Rows that were measured."""
        return self.true + self.false

    @property
    def counted(self) -> str:
        """The verdict's counts, in words."""
        unmeasured = f"; not measured on {self.unmeasured}" if self.unmeasured else ""
        return self.note or f"true on {self.true} of {self.n}{unmeasured}"

    def to_dict(self) -> dict[str, Any]:
        found = {k: v for k, v in asdict(self).items() if k not in ("claim", "columns", "rows")}
        return self.claim.model_dump() | found | {"n": self.n}


def load(path: Path) -> Claims:
    """The claims of a YAML file, each with its experiment.

    Raises:
        UsageError: it is no YAML, or no file of claims; the message names what and where.
    """
    try:
        found = Claims.model_validate(untrusted.read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part + 1 if isinstance(part, int) else part) for part in first["loc"])
        raise UsageError(f"{path}: {where or 'the file'}: {first['msg']}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is no YAML: {error}") from None
    named = (c if c.experiment else c.model_copy(update={"experiment": found.experiment}) for c in found.claims)
    return found.model_copy(update={"claims": tuple(named)})
