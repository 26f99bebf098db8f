//! The CPU's state as KVM's structures, and back.

use kvm_bindings::{
    kvm_dtable, kvm_regs, kvm_segment, kvm_sregs, kvm_vcpu_events, kvm_vcpu_events__bindgen_ty_1,
    kvm_vcpu_events__bindgen_ty_2, kvm_vcpu_events__bindgen_ty_3,
};

use crate::cpu::{Events, Exception, Interrupt, Nmi, Regs, Segment, Sregs, Table};

/// Both directions of a structure whose fields have the same names on both sides.
macro_rules! same_fields {
    ($ours:ident, $kvm:ident: $($field:ident),* $(; $($nested:ident),+)?) => {
        #[allow(clippy::needless_update, reason = "KVM pads some of its structures and not others")]
        impl From<$ours> for $kvm {
            fn from(s: $ours) -> Self {
                Self { $($field: s.$field,)* $($($nested: s.$nested.into(),)+)? ..Default::default() }
            }
        }
        impl From<$kvm> for $ours {
            fn from(s: $kvm) -> Self {
                Self { $($field: s.$field,)* $($($nested: s.$nested.into(),)+)? }
            }
        }
    };
}

same_fields!(Regs, kvm_regs: rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags);
same_fields!(Segment, kvm_segment: base, limit, selector, type_, present, dpl, db, s, l, g, avl, unusable);
same_fields!(Table, kvm_dtable: base, limit);
// `interrupt_bitmap` stays zero: what the events say of interrupts holds, and a bit that an
// earlier exit left there would raise its interrupt once more (KVM_SET_SREGS queues it).
same_fields!(
    Sregs, kvm_sregs: cr0, cr2, cr3, cr4, cr8, efer, apic_base; cs, ds, es, fs, gs, ss, tr, ldt, gdt, idt
);
same_fields!(Exception, kvm_vcpu_events__bindgen_ty_1: injected, nr, has_error_code, pending, error_code);
same_fields!(Interrupt, kvm_vcpu_events__bindgen_ty_2: injected, nr, soft, shadow);
same_fields!(Nmi, kvm_vcpu_events__bindgen_ty_3: injected, pending, masked);
same_fields!(Events, kvm_vcpu_events: ; exception, interrupt, nmi);
