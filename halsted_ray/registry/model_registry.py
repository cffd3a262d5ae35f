"""Versions and aliases in MLflow's registry: an SQLite file by default, a server by its URI.

registered model  halsted
version           one trained model: a pyfunc whose artifact is the model's folder; tags say what it stands on
alias             champion (in use), challenger (passed, waits), previous_champion (the way back)
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import mlflow
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from halsted_ray.errors import RegistryError
from halsted_ray.registry.references import MODEL, Reference, parse
from halsted_ray.storage.locations import filesystem

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous_champion"
EMBEDDED = "sqlite:///mlflow.db"
"""In the working directory, where `mlflow ui` looks too."""
WAYS = {
    CHAMPION: "`halsted registry promote {} --atlas DIR --deploy` makes one the champion",
    CHALLENGER: "`halsted registry promote {} --atlas DIR` lets one pass the gate",
    PREVIOUS: "a --deploy over a champion leaves one",
}
"""How a version comes by an alias."""
LOCK = f"{MODEL}.lock"
REFUSALS = (MlflowException, SQLAlchemyError, Boto3Error, BotoCoreError, ClientError, OSError, ImportError)
"""What MLflow raises, and what the database (or its missing driver) and the object store below it raise through it."""
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""What the stores say of an alias or version that is not there: they don't agree."""
MODEL_PATH = "artifacts/model"
"""The model's folder within a version's artifacts."""


@dataclass(frozen=True)
class Version:
    """One model of the registry. ``location``: its artifacts, as fsspec or MLflow's client reads them.

    ``tags``: model_version (the id that the rows of a map carry), model_digest, atlas_release, atlas_version,
    taxonomy_digest, encoder_fingerprint, encoder, code_version.
    """

    name: str
    number: int
    aliases: tuple[str, ...]
    run_id: str
    created_ms: int
    tags: dict[str, str]
    location: str


