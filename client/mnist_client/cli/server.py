"""`info` and `health`: the server itself."""

import click

from mnist_client.cli.exit_codes import ExitCode
from mnist_client.cli.output import TABLE, as_record, local_time, write_fields, write_record
from mnist_client.cli.parameters import Settings, pass_settings, shared_options


@click.command()
@shared_options()
@pass_settings
def info(settings: Settings) -> None:
    """Show the server's version, limits and loaded models.

    \b
    Example:
      mnist-client info
      mnist-client info -o json
    """
    with settings.connect() as client:
        server = client.info()
    if settings.output != TABLE:
        write_record(as_record(server), settings.output)
        return
    environment = server.environment
    write_fields(
        (
            ("Version", server.version),
            ("Up since", local_time(server.start_time)),
            ("Workers", server.workers),
            ("Threads", server.threads),
            (
                "Arithmetic",
                f"NumPy {environment.numpy_version}, {environment.blas} {environment.blas_version} "
                f"({environment.blas_kernel}), BLAS threads: {environment.blas_threads}",
            ),
            ("Models loaded", ", ".join(server.models_loaded) or "-"),
        )
    )
    click.echo("\nLimits")
    limits = as_record(server.limits)
    write_fields((f"  {name.replace('_', ' ')}", f"{value:>15,}") for name, value in limits.items())


@click.command()
@click.option(
    "--service",
    default="",
    metavar="NAME",
    help="A gRPC service, mnist.v1.PredictionService for example. [default: the whole server]",
)
@shared_options()
@pass_settings
@click.pass_context
def health(context: click.Context, settings: Settings, service: str) -> None:
    """Ask whether the server serves: exit 0 if so, 3 if not.

    \b
    Example:
      mnist-client health --timeout 2
    """
    with settings.connect() as client:
        status = client.health(service)
    if settings.output == TABLE:
        click.echo(status)
    else:
        write_record({"service": service, "status": status}, settings.output)
    if status != "SERVING":
        context.exit(ExitCode.UNREACHABLE)
