//! Stack (I9): in the kernel RSP stays in the declared stacks.

use crate::image::vectors::vector_name;
use crate::kvm::VcpuState;
use crate::oracle::{Invariant, Oracle};

impl Oracle {
    /// At a boundary: RSP is in a declared stack, whose deepest use is noted.
    pub(in crate::oracle) fn check_stack(&mut self, state: &VcpuState) {
        let (rsp, rip) = (state.regs.rsp, state.regs.rip);
        let declared = &self.rules.guest.image.declared;
        if declared.stacks.is_empty() {
            return;
        }
        match declared.stacks.iter().position(|s| s.range.start < rsp && rsp <= s.range.end) {
            Some(i) => self.depth[i] = self.depth[i].max(declared.stacks[i].range.end - rsp),
            None if declared.aliases.iter().any(|a| a.contains(&rsp)) => {}
            None => self.breaks(Invariant::Stack, |r| {
                format!("RSP {rsp:#x} at {} is in no declared stack", r.names().show(rip))
            }),
        }
    }

    /// A fault's frame cannot be read where RSP says that it was pushed.
    pub(in crate::oracle) fn frame_is_unmapped(&mut self, vector: u8, addr: u64) {
        self.breaks(Invariant::Stack, |_| format!("{}'s frame at {addr:#x} is not mapped", vector_name(vector)));
    }
}
