"""Where runs come from: a SQL store read directly, in bulk, or any store through MLflow's client."""

from fa_tracking.errors import FATrackError
from fa_tracking.results.export.source import Say, Source
from fa_tracking.results.export.sources.client import ClientSource
from fa_tracking.results.export.sources.sql import KNOWN_SCHEMAS, SqlSource, has_what_is_read
from fa_tracking.tracking import address, schema, store
from fa_tracking.tracking.address import without_password


def open_source(tracking_uri: str | None, say: Say) -> Source:
    """The fastest source for a store: directly where it is a SQL database whose tables are as they are read here.

    Raises:
        UsageError: there is no such store on this machine.
        FATrackError: the store does not answer, or the installed MLflow would have to change it.
    """
    uri = address.given(tracking_uri)
    if not uri:  # MLflow's default, which MLflow alone can name: its import takes longer than most exports
        import mlflow

        uri = mlflow.get_tracking_uri()
    if address.is_sql(uri):
        version = schema.version(uri)
        if version in KNOWN_SCHEMAS or (schema.is_older(version) and has_what_is_read(uri)):
            return SqlSource(uri)
        if schema.is_older(version):
            raise FATrackError(schema.older(uri, version))
        said = f"has a schema ({version}) that is not known here"
        say(f"{without_password(uri)} {said}: reading it through MLflow's client, which is slower")
    store.must_answer(uri)
    return ClientSource(store.reader(uri))
