"""`models`: what a server can be asked."""

import click

from mnist_client.cli.output import (
    TABLE,
    as_record,
    local_time,
    percent,
    write_fields,
    write_record,
    write_records,
    write_table,
)
from mnist_client.cli.parameters import MODEL, Settings, pass_settings, shared_options
from mnist_client.progress import describe
from mnist_client.results import Model, ModelVersion

_FIELDS = ("name", "aliases", "versions")


@click.group()
@shared_options()
def models() -> None:
    """List and show the models that can be asked.

    \b
    Example:
      mnist-client models list
    """


@models.command("list")
@shared_options()
@pass_settings
def list_models(settings: Settings) -> None:
    """List the models by name, each with its newest version.

    \b
    Example:
      mnist-client models list
      mnist-client models list -o json
    """
    with settings.connect() as client:
        if settings.output != TABLE:
            write_records((as_record(model) for model in client.models()), settings.output, _FIELDS)
            return
        rows = [
            (model.name, str(version.version), _aliases(model), *_figures(version))
            for model in client.models()
            for version in model.versions[:1]
        ]
        write_table(("MODEL", "NEWEST", "ALIASES", "NETWORK", "ACCURACY", "MADE", "JOB"), rows)


@models.command()
@click.argument("model", type=MODEL)
@shared_options()
@pass_settings
def show(settings: Settings, model: str) -> None:
    """Show one model: NAME with its versions, or NAME@VERSION or NAME@ALIAS alone.

    \b
    Example:
      mnist-client models show mnist
      mnist-client models show mnist@2 -o json
    """
    with settings.connect() as client:
        found = client.model(model)
    if settings.output != TABLE:
        write_record(as_record(found), settings.output)
        return
    fields: list[tuple[str, object]] = [("Model", found.name), ("Aliases", _aliases(found))]
    if len(found.versions) == 1:
        write_fields([*fields, *_fields_of(found.versions[0])])
        return
    write_fields(fields)
    click.echo()
    rows = [(str(version.version), *_figures(version)) for version in found.versions]
    write_table(("VERSION", "NETWORK", "ACCURACY", "MADE", "JOB"), rows)


def _fields_of(version: ModelVersion) -> list[tuple[str, object]]:
    epoch = version.last_epoch
    return [
        ("Version", version.name),
        ("Made", local_time(version.create_time)),
        ("Job", version.job),
        *(("Training" if index == 0 else "", line) for index, line in enumerate(describe(version.config))),
        ("Accuracy", percent(epoch.accuracy if epoch else None)),
        ("Parameters", f"{version.parameters:,}"),
        ("Weights", f"sha256 {version.weights_hash}"),
        ("Data set", version.config.dataset),
    ]


def _figures(version: ModelVersion) -> tuple[str, str, str, str]:
    accuracy = version.last_epoch.accuracy if version.last_epoch else None
    network = "-".join(str(size) for size in version.config.layer_sizes)
    return network, percent(accuracy), local_time(version.create_time), version.job


def _aliases(model: Model) -> str:
    return ", ".join(f"{alias}@{version}" for alias, version in sorted(model.aliases.items())) or "-"
