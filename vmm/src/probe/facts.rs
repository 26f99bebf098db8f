//! What code may choose by: each an answer, or a few together.

use super::report::{Report, Row};
use crate::kvm::{Quirks, TrapFlag};

/// What a host is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// An NMI raised at a stop is delivered there. Without this, no run means anything.
    pub exact_nmi: bool,
    /// An NMI pending in the vCPU events is delivered at once: what gear jump needs.
    pub events_nmi: bool,
    /// KVM's own latch can be used: an NMI that arrives while masked is kept, and
    /// delivered exactly where the mask is cleared, also by an iretq that faults.
    pub real_latch: bool,
    /// Hardware breakpoints at CPL 0 stop exactly and can be passed.
    pub breakpoints: bool,
    /// Ring 3 can be entered, started in, and interrupted exactly.
    pub ring3: bool,
    /// SYSCALL arrives at CPL 0.
    pub syscall: bool,
    /// An iretq to a 16-bit stack of an LDT arrives, with the kernel's bits 31:16 in RSP.
    pub ldt_ss16: bool,
    /// An iretq checks the types of the segments it loads.
    pub checked_iretq: bool,
    /// Whether an iretq that faults unmasks NMIs; `None` where it does not fault, or not
    /// always alike.
    pub faulting_iret_unblocks: Option<bool>,
    /// CR2 is right after an NMI whose stack was not mapped.
    pub push_fault_cr2: bool,
    /// INT3 is delivered at CPL 0.
    pub int3: bool,
    /// Every delivery clears RFLAGS.AC, where the architecture keeps it.
    pub delivery_clears_ac: bool,
    /// Xen's hypercall page can carry a PV guest's hypercalls.
    pub xen_page: bool,
    /// SMIs come, and their RSM gives back what they found.
    pub smm: bool,
    /// The guest's own trap flag: what does not hold of it.
    pub tf: TrapFlag,
}

const EVENTS_NMI: &[&str] = &["nmi-in-events", "events-settable", "mask-from-outside"];
const REAL_LATCH: &[&str] = &[
    "nmi-after-iretq",
    "nmi-after-iretq-to-ring3",
    "nmi-kept-masked",
    "unmask-from-outside",
    "nmi-at-iretq-gp",
    "nmi-at-iretq-gp-tf",
    "nmi-at-iretq-np",
    "nmi-at-iretq-np-tf",
];
const BREAKPOINTS: &[&str] = &["breakpoint", "breakpoint-resume"];
const RING3: &[&str] = &["ring3-iretq", "ring3-sysretq", "ring3-state", "ring3-nmi"];
const SYSCALL: &[&str] = &["ring3-syscall"];
const LDT_SS16: &[&str] = &["ring3-iretq-ldt", "ring3-iretq-ldt-rsp"];
const CHECKED_IRETQ: &[&str] = &["iretq-cs-data", "iretq-ss-code"];
const FAULTING: &[&str] = &["iretq-cs-null", "iretq-cs-not-present", "iretq-stack-unmapped"];
const PUSH_FAULT_CR2: &[&str] = &["nmi-push-fault"];
const INT3: &[&str] = &["int3"];
/// The probe that `delivery_clears_ac` stands on.
pub(super) const DELIVERY_AC: &str = "delivery-ac";
const TF: &[&str] =
    &["tf-popfq", "tf-popfq-clear", "tf-iretq", "tf-ret", "tf-fault", "tf-nmi", "tf-hlt-stop", "tf-stretch"];
const TF_MOV_SS: &[&str] = &["tf-mov-ss"];
const TF_STI: &[&str] = &["tf-sti"];
const TF_SWAPGS: &[&str] = &["tf-swapgs"];

#[cfg(test)]
const ALL: [&[&str]; 15] = [
    Facts::EXACT_NMI,
    EVENTS_NMI,
    REAL_LATCH,
    BREAKPOINTS,
    RING3,
    SYSCALL,
    LDT_SS16,
    CHECKED_IRETQ,
    FAULTING,
    PUSH_FAULT_CR2,
    INT3,
    TF,
    TF_MOV_SS,
    TF_STI,
    TF_SWAPGS,
];

impl Facts {
    /// The probes that `exact_nmi` stands on.
    pub const EXACT_NMI: &[&str] = &["nmi-at-rip", "nmi-at-hlt-stop", "out-nmi"];

