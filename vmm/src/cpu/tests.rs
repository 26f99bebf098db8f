//! What the model does, by example. That it is right, KVM says: see the tests of the workspace.

use super::fixture::*;
use super::*;

#[test]
fn moves_and_sums() {
    // mov $0x11223344,%eax; push %rax; mov (%rsp),%bl; add $0xbc,%bl; hlt
    let code = [0xb8, 0x44, 0x33, 0x22, 0x11, 0x50, 0x8a, 0x1c, 0x24, 0x80, 0xc3, 0xbc, 0xf4];
    let (mut ram, mut cpu) = machine(&code);
    cpu.regs.rax = u64::MAX;
    let ends = steps(&mut ram, &mut cpu, 5);
    assert_eq!(ends, [End::Next, End::Next, End::Next, End::Next, End::Halt]);
    assert_eq!((cpu.regs.rax, cpu.regs.rbx, cpu.regs.rsp), (0x1122_3344, 0, STACK - 0x108));
    assert_eq!(cpu.regs.rflags, rflags::FIXED | rflags::ZF | rflags::CF | rflags::AF | rflags::PF);
    assert_eq!(ram[STACK as usize - 0x108..][..8], [0x44, 0x33, 0x22, 0x11, 0, 0, 0, 0]);
    assert_eq!(cpu.regs.rip, CODE + code.len() as u64);
}

#[test]
fn an_nmi_goes_to_its_stack_and_back() {
    let (mut ram, mut cpu) = machine(&[0x90]);
    cpu.regs.rflags |= rflags::IF;
    let before = cpu;
    let mut log = Vec::new();
    let mut mem = Ram::new(&mut ram, &mut log);
    let mut model = Model::default();
    let end = model.deliver_nmi(&mut cpu, &mut mem, &mut Untraced);
    assert_eq!(end, End::Delivered(Delivered { vector: 2, error_code: None, cr2: None, cleared_ac: false }));
    assert_eq!((cpu.regs.rip, cpu.regs.rsp, cpu.events.nmi.masked), (HANDLER + 32, NMI_STACK - 40, 1));
    assert_eq!(cpu.regs.rflags & rflags::IF, 0);
    assert_eq!(model.step(&mut cpu, &mut mem, &mut Untraced), End::Next);
    assert_eq!(cpu, before);
}

#[test]
fn a_fault_tells_why() {
    // mov 0x20000,%al
    let (mut ram, mut cpu) = machine(&[0x8a, 0x04, 0x25, 0, 0, 2, 0]);
    let ends = steps(&mut ram, &mut cpu, 1);
    assert_eq!(
        ends,
        [End::Delivered(Delivered { vector: 14, error_code: Some(0), cr2: Some(0x2_0000), cleared_ac: false })]
    );
    assert_eq!((cpu.regs.rip, cpu.sregs.cr2), (HANDLER + 14 * 16, 0x2_0000));
    let frame = &ram[cpu.regs.rsp as usize..];
    assert_eq!(frame[8..16], CODE.to_le_bytes());
    assert_eq!(frame[24..32], (rflags::FIXED | rflags::RF).to_le_bytes());
}

/// As kvm-unit-tests' eventinj has it.
#[test]
fn an_int_that_cannot_be_delivered_faults_where_it_stands() {
    let (mut ram, mut cpu) = machine(&[0xcd, 0x20]); // int $0x20, behind the end of the IDT
    let code = Some(0x20 << 3 | 2);
    let ends = steps(&mut ram, &mut cpu, 1);
    assert_eq!(ends, [End::Delivered(Delivered { vector: 13, error_code: code, cr2: None, cleared_ac: false })]);
    assert_eq!(ram[cpu.regs.rsp as usize + 8..][..8], CODE.to_le_bytes(), "its frame points at it");
    let (mut ram, mut cpu) = machine(&[0xcd, 3]);
    steps(&mut ram, &mut cpu, 1);
    assert_eq!(ram[cpu.regs.rsp as usize..][..8], (CODE + 2).to_le_bytes(), "one that is delivered, behind it");
}

#[test]
fn a_flag_that_is_undefined_is_not_tested() {
    // and %eax,%eax clears AF or not; mul %ebx; jz
    let (mut ram, mut cpu) = machine(&[0xf7, 0xe3, 0x74, 0]);
    let ends = steps(&mut ram, &mut cpu, 2);
    assert_eq!(ends[1], End::NotUnderstood(NotUnderstood::UndefinedFlags(rflags::ZF)));
    assert_eq!(cpu.regs.rip, CODE + 2);
}

