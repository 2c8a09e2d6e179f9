"""The command line: `tunewright`. Only this package prints."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; errors become one message and an exit code of sysexits.h."""
    import click

    from tunewright.cli.commands import cli
    from tunewright.errors import ExitCode, FetchError, TunewrightError

    try:
        # A pipe that nobody reads any more (`tunewright logs … | head`) is click's business: it exits in silence.
        sys.exit(cli.main(prog_name="tunewright", standalone_mode=False))
    except TunewrightError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.code if isinstance(error, FetchError) else error.exit_code)
    except OSError as error:  # a file or folder that the user named, or the state folder: a full disk, no permission
        place = f"{error.filename}: " if error.filename is not None else ""
        click.echo(f"error: {place}{error.strerror or error}", err=True)
        sys.exit(ExitCode.FAILURE)
    except click.ClickException as error:
        error.show()
        sys.exit(64)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
