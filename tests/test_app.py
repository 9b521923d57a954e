"""`mlflow server --app-name fa-track` on real servers: MLflow as it was, and /fa/ with what the caller may see."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest
import requests
import servers
from mlflow import MlflowClient
from runs import log_run
from stores import new_store

from fa_tracking.tracking import names

pytestmark = pytest.mark.server

ADMIN, ALICE, BOB = ("admin", "a password for admin"), ("alice", "a password for alice"), ("bob", "a password for bob")
HTML = "<script>alert('Γ')</script> & co"
THRESHOLDS = {
    "h_norm_explosion_ratio": 50.0,
    "g_norm_floor": 1e-7,
    "stability_drift_ceiling": 0.3,
    "frozen_acc_margin_pp": 2.0,
}
MEASURED = {"headline_accuracy": 0.4, "max_block_growth": 2.0, "deepest_grad_norm": 1e-3, "stability": 0.1}
FLAGGED = "needs walk-back: FLAG: residual stream explosion"


def add_run(store: str, experiment: str, method: str, verdict: str | None = None, **tags: str) -> str:
    """A finished run of two epochs, audited where it has a verdict."""
    logged = {epoch: {names.ACCURACY_TEST: epoch / 5, names.residual_norm(0): 1.5} for epoch in (1, 2)}
    if verdict is not None:
        tags = {names.TAG_VERDICT: verdict, names.TAG_FLAGS: "a" if "FLAG" in verdict else ""} | tags
        fired = {letter: letter in tags[names.TAG_FLAGS] for letter in "nabcd"}
        tags = {names.TAG_MEASURED: json.dumps({**MEASURED, "fired": fired})} | tags
        tags |= {names.TAG_THRESHOLDS: json.dumps(THRESHOLDS), names.TAG_AUDITED_AT: "2026-01-01T00:00:00+00:00"}
    return log_run(store, experiment, logged, tags=tags, method=method, architecture="resmlp", seed=1, epochs=2)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = new_store(tmp_path_factory.mktemp("store"))
    add_run(uri, "study", "bp", "trustworthy")
    add_run(uri, "study", "dfa", FLAGGED)
    add_run(uri, HTML, "fa", "trustworthy")
    add_run(uri, "private", "secret_rule", FLAGGED)
    add_run(uri, "*", "usf")
    add_run(uri, "late", "bp", "trustworthy")
    client = MlflowClient(uri)
    late = client.create_run(experiment_id(uri, "late"), start_time=2**62)  # beyond what a calendar can hold
    client.set_terminated(late.info.run_id)
    return uri


@pytest.fixture(scope="module")
def plain(store: str) -> Iterator[str]:
    with servers.tracking_server(store) as address:
        yield address


@pytest.fixture(scope="module")
def server(store: str) -> Iterator[str]:
    with servers.tracking_server(store, "--app-name", "fa-track") as address:
        yield address


@pytest.fixture(scope="module")
def with_login(store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with a login, where who was given nothing may see nothing."""
    folder = tmp_path_factory.mktemp("login")
    (folder / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = sqlite:///{folder / 'users.db'}\n"
        "admin_username = admin\nauthorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    env = {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a key",
        "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
    }
    with servers.tracking_server(store, "--app-name", "fa-track-basic-auth", **env) as address:
        for name, password in (ALICE, BOB):
            post(f"{address}/api/2.0/mlflow/users/create", username=name, password=password)
        for name in (ALICE[0], BOB[0]):
            grant(address, name, "experiment", experiment_id(store, "study"), "READ")
        grant(address, BOB[0], "run", "*", "DENY")
        yield address


def post(url: str, **body: str) -> None:
    answer = requests.post(url, json=body, auth=ADMIN, timeout=60)
    assert answer.ok, answer.text


def grant(address: str, user: str, kind: str, which: str, permission: str) -> None:
    url = f"{address}/api/3.0/mlflow/users/permissions/grant"
    post(url, username=user, resource_type=kind, resource_id=which, permission=permission)


def experiment_id(store: str, name: str) -> str:
    return MlflowClient(store).get_experiment_by_name(name).experiment_id


def get(url: str, auth: tuple[str, str] | None = None) -> requests.Response:
    return requests.get(url, auth=auth, timeout=120)


def listed(page: str) -> dict[str, list[str]]:
    """Each experiment of /fa/: its runs, and its counts by verdict in the order of the columns."""
    rows = re.findall(r'<tr><td><a href="[^"]*">(.*?)</a></td>(.*?)</tr>', page, re.DOTALL)
    return {unescape(name): re.findall(r"<td>(.*?)</td>", counts) for name, counts in rows}


