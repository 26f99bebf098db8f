//! The longer texts of `--help`.

pub const SHORT: &str = "\
Examples:
  vmm list schemes
  vmm run --scheme naive --scenario vmalloc-fault --schedule 'nmi@work.fill nmi@exit_iret' --trace
  vmm campaign scripts/campaigns/quick.toml

`vmm --help` tells words and exit codes; `vmm COMMAND --help` has examples of each command.";

pub const LONG: &str = "\
Examples:
  vmm list schemes                                 what there is to test
  vmm list boundaries --scheme naive --scenario quiet
                                                   where an NMI can arrive
  vmm run --scheme naive --scenario vmalloc-fault --schedule 'nmi@work.fill nmi@exit_iret' --trace
                                                   one run, instruction by instruction
  vmm campaign scripts/campaigns/quick.toml        every scheme, every boundary
  vmm replay 'LINE'                                the line that a failure printed

Words:
  boundary   the point between two retired guest instructions, written label+offset#n:
             the n-th time execution stands there
  scheme     one way to enter and leave an NMI
  scenario   what the guest does while NMIs arrive
  mode       native: the CPU, through KVM, owns the NMI mask; pv: the VMM owns it
  schedule   what arrives where: 'nmi@first+0x10#1 unmask@copy_frame#1'
  verdict    pass, violation(I5: …) of an invariant, livelock, shutdown, or host-limit
             (this KVM cannot show it)

Exit codes:
  0   every verdict is as expected (run and replay expect pass)
  1   not every verdict is
  2   the command line is wrong
  65  a bad campaign file, schedule, replay line or image
  69  no usable KVM
  70  a defect of this program, such as gears that disagree
  74  a result could not be written
  75  interrupted; what was found is kept and reported

Environment:
  VMM_KVM    another device than /dev/kvm
  RUST_LOG   what to log, where -v is not given";

pub const LIST: &str = "\
Examples:
  vmm list schemes --all
  vmm list scenarios --json
  vmm list boundaries --scheme naive --scenario quiet";

pub const BOUNDARIES: &str = "\
Without --path, first the boundaries of the golden run (the run without NMIs), then those
that one NMI at its first boundary adds: the scheme's own code.

Columns: the address; the boundary as a schedule names it, with the visits it has (#1..#9);
whether NMIs are blocked there (open, masked, or both in turn; `shadow` marks the
instruction after mov %ss or sti, where nothing is delivered); the instruction that comes next.

Examples:
  vmm list boundaries --scheme naive --scenario vmalloc-fault
  vmm list boundaries --scheme naive --scenario quiet --path 'nmi@work.fill#1'
  vmm list boundaries --kernel vmlinuz
  vmm list boundaries --kernel vmlinuz --path 'nmi@user'

Of a Linux kernel, which is booted for it, the list is its NMI entry code as it is live in
memory, after the patching of alternatives; with --path, all code on the schedule's way (C code
too). FRAME says until where the hardware's frame (needed), or the entry's first save beneath it
(save), is still to be read: an NMI there, NMIs unblocked, cannot be survived.";

pub const RUN: &str = "\
A schedule is a list of events, nmi@PLACE or unmask@PLACE, separated by spaces. A place is a
label, label+offset or address, then #n for the n-th time execution stands there (#1 unless
told). `vmm list boundaries` shows all of them.

Examples:
  vmm run --scheme naive --scenario quiet
  vmm run --scheme naive --scenario vmalloc-fault --schedule 'nmi@work.fill nmi@exit_iret' --trace
  vmm run --scheme naive --scenario ud-fault --schedule 'nmi@work.fill#1 nmi@body#1' --gear all --json

Exits 0 for a pass, 1 for any other verdict.";

pub const REPLAY: &str = "\
The line holds scheme, scenario, mode, the guest image's hash, model knobs and the schedule.
A line about another image is refused: its labels and offsets may mean something else.

Example:
  vmm replay 'naive/vmalloc-fault/native@0123456789abcdef nmi@work.fill#1 nmi@exit_iret#1' --trace

Exits 1 where the failure is reproduced, 0 where the run passes.";

pub const EXPLAIN: &str = "\
One line for each event, with the number of the instruction that comes next, and then what became
of the rule that broke. `vmm replay LINE --format html=story.html` tells the same with every
instruction and every word of the stacks.

Example:
  vmm explain 'naive/vmalloc-fault/native@0123456789abcdef nmi@work.fill#1 nmi@exit_iret#1'

Exits as replay does.";

pub const DEBUG: &str = "\
The run is recorded to its verdict before gdb connects. gdb gets the image with its symbols over
the connection. step, continue, breakpoints, watchpoints, reverse-step and reverse-continue work as
usual; memory and registers can be read only. `monitor help` lists what the lab adds: the state of
NMIs, what happens next or happened last, and NMIs that arrive where the run stands.

Examples:
  vmm debug 'naive/vmalloc-fault/native@0123456789abcdef nmi@work.fill#1 nmi@exit_iret#1'
  vmm debug --scheme naive --scenario quiet --schedule nmi@work.fill --listen unix:/tmp/nmi
  vmm debug --kernel vmlinux --schedule 'nmi@user nmi@asm_exc_nmi+0x4'
  gdb -ex 'target remote 127.0.0.1:1234'                in another terminal
  (gdb) continue                                        to the failing end
  (gdb) watch *(long *)$rsp
  (gdb) reverse-continue                                to the last writer of that word

Exits 0 when gdb has left.";

pub const CAMPAIGN: &str = "\
A campaign is a TOML file: schemes and scenarios, how to generate schedules, and the verdicts
expected. scripts/campaigns/ has examples, docs/guide/campaigns.md tells every key.

Results do not depend on --jobs. With --out, every finished unit of work is kept: a campaign
that was stopped, killed or crashed goes on where it was. Ctrl-C stops at the next case and
reports what was found (exit 75); a second Ctrl-C ends at once.

Examples:
  vmm campaign scripts/campaigns/quick.toml
  vmm campaign scripts/campaigns/iret-window.toml --out results --jobs 4
  vmm campaign big.toml --shard 3/16 --out shard-3      one of sixteen machines
  vmm merge shard-*                                     all of them together";

pub const EXPLORE: &str = "\
Examples:
  vmm explore --scheme mainline --scenario vmalloc-fault
  vmm explore --scheme naive --scenario vmalloc-fault --keep-going
  vmm explore --guest my-kernel.elf --scheme mine --scenario quiet
  vmm explore --entry my_nmi.o --scheme custom --scenario vmalloc-fault
  vmm explore --scheme mainline --scenario quiet --events nmi,unmask
  vmm explore --scheme naive --scenario quiet --graph states.dot

A search that closes has covered every number, timing and nesting of arrivals: its
verdict holds for all of them. One that hits a bound says so, and is no pass.
Each kind of violation is shown by a shortest schedule: fewest arrivals first.";

pub const MERGE: &str = "\
Every folder must come from the same campaign, image and host. The result has the same bytes
in whatever order the folders are named, and the same as an undivided run.

A set that is not complete is no result: it exits 1 and says what is missing, unless --partial
asks for what is there.

Example:
  vmm merge shard-0 shard-1 --json";

pub const REPORT: &str = "\
Reads the folder and writes nothing to it, so it may lie on a read-only file system. Records that
are damaged are named and left out; `vmm campaign` with the same folder runs them again.

Examples:
  vmm report results
  vmm report results --format ktap";
