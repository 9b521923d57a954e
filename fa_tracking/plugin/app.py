"""MLflow apps ``fa-track`` and ``fa-track-basic-auth``: `mlflow server --app-name fa-track` is MLflow and, under /fa/,
the verdict boards and charts of its experiments, read from its store at each load.

MLflow's own app is what runs: /fa/ stands before it as WSGI middleware, and everything else goes to it as it came. What
a caller may see is what MLflow's API answers that very caller: each page asks it with the caller's own request, so
that login, permissions and refusals are MLflow's. Nothing of MLflow is changed.
"""

import io
import json
import multiprocessing
import os
import shutil
import signal
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from flask import Flask, Response, abort, current_app, request
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import run_wsgi_app

from fa_tracking import html
from fa_tracking.errors import FATrackError
from fa_tracking.protocol.verdicts import OTHER_THRESHOLDS, caveats, head
from fa_tracking.tracking import _mlflow_compat, audited, lock, names
from fa_tracking.tracking.store import trains

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from werkzeug.wrappers import Response as AnyResponse

VERDICTS = {"trustworthy": "✓", "needs walk-back": "⚑", "inconclusive": "?", "not audited": "–"}
NO_EXPERIMENT = "there is no such experiment here, or you may not see it; /fa/ lists those that you may"
NO_STORE = "the store could not be read or drawn; the log of the server says why"
PAGE_OF_RUNS = 10_000


def create_app() -> Any:
    """MLflow's app with /fa/: the one of FastAPI where uvicorn runs it, else the one of Flask."""
    _add_pages(_mlflow_compat.server_app(False))
    return _mlflow_compat.server_app(_mlflow_compat.is_uvicorn())


def create_app_with_login() -> Any:
    """The same around MLflow's app ``basic-auth``, whose users and permissions hold for /fa/ too."""
    from mlflow.exceptions import MlflowException

    try:
        # workers that began at once would all make the tables of the users and the first administrator
        with lock.alone("fa-track-basic-auth"):
            served = _mlflow_compat.server_app_with_login()
    except (MlflowException, ImportError) as error:
        supervisor = multiprocessing.parent_process()
        if supervisor and supervisor.pid:  # uvicorn's: it would begin this worker again for ever
            os.kill(supervisor.pid, signal.SIGTERM)
        advice = " (pip install 'mlflow[auth]')" if isinstance(error, ImportError) else ""
        raise SystemExit(f"fa-track-basic-auth: {error}{advice}") from error
    _add_pages(_mlflow_compat.server_app(False))
    return served


def _add_pages(app: Flask) -> None:
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {f"{_prefix()}/fa": _pages(app.wsgi_app)})  # type: ignore[method-assign]


def _prefix() -> str:
    """MLflow's ``--static-prefix``."""
    return (_mlflow_compat.server_setting("prefix") or "").rstrip("/")


def _pages(mlflow: "WSGIApplication") -> Flask:
    """The routes of /fa/ over MLflow's app."""
    pages = Flask(__name__, static_folder=None)

    @pages.get("/")
    def experiments() -> str:
        found = list(_experiments(mlflow))
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        said: dict[str, list[str]] = defaultdict(list)
        for run in _runs(mlflow, [e["experiment_id"] for e in found]):
            counts[run["info"]["experiment_id"]][_standing(run)] += 1
            said[run["info"]["experiment_id"]].append(audited.read(_tags(run)).shown_verdict or "")
        return _list([(e, counts[e["experiment_id"]]) for e in found if e["experiment_id"] in counts], said=said)

    @pages.get("/<experiment_id>")
    def experiment(experiment_id: str) -> "str | AnyResponse":
        try:
            found = _ask(mlflow, "experiments/get", query={"experiment_id": experiment_id})["experiment"]
        except HTTPException as error:
            # databases fail at a number that is larger than their integers
            if error.code == 503 and all(e["experiment_id"] != experiment_id for e in _experiments(mlflow)):
                abort(404, NO_EXPERIMENT)
            raise
        if found["lifecycle_stage"] != "active":
            abort(404, NO_EXPERIMENT)
        runs = list(_runs(mlflow, [found["experiment_id"]]))
        if not runs:
            return _list([], found["name"])
        try:
            page = _boards().page(found["experiment_id"], found["name"], {run["info"]["run_id"] for run in runs})
        except FATrackError as error:
            current_app.logger.error("/fa/%s: %s", experiment_id, error)
            abort(503, NO_STORE)
        response = Response(page, mimetype="text/html")
        response.add_etag()
        return response.make_conditional(request)

    @pages.errorhandler(HTTPException)
    def one_line(error: HTTPException) -> Response:
        return Response(f"{error.code}: {error.description}\n", error.code, mimetype="text/plain")

    @pages.after_request
    def guarded(response: Response) -> Response:
        response.headers.setdefault("Cache-Control", "private, no-cache")
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("X-Frame-Options", "SAMEORIGIN")
        return response

    return pages


def _list(
    rows: list[tuple[dict[str, Any], Counter[str]]], title: str = "", said: dict[str, list[str]] | None = None
) -> str:
    """The experiments with their counts; ``said``: the verdicts of each, by its id."""
    verdicts = said or {}
    others = sorted({standing for _, counts in rows for standing in counts} - set(VERDICTS))
    return html.render(
        "experiments.html.j2",
        rows=rows,
        title=title,
        columns=[*VERDICTS, *others],
        marks=VERDICTS,
        others={name for name, found in verdicts.items() if any(OTHER_THRESHOLDS in verdict for verdict in found)},
        caveats=caveats(verdict for found in verdicts.values() for verdict in found),
        server=f"{request.host_url.rstrip('/')}{_prefix()}",
        now=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    )


