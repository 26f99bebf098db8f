//! The instructions that the probes' small guests are made of. Registers and stacks
//! are set from outside, so these few are enough.

/// One byte that does nothing: places can be counted by it.
pub const NOP: &[u8] = &[0x90];
pub const HLT: &[u8] = &[0xf4];
pub const CLI: &[u8] = &[0xfa];
pub const STI: &[u8] = &[0xfb];
pub const PUSHFQ: &[u8] = &[0x9c];
pub const POPFQ: &[u8] = &[0x9d];
pub const RET: &[u8] = &[0xc3];
/// A far return with 64-bit operands.
pub const LRETQ: &[u8] = &[0x48, 0xcb];
pub const IRETQ: &[u8] = &[0x48, 0xcf];
/// `lldt %ax`
pub const LLDT: &[u8] = &[0x0f, 0x00, 0xd0];
pub const SWAPGS: &[u8] = &[0x0f, 0x01, 0xf8];
/// `mov %eax,%ss`
pub const MOV_SS: &[u8] = &[0x8e, 0xd0];
/// `mov %cr2,%rax`
pub const MOV_FROM_CR2: &[u8] = &[0x0f, 0x20, 0xd0];
/// `mov %rax,%db0`
pub const MOV_TO_DR0: &[u8] = &[0x0f, 0x23, 0xc0];
/// `mov %rbx,%db7`
pub const MOV_TO_DR7: &[u8] = &[0x0f, 0x23, 0xfb];
/// `mov (%rbx),%rax`
pub const LOAD: &[u8] = &[0x48, 0x8b, 0x03];
/// `mov %rax,(%rbx)`
pub const STORE: &[u8] = &[0x48, 0x89, 0x03];
/// `out %al,$0x80`
pub const OUT: &[u8] = &[0xe6, 0x80];
pub const UD2: &[u8] = &[0x0f, 0x0b];
pub const INT3: &[u8] = &[0xcc];
/// `int $0x81`
pub const INT_81: &[u8] = &[0xcd, 0x81];
pub const SYSCALL: &[u8] = &[0x0f, 0x05];
pub const SYSRETQ: &[u8] = &[0x48, 0x0f, 0x07];
/// `pxor %xmm0,%xmm0`
pub const PXOR: &[u8] = &[0x66, 0x0f, 0xef, 0xc0];
/// `popcnt %rax,%rax`
pub const POPCNT: &[u8] = &[0xf3, 0x48, 0x0f, 0xb8, 0xc0];
/// The hypercall of Intel's processors.
pub const VMCALL: &[u8] = &[0x0f, 0x01, 0xc1];
/// The hypercall of AMD's.
pub const VMMCALL: &[u8] = &[0x0f, 0x01, 0xd9];
/// `1: pause; jmp 1b`. Never a bare `jmp`: an emulated machine may have nothing that
/// interrupts one.
pub const SPIN: &[u8] = &[0xf3, 0x90, 0xeb, 0xfc];
/// `1: orb $0,(%rdi); add $0x1000,%rdi; cmp %rsi,%rdi; jb 1b; hlt`
pub const TOUCH: &[u8] = &[0x80, 0x0f, 0, 0x48, 0x81, 0xc7, 0, 0x10, 0, 0, 0x48, 0x39, 0xf7, 0x72, 0xf1, 0xf4];

/// `instruction`, and then `count` NOPs and a HLT.
pub fn then_nops(instruction: &[u8], count: usize) -> Vec<u8> {
    let mut code = instruction.to_vec();
    code.resize(code.len() + count, NOP[0]);
    code.extend_from_slice(HLT);
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::Code::{self, *};

    #[test]
    fn the_bytes_are_the_instructions_they_are_called() {
        let table: &[(&[u8], Code)] = &[
            (NOP, Nopd),
            (HLT, Hlt),
            (CLI, Cli),
            (STI, Sti),
            (PUSHFQ, Pushfq),
            (POPFQ, Popfq),
            (RET, Retnq),
            (LRETQ, Retfq),
            (IRETQ, Iretq),
            (SWAPGS, Swapgs),
            (MOV_SS, Mov_Sreg_r32m16),
            (MOV_FROM_CR2, Mov_r64_cr),
            (MOV_TO_DR0, Mov_dr_r64),
            (MOV_TO_DR7, Mov_dr_r64),
            (LOAD, Mov_r64_rm64),
            (STORE, Mov_rm64_r64),
            (OUT, Out_imm8_AL),
            (UD2, Ud2),
            (INT3, Int3),
            (INT_81, Int_imm8),
            (SYSCALL, Syscall),
            (SYSRETQ, Sysretq),
            (PXOR, Pxor_xmm_xmmm128),
            (POPCNT, Popcnt_r64_rm64),
            (VMCALL, Vmcall),
            (VMMCALL, Vmmcall),
        ];
        for (bytes, code) in table {
            let insn = iced_x86::Decoder::with_ip(64, bytes, 0x1000, 0).decode();
            assert_eq!((insn.code(), insn.len()), (*code, bytes.len()), "{bytes:02x?}");
        }
        let spin: Vec<_> = iced_x86::Decoder::with_ip(64, SPIN, 0x1000, 0).into_iter().collect();
        assert_eq!(spin.iter().map(iced_x86::Instruction::code).collect::<Vec<_>>(), [Pause, Jmp_rel8_64]);
        assert_eq!(spin[1].near_branch64(), 0x1000);
        let touch: Vec<_> = iced_x86::Decoder::with_ip(64, TOUCH, 0x1000, 0).into_iter().collect();
        let codes: Vec<_> = touch.iter().map(iced_x86::Instruction::code).collect();
        assert_eq!(codes, [Or_rm8_imm8, Add_rm64_imm32, Cmp_rm64_r64, Jb_rel8_64, Hlt]);
        assert_eq!(touch[3].near_branch64(), 0x1000);
    }

    #[test]
    fn nops_end_in_a_halt() {
        assert_eq!(then_nops(STI, 2), [0xfb, 0x90, 0x90, 0xf4]);
    }
}
