//! Guest memory as the kernel sees it.

use super::gs::GsBases;
use super::{Error, Pc};
use crate::cpu::msr;
use crate::kvm::DeepState;
use crate::machine::paging;

/// Where an address is the kernel's: the upper half.
pub(super) const KERNEL_HALF: u64 = 1 << 63;

impl Pc {
    /// The kernel's own page table is the one at `root`. Before this is known, and for
    /// addresses of the lower half, memory is read through CR3.
    pub fn set_page_table(&mut self, root: u64) {
        self.root = Some(root);
    }

    /// The page table that maps `addr`. An NMI may find CR3 anything: a user's, where the
    /// kernel unmaps itself from user space.
    pub(super) fn page_table(&self, addr: u64) -> u64 {
        self.root.filter(|_| addr & KERNEL_HALF != 0).unwrap_or(self.state().sregs.cr3)
    }

    /// Guest-physical address; `None` where it is not mapped.
    pub fn physical(&self, addr: u64) -> Option<u64> {
        paging::translate(self.vm.ram().bytes(), self.page_table(addr), addr)
    }

    /// Reads bytes; `false` where a page is not mapped.
    pub fn read(&self, addr: u64, out: &mut [u8]) -> bool {
        self.memory().read(self.page_table(addr), addr, out)
    }

    /// Reads `N` 64-bit words; `None` where a page is not mapped.
    pub fn words<const N: usize>(&self, addr: u64) -> Option<[u64; N]> {
        self.memory().words(self.page_table(addr), addr)
    }

    /// Reads one 64-bit word; `None` where its page is not mapped.
    pub fn word(&self, addr: u64) -> Option<u64> {
        self.words::<1>(addr).map(|[word]| word)
    }

    /// Reads one 64-bit word that a judgement needs.
    pub fn expect_word(&self, what: &'static str, addr: u64) -> Result<u64, Error> {
        self.word(addr).ok_or(Error::Unreadable { what, addr })
    }

    /// Overwrites bytes of the kernel, which KVM's log of dirty pages does not learn of.
    pub fn write_kernel(&mut self, what: &'static str, addr: u64, bytes: &[u8]) -> Result<(), Error> {
        // The next restore copies all.
        self.current = 0;
        self.write(what, addr, bytes).map(|_| ())
    }

    /// Writes a word as the guest does: its page counts among those that the guest has written.
    pub fn write_dirty(&mut self, what: &'static str, addr: u64, word: u64) -> Result<(), Error> {
        let at = self.write(what, addr, &word.to_le_bytes())?;
        self.note_written(at, 8);
        Ok(())
    }

    /// Bytes at a guest-physical address were written in the guest's place.
    pub(super) fn note_written(&mut self, at: u64, bytes: u64) {
        const PAGE: u64 = 4096;
        self.written.extend([at, at + bytes - 1].map(|at| at & !(PAGE - 1)));
    }

    /// Writes bytes; their guest-physical address.
    fn write(&mut self, what: &'static str, addr: u64, bytes: &[u8]) -> Result<u64, Error> {
        let unreadable = || Error::Unreadable { what, addr };
        let physical = self.physical(addr).ok_or_else(unreadable)?;
        let at = physical as usize;
        let to = at.checked_add(bytes.len()).and_then(|end| self.vm.ram_mut().get_mut(at..end));
        to.ok_or_else(unreadable)?.copy_from_slice(bytes);
        Ok(physical)
    }

    /// A model-specific register.
    pub fn msr(&self, number: u32) -> Result<u64, Error> {
        let value = self.vm.msr(number)?;
        value.ok_or(Error::Host("this KVM does not give out an MSR that a judgement needs"))
    }

    /// IA32_KERNEL_GS_BASE: the GS base that SWAPGS would load.
    pub fn swapped_gs(&self) -> Result<u64, Error> {
        self.msr(msr::KERNEL_GS_BASE)
    }

    /// The word at a guest-physical address; `None` beyond RAM.
    pub fn ram_word(&self, at: u64) -> Option<u64> {
        paging::read_u64(self.ram(), at)
    }

    /// The top of the stack that an interrupt vector's gate switches to (SDM vol. 3, 6.14.5);
    /// `None` where it names none.
    pub fn interrupt_stack(&self, vector: u8) -> Result<Option<u64>, Error> {
        let sregs = &self.state().sregs;
        let gate = self.expect_word("the IDT", sregs.idt.base + 16 * u64::from(vector))?;
        match gate >> 32 & 7 {
            0 => Ok(None),
            ist => self.expect_word("the TSS", sregs.tr.base + 0x1c + 8 * ist).map(Some),
        }
    }

    /// Sets debug register 0 to `addr`, and DR7's bits `control`.
    pub fn set_breakpoint(&mut self, addr: u64, control: u64) -> Result<(), Error> {
        let mut values = self.vm.deep_state()?.values();
        values.debug[0] = addr;
        values.debug[5] |= control;
        Ok(self.vm.load_deep_state(&DeepState::of(&values)?)?)
    }

    /// The GS base of the kernel's per-CPU data, from wherever execution stands. Before
    /// [`Pc::note_gs`] it is the one of the two that is in the high half, where user code may have
    /// one of its own if the CPU has WRGSBASE.
    pub fn kernel_gs(&self) -> Result<u64, Error> {
        match (self.gs, self.state().sregs.gs.base) {
            (Some(known), _) => Ok(known.kernel),
            (None, base) if base & KERNEL_HALF != 0 => Ok(base),
            (None, _) => self.swapped_gs(),
        }
    }

    /// The user program's GS base, once it was noted.
    pub fn user_gs(&self) -> Option<u64> {
        self.gs.map(|known| known.user)
    }

    /// Notes both where execution stands in user mode: there IA32_KERNEL_GS_BASE is the kernel's.
    pub fn note_gs(&mut self) -> Result<(), Error> {
        if self.cpl() != 3 {
            return Err(Error::Host(
                "the user program's heartbeat did not stop in user mode, where GS's bases are known",
            ));
        }
        self.gs = Some(GsBases { user: self.state().sregs.gs.base, kernel: self.swapped_gs()? });
        Ok(())
    }
}
