//! The PV interface, with no KVM: whatever context a guest hands to a return, either
//! exactly what the rules say is committed, or nothing is changed.

use guest::abi;
use proptest::prelude::*;
use vmm::cpu::Segment;
use vmm::kvm::VcpuState;
use vmm::machine::memory::GuestMemoryMut;
use vmm::machine::paging::Tables;
use vmm::machine::pv::{Delivery, Outcome, Pv};

const RAM: usize = 0x2_0000;
/// Root of a user's page table, which has the user's page only.
const USER_TABLES: std::ops::Range<u64> = 0x9000..0x1_0000;
const USER_PAGE: u64 = 0x1_5000;
/// GS's bases.
const KERNEL_GS: u64 = 0xffff_8000_0000_1000;
const USER_GS: u64 = 0x7000;
/// Top of the kernel's stack for what interrupts user mode; not aligned.
const KERNEL_SP: u64 = FRAME + 0xff8;
/// Where the guest has its frame, GDT, and a user's (equal) page table.
const FRAME: u64 = 0x1_0000;
const GDT: u64 = 0x1_2000;
const CALLER: u64 = 0x40_0010;
const HANDLER: u64 = 0xffff_ffff_8000_0000;
const KERNEL: (u16, u16) = (0x08, 0x10);
/// Null; kernel code and data; user data and code; 32-bit kernel code; absent kernel
/// data; read-only kernel data; a TSS.
const DESCRIPTORS: [u64; 9] = [
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
    0x00cf_9b00_0000_ffff,
    0x00cf_1300_0000_ffff,
    0x00cf_9100_0000_ffff,
    0x0000_8900_0000_0067,
];

fn machine() -> (VcpuState, Vec<u8>) {
    let mut ram = vec![0; RAM];
    let mut tables = Tables::new(&mut ram, 0x1000, 0x8000);
    for page in [FRAME, FRAME + 0x1000, GDT] {
        tables.map(page, page).expect("there is room for three pages' tables");
    }
    let root = tables.root();
    let mut user = Tables::new(&mut ram, USER_TABLES.start, USER_TABLES.end);
    user.map(USER_PAGE, USER_PAGE).expect("there is room for one page's tables");
    assert_eq!(user.root(), USER_TABLES.start);
    let mut state = VcpuState::default();
    (state.sregs.cr3, state.sregs.gs.base) = (root, KERNEL_GS);
    state.sregs.gdt.base = GDT;
    state.sregs.gdt.limit = (DESCRIPTORS.len() * 8 - 1) as u16;
    state.sregs.cs = Segment { selector: KERNEL.0, ..Segment::default() };
    state.sregs.ss = Segment { selector: KERNEL.1, ..Segment::default() };
    for (i, d) in DESCRIPTORS.iter().enumerate() {
        ram[GDT as usize + 8 * i..][..8].copy_from_slice(&d.to_le_bytes());
    }
    state.regs.rip = CALLER + 2;
    state.regs.rsp = FRAME + 0x800;
    (state.regs.rcx, state.regs.r11, state.regs.rflags) = (0xc, 0x11, 2);
    (state, ram)
}

fn put(ram: &mut [u8], at: u64, words: &[u64]) {
    for (i, w) in words.iter().enumerate() {
        ram[at as usize + 8 * i..][..8].copy_from_slice(&w.to_le_bytes());
    }
}

/// Words that are near to what a rule looks at, and any others.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        (0u64..0x50),
        any::<u32>().prop_map(u64::from),
        Just(0x7fff_ffff_ffff),
        Just(0x8000_0000_0000),
        Just(0xffff_8000_0000_0000),
        Just(HANDLER),
    ]
}

fn flags() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), (0u64..0x40_0000), any::<u64>().prop_map(|w| w & !(1 << 17))]
}

fn selector() -> impl Strategy<Value = u64> {
    prop_oneof![3 => (0u64..9, 0u64..4).prop_map(|(i, rpl)| i * 8 + rpl), 1 => word(), 2 => Just(8), 2 => Just(16)]
}

fn canonical(w: u64) -> bool {
    (w as i64) << 16 >> 16 == w as i64
}

/// The rules in other words: may these selectors be loaded together?
fn loadable(cs: u64, ss: u64) -> bool {
    matches!((cs as u16, ss as u16), (0x08, 0x10 | 0) | (0x23, 0x1b))
}

