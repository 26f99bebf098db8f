//! The local APIC of the PC machine does what KVM's own does, whatever a guest writes to it.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use vmm::image::Code;
use vmm::kernels::pc::apic::{DEFAULT_BASE, offset};
use vmm::kernels::pc::{Board, KernelSymbols, Pc, Program, Stop, load_multiboot};
use vmm::kvm::{Exit, Host, Vm};

const RAM: u64 = 4 << 20;
const IMAGE: u32 = 0x10_0000;
const OPERATIONS: usize = 0x11_0000;
/// What the NMI's handler counts in.
const NMIS: u32 = 0x10_0ff0;

/// A guest that carries out a list of operations: 8 bytes each, an address and a value. Bit 1 of the
/// address makes it a read; address 1 opens a window for interrupts, 0 ends the list.
#[rustfmt::skip]
const CODE: &[(&[u8], &str)] = &[
    (&[0xbc, 0x00, 0x80, 0x10, 0x00], "mov $0x108000, %esp"),
    (&[0x0f, 0x01, 0x1d, 0xf8, 0x0f, 0x10, 0x00], "lidt 0x100ff8"),
    (&[0xbe, 0x00, 0x00, 0x11, 0x00], "mov $0x110000, %esi"),
    // next:
    (&[0x8b, 0x3e], "mov (%esi), %edi"),
    (&[0x85, 0xff], "test %edi, %edi"),
    (&[0x74, 0x27], "je 0x0010005e"),
    (&[0x83, 0xff, 0x01], "cmp $1, %edi"),
    (&[0x74, 0x19], "je 0x00100055"),
    (&[0xf7, 0xc7, 0x02, 0x00, 0x00, 0x00], "test $2, %edi"),
    (&[0x75, 0x07], "jne 0x0010004b"),
    (&[0x8b, 0x46, 0x04], "mov 4(%esi), %eax"),
    (&[0x89, 0x07], "mov %eax, (%edi)"),
    (&[0xeb, 0x0e], "jmp 0x00100059"),
    // read:
    (&[0x83, 0xe7, 0xfc], "and $0xfffffffc, %edi"),
    (&[0x8b, 0x07], "mov (%edi), %eax"),
    (&[0x89, 0x46, 0x04], "mov %eax, 4(%esi)"),
    (&[0xeb, 0x04], "jmp 0x00100059"),
    // window:
    (&[0xfb], "sti"),
    (&[0x90], "nop"),
    (&[0x90], "nop"),
    (&[0xfa], "cli"),
    // done:
    (&[0x83, 0xc6, 0x08], "add $8, %esi"),
    (&[0xeb, 0xd3], "jmp 0x00100031"),
    // end:
    (&[0xba, 0xf4, 0x00, 0x00, 0x00], "mov $0xf4, %edx"),
    (&[0xef], "out %eax, %dx"),
    // kvm_pvm delivers an NMI at the next exit, which that was
    (&[0xef], "out %eax, %dx"),
    (&[0xf4], "hlt"),
    // an interrupt's handler, which leaves it in service. The emulator of host kvm_pvm has no iret in
    // protected mode, so that NMIs stay blocked after the first
    (&[0xff, 0x74, 0x24, 0x08], "pushl 8(%esp)"),
    (&[0x9d], "popf"),
    (&[0xca, 0x04, 0x00], "lret $4"),
    // an NMI's
    (&[0xff, 0x05, 0xf0, 0x0f, 0x10, 0x00], "incl 0x100ff0"),
    (&[0xeb, 0xf0], "jmp 0x00100066"),
];
const INTERRUPT: u32 = IMAGE + 0x66;
const NMI: u32 = IMAGE + 0x6e;

#[test]
fn the_guests_bytes_are_what_the_text_says() {
    let mut ip = u64::from(IMAGE) + 0x20;
    for (bytes, text) in CODE {
        let d = Code::decode(32, bytes, ip).unwrap();
        assert_eq!((d.insn.len(), d.text().as_str()), (bytes.len(), *text), "{ip:#x}");
        ip += bytes.len() as u64;
    }
}

