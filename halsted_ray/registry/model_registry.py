"""Versions and aliases in MLflow's registry, which is an SQLite file by default, or a server.

registered model  halsted; for another taxonomy than the built-in one a model of its own, such as halsted-cholec80
version           one trained model: a pyfunc that contains the model's folder; its tags say what it was made from
alias             champion (in use), challenger (passed the gate and waits), previous_champion (for a rollback)
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import mlflow
import pandas as pd
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError
from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from sqlalchemy.exc import SQLAlchemyError

from halsted_ray.errors import RegistryError
from halsted_ray.registry.references import MODEL, Reference, parse
from halsted_ray.storage.locations import filesystem

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous_champion"
EMBEDDED = "sqlite:///mlflow.db"
"""In the working directory, where `mlflow ui` also looks."""
HOW_TO_GET = {
    CHAMPION: "`halsted registry promote {} --atlas DIR --deploy` makes a version the champion",
    CHALLENGER: "`halsted registry promote {} --atlas DIR` lets a version become the challenger",
    PREVIOUS: "a --deploy over a champion gives this alias to the replaced champion",
}
"""Per alias, how a version gets it."""
LOCK = f"{MODEL}.lock"
REFUSALS = (MlflowException, SQLAlchemyError, Boto3Error, BotoCoreError, ClientError, OSError, ImportError)
"""The errors of MLflow, and of its database (or a missing driver) and object store, which pass through it."""
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""The error codes for a missing alias or version: MLflow's stores use different codes."""
MODEL_PATH = "artifacts/model"
"""The model's folder inside a version's artifacts."""


@dataclass(frozen=True)
class Version:
    """One version of the registered model.

    ``number``: MLflow's version number. ``tags``: model_version (the id in the rows of a map), model_digest,
    atlas_release, atlas_version, taxonomy_digest, encoder_fingerprint, encoder, code_version. ``location``: of its
    artifacts, for fsspec or MLflow's client.
    """

    name: str
    number: int
    aliases: tuple[str, ...]
    run_id: str
    created_ms: int
    tags: dict[str, str]
    location: str


