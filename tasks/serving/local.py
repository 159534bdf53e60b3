"""vLLM and the gateway as local processes of one environment: up, down, and what is the matter with them."""

import hashlib
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from configs.api_keys import ApiKeys
from configs.environment import Environment
from configs.errors import SlipwayError, require_all
from configs.gateway import GatewayConfig
from configs.loading import as_yaml, load
from delivery.clients.gateway import GatewayClient
from delivery.clients.processes import local as processes
from delivery.clients.processes.local import ProcessCommand
from delivery.clients.processes.ports import Port, require_free
from delivery.clients.vllm import VllmClient
from delivery.progress import Progress, silent
from tasks.serving.keep_alive import KeepAlive, ProcessHealth
from tasks.serving.processes import Processes, SupervisedProcess
from tasks.serving.target import AdapterOrigin, ModelToServe, PartState
from tasks.serving.vllm_command import phase, require_vllm, vllm_command

ADMIN_TOKEN = "SLIPWAY_ADMIN_TOKEN"  # noqa: S105 - the name of a variable
TOKEN_CHARACTERS = 32  # the gateway takes no shorter one
SUPERVISOR = "supervisor"  # the process that keeps the other two alive
VLLM_KEY = "SLIPWAY_VLLM_API_KEY"  # for a vLLM that wants one
UPSTREAM_KEY = "SLIPWAY_UPSTREAM_API_KEY"  # the gateway's own name for it
GATEWAY_START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Serving:
    """Where an environment is reached."""

    vllm_url: str
    gateway_url: str
    admin_url: str


def addresses(environment: Environment) -> Serving:
    """The environment's URLs, whether or not anything runs there."""
    vllm, gateway = environment.vllm, environment.gateway
    return Serving(
        vllm_url=_url(vllm.host, vllm.port),
        gateway_url=_url(gateway.host, gateway.port),
        admin_url=_url(gateway.admin_host, gateway.admin_port),
    )


def ports_of(environment: Environment) -> dict[str, tuple[Port, ...]]:
    """By process, where it is to listen."""
    vllm, gateway = environment.vllm, environment.gateway
    return {
        "vllm": (Port(vllm.host, vllm.port, "environment.yaml: vllm.port"),),
        "gateway": (
            Port(gateway.host, gateway.port, "environment.yaml: gateway.port"),
            Port(gateway.admin_host, gateway.admin_port, "environment.yaml: gateway.admin_port"),
        ),
    }


def environment_folder(environment: Environment, home: Path) -> Path:
    """Where the environment keeps its pid files, logs, routing table and token."""
    return home / "environments" / environment.name


def admin_token(environment: Environment, home: Path) -> str:
    """The gateway's admin token: SLIPWAY_ADMIN_TOKEN, else a random one, made once and readable by its owner only."""
    given = os.environ.get(ADMIN_TOKEN, "").strip()
    if given and len(given) < TOKEN_CHARACTERS:
        raise SlipwayError(
            f"the admin token in {ADMIN_TOKEN} has {len(given)} characters, at least {TOKEN_CHARACTERS} are needed",
            cure=f"make one: export {ADMIN_TOKEN}=$(openssl rand -hex 32), or unset it: one is made then",
        )
    if given:
        return given
    file = environment_folder(environment, home) / "admin.token"
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return file.read_text(encoding="utf-8").strip()
    with os.fdopen(descriptor, "w", encoding="utf-8") as output:
        output.write(secrets.token_urlsafe(32))
    return file.read_text(encoding="utf-8").strip()