/// The guest as a multiboot image, with its operations.
fn image(operations: &[(u32, u32)]) -> Vec<u8> {
    const MAGIC: u32 = 0x1bad_b002;
    const ADDRESSES: u32 = 1 << 16;
    let header = [MAGIC, ADDRESSES, 0u32.wrapping_sub(MAGIC + ADDRESSES), IMAGE, IMAGE, 0, 0, IMAGE + 0x20];
    let mut out: Vec<u8> = header.iter().flat_map(|w| w.to_le_bytes()).collect();
    CODE.iter().for_each(|(bytes, _)| out.extend(*bytes));
    out.resize(0xff8, 0);
    out.extend((256 * 8 - 1u16).to_le_bytes());
    out.extend((IMAGE + 0x1000).to_le_bytes());
    out.resize(0x1000, 0);
    for vector in 0..256 {
        let to = if vector == 2 { NMI } else { INTERRUPT };
        // An interrupt gate (SDM vol. 3, 6.11).
        out.extend((u64::from(to >> 16) << 48 | 0x8e00 << 32 | 0x10 << 16 | u64::from(to & 0xffff)).to_le_bytes());
    }
    out.resize(OPERATIONS - IMAGE as usize, 0);
    out.extend(
        operations.iter().chain([&(0, 0)]).flat_map(|(at, value)| [at.to_le_bytes(), value.to_le_bytes()]).flatten(),
    );
    out
}

/// What the operations read, and then the count of NMIs, on KVM's own controllers.
fn on_kvm(host: &Host, operations: &[(u32, u32)]) -> Vec<u32> {
    let mut vm = Vm::with_interrupt_controllers(host, RAM).unwrap();
    load_multiboot(&mut vm, &image(operations), "", &[]).unwrap();
    let mut exits = 0;
    while exits < 2 {
        match vm.run().unwrap() {
            Exit::Out { port: 0xf4, .. } => exits += 1,
            Exit::Interrupted => {}
            other => panic!("{other:?} at {:#x}", vm.state().regs.rip),
        }
    }
    read(vm.ram().bytes(), operations)
}

/// The same on the lab's.
fn on_the_labs(host: &Host, operations: &[(u32, u32)]) -> Vec<u32> {
    let board = Board { ram_bytes: RAM, apic: true, plain: true };
    let mut pc = Pc::new(host, board, KernelSymbols::default(), Program::at_port(0), None).unwrap();
    pc.load_multiboot(&image(operations), "", &[]).unwrap();
    for _ in 0..2 {
        let stop = pc.run(&[], Duration::from_secs(20)).unwrap();
        assert!(matches!(stop, Stop::Exited(_)), "{stop:?} at {:#x}", pc.rip());
    }
    read(pc.ram(), operations)
}

fn read(ram: &[u8], operations: &[(u32, u32)]) -> Vec<u32> {
    let value = |i: usize| ram[OPERATIONS + 8 * i + 4..][..4].try_into().map(u32::from_le_bytes).unwrap();
    let nmis = ram[NMIS as usize..][..4].try_into().map(u32::from_le_bytes).unwrap();
    (0..operations.len()).map(value).chain([nmis]).collect()
}

/// All that can be read without the time's having a part in it.
fn look() -> Vec<(u32, u32)> {
    let fixed = [
        offset::ID,
        offset::VERSION,
        offset::TASK_PRIORITY,
        offset::PROCESSOR_PRIORITY,
        offset::LOGICAL_DESTINATION,
        offset::DESTINATION_FORMAT,
        offset::SPURIOUS,
        offset::COMMAND,
        offset::COMMAND_HIGH,
        offset::INITIAL_COUNT,
        offset::DIVIDE,
    ];
    let sets = (offset::IN_SERVICE..offset::ERROR_STATUS).step_by(16);
    let table = (offset::LVT_TIMER..=offset::LVT_ERROR).step_by(16);
    let at = |offset: u64| ((DEFAULT_BASE + offset) as u32 | 2, 0);
    fixed.into_iter().chain(sets).chain(table).map(at).collect()
}

