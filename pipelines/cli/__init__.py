"""The command line: parses, calls, and turns refusals into messages and exit codes.

Nothing heavy is imported at its start: each verb imports what it needs.
"""

import json
import sys

import typer

from pipelines.cli import api_verbs, operator_verbs, stage_verb
from pipelines.cli.terminal import report_progress
from pipelines.disk import as_full
from pipelines.domain.texts import printable
from pipelines.errors import SlipwayError, UsageError

app = typer.Typer(
    name="slipway",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Plain text: what draws frames around the help takes as long to import as all the rest.
    rich_markup_mode=None,
    help="Takes a model version from training to production and back.",
)
app.add_typer(api_verbs.app)
app.add_typer(operator_verbs.app)
app.add_typer(stage_verb.app)


def main() -> None:
    """Run the command line and exit with the code of what happened."""
    as_json = "--json" in sys.argv
    try:
        # Outside of its standalone mode Click returns the code of an Exit instead of raising it.
        sys.exit(app(standalone_mode=False) or 0)
    except SlipwayError as error:
        _print_refusal(error, as_json=as_json)
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        report_progress('detached; it goes on without you: "slipway status"')
        sys.exit(130)
    except Exception as error:
        refusal = _as_refusal(error)
        if refusal is None:
            raise
        _print_refusal(refusal, as_json=as_json)
        sys.exit(refusal.exit_code)


def _as_refusal(error: Exception) -> SlipwayError | None:
    """Return the refusal for a wrong command line, which Typer raises as Click's own error, or for a full disk."""
    if full := as_full(error):
        return full
    message = getattr(error, "format_message", None)
    return UsageError(message(), next="slipway --help") if message else None


def _print_refusal(error: SlipwayError, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"error": error.as_dict()}))
        return
    # A gate's or a person's no is a result; every other refusal is about the asking.
    no = error.code in ("gate_failed", "inconclusive", "gate_error")
    print(printable(error.message), file=sys.stdout if no else sys.stderr)
    if error.next:
        report_progress(f"next: {error.next}")
