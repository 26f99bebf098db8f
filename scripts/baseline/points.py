"""The campaign `points`: one NMI at every boundary of the golden run, and a look at where each run ends."""

import time
from collections import Counter

from gdb import Timeout
from machine import PORT_END, PORT_PANIC, Machine, hypercalls

GOLDEN_STEPS = 100_000
SNAPSHOT = "ready"
SHUTDOWN = "T03"  # the stub's stop reply once the machine has shut down (SIGQUIT)
NOT_DELIVERED = "the NMI was not delivered at its boundary"
LEFT_MASKED = "left NMIs masked: the next NMI was not delivered"


class Unknown(Exception):
    """A name on the command line that this script cannot run; the text says why."""


class Impossible(Exception):
    """The image does not do what the script needs; the text says what."""


class Points:
    """One scheme and scenario. `restore` is `gdb` (registers and writable segments) or `loadvm` (the whole machine);
    `limit` is in seconds, for any one run of the guest."""

    def __init__(self, qemu, image, scheme, scenario, restore, limit):
        for kind, name, known in (("scheme", scheme, image.schemes), ("scenario", scenario, image.scenarios)):
            if name not in known:
                raise Unknown(f"no {kind} {name}; there are: {', '.join(sorted(known))}")
        declared = image.schemes[scheme]
        if declared.get("mode", "native") != "native":
            raise Unknown(f"scheme {scheme} is for mode pv: QEMU plays no hypervisor that this script could drive")
        if "entry" not in declared:
            raise Unknown(f"scheme {scheme} declares no entry=: the script cannot tell that an NMI was delivered")
        self.name = (scheme, scenario)
        self.qemu, self.image, self.restore, self.limit = qemu, image, restore, limit
        self.arguments = (image.address(declared["arg"]), image.address(image.scenarios[scenario]["arg"]))
        self.entry = image.address(declared["entry"])
        self.ends, self.panics = hypercalls(image, PORT_END), hypercalls(image, PORT_PANIC)
        self._start()
        try:
            self._golden_run()
        except BaseException:
            self.close()
            raise

    def _start(self):
        """A new machine, at ready, with what it takes to come back there."""
        self.machine = Machine(self.qemu, self.image)
        try:
            self.gdb = self.machine.gdb
            self.machine.add_snapshot_disk()
            self.machine.boot(*self.arguments)
            self._remember_ready()
            # These stay. The stub counts: one that is set twice is still there after one removal.
            self.gdb.ask(*(self.gdb.breakpoint(at) for at in sorted(self.ends | self.panics)))
        except BaseException:
            self.close()
            raise

    def close(self):
        self.machine.close()

    def _remember_ready(self):
        self.machine.human(f"savevm {SNAPSHOT}")
        registers = self.gdb.registers()
        self.back = []
        for vaddr, _, size, _, flags in self.image.segments:
            if flags & 2:
                self.back += self.gdb.writes(vaddr, self.gdb.read(vaddr, size))
        # Registers last: writing CR3 drops translations that the restored page tables no longer have.
        self.back.append("G" + registers.hex())

    def _golden_run(self):
        """Steps to the end; `boundaries` are (address, n-th visit)."""
        visits, self.boundaries = Counter(), []
        while True:
            registers = self.gdb.registers()
            at = self.gdb.get(registers, "rip")
            visits[at] += 1
            self.boundaries.append((at, visits[at]))
            if at in self.ends:
                break
            if at in self.panics or len(self.boundaries) > GOLDEN_STEPS:
                raise Impossible(f"the run without NMIs does not end as it should: {self.image.label(at)}")
            self.gdb.go(how="s")
        self.golden = registers
        # The same end again, running freely after either restore: what differs from run to run cannot be compared.
        for whole in (True, False):
            stop = self._resume(*self._to_ready(whole))
            if (wrong := self._judge(stop)) is not None:
                raise Impossible(f"two runs without NMIs end differently: {wrong}")

    # ---- a case -------------------------------------------------------------------------------------------------

    def run(self, progress=lambda done, of: None):
        """Runs all cases; returns `[None or what is wrong]` in the order of `boundaries`, fewer if interrupted, and
        the seconds they took."""
        results, whole, begin = [], True, time.monotonic()
        try:
            for i, boundary in enumerate(self.boundaries):
                result = self._case(boundary, whole)
                if result == NOT_DELIVERED and not whole:
                    # gdb cannot write the CPU's NMI mask; a snapshot restores it, too.
                    result = self._case(boundary, True)
                    if result != NOT_DELIVERED:
                        results[-1] = results[-1] or LEFT_MASKED
                results.append(result)
                # Of what went wrong nothing may stay behind.
                whole = self.restore == "loadvm" or result is not None
                progress(i + 1, len(self.boundaries))
            if not whole and self._case(self.boundaries[0], False) == NOT_DELIVERED:
                results[-1] = LEFT_MASKED
        except KeyboardInterrupt:
            pass
        return results, time.monotonic() - begin

    def _case(self, boundary, whole):
        address, visit = boundary
        stop_here, entry = self.gdb.breakpoint(address), self.gdb.breakpoint(self.entry)
        remove_here, remove_entry = (self.gdb.breakpoint(at, insert=False) for at in (address, self.entry))
        stop = self._resume(*self._to_ready(whole), stop_here)
        for _ in range(visit - 1):
            self.gdb.go(how="s")
            stop = self._resume()
        if stop is None or self._rip() != address:
            raise Impossible(f"the run without NMIs does not come to {self.schedule(boundary)} again")
        before = self.gdb.registers()
        self.machine.monitor("inject-nmi")
        stop = self._resume(remove_here, entry)
        if stop is None or self._rip() != self.entry or self._return_address() != address:
            wrong = self._judge(stop)
            self.gdb.ask(remove_entry)
            return wrong if stop is None or stop.startswith(SHUTDOWN) else NOT_DELIVERED
        # To the boundary again: the same address with another RSP is code that the NMI shares with what it interrupted.
        stop, here = self._resume(remove_entry, stop_here), None
        while stop is not None and self._rip() == address:
            here = self.gdb.registers()
            if self.gdb.get(here, "rsp") == self.gdb.get(before, "rsp"):
                break
            self.gdb.go(how="s")
            stop, here = self._resume(), None
        if here is None:
            wrong = self._judge(stop)
            self.gdb.ask(remove_here)
            return wrong or "it ended without coming back to what the NMI interrupted"
        wrong = self._differences(here, before)
        if wrong:
            self.gdb.ask(remove_here)
            return "not resumed as it was interrupted: " + wrong
        return self._judge(self._resume(remove_here))

    def _to_ready(self, whole):
        """Restores the machine, or returns the requests that do."""
        if not whole:
            return self.back
        if self.machine.monitor("query-status")["status"] == "shutdown":
            # Not to be revived: a system_reset comes too late, after the snapshot.
            self.close()
            self._start()
            return []
        self.machine.human(f"loadvm {SNAPSHOT}")
        return []

    def _resume(self, *before):
        """Runs to the next stop; `None` where none came within the limit, and the machine was stopped."""
        try:
            return self.gdb.go(*before, timeout=self.limit)
        except Timeout:
            self.gdb.interrupt()
            return None

    def _rip(self):
        return int.from_bytes(bytes.fromhex(self.gdb.ask("p10")), "little")

    def _return_address(self):
        """What the frame at RSP returns to."""
        rsp = int.from_bytes(bytes.fromhex(self.gdb.ask("p7")), "little")
        return int.from_bytes(self.gdb.read(rsp, 8), "little")

    def _judge(self, stop):
        """`None` where the run ended as the golden run did, or what is wrong."""
        registers = self.gdb.registers()
        at = self.gdb.get(registers, "rip")
        if stop is None:
            return f"no end within {self.limit:g} s; stopped at {self.image.label(at)}"
        if stop.startswith(SHUTDOWN):
            return "shutdown (triple fault)"
        if at in self.panics:
            return "panic: " + self._panic_message(registers)
        if at not in self.ends:
            return f"stopped at {self.image.label(at)}, which nobody asked for ({stop})"
        # CR2 at the end is that of the last page fault, which may have happened in the NMI's body instead.
        wrong = self._differences(registers, self.golden, but=("cr2",))
        return wrong and "other registers at the end: " + wrong

    def _differences(self, found, expected, but=()):
        """`None` where all registers are the same."""
        values = ((name, self.gdb.get(found, name), self.gdb.get(expected, name)) for name in self.gdb.layout if name not in but)
        return "; ".join(f"{name} {a:#x}, not {b:#x}" for name, a, b in values if a != b) or None

    def _panic_message(self, registers):
        address, size = (self.gdb.get(registers, name) for name in ("rdi", "rsi"))
        return self.gdb.read(address, min(size, 200)).decode(errors="replace")

    def schedule(self, boundary):
        """As `vmm` writes it."""
        return f"nmi@{self.image.label(boundary[0])}#{boundary[1]}"