prop_compose! {
    fn pv()(masked: bool, old_mask: bool, pending: bool, explicit: bool, user: bool) -> Pv {
        let mut pv = Pv { masked, old_mask, pending, ..Pv::default() };
        pv.callbacks.nmi = HANDLER;
        pv.callbacks.explicit_unmask = explicit;
        pv.user_root = if user { USER_TABLES.start } else { 0 };
        (pv.other_gs, pv.kernel_sp) = (USER_GS, KERNEL_SP);
        pv
    }
}

/// Whether the kernel's page table maps the word there.
fn mapped(at: u64) -> bool {
    let page = |p: u64| at >= p && at.checked_add(7).is_some_and(|last| last < p + 0x1000);
    page(FRAME) || page(FRAME + 0x1000) || page(GDT)
}

/// In user mode, as an iret hypercall leaves it.
fn enter_user(pv: &mut Pv, state: &mut VcpuState, ram: &mut [u8], rip: u64, rflags: u64, rsp: u64) {
    put(ram, FRAME + 0x800, &[0, 0, 0, 0, rip, 0x23, rflags, rsp, 0x1b]);
    state.regs.rax = abi::HYPERCALL_IRET;
    let outcome = pv.hypercall(state, &mut GuestMemoryMut(ram), CALLER);
    assert!(matches!(outcome, Outcome::Resumed { .. }), "{outcome:?}");
    assert_eq!((state.sregs.cs.selector, state.sregs.cs.dpl, state.sregs.cs.l), (0x23, 3, 1));
    assert_eq!((state.sregs.ss.selector, state.sregs.ss.dpl), (0x1b, 3));
    assert_eq!((state.sregs.cr3, state.sregs.gs.base, pv.other_gs), (USER_TABLES.start, USER_GS, KERNEL_GS));
}