@dataclass(frozen=True)
class LocalProcesses:
    """One vLLM and one gateway as processes of this machine, below the state folder `home`."""

    environment: Environment
    home: Path

    @property
    def replicas(self) -> tuple[str, ...]:
        """The one vLLM."""
        return (addresses(self.environment).vllm_url,)

    @property
    def gateways(self) -> tuple[str, ...]:
        """The one gateway's admin listener."""
        return (addresses(self.environment).admin_url,)

    @property
    def folder(self) -> Path:
        """Pid files and logs."""
        return environment_folder(self.environment, self.home)

    def admin_token(self) -> str:
        """SLIPWAY_ADMIN_TOKEN, or one of our own."""
        return admin_token(self.environment, self.home)

    def place(self, adapter: Path, origin: AdapterOrigin | None = None) -> str:
        """It is there: vLLM sees the same disk."""
        return str(adapter.absolute())

    def path_on(self, replica: str, path: str) -> str:
        """The same."""
        return path

    def members(self) -> None:
        """They are the same as long as the environment is."""
        return

    def prove(self, replica: str, path: str) -> None:
        """Its bytes were checked where they lie, which is where vLLM reads them."""

    def before_up(self) -> Iterator[Callable[[], object]]:
        """An interpreter with vLLM, the file of API keys, and free ports of what does not run."""
        yield partial(require_vllm, self.environment.vllm)
        if self.environment.gateway.api_keys is not None:
            yield partial(load, self.environment.gateway.api_keys, ApiKeys)
        for name, ports in ports_of(self.environment).items():
            if processes.find(name, self.folder) is None:
                yield from (partial(require_free, port) for port in ports)

    @contextmanager
    def up(self, model: ModelToServe, on_progress: Progress = silent, *, attached: bool = False) -> Iterator[None]:
        """Both processes run and answer; what already does is used as it is. No other command starts any meanwhile.

        `attached`: they end with this process, even if that is killed; otherwise they live until `down`. Raises
        SlipwayError for a port in use, for a process that runs with other settings, and with the last lines of one that
        dies. Then, when interrupted, and when the block fails, nothing that was started here is left.
        """
        folder, parts = self.folder, self._parts(model, attached)
        with processes.exclusive(folder):
            missing = [part for part in parts if not _is_usable(part, folder)]
            wanted_before = {part.name for part in missing if processes.remembered(part.name, folder)}
            for part in missing:  # a server whose engine died still has the port
                processes.stop(part.name, folder, forget=False)
            ports = [port for part in missing for port in part.ports]
            require_all("vLLM and the gateway cannot start", [partial(require_free, port) for port in ports])
            try:
                for part in missing:
                    processes.launch(part.command, folder, attached=attached)
                for part in reversed(parts):  # the gateway is there in a second, vLLM is not
                    _wait(part, folder, on_progress)
                yield
            except BaseException:
                for part in missing:  # forgotten, a supervisor would take what had died before for stopped on purpose
                    processes.end_own(part.name, folder, forget=part.name not in wanted_before)
                raise

    def down(self) -> tuple[str, ...]:
        """Ends both processes with everything that they started; the names of those that ran. Safe to repeat."""
        with processes.exclusive(self.folder):
            return tuple(name for name in ("gateway", "vllm") if processes.stop(name, self.folder))

    def state(self) -> tuple[PartState, ...]:
        """How vLLM and the gateway are."""
        where = addresses(self.environment)
        healthy: dict[str, Callable[[], ProcessHealth]] = {
            "vllm": lambda: vllm_health(where.vllm_url),
            "gateway": lambda: gateway_health(where.admin_url, self.admin_token()),
        }
        found = []
        for name, url in (("vllm", where.vllm_url), ("gateway", where.gateway_url)):
            process = processes.find(name, self.folder)
            health = healthy[name]() if process else "silent"
            log = str(self.folder / f"{name}.log")
            reason = "" if health == "ok" else "it runs, but does not answer" if process else "it does not run"
            pid = process.pid if process else None
            found.append(PartState(name, url, process is not None, health == "ok", pid, log, reason))
        return tuple(found)

    def watch(self, model: ModelToServe, *, attached: bool = False) -> KeepAlive:
        """Restarts what `up` started when it dies. A restarted vLLM has lost its adapters."""
        return KeepAlive(Processes(self._parts(model, attached), self.folder))

    def evaluates_on(self, model_name: str) -> str | None:
        """A build uses the vLLM that runs here, or starts one that ends with it."""
        return None

    def summary(self) -> str:
        """Where it is reached."""
        where = addresses(self.environment)
        return f"gateway {where.gateway_url}/v1   admin {where.admin_url}   vLLM {where.vllm_url}"

    def _parts(self, model: ModelToServe, attached: bool) -> tuple[SupervisedProcess, ...]:
        where, token = addresses(self.environment), self.admin_token()
        vllm, ports = self.environment.vllm, ports_of(self.environment)
        return (
            SupervisedProcess(
                name="vllm",
                command=vllm_command(vllm, *model),
                health=lambda: vllm_health(where.vllm_url),
                start_timeout_s=vllm.start_timeout_s,
                ports=ports["vllm"],
                phase=phase,
                attached=attached,
            ),
            SupervisedProcess(
                name="gateway",
                command=gateway_command(self.environment, self.home, token),
                health=lambda: gateway_health(where.admin_url, token),
                start_timeout_s=GATEWAY_START_TIMEOUT_S,
                ports=ports["gateway"],
                attached=attached,
            ),
        )