class Registry:
    """MLflow at ``uri``; None is ``$MLFLOW_TRACKING_URI``, or ``mlflow.db`` in the working directory.

    An embedded one that is not there is made at its first use, unless ``make`` says that this is only a look. Every
    method raises RegistryError where the registry can't be reached or refuses.
    """

    def __init__(self, uri: str | None = None, make: bool = True):
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or EMBEDDED
        self.file = None
        """Of an embedded registry."""
        if self.uri.startswith("sqlite:///"):
            self.file = Path(self.uri.removeprefix("sqlite:///")).resolve()
            self.uri = f"sqlite:///{self.file}"
            if not make and not self.file.is_file():
                raise RegistryError(
                    f"there is no registry at {self.uri}; `halsted train` makes one, and --registry or "
                    "MLFLOW_TRACKING_URI names another"
                )

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's own client. The first use makes an embedded registry that is not there, so that a command which is
        refused before that leaves none behind."""
        if self.file:
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RegistryError(
                    f"the registry can't be kept at {self.file}: {error}; name another place "
                    "(--registry or MLFLOW_TRACKING_URI)"
                ) from error
        with self.spoken():
            return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    @contextmanager
    def spoken(self) -> Iterator[None]:
        """Errors of MLflow, its database and its files as RegistryError that says where and what to do."""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", module=r"mlflow\b")
                yield
        except REFUSALS as error:
            first = (str(error) or type(error).__name__).strip().splitlines()[0]
            first = first.replace(self.uri, shown(self.uri))[:300]
            if "Max retries exceeded" in first:  # and a page of what requests and urllib3 each call it
                first = "it does not answer"
            raise RegistryError(
                f"the registry at {shown(self.uri)} can't do this: {first}; see that it is up and that its URI is "
                "right (--registry or MLFLOW_TRACKING_URI), then give the same command again"
            ) from error

    def experiment(self, name: str) -> str:
        """The id of an experiment, made where it is not there. An embedded registry's files lie beside it."""
        with self.spoken():
            found: Experiment | None = self.client.get_experiment_by_name(name)
            if found:
                return found.experiment_id
            try:
                return self.client.create_experiment(name, artifact_location=self._artifacts(name))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was quicker
                    raise
                return self.client.get_experiment_by_name(name).experiment_id

    def _artifacts(self, name: str) -> str | None:
        return (self.file.parent / "mlruns" / name).as_uri() if self.file else None  # a server decides itself

    def versions(self) -> list[Version]:
        """All versions, newest first."""
        with self.spoken():
            found = self.client.search_model_versions(f"name = '{MODEL}'", order_by=["version_number DESC"])
            # A search leaves the aliases out, unlike the look-up of one version.
            aliases = dict(self.client.get_registered_model(MODEL).aliases) if found else {}
            return [
                replace(self._described(version), aliases=tuple(sorted(a for a in aliases if str(aliases[a]) == n)))
                for version in found
                for n in [str(version.version)]
            ]

    def made_by(self, model_version: str) -> Version | None:
        """The newest version that holds the model of this id, None where there is none."""
        return next((v for v in self.versions() if v.tags.get("model_version") == model_version), None)

    def find(self, ref: str | Reference) -> Version:
        """The version that ``ref`` names: a Reference or its text, a number, or an alias."""
        if isinstance(ref, str):
            known = parse(ref)
            ref = known or Reference(MODEL, None if ref.isdigit() else ref, int(ref) if ref.isdigit() else None)
        found = self.aliased(ref.alias) if ref.alias else self._numbered(ref)
        if found is None or ref.name != MODEL:
            raise RegistryError(f"the registry at {shown(self.uri)} has no {ref}; {self._what_to_do(ref)}")
        return found

    def _what_to_do(self, ref: Reference) -> str:
        versions = self.versions()
        if not versions:
            return (
                "it has no version at all: `halsted train --registry URI` ends with one, and --registry or "
                "MLFLOW_TRACKING_URI names another registry"
            )
        there = ", ".join(f"{v.number}{''.join(f' @{alias}' for alias in v.aliases)}" for v in versions[:8])
        newest = versions[0].number
        way = f"{WAYS[ref.alias].format(newest)}, or " if ref.alias in WAYS else ""
        return f"it has {there}: {way}name one by its number (registry:{MODEL}/{newest})"

    def aliased(self, alias: str) -> Version | None:
        """The version under ``alias``, None where it is free."""
        return self._absent_is_none(lambda: self.client.get_model_version_by_alias(MODEL, alias))

    def _numbered(self, ref: Reference) -> Version | None:
        return self._absent_is_none(lambda: self.client.get_model_version(ref.name, str(ref.number)))

    def _absent_is_none(self, ask) -> Version | None:
        with self.spoken():
            try:
                found = ask()
            except MlflowException as error:
                if error.error_code not in ABSENT:
                    raise
                return None
            return self._described(found)

    def _described(self, version) -> Version:
        location = self.client.get_model_version_download_uri(version.name, version.version)
        return Version(
            version.name,
            int(version.version),
            tuple(sorted(version.aliases)),
            version.run_id or "",
            version.creation_timestamp,
            dict(version.tags),
            location,
        )

    def folder(self, version: Version) -> str:
        """Where the version's model folder can be read. A server that keeps the files to itself is asked for a copy,
        kept under ``$HALSTED_MODELS`` (default: ``~/.cache/halsted/models``), which all workers must share."""
        if not version.location.startswith("mlflow-artifacts:"):
            return f"{version.location.removeprefix('file://').rstrip('/')}/{MODEL_PATH}"
        kept = Path(os.environ.get("HALSTED_MODELS") or Path.home() / ".cache" / "halsted" / "models")
        folder = kept / f"{version.name}-{version.number}-{version.tags.get('model_digest', '')}"
        if not folder.is_dir():
            with self.spoken():
                kept.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryDirectory(dir=kept) as part:
                    fetched = mlflow.artifacts.download_artifacts(
                        f"{version.location}/{MODEL_PATH}", dst_path=part, tracking_uri=self.uri
                    )
                    try:
                        Path(fetched).rename(folder)
                    except OSError:
                        if not folder.is_dir():  # else another process has fetched the same version in the meantime
                            raise
        return str(folder)

    def add(self, run_id: str, folder: str, tags: dict[str, str], signature, example) -> Version:
        """A new version made of the model ``folder`` (any fsspec location), as a pyfunc of ``pyfunc.py``."""
        with self.spoken(), tempfile.TemporaryDirectory() as place:
            fs, path = filesystem(folder)
            fs.get(f"{path.rstrip('/')}/", f"{place}/model/", recursive=True)
            mlflow.pyfunc.save_model(
                f"{place}/pyfunc",
                python_model=str(Path(__file__).with_name("pyfunc.py")),
                artifacts={"model": f"{place}/model"},
                signature=signature,
                input_example=example,
                model_config={"encoder": None},
                pip_requirements=[f"halsted-ray=={tags['code_version'].split('+')[0]}"],
            )
            run = self.client.get_run(run_id)
            logged = self.client.create_logged_model(run.info.experiment_id, MODEL, run_id, tags)
            self.client.log_model_artifacts(logged.model_id, f"{place}/pyfunc")
            self.client.finalize_logged_model(logged.model_id, "READY")
            try:
                self.client.create_registered_model(MODEL)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            made = self.client.create_model_version(
                MODEL, logged.artifact_location, run_id, tags, model_id=logged.model_id
            )
            return self._described(made)

    def move(self, aliases: dict[str, int | None]) -> None:
        """Gives each alias to a version, or frees it. Under ``locked`` only."""
        with self.spoken():
            for alias, number in aliases.items():
                if number is None:
                    self.client.delete_registered_model_alias(MODEL, alias)
                else:
                    self.client.set_registered_model_alias(MODEL, alias, str(number))

    @contextmanager
    def locked(self, purpose: str) -> Iterator[None]:
        """Only one process at a time, on any machine, changes aliases; a second one is refused at once.

        MLflow has no compare-and-set. But no two registered models share a name, in any of its stores, so creating
        one is the lock.
        """
        holder = f"{purpose}, process {os.getpid()} on {socket.gethostname()}, {time.strftime('%Y-%m-%d %H:%M:%S')}"
        with self.spoken():
            try:
                self.client.create_registered_model(LOCK, description=holder)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                raise RegistryError(
                    f"somebody else is changing the aliases of the registry at {shown(self.uri)}: {self._holder()}; "
                    "nothing was changed. Try again when it is done; if that process died, delete the registered "
                    f"model {LOCK!r} (in MLflow's own page, or its client's delete_registered_model)"
                ) from None
        try:
            yield
        finally:
            with self.spoken():
                self.client.delete_registered_model(LOCK)

    def _holder(self) -> str:
        try:
            return self.client.get_registered_model(LOCK).description
        except MlflowException:
            return "it has just finished"


def names_version(text: str) -> bool:
    """Whether ``text`` is a version's reference, number or alias, and no folder. Raises RegistryError."""
    return parse(text) is not None or text.isdigit() or text in WAYS


def shown(uri: str) -> str:
    """A URI without the password that it may carry."""
    scheme, slashes, rest = uri.partition("://")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"