    /// The facts of a report. What it does not tell does not hold.
    pub fn of(report: &Report) -> Self {
        let all = |ids: &[&str]| ids.iter().all(|id| report.is_right(id));
        Self {
            exact_nmi: all(Self::EXACT_NMI),
            events_nmi: all(EVENTS_NMI),
            real_latch: all(REAL_LATCH),
            breakpoints: all(BREAKPOINTS),
            ring3: all(RING3),
            syscall: all(SYSCALL),
            ldt_ss16: all(LDT_SS16),
            checked_iretq: all(CHECKED_IRETQ),
            faulting_iret_unblocks: unblocks(report),
            push_fault_cr2: all(PUSH_FAULT_CR2),
            int3: all(INT3),
            delivery_clears_ac: report.answer(DELIVERY_AC) == Some(super::flags::CLEARED),
            xen_page: report.answer("hypercall-transport").is_some_and(|a| a.starts_with("xen")),
            smm: [(super::smm::IN_NMI, super::smm::MASKED), (super::smm::AND_NMI, super::smm::AFTER)]
                .into_iter()
                .all(|(id, answer)| report.answer(id) == Some(answer)),
            tf: TrapFlag {
                wrong: !all(TF),
                wrong_at_mov_ss: !all(TF_MOV_SS),
                wrong_at_sti: !all(TF_STI),
                wrong_at_swapgs: !all(TF_SWAPGS),
            },
        }
    }

    /// The workarounds that this host needs.
    pub fn quirks(&self) -> Quirks {
        Quirks {
            no_int3: !self.int3,
            no_event_nmi: !self.events_nmi,
            half_syscall: !self.syscall,
            no_ldt_ss16: !self.ldt_ss16,
            delivery_clears_ac: self.delivery_clears_ac,
            xen_page: self.xen_page,
            smm: self.smm,
            tf: self.tf,
        }
    }
}

fn unblocks(report: &Report) -> Option<bool> {
    let answers = FAULTING.iter().map(|id| report.rows.iter().find(|r| r.id == *id).map(Row::answer));
    let mut masks = answers.map(|a| match a?.rsplit_once(", ")?.1 {
        "unmasked" => Some(true),
        "masked" => Some(false),
        _ => None,
    });
    let first = masks.next()??;
    masks.all(|m| m == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{report, row};
    use super::*;

    #[test]
    fn every_probe_that_is_asked_for_exists() {
        for id in ALL.into_iter().flatten() {
            assert!(super::super::probe(id).is_some(), "{id}");
        }
    }

    #[test]
    fn a_fact_holds_where_all_its_probes_are_right() {
        let both = |a, b| report("kvm_amd", vec![row("breakpoint", &["exact"], a), row("breakpoint-resume", &[], b)]);
        let (right, unknown) = (both(Some("exact"), Some("goes on")), both(Some("exact"), None));
        assert!(Facts::of(&right).breakpoints);
        assert!(!Facts::of(&unknown).breakpoints);
        assert!(!Facts::of(&right).ring3, "nothing is known of ring 3");
    }

    #[test]
    fn a_complete_host_has_no_quirks() {
        let rows = |answer: Option<&'static str>| {
            report("kvm_amd", ALL.into_iter().flatten().map(|id| row(id, &["right"], answer)).collect())
        };
        assert_eq!(Facts::of(&rows(Some("right"))).quirks(), Quirks::default());
        let tf = TrapFlag { wrong: true, wrong_at_mov_ss: true, wrong_at_sti: true, wrong_at_swapgs: true };
        let unknown = Quirks {
            no_int3: true,
            no_event_nmi: true,
            half_syscall: true,
            no_ldt_ss16: true,
            delivery_clears_ac: false,
            xen_page: false,
            smm: false,
            tf,
        };
        assert_eq!(Facts::of(&rows(None)).quirks(), unknown);
    }

    #[test]
    fn only_a_host_that_always_clears_ac_is_predicted_to() {
        assert!(super::super::probe(DELIVERY_AC).is_some());
        let of = |answer| Facts::of(&report("kvm_amd", vec![row(DELIVERY_AC, &["kept"], answer)])).delivery_clears_ac;
        assert!(of(Some(super::super::flags::CLEARED)));
        assert!(!of(Some("kept")) && !of(Some("cleared by #UD")) && !of(None));
    }

    #[test]
    fn smis_are_real_where_both_answers_say_so() {
        use super::super::smm::{AFTER, AND_NMI, IN_NMI, MASKED};
        let of = |a, b| Facts::of(&report("kvm_amd", vec![row(IN_NMI, &[MASKED], a), row(AND_NMI, &[AFTER], b)])).smm;
        assert!(of(Some(MASKED), Some(AFTER)));
        assert!(!of(Some("no SMM"), Some("no SMM")) && !of(Some("unmasked"), Some(AFTER)) && !of(None, None));
    }

    #[test]
    fn faulting_iretqs_must_all_be_alike() {
        let with = |answers: [&str; 3]| {
            let rows = FAULTING.iter().zip(answers).map(|(id, a)| row(id, &[], Some(a))).collect();
            Facts::of(&report("kvm_amd", rows)).faulting_iret_unblocks
        };
        let (open, shut) = ("#GP(0) at the iretq, unmasked", "#GP(0) at the iretq, masked");
        assert_eq!(with([open, open, open]), Some(true));
        assert_eq!(with([shut, shut, shut]), Some(false));
        assert_eq!(with([shut, open, shut]), None);
        assert_eq!(with(["no fault", open, open]), None);
        assert_eq!(Facts::of(&report("kvm_amd", vec![])).faulting_iret_unblocks, None);
    }
}
