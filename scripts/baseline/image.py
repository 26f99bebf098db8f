"""The guest image: an ELF file, its symbols, and the manifest in its notes (docs/guide/guest-abi.md)."""

import bisect
import shlex
import struct

PF_X = 1
PT_LOAD, PT_NOTE = 1, 4
SHT_SYMTAB = 2
DEFAULT_RAM = 8 << 20


class BadImage(Exception):
    """The file is no image that this script can boot; the text says why."""


class Image:
    """One image. `ram` is in bytes; `segments` are (vaddr, paddr, memory size, bytes of the file, flags)."""

    def __init__(self, path):
        try:
            with open(path, "rb") as file:
                raw = file.read()
        except OSError as error:
            raise BadImage(f"{path}: {error.strerror}") from error
        try:
            self.bytes = _embedded(raw)
            self._parse()
        except (struct.error, IndexError, UnicodeDecodeError, ValueError) as error:
            raise BadImage(f"{path}: a table in it is broken ({error})") from error
        except BadImage as error:
            raise BadImage(f"{path}: {error}") from error

    def _parse(self):
        raw = self.bytes
        self.entry, phoff, shoff = struct.unpack_from("<QQQ", raw, 24)
        phentsize, phnum, shentsize, shnum = struct.unpack_from("<HHHH", raw, 54)
        self.segments, notes = [], []
        for i in range(phnum):
            kind, flags, offset, vaddr, paddr, filesz, memsz, _ = struct.unpack_from("<IIQQQQQQ", raw, phoff + i * phentsize)
            if kind == PT_LOAD and memsz:
                self.segments.append((vaddr, paddr, memsz, raw[offset : offset + filesz], flags))
            elif kind == PT_NOTE:
                notes.append(_notes(raw[offset : offset + filesz]))
        self.symbols = {}
        for i in range(shnum):
            kind, = struct.unpack_from("<I", raw, shoff + i * shentsize + 4)
            offset, size, link = struct.unpack_from("<QQI", raw, shoff + i * shentsize + 24)
            if kind == SHT_SYMTAB:
                strings, = struct.unpack_from("<Q", raw, shoff + link * shentsize + 24)
                for at in range(offset, offset + size, 24):
                    name, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", raw, at)
                    if name and section:
                        end = raw.index(b"\0", strings + name)
                        self.symbols[raw[strings + name : end].decode()] = value
        self._labels = sorted((value, name) for name, value in self.symbols.items() if self._is_code(value))
        self._declare("\n".join(notes))

    def _declare(self, text):
        self.ram, self.schemes, self.scenarios = DEFAULT_RAM, {}, {}
        for line in text.replace("\0", " ").splitlines():
            words = shlex.split(line, comments=True)
            pairs = dict(word.split("=", 1) for word in words if "=" in word)
            if words[:1] == ["ram"]:
                self.ram = int(words[1])
            elif words[:1] in (["scheme"], ["scenario"]):
                (self.schemes if words[0] == "scheme" else self.scenarios)[words[1]] = pairs
        if not self.schemes or not self.scenarios:
            raise BadImage("it has no manifest (an ELF note of owner NMI-LAB) with a scheme and a scenario")

    def _is_code(self, vaddr):
        return any(start <= vaddr < start + size and flags & PF_X for start, _, size, _, flags in self.segments)

    def address(self, place):
        """The address of `SYMBOL` or `SYMBOL+0x10`."""
        name, _, offset = place.partition("+")
        if name not in self.symbols:
            raise BadImage(f"the manifest names {name}, which is no symbol")
        return self.symbols[name] + int(offset or "0", 0)

    def label(self, vaddr):
        """`label+0x4`: the place by the nearest symbol at or below it."""
        i = bisect.bisect(self._labels, (vaddr, "\x7f")) - 1
        if i < 0 or not self._is_code(vaddr):
            return hex(vaddr)
        base, name = self._labels[i]
        return name + (f"+{vaddr - base:#x}" if vaddr > base else "")

    def find_code(self, pattern):
        """Addresses of these bytes in code. One may lie inside an instruction; no run ever stops there."""
        found = []
        for vaddr, _, _, data, flags in self.segments:
            at = data.find(pattern) if flags & PF_X else -1
            while at >= 0:
                found.append(vaddr + at)
                at = data.find(pattern, at + 1)
        return found


def _embedded(raw):
    """The image itself, where `raw` is one, or the one that a `vmm` program holds."""
    if raw[:4] != b"\x7fELF":
        raise BadImage("not an ELF file")
    at = 0
    while at >= 0:
        header = raw[at : at + 64]
        if len(header) == 64 and header[4:6] == b"\x02\x01" and struct.unpack_from("<HH", header, 16) == (2, 62):
            shoff, = struct.unpack_from("<Q", header, 40)
            shentsize, shnum = struct.unpack_from("<HH", header, 58)
            end = at + shoff + shentsize * shnum
            if end <= len(raw) and raw.find(b"NMI-LAB\0", at, end) >= 0:
                return raw[at:end]
        at = raw.find(b"\x7fELF", at + 1)
    raise BadImage("neither a static ELF64 for x86-64 with a manifest, nor a program that holds one")


def _notes(data):
    text, at = [], 0
    while at + 12 <= len(data):
        name_size, size, kind = struct.unpack_from("<III", data, at)
        at += 12
        name = data[at : at + name_size]
        at += (name_size + 3) & ~3
        if name == b"NMI-LAB\0" and kind == 1:
            text.append(data[at : at + size].decode())
        at += (size + 3) & ~3
    return "\n".join(text)
