"""QEMU as the lab's guest wants its machine: booted as docs/guide/guest-abi.md says, stopped at *ready*."""

import ctypes
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from gdb import Gdb, GdbError, Timeout

PORT_READY, PORT_END, PORT_PANIC = 0xE0, 0xE3, 0xE4
START_LIMIT = 30  # seconds, for QEMU to open its sockets, and for any single answer
READY_LIMIT = 10  # seconds, from the entry point to *ready*

# Physical addresses below the image.
GDT, DESCRIPTORS, TRAMPOLINE, TABLES, TABLES_END = 0x500, 0x5E0, 0x600, 0x1000, 0xA0000
CODE64, DATA = 0x00AF9B000000FFFF, 0x00CF93000000FFFF
PRESENT_WRITE_ACCESSED_DIRTY = 0x63


class Unavailable(Exception):
    """QEMU is missing or does not start."""


class BootError(Exception):
    """The image does not come to *ready*."""


def find_qemu(given):
    """Program, leading arguments, environment. In the order: `given`, $NMI_LAB_QEMU, the PATH, and what
    scripts/hosts/svm unpacked."""
    program = given or os.environ.get("NMI_LAB_QEMU") or shutil.which("qemu-system-x86_64")
    if program:
        if not shutil.which(program):
            raise Unavailable(f"{program} is not a program")
        return program, [], dict(os.environ)
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nmi-lab/hosts/qemu"
    program = root / "usr/bin/qemu-system-x86_64"
    if not program.exists():
        raise Unavailable("qemu-system-x86_64 is missing: install it (Debian: apt-get install qemu-system-x86), "
                          "let scripts/hosts/svm --fetch-only unpack it, or name it with --qemu")
    libraries = [str(root / d / "x86_64-linux-gnu") for d in ("usr/lib", "lib")]
    environment = {**os.environ, "QEMU_MODULE_DIR": libraries[0] + "/qemu",
                   "LD_LIBRARY_PATH": ":".join(libraries + [os.environ.get("LD_LIBRARY_PATH", "")]).strip(":")}
    return str(program), ["-L", str(root / "usr/share/qemu"), "-L", str(root / "usr/share/seabios")], environment


_LIBC = ctypes.CDLL(None)


