"""What the shell offers behind Tab. Nothing heavy is imported, and nothing is ever printed: a shell waits for it."""

import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import suppress

import click
from click.shell_completion import CompletionItem

from fa_tracking import catalogue
from fa_tracking.tracking import address

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

EXPERIMENTS = "select distinct experiment, '' from runs order by 1"
IN_STORE = "select name, '' from experiments where lifecycle_stage = 'active' order by 1"


def _from(names: Callable[[click.Context], Iterable[tuple[str, str]]]) -> Completer:
    """A completer that offers those of the names, each with what it is, that begin as the word does."""

    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        with suppress(Exception):  # a traceback would land in the line that is being typed
            return [CompletionItem(n, help=text or None) for n, text in names(context) if n.startswith(incomplete)]
        return []

    return complete


def _queries(_: click.Context) -> Iterable[tuple[str, str]]:
    from fa_tracking.results.database import queries

    return ((query.name, query.title) for query in queries().values())


def _charts(_: click.Context) -> Iterable[tuple[str, str]]:
    from fa_tracking.dashboards import charts

    return ((name, "") for name in catalogue.names(charts))


def _methods(_: click.Context) -> Iterable[tuple[str, str]]:
    from fa_tracking.trainers import methods

    return ((name, "") for name in catalogue.names(methods))


def _architectures(_: click.Context) -> Iterable[tuple[str, str]]:
    from fa_tracking.trainers import models

    return ((name, "") for name in catalogue.names(models))


def _data_sets(_: click.Context) -> Iterable[tuple[str, str]]:
    from fa_tracking.trainers import datasets

    return ((name, "") for name in catalogue.names(datasets))


def _studies(_: click.Context) -> Iterable[tuple[str, str]]:
    from fa_tracking.trainers.study import grid

    return ((name, grid.load(name).title) for name in grid.studies())


def _experiments(context: click.Context) -> Iterable[tuple[str, str]]:
    """Of the results database where the command reads it, else of a SQLite store; no other store is quick enough."""
    named = {p.name for p in context.command.params}
    return _of_database(context) if "db" in named else _of_store(context)


def _of_database(context: click.Context) -> list[tuple[str, str]]:
    from fa_tracking.results.database import DEFAULT_DATABASE, connect

    path = context.params.get("db") or os.environ.get("FA_TRACK_DB") or DEFAULT_DATABASE
    with connect(path) as connection:
        return connection.execute(EXPERIMENTS).fetchall()


def _of_store(context: click.Context) -> list[tuple[str, str]]:
    path = address.file(address.given(context.params.get("tracking_uri")) or address.DEFAULT)
    if path is None or not path.is_file():
        return []
    with sqlite3.connect(address.opened_by_sqlite(path, "ro"), uri=True, timeout=0.2) as connection:
        return connection.execute(IN_STORE).fetchall()


queries, charts, studies, experiments = _from(_queries), _from(_charts), _from(_studies), _from(_experiments)
methods, architectures, data_sets = _from(_methods), _from(_architectures), _from(_data_sets)