def test_every_route_of_mlflow_answers_as_it_does_without_the_app(plain: str, server: str, store: str) -> None:
    from mlflow.server import app

    routes = [rule.rule for rule in app.url_map.iter_rules() if "GET" in (rule.methods or ()) and not rule.arguments]
    routes = [r for r in routes if not re.search("ajax-api|gateway", r)]  # twins, and some that ask the network
    assert len(routes) > 30
    script = re.search(r'src="([^"]*main[^"]*\.js)"', get(f"{plain}/").text)
    assert script
    study = f"/api/2.0/mlflow/experiments/get?experiment_id={experiment_id(store, 'study')}"
    natively = [
        "/v1/traces",
        "/api/2.0/mlflow-artifacts/artifacts/none",
        "/ajax-api/3.0/jobs/none",
        "/fa.html",
        "/fab/",
    ]
    for path in [*routes, f"/{script[1]}", study, *natively]:
        with_app, without = get(server + path), get(plain + path)
        assert with_app.status_code == without.status_code, path
        assert with_app.headers.get("Content-Type") == without.headers.get("Content-Type"), path
        if without.ok and "server-info" not in path:
            assert with_app.text == without.text, path
    assert get(f"{plain}/fa/").status_code == 404


def test_the_board_is_read_from_the_store_at_each_load(server: str, store: str) -> None:
    page = get(f"{server}/fa/").text
    assert listed(page)["study"] == ["2", "1", "1", "", ""]
    assert listed(page)["*"] == ["1", "", "", "", "1"]
    assert "Default" not in listed(page)
    address = f"{server}/fa/{experiment_id(store, 'study')}"
    first = get(address)
    assert FLAGGED in first.text and "/#/runs/" in first.text
    assert get(address).text == first.text
    run = add_run(store, "study", "drtp", "inconclusive: not measured: c")
    assert run not in first.text and run in get(address).text
    assert listed(get(f"{server}/fa/").text)["study"] == ["3", "1", "1", "1", ""]
    MlflowClient(store).set_tag(run, names.TAG_VERDICT, "trustworthy")
    assert listed(get(f"{server}/fa/").text)["study"] == ["3", "2", "1", "", ""]
    MlflowClient(store).delete_run(run)
    assert run not in get(address).text


def test_names_are_text_and_reach_no_other_experiment(server: str, store: str) -> None:
    page = get(f"{server}/fa/").text
    assert HTML in listed(page) and "<script>" not in page
    html = get(f"{server}/fa/{experiment_id(store, HTML)}")
    assert html.ok and "<script>alert" not in html.text
    pattern = get(f"{server}/fa/{experiment_id(store, '*')}")
    assert pattern.ok and "usf" in pattern.text and "secret_rule" not in pattern.text


def test_what_cannot_be_shown_is_one_line(server: str, store: str) -> None:
    for path, code in (
        ("424242", 404),
        ("9" * 30, 404),
        ("<b>", 404),
        ("a/b", 404),
    ):
        answer = get(f"{server}/fa/{path}")
        assert answer.status_code == code, path
        assert answer.text.startswith(f"{code}: ") and answer.text.count("\n") == 1
        assert answer.headers["Content-Type"].startswith("text/plain")


def test_under_gunicorn_and_a_prefix(store: str) -> None:
    arguments = ["--app-name", "fa-track", "--static-prefix", "/x", "--gunicorn-opts", "--threads 2"]
    with servers.tracking_server(store, *arguments) as address:
        page = get(f"{address}/x/fa")
        assert page.url == f"{address}/x/fa/"
        assert listed(page.text)["study"] == ["2", "1", "1", "", ""]
        run = next(iter(MlflowClient(store).search_runs([experiment_id(store, "study")]))).info.run_id
        board = get(f"{address}/x/fa/{experiment_id(store, 'study')}")
        assert f"/x/#/runs/{run}" in board.text
        assert get(f"{address}/x/").text.startswith("<!doctype html>")
        assert get(f"{address}/fa/").status_code == 404


def test_with_a_login_a_caller_sees_what_mlflow_lets_him_see(with_login: str, store: str) -> None:
    study, private = (f"{with_login}/fa/{experiment_id(store, name)}" for name in ("study", "private"))
    for page in (f"{with_login}/fa/", study, private, f"{with_login}/fa/424242"):
        for auth in (None, ("alice", "not her password")):
            refused = get(page, auth)
            assert refused.status_code == 401 and refused.headers["WWW-Authenticate"].startswith("Basic")
    assert {"study", "private", HTML} <= set(listed(get(f"{with_login}/fa/", ADMIN).text))
    assert "secret_rule" in get(private, ADMIN).text
    assert set(listed(get(f"{with_login}/fa/", ALICE).text)) == {"study"}
    assert FLAGGED in get(study, ALICE).text
    missing, hidden = get(f"{with_login}/fa/424242", ALICE), get(private, ALICE)
    assert (hidden.status_code, hidden.text) == (missing.status_code, missing.text) == (404, missing.text)
    for page in (f"{with_login}/fa/", study):  # of the experiment he may see, but not its runs
        empty = get(page, BOB)
        assert empty.ok and "no run here" in empty.text and FLAGGED not in empty.text


def test_a_login_that_is_not_configured_ends_the_server_with_one_line(store: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "fa-track-basic-auth", "--workers", "2"]
    command += ["--backend-store-uri", store, "--port", str(servers.free_port())]
    env = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert "fa-track-basic-auth: A static secret key needs to be set" in done.stderr
    assert "Traceback" not in done.stderr