def vllm_health(url: str) -> ProcessHealth:
    """`dead` when the API server says that its engine died, which no restart of the engine follows."""
    with VllmClient(url, timeout_s=2.0) as client:
        status = client.health()
    return "ok" if status == 200 else "dead" if status == 503 else "silent"


def gateway_health(admin_url: str, token: str) -> ProcessHealth:
    """The gateway is healthy when its admin side answers to our token; it may have no table yet."""
    with GatewayClient(admin_url, token, timeout_s=2.0) as client:
        return "ok" if client.ready() else "silent"


def gateway_command(environment: Environment, home: Path, token: str) -> ProcessCommand:
    """`python -m delivery.gateway` with the environment's settings; the secrets go through the environment only."""
    config = gateway_settings(environment, home)
    file = _kept(config, environment_folder(environment, home))
    said = config.model_dump(mode="json", exclude_none=True)
    env, settings = {ADMIN_TOKEN: token}, {"admin token": secret_digest(token)}
    upstream_key = os.environ.get(UPSTREAM_KEY, "").strip() or os.environ.get(VLLM_KEY, "").strip()
    if upstream_key:  # otherwise the controller would be let in, and no user
        env[UPSTREAM_KEY], settings["upstream key"] = upstream_key, secret_digest(upstream_key)
    return ProcessCommand(
        name="gateway",
        argv=(sys.executable, "-m", "delivery.gateway", "--config", str(file)),
        env=env,
        settings={**{name: str(value) for name, value in said.items()}, **settings},
        grace_s=20.0,  # it drains for 8 s
    )


def secret_digest(secret: str) -> str:
    """Shows that a secret is another one, and nothing else of it."""
    return "digest " + hashlib.sha256(secret.encode()).hexdigest()[:8]


def gateway_settings(environment: Environment, home: Path) -> GatewayConfig:
    """What the environment says, with a place for the table, and paths that hold in every folder."""
    config = environment.gateway
    table_state = config.table_state or environment_folder(environment, home) / "table.json"
    paths = {"table_state": table_state, "api_keys": config.api_keys, "budget_state": config.budget_state}
    changed: dict[str, object] = {name: path.absolute() for name, path in paths.items() if path is not None}
    if config.traffic_log is not None and config.traffic_log.folder is not None:
        folder = config.traffic_log.folder.absolute()
        changed["traffic_log"] = config.traffic_log.model_copy(update={"folder": folder})
    return config.model_copy(update=changed)


def _kept(config: GatewayConfig, folder: Path) -> Path:
    """The file that the gateway reads; its name says its content, which other settings must not look like."""
    text = as_yaml(config)
    file = folder.absolute() / f"gateway-{hashlib.sha256(text.encode()).hexdigest()[:8]}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def _is_usable(part: SupervisedProcess, folder: Path) -> bool:
    """Whether it runs (or is about to) as asked. Raises SlipwayError when it runs with other settings."""
    running = processes.find(part.name, folder)
    if running is None:
        return False
    wanted = dict(part.command.settings)
    if running.settings != wanted:
        differing = sorted(key for key in {*running.settings, *wanted} if running.settings.get(key) != wanted.get(key))
        pairs = [f"{key}: runs with {running.settings.get(key)!r}, asked for {wanted.get(key)!r}" for key in differing]
        raise SlipwayError(
            f"{running.name} already runs with other settings: {'; '.join(pairs)}",
            where=f"process {running.pid}, {folder}",
            cure="end it with: slipway down",
        )
    return part.health() != "dead"


def _wait(part: SupervisedProcess, folder: Path, on_progress: Progress) -> None:
    process = processes.remembered(part.name, folder)
    if process is None:
        raise SlipwayError(f"{part.name} was ended while it started", where=str(folder))
    ready = lambda: part.health() == "ok"  # noqa: E731
    processes.wait_ready(process, ready, part.start_timeout_s, on_progress, part.phase)


def _url(host: str, port: int) -> str:
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - only compared
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