def die_with_parent():
    """Has the kernel kill QEMU where this script is killed and cannot do it itself."""
    PR_SET_PDEATHSIG = 1
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Machine:
    """One emulated machine, stopped whenever no method runs. Use as a context manager."""

    def __init__(self, qemu, image):
        self.image = image
        self._directory = tempfile.TemporaryDirectory(prefix="nmi-lab-baseline.")
        directory = self._directory.name
        program, leading, environment = qemu
        self._log = open(f"{directory}/log", "w+b")
        command = [
            program, *leading, "-nodefaults", "-no-user-config", "-display", "none", "-S",
            # No local APIC: then QEMU's inject-nmi raises the CPU's NMI line itself.
            "-machine", "pc", "-accel", "tcg", "-cpu", "max,-apic", "-m", f"{-(-image.ram >> 20)}M",
            "-action", "reboot=shutdown,shutdown=pause",
            "-gdb", f"unix:{directory}/gdb,server=on,wait=off", "-qmp", f"unix:{directory}/qmp,server=on,wait=off",
        ]
        self.gdb = self._qmp = None
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
                                         preexec_fn=die_with_parent)
        try:
            self._connect(directory)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for end in (self.gdb, self._qmp, self._log):
            if end:
                end.close()
        self._directory.cleanup()

    def _connect(self, directory):
        deadline = time.monotonic() + START_LIMIT
        while True:
            try:
                if not self.gdb:
                    self.gdb = Gdb(f"{directory}/gdb", START_LIMIT)
                connection = socket.socket(socket.AF_UNIX)
                connection.settimeout(START_LIMIT)
                connection.connect(f"{directory}/qmp")
                self._qmp = connection.makefile("rwb")
                connection.close()  # the file keeps it open
                break
            except (FileNotFoundError, ConnectionRefusedError):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self._log.seek(0)
                    said = self._log.read().decode(errors="replace").strip()
                    raise Unavailable(f"QEMU does not start: {said or 'no message'}") from None
                time.sleep(0.02)
        self._qmp.readline()
        self.monitor("qmp_capabilities")

    # ---- the monitor --------------------------------------------------------------------------------------------

    def monitor(self, command, **arguments):
        """A QMP command; returns its result."""
        self._qmp.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self._qmp.flush()
        while True:
            try:
                line = self._qmp.readline()
            except TimeoutError as error:
                raise Timeout(f"the monitor gave no answer to {command}") from error
            answer = json.loads(line) if line else {"error": {"desc": "the connection is closed"}}
            if "error" in answer:
                raise GdbError(f"monitor command {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def human(self, line):
        """A command of the human monitor that says nothing unless it fails."""
        said = self.monitor("human-monitor-command", **{"command-line": line}).strip()
        if said:
            raise GdbError(f"monitor command {line}: {said}")

    def add_snapshot_disk(self):
        """A disk that holds nothing but `savevm`'s snapshots."""
        path = f"{self._directory.name}/snapshots"
        Path(path).touch()
        self.monitor("blockdev-add", driver="file", filename=path, **{"node-name": "file"})
        self.monitor("blockdev-create", **{"job-id": "create", "options": {"driver": "qcow2", "file": "file", "size": 1 << 20}})
        deadline = time.monotonic() + START_LIMIT
        while self.monitor("query-jobs")[0]["status"] != "concluded":
            if time.monotonic() > deadline:
                raise Timeout("blockdev-create does not end")
            time.sleep(0.01)
        self.monitor("job-dismiss", id="create")
        # No flush to the disk: what is measured is the restore, not the medium.
        self.monitor("blockdev-add", driver="qcow2", file="file", **{"node-name": "disk", "cache": {"no-flush": True}})

    # ---- boot ---------------------------------------------------------------------------------------------------

    def boot(self, scheme, scenario):
        """Loads the image and runs it to *ready*: afterwards the CPU stands behind that hypercall."""
        gdb, image = self.gdb, self.image
        writes = []
        # The CPU is in real mode still: addresses are physical.
        for _, paddr, size, data, _ in image.segments:
            if paddr < 1 << 20 or paddr + size > image.ram:
                raise BootError(f"a segment at physical {paddr:#x} does not lie between 1 MiB and the end of RAM")
            writes += gdb.writes(paddr, data)
        code = trampoline()
        writes += gdb.writes(TABLES, page_tables(image)) + gdb.writes(TRAMPOLINE, code)
        writes += gdb.writes(GDT, struct.pack("<QQQ", 0, CODE64, DATA))
        writes += gdb.writes(DESCRIPTORS, struct.pack("<HIHxxxxxxHI", 23, GDT, 0, 0, 0))
        gdb.ask(*writes)
        start = gdb.registers()
        for name, value in (("cs", 0), ("rip", TRAMPOLINE)):
            start = gdb.put(start, name, value)
        gdb.ask("G" + start.hex())
        self._run_to({TRAMPOLINE + len(code)}, "the trampoline")

        entry = gdb.registers()
        general = "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15".split()
        values = dict.fromkeys(general, 0) | {"rip": image.entry, "eflags": 2, "rdi": scheme, "rsi": scenario, "rdx": image.ram}
        for name, value in values.items():
            entry = gdb.put(entry, name, value)
        gdb.ask("G" + entry.hex())
        panic, end = hypercalls(image, PORT_PANIC), hypercalls(image, PORT_END)
        at = self._run_to(hypercalls(image, PORT_READY) | panic | end, "the image")
        if at in panic | end:
            raise BootError(f"the image {'panics' if at in panic else 'ends'} before it is ready, at {image.label(at)}")
        gdb.go(how="s")

    def _run_to(self, stops, who):
        set_stops = [self.gdb.breakpoint(at) for at in stops]
        try:
            self.gdb.go(*set_stops, timeout=READY_LIMIT)
        except Timeout:
            self.gdb.interrupt()
        at = self.rip()
        self.gdb.ask(*(self.gdb.breakpoint(at, insert=False) for at in stops))
        if at not in stops:
            raise BootError(f"{who} did not get where it should within {READY_LIMIT} s; it stands at {self.image.label(at)}")
        return at

    def rip(self):
        return self.gdb.get(self.gdb.registers(), "rip")


def hypercalls(image, port):
    """Addresses of `out %eax, $port`."""
    return set(image.find_code(bytes([0xE7, port])))


def trampoline():
    """From real mode to the state at entry, general registers apart. Ends where the script takes over."""
    real = b"".join([
        b"\x0f\x01\x16" + struct.pack("<H", DESCRIPTORS),  # lgdt
        b"\x0f\x01\x1e" + struct.pack("<H", DESCRIPTORS + 12),  # lidt, limit 0
        b"\xb0\xff\xe6\x21\xe6\xa1",  # mov $0xff, %al; out to both PICs' masks: there are no devices
        b"\x66\xb8" + struct.pack("<I", 1 << 5) + b"\x0f\x22\xe0",  # CR4: PAE
        b"\x66\xb8" + struct.pack("<I", TABLES) + b"\x0f\x22\xd8",  # CR3
        b"\x66\xb9" + struct.pack("<I", 0xC0000080) + b"\x66\x31\xd2",  # ECX: EFER; EDX: 0
        b"\x66\xb8" + struct.pack("<I", 1 | 1 << 8 | 1 << 11) + b"\x0f\x30",  # EFER: SCE LME NXE; wrmsr
        b"\x66\xb8" + struct.pack("<I", 1 << 31 | 1 << 16 | 0x33) + b"\x0f\x22\xc0",  # CR0: PG WP NE ET MP PE
    ])
    real += b"\xea" + struct.pack("<HH", TRAMPOLINE + len(real) + 5, 0x08)  # ljmp $8, next
    # mov $0x10, %eax; mov to DS, ES, SS, FS, GS
    return real + b"\xb8\x10\0\0\0" + b"".join(bytes([0x8E, 0xC0 | s << 3]) for s in (3, 0, 2, 4, 5))


def page_tables(image):
    """RAM at virtual = physical, and each segment at its virtual address; all writable and executable."""
    pages = {page: page for page in range(0, image.ram, 4096)}
    for vaddr, paddr, size, _, _ in image.segments:
        skew = vaddr % 4096
        pages.update((vaddr - skew + i, paddr - skew + i) for i in range(0, size + skew, 4096))
    tables = [[0] * 512]
    for vaddr, paddr in pages.items():
        table = 0
        for shift in (39, 30, 21):
            index = vaddr >> shift & 0x1FF
            if not tables[table][index]:
                tables[table][index] = TABLES + 4096 * len(tables) | PRESENT_WRITE_ACCESSED_DIRTY
                tables.append([0] * 512)
            table = (tables[table][index] - TABLES) >> 12
        tables[table][vaddr >> 12 & 0x1FF] = paddr | PRESENT_WRITE_ACCESSED_DIRTY
    if TABLES + 4096 * len(tables) > TABLES_END:
        raise BootError("the page tables do not fit below 640 KiB")
    return struct.pack(f"<{512 * len(tables)}Q", *(entry for table in tables for entry in table))