def _standing(run: dict[str, Any]) -> str:
    """The head of a run's verdict; of a run without one that has not finished, its status."""
    tags = _tags(run)
    if names.TAG_VERDICT in tags:
        return head(tags[names.TAG_VERDICT])
    status = run["info"]["status"]
    return "not audited" if status == "FINISHED" else status.lower()


def _tags(run: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["data"].get("tags", ())}


def _experiments(mlflow: "WSGIApplication") -> Iterator[dict[str, Any]]:
    return _every(mlflow, "experiments", {"max_results": 1000})


def _runs(mlflow: "WSGIApplication", experiment_ids: list[str]) -> Iterator[dict[str, Any]]:
    """Those that the caller may see, but summaries and what only holds nested runs."""
    if not experiment_ids:
        return
    found = list(_every(mlflow, "runs", {"experiment_ids": experiment_ids, "max_results": PAGE_OF_RUNS}))
    tags = {run["info"]["run_id"]: _tags(run) for run in found}
    parents = {found_tags.get(names.TAG_PARENT) for found_tags in tags.values()}
    for run in found:
        run_id, own = run["info"]["run_id"], tags[run["info"]["run_id"]]
        metrics = [metric["key"] for metric in run["data"].get("metrics", ())]
        models = run.get("outputs", {}).get("model_outputs")
        if names.TAG_SUMMARY not in own and (run_id not in parents or trains(own, metrics, bool(models))):
            yield run


def _every(mlflow: "WSGIApplication", kind: str, search: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What the caller may see of the store's active ``kind``, page by page."""
    token = ""
    while True:
        answer = _ask(mlflow, f"{kind}/search", body={**search, "page_token": token})
        yield from answer.get(kind, ())
        token = answer.get("next_page_token", "")
        if not token:
            return


def _ask(
    mlflow: "WSGIApplication", path: str, query: dict[str, str] | None = None, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    """What MLflow's own API answers the caller of this page, whose request it gets with another path and body.

    Raises:
        HTTPException: a demand for a login goes to the caller as it is; what does not exist and what the caller may not
            see are the same 404.
    """
    content = json.dumps(body).encode() if body else b""
    of_the_page = ("HTTP_ORIGIN", "HTTP_TRANSFER_ENCODING", "HTTP_RANGE", "HTTP_IF_NONE_MATCH", "werkzeug.request")
    environ = {key: value for key, value in request.environ.items() if key not in of_the_page}
    environ |= {
        "SCRIPT_NAME": environ["SCRIPT_NAME"].removesuffix(f"{_prefix()}/fa"),
        "PATH_INFO": f"{_prefix()}/api/2.0/mlflow/{path}",
        "QUERY_STRING": urlencode(query or {}),
        "REQUEST_METHOD": "POST" if body else "GET",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(content)),
        "wsgi.input": io.BytesIO(content),
    }
    chunks, status, headers = run_wsgi_app(mlflow, environ, buffered=True)
    code, answer = int(status.split()[0]), b"".join(chunks)
    if code == 401 or 300 <= code < 400:
        abort(Response(answer, code, headers))
    if 400 <= code < 500:
        abort(404, NO_EXPERIMENT)
    if code >= 500:
        current_app.logger.error("/fa/: MLflow answers %s with %s", path, code)
        abort(503, NO_STORE)
    return json.loads(answer)


@cache
def _boards() -> "_Boards":
    return _Boards()  # at the first load, so that each worker has its own


class _Boards:
    """The pages of one worker, drawn from its own copy of the runs of each experiment."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fa-track-", ignore_cleanup_errors=True)
        self._lock = Lock()
        self._drawn: dict[str, set[str]] = {}

    def page(self, experiment_id: str, name: str, visible: set[str]) -> bytes:
        """The page of an experiment and the runs ``visible``, drawn anew where the store or they have changed.

        A copy holds one experiment: its name, read as a pattern, reaches no other's runs.

        Raises:
            FATrackError: the store cannot be read, or the page not drawn.
        """
        from fa_tracking.dashboards.page import write_html
        from fa_tracking.results.export.export import export

        database = Path(self._folder.name) / f"{experiment_id}.duckdb"
        page = database.with_suffix(".html")
        with self._lock:
            done = export(database, _mlflow_compat.server_setting("store"), name, say=current_app.logger.warning)
            if done.changed or done.removed or self._drawn.get(experiment_id) != visible:
                self._drawn.pop(experiment_id, None)
                write_html(name, page, _only(visible, database), mlflow_url=f"{_prefix()}/")
                self._drawn[experiment_id] = visible
            return page.read_bytes()


def _only(visible: Iterable[str], database: Path) -> Path:
    """The database, or where it holds other runs than these, a copy without them."""
    import duckdb

    allowed = list(visible)
    with duckdb.connect(str(database), read_only=True) as connection:
        hidden = connection.execute("select 1 from runs where run_id not in (select unnest($1))", [allowed]).fetchone()
    if not hidden:
        return database
    copy = database.with_suffix(".visible.duckdb")
    shutil.copyfile(database, copy)
    with duckdb.connect(str(copy)) as connection:
        tables = "select table_name from duckdb_columns() where column_name = 'run_id'"
        for (table,) in connection.execute(tables).fetchall():
            connection.execute(f"delete from {table} where run_id not in (select unnest($1))", [allowed])
    return copy
