"""What all verbs share: settings, the client, options, and how results and progress reach the terminal."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.domain.texts import printable

if TYPE_CHECKING:
    from pipelines.api.client import ApiClient
    from pipelines.settings.settings import Settings

As = Annotated[str, typer.Option("--as", help="Whose token to use.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Ask and return at once.")]
Override = Annotated[str, typer.Option(help="Why named gates may be passed over.")]
Gates = Annotated[str, typer.Option(help="Which gates, separated by commas.")]
Model = Annotated[str, typer.Option("--model", envvar="MODEL", help="Which model; the default one, if none is named.")]
Version = Annotated[str, typer.Option(help="A registered version's number.")]


def report_progress(line: str) -> None:
    """Print progress for people, on standard error."""
    print(printable(line), file=sys.stderr, flush=True)


def read_settings(*, moving: bool = False) -> "Settings":
    """Read the settings of the home's installation; with `moving` it may be given other ports."""
    from pipelines.settings.installation import settings_of_home

    return settings_of_home(os.environ, moving=moving)


def open_client(person: str, model: str = "") -> "ApiClient":
    """Return a client of the API that asks about a model, with a person's token or that of SLIPWAY_TOKEN."""
    from pipelines.api.client import ApiClient

    settings = read_settings()
    return ApiClient(settings, read_token(settings, person), model=model)


def read_token(settings: "Settings", person: str) -> str:
    """Return a person's token, or that of SLIPWAY_TOKEN."""
    from pipelines.settings.tokens import token_of

    return os.environ.get("SLIPWAY_TOKEN") or token_of(settings.tokens_file, person)


def print_result(body: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Print a verb's result on standard output: one JSON object, or text."""
    print(json.dumps(body) if as_json else printable(text))


@contextmanager
def detachable(what: str) -> Iterator[None]:
    """Let Ctrl-C end the waiting, not the work."""
    try:
        yield
    except KeyboardInterrupt:
        report_progress(f'detached from {what}; it goes on: "slipway status"')
        raise typer.Exit(130) from None