fn words(ram: &[u8], at: u64) -> [u64; 7] {
    std::array::from_fn(|i| u64::from_le_bytes(ram[at as usize + 8 * i..][..8].try_into().unwrap()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_iret_commits_what_the_rules_say_or_nothing(
        mut pv in pv(), rsp in prop_oneof![9 => Just(FRAME + 0x800), 1 => word()],
        (rax, r11, rcx) in any::<(u64, u64, u64)>(),
        asks in prop_oneof![any::<u64>(), Just(0), Just(abi::IRET_UNMASK_NMI), Just(abi::VGCF_IN_SYSCALL)],
        rip in word(), cs in selector(), rflags in flags(), to in word(), ss in selector(),
    ) {
        let (mut state, mut ram) = machine();
        put(&mut ram, FRAME + 0x800, &[rax, r11, rcx, asks, rip, cs, rflags, to, ss]);
        state.regs.rsp = rsp;
        state.regs.rax = abi::HYPERCALL_IRET;
        let (before, pv_before, ram_before) = (state, pv, ram.clone());
        let outcome = pv.hypercall(&mut state, &mut GuestMemoryMut(&mut ram), CALLER);
        prop_assert_eq!(&ram, &ram_before, "a return writes no memory");
        let in_syscall = asks & abi::VGCF_IN_SYSCALL != 0;
        let to_user = cs & 3 == 3;
        if rsp != FRAME + 0x800 {
            // Where the frame cannot be read the domain is killed; else nothing half-way happens.
            if !matches!(outcome, Outcome::Resumed { .. }) {
                prop_assert_eq!((state, pv), (before, pv_before));
            }
            if (0..9).any(|i| !mapped(rsp.wrapping_add(8 * i))) {
                prop_assert!(matches!(&outcome, Outcome::Crashed(why) if why.contains("cannot be read")), "{:?}", outcome);
            }
        } else if to_user && pv.user_root == 0 {
            prop_assert!(matches!(outcome, Outcome::Crashed(_)));
            prop_assert_eq!((state, pv), (before, pv_before));
        } else if !canonical(rip) || rflags >> 17 & 1 != 0 || !((in_syscall && !to_user) || loadable(cs, ss)) {
            prop_assert!(matches!(outcome, Outcome::Refused(_)), "{:?}", outcome);
            prop_assert_eq!((state, pv), (before, pv_before));
        } else {
            let Outcome::Resumed { frame, context_at, from, unmasked } = outcome else {
                return Err(TestCaseError::fail(format!("{outcome:?}")));
            };
            let asked = !pv_before.callbacks.explicit_unmask || asks & abi::IRET_UNMASK_NMI != 0;
            prop_assert_eq!((context_at, from), (rsp + 32, CALLER));
            prop_assert_eq!(pv.masked, if asked { pv_before.old_mask } else { pv_before.masked });
            prop_assert_eq!(unmasked, asked && !pv_before.old_mask);
            prop_assert_eq!(pv.pending, pv_before.pending, "delivery is the next boundary's");
            let r = &state.regs;
            prop_assert_eq!((r.rax, r.rip, r.rsp), (rax, rip, to));
            let sysret = in_syscall && to_user;
            let scratch = if in_syscall { (0xc, 0x11) } else { (rcx, r11) };
            prop_assert_eq!((r.rcx, r.r11), if sysret { (rip, r.rflags) } else { scratch });
            prop_assert_eq!(r.rflags & !0x25_0fd7, 0, "IOPL, NT, VM and reserved bits are clear");
            let chosen = if sysret { 0x24_0fd5 } else { 0x25_0fd5 };
            prop_assert_eq!(r.rflags & 0x25_0fd5, rflags & chosen, "TF and the rest are honoured; RF but by SYSRET");
            let (cs, ss) = if in_syscall && !to_user { KERNEL } else { (cs as u16, ss as u16) };
            prop_assert_eq!((state.sregs.cs.selector, state.sregs.ss.selector), (cs, ss));
            prop_assert_eq!((frame.cs, frame.ss), (cs.into(), ss.into()));
            prop_assert_eq!(state.sregs.cr3, if to_user { pv.user_root } else { before.sregs.cr3 });
            prop_assert_eq!(pv.in_user_mode(&state), to_user);
            let gs = (state.sregs.gs.base, pv.other_gs);
            prop_assert_eq!(gs, if to_user { (USER_GS, KERNEL_GS) } else { (KERNEL_GS, USER_GS) });
            prop_assert_eq!((r.rbx, r.rdx, r.rsi, r.rdi, r.rbp), (0, 0, 0, 0, 0));
        }
    }

    #[test]
    fn an_erets_unblocks_only_by_the_bit_and_only_if_it_succeeds(
        mut pv in pv(), level in 0u8..4, frame_level in 0u64..4, nmi: bool, junk in prop_oneof![9 => Just(0u64), 1 => any::<u64>()],
        rip in word(), cs in selector(), rflags in prop_oneof![flags(), Just(2), Just(0x10246)], to in word(), ss in selector(),
    ) {
        let (mut state, mut ram) = machine();
        pv.fred = Some(vmm::machine::pv::Fred { level, ..Default::default() });
        let cs_slot = cs & 0xffff | frame_level << 16 | junk << 18;
        let ss_slot = ss & 0xffff | u64::from(nmi) << 18 | junk << 19;
        put(&mut ram, FRAME + 0x800, &[7, rip, cs_slot, rflags, to, ss_slot, 0, 0]);
        let (before, pv_before) = (state, pv);
        let outcome = pv.erets(&mut state, &GuestMemoryMut(&mut ram).shared(), CALLER);
        let good = canonical(rip)
            && cs_slot >> 18 == 0
            && (cs as u16, ss as u16) == KERNEL
            && frame_level <= level.into()
            && rflags & !0x3f_7fd7 == 0 && rflags & 2 != 0 && rflags >> 17 & 1 == 0;
        if good {
            let resumed = matches!(outcome, Outcome::Resumed { .. });
            prop_assert!(resumed, "{:?}", outcome);
            prop_assert_eq!(pv.masked, if nmi { pv_before.old_mask } else { pv_before.masked });
            prop_assert_eq!((state.regs.rip, state.regs.rsp, state.regs.rflags), (rip, to, rflags));
            prop_assert_eq!(u64::from(pv.fred.unwrap_or_default().level), frame_level);
        } else {
            prop_assert!(matches!(outcome, Outcome::Refused(_)), "{:?}", outcome);
            prop_assert_eq!((state, pv), (before, pv_before));
        }
    }

    /// ERETU: everything is checked before anything is changed, and what is delivered from
    /// user mode comes back to it whole.
    #[test]
    fn an_eretu_returns_to_user_mode_whole_or_changes_nothing(
        mut pv in pv(), level in prop_oneof![4 => Just(0u8), 1 => 1u8..4], nmi: bool, star: bool,
        junk in prop_oneof![9 => Just(0u64), 1 => any::<u64>()],
        rip in word(), cs in prop_oneof![2 => Just(0x23u64), 1 => selector()], ss in prop_oneof![2 => Just(0x1bu64), 1 => selector()],
        rflags in prop_oneof![flags(), Just(2), Just(0x10246)], to in word(),
    ) {
        let (mut state, mut ram) = machine();
        state.kernel_gs = USER_GS;
        let config = abi::FredConfig { config: HANDLER, levels: 2 << 4, rsp: [FRAME + 0xfc0, 0, FRAME + 0x400, 0] };
        pv.fred = Some(vmm::machine::pv::Fred { config, level });
        // Both ways to the user's selectors: by IA32_STAR, or by the descriptors.
        pv.star = if star { 0x13 << 48 | 0x08 << 32 } else { 0x08 << 32 };
        put(&mut ram, FRAME + 0x800, &[7, rip, cs & 0xffff | junk << 16, rflags, to, ss & 0xffff | u64::from(nmi) << 18, 0, 0]);
        let (before, pv_before) = (state, pv);
        let outcome = pv.eretu(&mut state, &GuestMemoryMut(&mut ram).shared(), CALLER);
        let good = level == 0 && canonical(rip) && junk << 16 == 0
            && (cs as u16, ss as u16) == (0x23, 0x1b)
            && rflags & !0x3f_7fd7 == 0 && rflags & 2 != 0 && rflags >> 17 & 1 == 0;
        if !good {
            prop_assert!(matches!(outcome, Outcome::Refused(_)), "{:?}", outcome);
            prop_assert_eq!((state, pv), (before, pv_before));
            return Ok(());
        }
        prop_assert!(matches!(outcome, Outcome::Resumed { .. }), "{:?}", outcome);
        prop_assert_eq!(pv.masked, if nmi { pv_before.old_mask } else { pv_before.masked });
        prop_assert_eq!((state.regs.rip, state.regs.rsp, state.regs.rflags), (rip, to, rflags));
        prop_assert_eq!((state.sregs.gs.base, state.kernel_gs), (USER_GS, KERNEL_GS));
        prop_assert_eq!((state.sregs.cs.dpl, state.sregs.ss.dpl, state.sregs.cs.l), (3, 3, 1));
        let user = state;
        pv.masked = false;
        prop_assert_eq!(pv.deliver(&mut state, &mut GuestMemoryMut(&mut ram)), Delivery::Entered);
        prop_assert_eq!((state.regs.rip, state.regs.rsp), (HANDLER & !0xfff, FRAME + 0xf80), "level 0, though NMIs have 2");
        prop_assert_eq!((state.sregs.gs.base, state.sregs.cs.selector, state.sregs.cs.dpl), (KERNEL_GS, 0x08, 0));
        prop_assert!(pv.masked);
        let back = pv.eretu(&mut state, &GuestMemoryMut(&mut ram).shared(), CALLER);
        let unmasked = matches!(back, Outcome::Resumed { unmasked: true, .. });
        prop_assert!(unmasked, "{:?}", back);
        prop_assert_eq!(state, user);
    }

    /// Whatever user mode does: an NMI and a SYSCALL come to the kernel's stack, page
    /// table, selectors and GS with the whole context in their frame, or the domain is
    /// killed and nothing is changed.
    #[test]
    fn what_interrupts_user_mode_is_bounced_to_the_kernel_or_kills_it(
        mut pv in pv(), nmi: bool, callback in prop_oneof![3 => Just(HANDLER), 1 => Just(0)],
        rip in word().prop_filter("a RIP to resume", |w| canonical(*w)), rflags in flags(), rsp in word(),
        (rcx, r11, rax) in any::<(u64, u64, u64)>(), sp in prop_oneof![3 => Just(KERNEL_SP), 1 => word()],
    ) {
        let (mut state, mut ram) = machine();
        let kernel_root = state.sregs.cr3;
        (pv.user_root, pv.masked, pv.kernel_sp, pv.callbacks.syscall) = (USER_TABLES.start, false, sp, callback);
        pv.old_mask = false;
        enter_user(&mut pv, &mut state, &mut ram, rip, rflags & !(1 << 17), rsp);
        (state.regs.rax, state.regs.rcx, state.regs.r11) = (rax, rcx, r11);
        let (before, pv_before, ram_before) = (state, pv, ram.clone());
        let next = rip.wrapping_add(2);
        let mut memory = GuestMemoryMut(&mut ram);
        let done = match nmi {
            true => pv.deliver(&mut state, &mut memory),
            false => pv.syscall(next, &mut state, &mut memory),
        };
        let low = (sp & !15).wrapping_sub(56);
        if (!nmi && callback == 0) || (0..7).any(|i| !mapped(low.wrapping_add(8 * i))) {
            prop_assert!(matches!(done, Delivery::Crashed(_)), "{:?}", done);
            prop_assert_eq!(state, before);
            prop_assert_eq!(pv, Pv { pending: pv_before.pending && !nmi, ..pv_before });
            prop_assert_eq!(&ram, &ram_before);
            return Ok(());
        }
        prop_assert_eq!(done, Delivery::Entered);
        let user_flags = before.regs.rflags & if nmi { u64::MAX } else { !(1 << 16) };
        let (rcx, r11, back) = if nmi { (rcx, r11, rip) } else { (next, user_flags, next) };
        prop_assert_eq!(words(&ram, low), [rcx, r11, back, 0x23, user_flags, rsp, 0x1b]);
        prop_assert_eq!((state.regs.rip, state.regs.rsp, state.regs.rax), (HANDLER, low, rax));
        prop_assert_eq!((state.sregs.cs.selector, state.sregs.ss.selector), KERNEL);
        prop_assert_eq!((state.sregs.cr3, state.sregs.gs.base, pv.other_gs), (kernel_root, KERNEL_GS, USER_GS));
        prop_assert_eq!((pv.in_user_mode(&state), pv.masked), (false, nmi), "only an NMI masks NMIs");
        prop_assert_eq!(state.regs.rflags & 0x7_4300, 0, "TF, IF, NT, RF, VM and AC are not the handler's");
    }

    /// And back: what the kernel returns with VGCF_in_syscall is what the user had.
    #[test]
    fn a_system_call_comes_back_to_the_instruction_behind_it(
        mut pv in pv(), rip in 0x1000u64..0x7fff_0000, rflags in flags(), rsp in word(), result: u64,
    ) {
        let (mut state, mut ram) = machine();
        pv.callbacks.syscall = HANDLER;
        pv.user_root = USER_TABLES.start;
        enter_user(&mut pv, &mut state, &mut ram, rip, rflags & !(1 << 17), rsp);
        let user = state;
        prop_assert_eq!(pv.syscall(rip + 2, &mut state, &mut GuestMemoryMut(&mut ram)), Delivery::Entered);
        let [rcx, r11, to, cs, flags, sp, ss] = words(&ram, state.regs.rsp);
        put(&mut ram, FRAME + 0x200, &[result, r11, rcx, abi::VGCF_IN_SYSCALL, to, cs, flags, sp, ss]);
        (state.regs.rsp, state.regs.rax) = (FRAME + 0x200, abi::HYPERCALL_IRET);
        let outcome = pv.hypercall(&mut state, &mut GuestMemoryMut(&mut ram), CALLER);
        let resumed = matches!(outcome, Outcome::Resumed { .. });
        prop_assert!(resumed, "{:?}", outcome);
        let flags = user.regs.rflags & !(1 << 16);
        let r = &state.regs;
        prop_assert_eq!((r.rip, r.rcx, r.r11, r.rflags), (rip + 2, rip + 2, flags, flags), "as after SYSRET");
        prop_assert_eq!((r.rax, r.rsp), (result, rsp));
        prop_assert_eq!(state.sregs, user.sregs);
    }

    #[test]
    fn no_hypercall_panics(mut pv in pv(), regs in any::<[u64; 5]>(), words in any::<[u64; 9]>(), fred: bool) {
        let (mut state, mut ram) = machine();
        put(&mut ram, FRAME, &words);
        let [rax, rdi, rsi, rsp, rip] = regs;
        let pointer = |w: u64| if w & 1 == 0 { FRAME } else { w };
        (state.regs.rax, state.regs.rdi, state.regs.rsi) = (rax % 64, pointer(rdi) >> (rdi % 3 * 30), pointer(rsi));
        (state.regs.rsp, state.regs.rip) = (rsp, rip);
        let _ = pv.hypercall(&mut state, &mut GuestMemoryMut(&mut ram), rip);
        if fred {
            pv.fred = Some(Default::default());
            let _ = pv.erets(&mut state, &GuestMemoryMut(&mut ram).shared(), rip);
            let _ = pv.eretu(&mut state, &GuestMemoryMut(&mut ram).shared(), rip);
        }
        let _ = pv.deliver(&mut state, &mut GuestMemoryMut(&mut ram));
    }
}

fn call(pv: &mut Pv, state: &mut VcpuState, ram: &mut [u8], rax: u64, rdi: u64, rsi: u64) -> i64 {
    (state.regs.rax, state.regs.rdi, state.regs.rsi) = (rax, rdi, rsi);
    assert_eq!(pv.hypercall(state, &mut GuestMemoryMut(ram), CALLER), Outcome::Returned);
    state.regs.rax as i64
}

#[test]
fn an_nmi_before_registration_is_lost_and_asserted_again_by_it() {
    let (mut state, mut ram) = machine();
    let mut pv = Pv::default();
    pv.raise();
    pv.raise();
    let before = state;
    assert_eq!(pv.deliver(&mut state, &mut GuestMemoryMut(&mut ram)), Delivery::Lost);
    assert_eq!((state, pv.pending, pv.masked), (before, false, false));
    put(&mut ram, FRAME, &[abi::CALLBACKTYPE_NMI.into(), HANDLER]);
    assert_eq!(call(&mut pv, &mut state, &mut ram, abi::HYPERCALL_CALLBACK_OP, abi::CALLBACKOP_REGISTER, FRAME), 0);
    assert!(pv.pending, "one, however many were lost");
    assert_eq!(pv.deliver(&mut state, &mut GuestMemoryMut(&mut ram)), Delivery::Entered);
    assert!(pv.masked && !pv.pending && !pv.old_mask);
    assert_eq!(
        (state.regs.rip, state.regs.rsp),
        (HANDLER, FRAME + 0x800 - 56),
        "seven words below what is aligned to 16"
    );
}

#[test]
fn callbacks_have_xens_results() {
    let (mut state, mut ram) = machine();
    let mut pv = Pv::default();
    let mut op = |pv: &mut Pv, op: u64, kind: u16, flags: u64, address: u64| {
        put(&mut ram, FRAME, &[u64::from(kind) | flags << 16, address]);
        call(pv, &mut state, &mut ram, abi::HYPERCALL_CALLBACK_OP, op, FRAME)
    };
    for kind in [abi::CALLBACKTYPE_EVENT, abi::CALLBACKTYPE_FAILSAFE, abi::CALLBACKTYPE_SYSCALL] {
        assert_eq!(op(&mut pv, abi::CALLBACKOP_REGISTER, kind, 1, HANDLER), 0);
        assert_eq!(op(&mut pv, abi::CALLBACKOP_UNREGISTER, kind, 0, 0), -22, "only an NMI's can be taken back");
    }
    let c = pv.callbacks;
    assert_eq!((c.event, c.failsafe, c.syscall, c.nmi, c.masks_events), (HANDLER, HANDLER, HANDLER, 0, 3));
    assert_eq!(op(&mut pv, abi::CALLBACKOP_REGISTER, abi::CALLBACKTYPE_NMI, 0, 1 << 47), -22, "not canonical");
    assert_eq!(op(&mut pv, abi::CALLBACKOP_REGISTER, 77, 0, HANDLER), -38);
    assert_eq!(op(&mut pv, 9, 0, 0, 0), -38);
    assert_eq!(call(&mut pv, &mut state, &mut ram, abi::HYPERCALL_CALLBACK_OP, 0, 1 << 40), -14);
}

/// One context for each outcome that the rules name, and what it must be.
#[test]
fn each_rule_of_the_return_has_its_outcome() {
    const GOOD: [u64; 9] = [1, 2, 3, 0, 0x1234, 0x08, 0x202, 0x5000, 0x10];
    const RIP: usize = 4;
    const CS: usize = 5;
    const FLAGS: usize = 6;
    const SS: usize = 8;
    let with = |changes: &[(usize, u64)]| {
        let mut context = GOOD;
        changes.iter().for_each(|(i, w)| context[*i] = *w);
        let (mut state, mut ram) = machine();
        let mut pv = Pv { masked: true, pending: true, ..Pv::default() };
        put(&mut ram, FRAME + 0x800, &context);
        state.regs.rax = abi::HYPERCALL_IRET;
        let before = (state, pv);
        let outcome = pv.hypercall(&mut state, &mut GuestMemoryMut(&mut ram), CALLER);
        if !matches!(outcome, Outcome::Resumed { .. }) {
            assert_eq!((state, pv), before, "{changes:x?}");
        }
        (outcome, state.regs.rflags, pv.masked)
    };
    let refused: [(&str, &[(usize, u64)]); 13] = [
        ("RIP is not canonical", &[(RIP, 1 << 47)]),
        ("RFLAGS.VM is set", &[(FLAGS, 1 << 17)]),
        ("CS is null", &[(CS, 0)]),
        ("CS is of ring 1 or 2", &[(CS, 0x09)]),
        ("CS is in no descriptor table", &[(CS, 0x48)]),
        ("CS is in no descriptor table", &[(CS, 0x0c)]), // none is in the LDT
        ("CS is not a code segment", &[(CS, 0x10)]),
        ("CS is not a present 64-bit code segment", &[(CS, 0x28)]),
        ("CS's privilege does not fit", &[(CS, 0x20), (SS, 0x10)]),
        ("SS's RPL is not CS's", &[(SS, 0x13)]),
        ("SS is not a present writable data segment", &[(SS, 0x08)]),
        ("SS is not a present writable data segment", &[(SS, 0x30)]),
        ("SS is not a present writable data segment", &[(SS, 0x38)]),
    ];
    for (why, changes) in refused {
        let (outcome, ..) = with(changes);
        assert!(
            matches!(&outcome, Outcome::Refused(w) if w.why.contains(why)),
            "{changes:x?}: {outcome:?}, not {why:?}"
        );
    }
    let (outcome, ..) = with(&[(CS, 0x23), (SS, 0x1b)]);
    assert!(matches!(&outcome, Outcome::Crashed(why) if why.contains("no user page table")), "{outcome:?}");
    for (flag, bits, kept) in [("IOPL", 3 << 12, 0), ("NT", 1 << 14, 0), ("RF", 1 << 16, 1), ("TF", 1 << 8, 1)] {
        let (outcome, rflags, masked) = with(&[(FLAGS, 0x202 | bits)]);
        assert!(matches!(outcome, Outcome::Resumed { .. }), "{flag}: {outcome:?}");
        assert_eq!(rflags, 0x202 | (bits * kept), "{flag}");
        assert!(!masked, "mask and registers are one step");
    }
}

#[test]
fn an_unmask_while_nothing_is_masked_does_nothing() {
    let (mut state, mut ram) = machine();
    let mut pv = Pv::default();
    put(&mut ram, FRAME + 0x800, &[0, 0, 0, abi::IRET_UNMASK_NMI, 0x1234, 0x08, 0x202, 0x5000, 0x10]);
    state.regs.rax = abi::HYPERCALL_IRET;
    assert!(matches!(pv.hypercall(&mut state, &mut GuestMemoryMut(&mut ram), CALLER), Outcome::Resumed { .. }));
    assert_eq!(pv, Pv::default());
}

#[test]
fn user_mode_has_no_hypercalls_and_sees_no_kernel_base() {
    let (mut state, mut ram) = machine();
    let mut pv = Pv { user_root: USER_TABLES.start, kernel_sp: KERNEL_SP, ..Pv::default() };
    let base = |pv: &mut Pv, state: &mut VcpuState, ram: &mut [u8], which: u64, at: u64| {
        call(pv, state, ram, abi::HYPERCALL_SET_SEGMENT_BASE, which, at)
    };
    assert_eq!(base(&mut pv, &mut state, &mut ram, abi::SEGBASE_GS_USER, USER_GS), 0);
    assert_eq!(base(&mut pv, &mut state, &mut ram, abi::SEGBASE_FS, 0x9000), 0);
    assert_eq!(base(&mut pv, &mut state, &mut ram, abi::SEGBASE_GS_USER, 1 << 47), -22, "not canonical");
    assert_eq!(base(&mut pv, &mut state, &mut ram, 7, 0), -22);
    assert_eq!((state.sregs.gs.base, state.sregs.fs.base), (KERNEL_GS, 0x9000));
    enter_user(&mut pv, &mut state, &mut ram, 0x1234, 0x202, 0x5000);
    let before = pv;
    assert_eq!(call(&mut pv, &mut state, &mut ram, abi::HYPERCALL_STACK_SWITCH, 0, 0x6000), -1);
    assert_eq!(pv, before);
}