#[test]
fn a_delivery_leaves_ac_alone_unless_this_host_clears_it() {
    for clears in [false, true] {
        let (mut ram, mut cpu) = machine(&[0x0f, 0x0b]); // ud2
        cpu.regs.rflags |= rflags::AC;
        let mut log = Vec::new();
        let mut mem = Ram::new(&mut ram, &mut log);
        let mut model = Model::new(Knobs { delivery_clears_ac: clears, ..Knobs::default() });
        let end = model.step(&mut cpu, &mut mem, &mut Untraced);
        assert_eq!(end, End::Delivered(Delivered { vector: 6, error_code: None, cr2: None, cleared_ac: clears }));
        assert_eq!(cpu.regs.rflags & rflags::AC == 0, clears);
        let at = cpu.regs.rsp as usize + 16;
        assert_eq!(ram[at..at + 8], (rflags::FIXED | rflags::RF | rflags::AC).to_le_bytes(), "the frame has it");
    }
}

#[test]
fn an_armed_breakpoint_matters_where_it_is() {
    let (mut ram, mut cpu) = machine(&[0x90, 0x90]);
    let step = |cpu: &mut Cpu, ram: &mut Vec<u8>| steps(ram, cpu, 1)[0];
    (cpu.debug.addresses[1], cpu.debug.dr7) = (CODE + 1, 1 << 3);
    assert_eq!(step(&mut cpu, &mut ram), End::Next);
    assert!(matches!(step(&mut cpu, &mut ram), End::NotUnderstood(NotUnderstood::Mode(_))));
    for dr7 in [1 << 3 | 1 << 20, 1 << 13] {
        let mut cpu = Cpu { debug: Debug { dr7, ..Debug::default() }, ..cpu };
        assert!(matches!(step(&mut cpu, &mut ram), End::NotUnderstood(NotUnderstood::Mode(_))), "a watchpoint, or GD");
    }
}

#[test]
fn of_after_a_shift_by_more_than_one_is_what_the_host_leaves() {
    const FIRST: u64 = 1 << 62;
    const LAST: u64 = 1 << 59;
    // rol $4,%rax; a register by a constant stands apart from others
    let constant: &[u8] = &[0x48, 0xc1, 0xc0, 4];
    // shl, rol and rcl %cl,%rax; shld $4,%rdx,%rax
    let others: [&[u8]; 4] =
        [&[0x48, 0xd3, 0xe0], &[0x48, 0xd3, 0xc0], &[0x48, 0xd3, 0xd0], &[0x48, 0x0f, 0xa4, 0xd0, 4]];
    let of_after = |code: &[u8], overflow, rax, before| {
        let (mut ram, mut cpu) = machine(code);
        (cpu.regs.rax, cpu.regs.rcx, cpu.regs.rdx) = (rax, 4, 0);
        cpu.regs.rflags = rflags::FIXED | before;
        let mut log = Vec::new();
        let mut mem = Ram::new(&mut ram, &mut log);
        let undefined = Undefined { overflow, ..Undefined::default() };
        let mut model = Model::new(Knobs { undefined, ..Knobs::default() });
        assert_eq!(model.step(&mut cpu, &mut mem, &mut Untraced), End::Next);
        assert_ne!(cpu.undefined & rflags::OF, 0, "{code:x?}");
        cpu.regs.rflags & rflags::OF
    };
    for how in [Overflow::FirstStep, Overflow::LastStep, Overflow::Kept] {
        let set = |yes: bool| if yes { rflags::OF } else { 0 };
        let expected = [set(how == Overflow::FirstStep), set(how == Overflow::LastStep), set(how == Overflow::Kept)];
        let all = |code, overflow| {
            [(FIRST, 0), (LAST, 0), (0, rflags::OF)].map(|(rax, before)| of_after(code, overflow, rax, before))
        };
        let others_are = Overflows {
            shift: how,
            double_shift: how,
            rotate: how,
            through_carry: how,
            rotate_by_constant: Overflow::default(),
        };
        for code in others {
            assert_eq!(all(code, others_are), expected, "{code:x?} {how:?}");
        }
        assert_eq!(all(constant, Overflows { rotate_by_constant: how, ..Overflows::default() }), expected, "{how:?}");
    }
}
