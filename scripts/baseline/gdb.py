"""A client for QEMU's gdbstub: the remote serial protocol of GDB, over a Unix socket."""

import re
import socket
import time

CHUNK = 1920  # bytes of memory in a packet; QEMU's packets hold 4096 characters, two for each byte


class GdbError(Exception):
    """The stub answered with an error, or not in time."""


class Timeout(GdbError):
    """Nothing came within the time limit."""


class Gdb:
    """One connection. Several requests may be sent before their answers are taken: that saves round trips."""

    def __init__(self, path, timeout):
        self.timeout = timeout
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        self._socket.connect(path)
        self._buffer = b""
        self.ask("QStartNoAckMode")
        self._socket.sendall(b"+")
        self._layout()

    def close(self):
        self._socket.close()

    def send(self, *requests):
        packets = b"".join(b"$%s#%02x" % (r, sum(r) & 0xFF) for r in (r.encode() for r in requests))
        self._socket.sendall(packets)

    def receive(self, timeout=None):
        deadline = time.monotonic() + (timeout or self.timeout)
        while True:
            start = self._buffer.find(b"$")
            end = self._buffer.find(b"#", start)
            if start >= 0 and 0 < end <= len(self._buffer) - 3:
                packet, self._buffer = self._buffer[start + 1 : end], self._buffer[end + 3 :]
                return packet.decode("latin-1")
            left = deadline - time.monotonic()
            if left <= 0:
                raise Timeout("the gdbstub gave no answer in time")
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(65536)
            except TimeoutError as error:
                raise Timeout("the gdbstub gave no answer in time") from error
            if not data:
                raise GdbError("the gdbstub closed the connection")
            self._buffer += data

    def ask(self, *requests):
        """Sends requests, and takes an answer to each; returns the last."""
        self.send(*requests)
        answer = ""
        for request in requests:
            answer = self.receive()
            if answer[:1] == "E" and len(answer) == 3:
                raise GdbError(f"the gdbstub refuses {request[:40]}: {answer}")
        return answer

    # ---- running ------------------------------------------------------------------------------------------------

    def go(self, *before, how="c", timeout=None):
        """Sends `before`, then resumes (`c`: run, `s`: one instruction) and waits for the stop."""
        self.send(*before, how)
        for _ in before:
            self.receive()
        return self.receive(timeout)

    def interrupt(self):
        """Stops a machine that runs; returns its stop."""
        self._socket.sendall(b"\x03")
        return self.receive()

    @staticmethod
    def breakpoint(address, insert=True):
        return f"{'Z' if insert else 'z'}0,{address:x},1"

    # ---- memory -------------------------------------------------------------------------------------------------

    @staticmethod
    def writes(address, data):
        """Requests that write `data` at `address`."""
        parts = ((address + i, data[i : i + CHUNK]) for i in range(0, len(data), CHUNK))
        return [f"M{at:x},{len(part):x}:{part.hex()}" for at, part in parts]

    def read(self, address, size):
        parts = [(address + i, min(CHUNK, size - i)) for i in range(0, size, CHUNK)]
        self.send(*(f"m{at:x},{n:x}" for at, n in parts))
        data = b""
        for at, _ in parts:
            answer = self.receive()
            if answer.startswith("E"):
                raise GdbError(f"memory at {at:#x} cannot be read")
            data += bytes.fromhex(answer)
        return data

    # ---- registers ----------------------------------------------------------------------------------------------

    def _layout(self):
        """Where each register stands in the answer to `g`, as the stub's own description tells."""
        self.layout, at = {}, 0
        for name, size in self._registers("target.xml"):
            self.layout[name] = (at, size)
            at += size

    def _registers(self, name):
        text, answer = "", "m"
        while answer[:1] == "m":
            answer = self.ask(f"qXfer:features:read:{name}:{len(text):x},7f0")
            text += answer[1:]
        # No XML parser takes it: QEMU 7.2 does not declare the prefix `xi`.
        for tag, attributes in re.findall(r"<(xi:include|reg)\s([^>]*)>", re.sub(r"<!--.*?-->", "", text, flags=re.S)):
            values = dict(re.findall(r'(\w+)="([^"]*)"', attributes))
            if tag == "reg":
                yield values["name"], int(values["bitsize"]) // 8
            else:
                yield from self._registers(values["href"])

    def registers(self):
        """All registers, as the stub's bytes."""
        return bytes.fromhex(self.ask("g").replace("x", "0"))

    def get(self, registers, name):
        at, size = self.layout[name]
        return int.from_bytes(registers[at : at + size], "little")

    def put(self, registers, name, value):
        at, size = self.layout[name]
        return registers[:at] + value.to_bytes(size, "little") + registers[at + size :]
