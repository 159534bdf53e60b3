"""vLLM over HTTP: what it serves, and its run-time loading of adapters. The only code that knows vLLM's answers.

Never show vLLM itself to users: whoever reaches its port may load and unload adapters.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from configs.errors import SlipwayError

LOG_IN = "set SLIPWAY_VLLM_API_KEY to the key that this vLLM was started with (--api-key)"


class VllmError(SlipwayError):
    """vLLM refused, failed, or is not there; the message carries its own words."""


class VllmUnavailableError(VllmError):
    """No usable answer: not running, not ready, or too slow. The same call may work later."""


class VllmClient:
    """One vLLM server at its base URL, e.g. `http://127.0.0.1:8100`. Safe to share between threads.

    `timeout_s` bounds the small calls; `slow_timeout_s` loading and probing, which wait behind running batches.
    """

    def __init__(
        self, base_url: str, api_key: str | None = None, timeout_s: float = 5.0, slow_timeout_s: float = 120.0
    ):
        self.base_url = base_url.rstrip("/")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        # trust_env off: a proxy from the environment must not see, or break, calls to a local server
        self._http = httpx.Client(base_url=self.base_url, headers=headers, timeout=timeout_s, trust_env=False)
        self._slow = httpx.Timeout(slow_timeout_s, connect=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        self._http.close()

    def health(self) -> int:
        """HTTP status of /health: 200 serves, 503 the engine died behind the API server, 0 no answer in time."""
        try:
            return self._http.get("/health").status_code
        except httpx.HTTPError:
            return 0

    def healthy(self) -> bool:
        """Whether the API server and the engine behind it say that they serve."""
        return self.health() == httpx.codes.OK

    def models(self) -> dict[str, str]:
        """Every name that clients may ask for -> its folder (of the base model, or of the adapter)."""
        return {name: str(card.get("root") or "") for name, card in self._cards().items()}

    def load_adapter(self, name: str, path: Path | str) -> None:
        """Makes the adapter in folder `path` (on vLLM's machine) servable as `name`; fine when it already is.

        Raises VllmError when vLLM refuses it, when the name belongs to another folder, or when it is not listed
        afterwards. A listed adapter may still fail to answer: `probe` it before it gets traffic.
        """
        folder = os.path.abspath(path)
        if self._is_loaded(name, folder):
            return
        try:
            self._call(
                "POST", "/v1/load_lora_adapter", f"load adapter {name}", json={"lora_name": name, "lora_path": folder}
            )
        except VllmUnavailableError:
            raise
        except VllmError:
            if self._is_loaded(name, folder):  # somebody else loaded the same one at the same moment
                return
            raise
        if not self._is_loaded(name, folder):
            raise VllmError(f"vLLM accepted adapter {name} from {folder}, but does not list it", where=self.base_url)

    def unload_adapter(self, name: str) -> None:
        """Makes vLLM forget the name; fine when it does not know it. Requests in flight end normally."""
        served = self._cards()
        if name not in served:
            return
        if not served[name].get("parent"):
            raise VllmError(f"{name} is the base model and cannot be unloaded", where=self.base_url)
        try:
            self._call("POST", "/v1/unload_lora_adapter", f"unload adapter {name}", json={"lora_name": name})
        except VllmUnavailableError:
            raise
        except VllmError:
            if name in self._cards():
                raise

    def probe(self, name: str) -> None:
        """One real completion of one token. Raises VllmError when `name` does not answer."""
        body = {"model": name, "prompt": "1 + 1 =", "max_tokens": 1, "temperature": 0}
        data = self._call("POST", "/v1/completions", f"answer a probe as {name}", json=body)
        choices = data.get("choices") or [{}]
        tokens = (data.get("usage") or {}).get("completion_tokens", 0)
        if choices[0].get("finish_reason") not in ("length", "stop") or tokens < 1 or data.get("model") != name:
            raise VllmError(f"vLLM's answer to a probe of {name} is not usable: {str(data)[:300]}", where=self.base_url)

    def verify(self, name: str, path: Path | str) -> None:
        """Listed with the right folder, and answers. Raises VllmError otherwise."""
        if not self._is_loaded(name, os.path.abspath(path)):
            raise VllmError(f"vLLM does not serve {name}", where=self.base_url, cure="load it first")
        self.probe(name)

    def _is_loaded(self, name: str, folder: str) -> bool:
        root = self.models().get(name)
        if root is not None and root != folder:
            raise VllmError(
                f"vLLM serves {name} from {root}, not from {folder}",
                where=self.base_url,
                cure="give the other adapter another name: a reused name would serve stale prefix-cache blocks",
            )
        return root is not None

    def _cards(self) -> dict[str, dict[str, Any]]:
        data = self._call("GET", "/v1/models", "list the models")
        try:
            return {str(card["id"]): card for card in data["data"]}
        except (KeyError, TypeError) as error:
            raise VllmError(f"this is not a vLLM server: {str(data)[:300]}", where=self.base_url) from error

    def _call(self, method: str, path: str, what: str, json: dict[str, Any] | None = None) -> dict[str, Any]:
        where = f"{method} {self.base_url}{path}"
        timeout = self._slow if method == "POST" else httpx.USE_CLIENT_DEFAULT
        try:
            answer = self._http.request(method, path, json=json, timeout=timeout)
        except httpx.TimeoutException as error:
            cure = "see whether it is overloaded, or still starting: slipway status"
            raise VllmUnavailableError(f"vLLM did not {what} in time", where=where, cure=cure) from error
        except httpx.HTTPError as error:
            cure = "see whether it runs: slipway status"
            raise VllmUnavailableError(f"vLLM cannot be reached to {what}: {error}", where=where, cure=cure) from error
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            raise VllmUnavailableError(f"vLLM cannot {what} now: {_its_words(answer)}", where=where)
        if not answer.is_success:
            cure = LOG_IN if answer.status_code in (401, 403) else ""
            said = f"vLLM did not {what}: HTTP {answer.status_code}: {_its_words(answer)}"
            raise VllmError(said, where=where, cure=cure)
        return _parsed(answer) or {}


def _parsed(answer: httpx.Response) -> dict[str, Any] | None:
    try:
        data = answer.json()
    except ValueError:
        return None  # loading answers in plain text
    return data if isinstance(data, dict) else None


def _its_words(answer: httpx.Response) -> str:
    data = _parsed(answer) or {}
    error = data.get("error", data)
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or answer.text or answer.reason_phrase)[:1000]
