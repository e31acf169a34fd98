"""`models`: what a server can be asked, and which version each name stands for."""

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
from mnist_client.cli.parameters import ALIAS, MODEL, Settings, pass_settings, shared_options
from mnist_client.progress import describe, network_text
from mnist_client.resources import Model, ModelVersion
from mnist_proto.names import parse_model

_FIELDS = ("name", "aliases", "etag", "versions")


_etag_option = click.option(
    "--etag", help="Only if the model has not changed since: the etag that show said. [default: any]"
)


@click.group()
@shared_options()
def models() -> None:
    """List, show, promote, delete, export and import models.

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
    fields = _head(found)
    if len(found.versions) == 1:
        write_fields([*fields, *_fields_of(found.versions[0])])
        return
    write_fields(fields)
    click.echo()
    rows = [(str(version.version), *_figures(version)) for version in found.versions]
    write_table(("VERSION", "NETWORK", "ACCURACY", "MADE", "JOB"), rows)


@models.command()
@click.argument("model", type=MODEL)
@click.argument("alias", type=ALIAS)
@click.option("--remove", is_flag=True, help="Remove the alias; MODEL is then NAME alone.")
@_etag_option
@shared_options()
@pass_settings
def alias(settings: Settings, model: str, alias: str, remove: bool, etag: str | None) -> None:
    """Have ALIAS stand for NAME@VERSION, or for the version that NAME@ALIAS stands for now.

    NAME alone means its alias `default`: that is what to promote to, and to roll back.

    \b
    Example:
      mnist-client models alias mnist@2 default
      mnist-client models alias mnist@candidate default
      mnist-client models alias mnist candidate --remove
    """
    parts = parse_model(model)
    if remove == (parts.version is not None or parts.alias is not None):
        raise click.UsageError(
            "MODEL is NAME alone with --remove" if remove else "MODEL is NAME@VERSION or NAME@ALIAS"
        )
    with settings.connect() as client:
        version = parts.version
        if parts.alias is not None:
            [found] = client.model(model).versions
            version = found.version
        changed = client.set_alias(parts.model, alias, version, etag=etag)
    if settings.output != TABLE:
        write_record(as_record(changed), settings.output)
    else:
        write_fields(_head(changed))


@models.command()
@click.argument("model", type=MODEL)
@click.option("--force", is_flag=True, help="Delete a model together with its aliases.")
@_etag_option
@shared_options()
@pass_settings
def delete(settings: Settings, model: str, force: bool, etag: str | None) -> None:
    """Delete one version, NAME@VERSION, or a model with all its versions, NAME --force.

    What an alias stands for is not deleted, nor the version that came with the server. Version numbers are
    never used again.

    \b
    Example:
      mnist-client models delete mnist@2
      mnist-client models delete classic --force
    """
    with settings.connect() as client:
        deleted = client.delete_model(model, etag=etag, force=force)
    if settings.output != TABLE:
        write_record({"name": model, "versions": deleted}, settings.output)
    else:
        write_fields([("Deleted", model), ("Versions", deleted)])


@models.command()
@click.argument("model", type=MODEL)
@click.argument("file", type=click.Path(dir_okay=False))
@shared_options()
@pass_settings
def export(settings: Settings, model: str, file: str) -> None:
    """Write one version to FILE, as safetensors; a FILE that is there is replaced.

    \b
    Example:
      mnist-client models export mnist mnist.safetensors
      mnist-client models export mnist@3 three.safetensors -o json
    """
    with settings.connect() as client:
        version = client.export_model(model, file)
    _write_version(version, settings.output, ("File", file))


@models.command("import")
@click.argument("file", type=click.Path())
@click.option("--name", required=True, metavar="MODEL", help="The model to make a version of.")
@shared_options()
@pass_settings
def import_(settings: Settings, file: str, name: str) -> None:
    """Make FILE, as export writes it, a new version of a model.

    A model's first version is its default; a later one is promoted with models alias.

    \b
    Example:
      mnist-client models import mnist.safetensors --name mnist
    """
    with settings.connect() as client:
        version = client.import_model(file, name=name)
    _write_version(version, settings.output)


def _write_version(version: ModelVersion, output: str, *fields: tuple[str, object]) -> None:
    if output != TABLE:
        write_record({**{name.lower(): value for name, value in fields}, **as_record(version)}, output)
    else:
        write_fields([*fields, *_fields_of(version)])


def _head(model: Model) -> list[tuple[str, object]]:
    return [("Model", model.name), ("Aliases", _aliases(model)), ("Etag", model.etag)]


def _fields_of(version: ModelVersion) -> list[tuple[str, object]]:
    epoch = version.last_epoch
    return [
        ("Version", version.name),
        ("Made", local_time(version.create_time)),
        ("Job", version.job or "imported"),
        *(
            [("Network", _network(version))]
            if version.config is None
            else [("" if index else "Training", line) for index, line in enumerate(describe(version.config))]
        ),
        ("Accuracy", percent(epoch.accuracy if epoch else None)),
        ("Parameters", f"{version.parameters:,}"),
        *([] if version.temperature is None else [("Temperature", f"{version.temperature:.3f}")]),
        ("Weights", f"sha256 {version.weights_hash}"),
        ("Data set", version.config.dataset if version.config else None),
        *((f"File's {name}", text) for name, text in sorted(version.provenance.items())),
    ]


def _figures(version: ModelVersion) -> tuple[str, str, str, str]:
    accuracy = version.last_epoch.accuracy if version.last_epoch else None
    job = version.job or "imported"
    return _network(version), percent(accuracy), local_time(version.create_time), job


def _network(version: ModelVersion) -> str:
    return network_text(version.network.layer_sizes, version.network.layers)


def _aliases(model: Model) -> str:
    return ", ".join(f"{alias}@{version}" for alias, version in sorted(model.aliases.items())) or "-"