class Registry:
    """MLflow's registry at one URI. Every method raises RegistryError where it can't be reached or refuses."""

    def __init__(self, uri: str | None = None, make: bool = True):
        """Opens the registry at ``uri`` (default: ``$MLFLOW_TRACKING_URI``, or ``mlflow.db`` in the working directory).

        ``make``: whether an SQLite file that does not exist may be made, at its first use. Raises RegistryError where
        it does not exist and may not be made.
        """
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or EMBEDDED
        self.file: Path | None = None
        """The SQLite file, if the registry is one."""
        if self.uri.startswith("sqlite:///"):
            self.file = Path(self.uri.removeprefix("sqlite:///")).resolve()
            self.uri = f"sqlite:///{self.file}"
            if not make and not self.file.is_file():
                raise RegistryError(
                    f"there is no registry at {self.uri}; `halsted train` makes a registry, or name another one with "
                    "--registry or MLFLOW_TRACKING_URI"
                )

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's own client. Its first use makes an SQLite file that does not exist; so a command that is refused
        before leaves no file behind. Raises RegistryError where the folder of the file can't be written."""
        if self.file:
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RegistryError(
                    f"the registry can't be kept at {self.file}: {error}; name another place "
                    "(--registry or MLFLOW_TRACKING_URI)"
                ) from error
        with self.clear_errors():
            return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    @contextmanager
    def clear_errors(self) -> Iterator[None]:
        """Turns errors of MLflow, its database and its files into a RegistryError that says where and what to do."""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", module=r"mlflow\b")
                yield
        except REFUSALS as error:
            first = (str(error) or type(error).__name__).strip().splitlines()[0]
            first = first.replace(self.uri, without_password(self.uri))[:300]
            if "Max retries exceeded" in first:  # followed by a page of names from requests and urllib3
                first = "it does not answer"
            raise RegistryError(
                f"the registry at {without_password(self.uri)} can't do this: {first}; see that it is up and that its "
                "URI is right (--registry or MLFLOW_TRACKING_URI), then give the same command again"
            ) from error

    def experiment(self, name: str) -> str:
        """Returns the id of an experiment; makes the experiment where it does not exist."""
        with self.clear_errors():
            found: Experiment | None = self.client.get_experiment_by_name(name)
            if found:
                return found.experiment_id
            try:
                return self.client.create_experiment(name, artifact_location=self._artifacts(name))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process made it first
                    raise
                return self.client.get_experiment_by_name(name).experiment_id

    def _artifacts(self, name: str) -> str | None:
        """Returns where an experiment's files go: beside the SQLite file; None lets a server decide."""
        return (self.file.parent / "mlruns" / name).as_uri() if self.file else None

    def names(self) -> list[str]:
        """Returns the registered models that hold versions of this program's models, ``halsted`` first."""
        with self.clear_errors():
            found = [model.name for model in self.client.search_registered_models(f"name LIKE '{MODEL}%'")]
        return sorted((name for name in found if name == MODEL or name.startswith(f"{MODEL}-")), key=len)

    def versions(self, name: str | None = None) -> list[Version]:
        """Returns the versions of the registered model ``name`` (default: of all), the newest first."""
        if name is None:
            every = [version for own in self.names() for version in self.versions(own)]
            return sorted(every, key=lambda version: (version.created_ms, version.number), reverse=True)
        with self.clear_errors():
            found = self.client.search_model_versions(f"name = '{name}'", order_by=["version_number DESC"])
            # MLflow's search returns no aliases, unlike its look-up of one version.
            aliases = dict(self.client.get_registered_model(name).aliases) if found else {}
            return [
                replace(self._described(version), aliases=tuple(sorted(a for a in aliases if str(aliases[a]) == n)))
                for version in found
                for n in [str(version.version)]
            ]

    def made_by(self, model_version: str) -> Version | None:
        """Returns the newest version whose model made rows with this id (``model_version``); None for an unknown id."""
        return next((v for v in self.versions() if v.tags.get("model_version") == model_version), None)

    def find(self, ref: str | Reference, name: str = MODEL) -> Version:
        """Returns the version that ``ref`` names: a Reference or its text, or a number or an alias of ``name``.

        Raises RegistryError where there is no such version, with what to do.
        """
        if isinstance(ref, str):
            known = parse(ref)
            ref = known or Reference(name, None if ref.isdigit() else ref, int(ref) if ref.isdigit() else None)
        found = self.aliased(ref.alias, ref.name) if ref.alias else self._numbered(ref)
        if found is None:
            raise RegistryError(f"the registry at {without_password(self.uri)} has no {ref}; {self._what_to_do(ref)}")
        return found

    def _what_to_do(self, ref: Reference) -> str:
        versions = self.versions()
        if not versions:
            return (
                "it has no version at all: `halsted train --registry URI` registers one, or name another registry with "
                "--registry or MLFLOW_TRACKING_URI"
            )
        own = [version for version in versions if version.name == ref.name]
        if not own:
            names = ", ".join(sorted({version.name for version in versions}))
            return f"its models are {names}: name a version of one of them (registry:{versions[0].name}/1)"
        listed = ", ".join(f"{v.number}{''.join(f' @{alias}' for alias in v.aliases)}" for v in own[:8])
        newest = own[0].number
        way = f"{HOW_TO_GET[ref.alias].format(newest)}, or " if ref.alias in HOW_TO_GET else ""
        return f"it has {listed}: {way}name a version by its number (registry:{ref.name}/{newest})"

    def aliased(self, alias: str, name: str = MODEL) -> Version | None:
        """Returns the version of the registered model ``name`` with this alias; None where no version has it."""
        return self._absent_is_none(lambda: self.client.get_model_version_by_alias(name, alias))

    def _numbered(self, ref: Reference) -> Version | None:
        return self._absent_is_none(lambda: self.client.get_model_version(ref.name, str(ref.number)))

    def _absent_is_none(self, look_up: Callable[[], ModelVersion]) -> Version | None:
        """Returns what ``look_up`` finds; None where MLflow says that it does not exist."""
        with self.clear_errors():
            try:
                found = look_up()
            except MlflowException as error:
                if error.error_code not in ABSENT:
                    raise
                return None
            return self._described(found)

    def _described(self, version: ModelVersion) -> Version:
        """Makes a ``Version`` of MLflow's own record."""
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
        """Returns the path or URL at which the version's model folder can be read.

        Where the server keeps the files to itself, a copy is fetched into ``$HALSTED_MODELS`` (default:
        ``~/.cache/halsted/models``), a folder that all workers must share.
        """
        if not version.location.startswith("mlflow-artifacts:"):
            return f"{version.location.removeprefix('file://').rstrip('/')}/{MODEL_PATH}"
        kept = Path(os.environ.get("HALSTED_MODELS") or Path.home() / ".cache" / "halsted" / "models")
        folder = kept / f"{version.name}-{version.number}-{version.tags.get('model_digest', '')}"
        if not folder.is_dir():
            with self.clear_errors():
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

    def add(
        self,
        run_id: str,
        folder: str,
        tags: dict[str, str],
        signature: ModelSignature,
        example: pd.DataFrame,
        name: str = MODEL,
        code: str = "pyfunc.py",
    ) -> Version:
        """Makes a new version from a model's folder (any fsspec location), as a pyfunc with the ``code`` of a file
        beside this one.

        ``run_id``: the MLflow run that made the model. ``signature`` and ``example``: of the pyfunc's input. ``name``:
        the registered model.
        """
        with self.clear_errors(), tempfile.TemporaryDirectory() as place:
            fs, path = filesystem(folder)
            fs.get(f"{path.rstrip('/')}/", f"{place}/model/", recursive=True)
            mlflow.pyfunc.save_model(
                f"{place}/pyfunc",
                python_model=str(Path(__file__).with_name(code)),
                artifacts={"model": f"{place}/model"},
                signature=signature,
                input_example=example,
                model_config={"encoder": None},
                pip_requirements=[f"halsted-ray=={tags['code_version'].split('+')[0]}"],
            )
            run = self.client.get_run(run_id)
            logged = self.client.create_logged_model(run.info.experiment_id, name, run_id, tags)
            self.client.log_model_artifacts(logged.model_id, f"{place}/pyfunc")
            self.client.finalize_logged_model(logged.model_id, "READY")
            try:
                self.client.create_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            made = self.client.create_model_version(
                name, logged.artifact_location, run_id, tags, model_id=logged.model_id
            )
            return self._described(made)

    def move(self, aliases: dict[str, int | None], name: str = MODEL) -> None:
        """Gives each alias to the version of ``name`` with the number, or to no version (None). Call it only under
        ``locked``."""
        with self.clear_errors():
            for alias, number in aliases.items():
                if number is None:
                    self.client.delete_registered_model_alias(name, alias)
                else:
                    self.client.set_registered_model_alias(name, alias, str(number))

    @contextmanager
    def locked(self, purpose: str) -> Iterator[None]:
        """Lets only one process at a time change aliases, on any machine. Raises RegistryError for a second process.

        MLflow has no compare-and-set. But none of its stores allows two registered models of one name, so creating the
        registered model ``LOCK`` is the lock. ``purpose``: for the message that a second process gets.
        """
        holder = f"{purpose}, process {os.getpid()} on {socket.gethostname()}, {time.strftime('%Y-%m-%d %H:%M:%S')}"
        with self.clear_errors():
            try:
                self.client.create_registered_model(LOCK, description=holder)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                raise RegistryError(
                    f"somebody else is changing the aliases of the registry at {without_password(self.uri)}: "
                    f"{self._holder()}; nothing was changed. Try again when that process is done; if it died, delete "
                    f"the registered model {LOCK!r} (in MLflow's page, or with its client's delete_registered_model)"
                ) from None
        try:
            yield
        finally:
            with self.clear_errors():
                self.client.delete_registered_model(LOCK)

    def _holder(self) -> str:
        """Returns which process holds the lock, in words."""
        try:
            return str(self.client.get_registered_model(LOCK).description)
        except MlflowException:
            return "it has just finished"


def names_version(text: str) -> bool:
    """Returns whether ``text`` is a version's reference, number or alias, and not a folder.

    Raises RegistryError for a reference of a wrong form.
    """
    return parse(text) is not None or text.isdigit() or text in HOW_TO_GET


def without_password(uri: str) -> str:
    """Returns a URI without the user and password that it may contain, for messages."""
    scheme, slashes, rest = uri.partition("://")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"
