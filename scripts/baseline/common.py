"""What both scripts share: options, exit codes, progress."""

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

from gdb import GdbError
from image import BadImage, Image
from machine import BootError, Unavailable, find_qemu
from points import Impossible, Unknown

LAB = Path(__file__).resolve().parents[2]
EX_USAGE, EX_DATA, EX_UNAVAILABLE, EX_SOFTWARE, EX_INTERRUPTED = 2, 65, 69, 70, 75


def positive(text):
    value = float(text)
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text}: more than 0, and an hour at most")
    return value


def add_options(parser):
    parser.add_argument("--scheme", action="append", required=True, metavar="S", help="a scheme of mode native; may be repeated")
    parser.add_argument("--scenario", action="append", required=True, metavar="C", help="a scenario; may be repeated")
    parser.add_argument("--image", metavar="FILE", default=str(LAB / "target/release/vmm"),
                        help="the guest: an ELF image, or a vmm program, whose built-in kernel is taken (default: %(default)s)")
    parser.add_argument("--qemu", metavar="PROGRAM",
                        help="default: $NMI_LAB_QEMU, then qemu-system-x86_64 in the PATH, then what scripts/hosts/svm unpacked")
    parser.add_argument("--limit", type=positive, default=2, metavar="SECONDS",
                        help="a run of the guest that takes longer has no end (default: %(default)s)")


def prepare(options):
    """The image and QEMU."""
    if not Path(options.image).exists() and options.image == str(LAB / "target/release/vmm"):
        raise BadImage(f"{options.image} does not exist: build it (cargo build --release -p vmm), or name an image with --image")
    return Image(options.image), find_qemu(options.qemu)


def pairs(options):
    return [(scheme, scenario) for scheme in options.scheme for scenario in options.scenario]


def version(qemu):
    program, leading, environment = qemu
    try:
        said = subprocess.run([program, *leading, "--version"], env=environment, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{program} does not run: {error}") from error
    if said.returncode or not said.stdout:
        raise Unavailable(f"{program} does not run: {said.stderr.strip() or 'it says nothing'}")
    return said.stdout.splitlines()[0] + ", TCG"


def progress(what):
    """A callback that shows done/all and the time left on a terminal's stderr, once a second."""
    begin = shown = time.monotonic()

    def show(done, of):
        nonlocal shown
        now = time.monotonic()
        if not sys.stderr.isatty() or (now - shown < 1 and not (done == of and shown > begin)):
            return
        shown = now
        left = (now - begin) / done * (of - done)
        print(f"\r{what}: {done}/{of}, {left:.0f} s left \x1b[K", end="\r\x1b[K" if done == of else "", file=sys.stderr, flush=True)

    return show


def run(main):
    """Runs a script's `main`, and turns what can go wrong into a line and an exit code."""
    name = "scripts/baseline/" + Path(sys.argv[0]).name
    if sys.version_info < (3, 10):
        sys.exit(complain(name, "Python 3.10 or later is needed", EX_UNAVAILABLE))
    # So that QEMU and the directory go with the script.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        code = main()
        sys.stdout.flush()
    except Unknown as error:
        code = complain(name, error, EX_USAGE)
    except (BadImage, BootError, Impossible) as error:
        code = complain(name, error, EX_DATA)
    except Unavailable as error:
        code = complain(name, error, EX_UNAVAILABLE)
    except (GdbError, OSError) as error:
        code = complain(name, error, EX_SOFTWARE)
    except KeyboardInterrupt:
        code = complain(name, "interrupted", EX_INTERRUPTED)
    sys.exit(code)


def complain(name, error, code):
    print(f"{name}: {error}", file=sys.stderr)
    return code
