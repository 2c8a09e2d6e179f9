"""The `tunewright` command line. No other package prints."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, and turn an error into one message and an exit code from sysexits.h."""
    import click

    from tunewright.cli.commands import cli
    from tunewright.errors import ExitCode, FetchError, TunewrightError

    try:
        # click handles a broken pipe (`tunewright logs … | head`): it exits silently.
        sys.exit(cli.main(prog_name="tunewright", standalone_mode=False))
    except TunewrightError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.code if isinstance(error, FetchError) else error.exit_code)
    except OSError as error:  # a full disk or a missing permission, in a path of the user's or in the state folder
        place = f"{error.filename}: " if error.filename is not None else ""
        click.echo(f"error: {place}{error.strerror or error}", err=True)
        sys.exit(ExitCode.FAILURE)
    except click.ClickException as error:
        error.show()
        sys.exit(64)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
