"""A port in use is said with who has it."""

import os
import socket

import pytest

from configs.errors import SlipwayError
from delivery.clients.processes.ports import RANGE, Port, free_ports, require_free


def test_a_port_in_use_names_the_port_its_holder_and_the_cure() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = Port("127.0.0.1", holder.getsockname()[1], "environment.yaml: vllm.port")
        with pytest.raises(SlipwayError) as caught:
            require_free(port)
    text = str(caught.value)
    assert f"port {port.number} on 127.0.0.1" in text
    assert f"process {os.getpid()}" in text
    assert "environment.yaml: vllm.port" in text
    assert "set another port" in text
    require_free(port)


def test_free_ports_are_different_free_and_none_that_the_system_gives_to_somebody_else_meanwhile() -> None:
    found = free_ports(50)
    assert len(set(found)) == 50
    for number in found:
        require_free(Port("127.0.0.1", number, "x"))
    assert max(found) < (int(RANGE.read_text().split()[0]) if RANGE.exists() else 32_768)