fn write(offset: u64, value: u32) -> (u32, u32) {
    ((DEFAULT_BASE + offset) as u32, value)
}

/// One operation of a guest's. What only KVM lets software write (read-only bits of the local
/// vector table), what resets the CPU, and what has to do with time is not among them.
fn operation() -> impl Strategy<Value = (u32, u32)> {
    let vector = 0x10u32..0x100;
    let near = prop::sample::select(vec![0u32, 1 << 24, 2 << 24, 3 << 24, 0x11 << 24, 0xff << 24]);
    prop_oneof![
        4 => (vector.clone(), 0u32..2, 0u32..2, 0u32..4, 0u32..2, 0u32..2).prop_map(|(v, mode, logical, to, level, trigger)| {
            write(offset::COMMAND, v | (mode & !logical) << 8 | logical << 11 | level << 14 | trigger << 15 | to << 18)
        }),
        1 => (0u32..2).prop_map(|logical| write(offset::COMMAND, 0x400 | logical << 11)),
        1 => Just(write(offset::COMMAND, 0x4_0400)),
        2 => near.clone().prop_map(|to| write(offset::COMMAND_HIGH, to)),
        1 => near.prop_map(|to| write(offset::LOGICAL_DESTINATION, to)),
        1 => prop::sample::select(vec![0u32, u32::MAX]).prop_map(|f| write(offset::DESTINATION_FORMAT, f)),
        3 => any::<u32>().prop_map(|v| write(offset::EOI, v)),
        2 => (0u32..256).prop_map(|v| write(offset::TASK_PRIORITY, v)),
        1 => prop::sample::select(vec![0xffu32, 0x1ff, 0x1f0, 0x3ff]).prop_map(|v| write(offset::SPURIOUS, v)),
        1 => (0u64..6, any::<u32>()).prop_map(|(i, v)| write(offset::LVT_TIMER + 16 * i, v & !0x0004_5000 | 1 << 16)),
        3 => Just((1, 0)),
    ]
}

/// The operations besides reads.
fn written(all: &[(u32, u32)]) -> String {
    let shown = all.iter().filter(|(at, _)| at & 2 == 0).map(|(at, value)| format!("{at:#x}={value:#x}"));
    shown.collect::<Vec<_>>().join(" ")
}

/// The first thing that reads otherwise on the lab's controllers than on KVM's, in words.
fn difference(all: &[(u32, u32)], kvm: &[u32], labs: &[u32]) -> Option<String> {
    if let Some(i) = (0..all.len()).find(|i| kvm[*i] != labs[*i]) {
        let so_far = written(&all[..i]);
        return Some(format!("{:#x} reads {:#x}, KVM's {:#x}, after {so_far}", all[i].0 & !2, labs[i], kvm[i]));
    }
    let (kvm, labs) = (kvm.last(), labs.last());
    (kvm != labs).then(|| format!("{labs:?} NMIs, KVM's {kvm:?}, after {}", written(all)))
}

#[test]
fn it_does_what_kvms_own_does() {
    let host = Host::open().expect("KVM");
    let config = Config { cases: 100, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let begin = vec![
        write(offset::SPURIOUS, 0x1ff),
        write(offset::LVT_LINT0, 0x1_0700),
        write(offset::LVT_LINT1, 0x1_0400),
        write(offset::DESTINATION_FORMAT, u32::MAX),
    ];
    let ran = runner.run(&prop::collection::vec(operation(), 1..40), |random| {
        let mut all = begin.clone();
        for operation in random {
            all.push(operation);
            all.extend(look());
        }
        // On a loaded host, kvm_pvm's emulator may go through a window of three instructions without a
        // look at what is pending, which then comes later. What differs each time is a difference.
        let differs = || difference(&all, &on_kvm(&host, &all), &on_the_labs(&host, &all));
        let found = (0..5).map_while(|_| differs()).collect::<Vec<_>>();
        if let [_, _, _, _, last] = &found[..] {
            return Err(TestCaseError::fail(last.clone()));
        }
        Ok(())
    });
    ran.unwrap_or_else(|e| panic!("{e}"));
}
