//! What a kernel with devices needs beyond what the lab guest does: reads from
//! ports, a CPUID of its own, and the state that the sync-regs area leaves out.

use kvm_bindings::{KVM_EXIT_IO, KVM_EXIT_MMIO, Msrs, kvm_cpuid_entry2, kvm_debugregs, kvm_fpu, kvm_msr_entry};

use super::{Error, Host, Vm};
use crate::cpu::msr;

/// The model-specific registers of a snapshot (SDM vol. 4, table 2-2). Those that a
/// host lacks are left out.
const MSRS: &[u32] = &[
    msr::TSC,
    0x174, // IA32_SYSENTER_CS
    0x175, // IA32_SYSENTER_ESP
    0x176, // IA32_SYSENTER_EIP
    msr::MISC_ENABLE,
    0x277, // IA32_PAT
    msr::STAR,
    msr::LSTAR,
    0xc000_0083, // IA32_CSTAR
    msr::FMASK,
    msr::KERNEL_GS_BASE,
    0xc000_0103, // IA32_TSC_AUX
];

/// Two writes of the time-stamp counter. One that comes within a second of what the
/// counter would be is taken by KVM as an attempt to synchronise vCPUs, and changes
/// nothing (`kvm_synchronize_tsc`); a detour far away makes it count.
fn tsc_entries(value: u64) -> [kvm_msr_entry; 2] {
    const FAR: u64 = 1 << 42;
    let entry = |data| kvm_msr_entry { index: msr::TSC, data, ..Default::default() };
    [entry(value.wrapping_add(FAR)), entry(value)]
}

/// The vCPU's state beyond [`super::VcpuState`].
#[derive(Clone)]
pub struct DeepState {
    fpu: kvm_fpu,
    debug: kvm_debugregs,
    msrs: Msrs,
}

impl std::fmt::Debug for DeepState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeepState").field("msrs", &self.msrs.as_slice().len()).finish_non_exhaustive()
    }
}

/// A [`DeepState`] as plain values, to be written to a file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeepValues {
    /// Model-specific registers by number; a number may be there twice, and the later counts.
    pub msrs: Vec<(u32, u64)>,
    /// DR0 to DR3, DR6, DR7.
    pub debug: [u64; 6],
    /// ST0 to ST7 as FXSAVE lays them out (SDM vol. 1, 10.5.1), 16 bytes each.
    pub st: [[u8; 16]; 8],
    /// XMM0 to XMM15.
    pub xmm: [[u8; 16]; 16],
    /// FCW, FSW, FTW (abridged), last opcode.
    pub x87: [u16; 4],
    /// The addresses of the last x87 instruction and of its operand.
    pub last: [u64; 2],
    /// MXCSR.
    pub mxcsr: u32,
}

impl DeepState {
    /// Its values, to be written to a file.
    pub fn values(&self) -> DeepValues {
        let (f, d) = (&self.fpu, &self.debug);
        DeepValues {
            msrs: self.msrs.as_slice().iter().map(|m| (m.index, m.data)).collect(),
            debug: [d.db[0], d.db[1], d.db[2], d.db[3], d.dr6, d.dr7],
            st: f.fpr,
            xmm: f.xmm,
            x87: [f.fcw, f.fsw, f.ftwx.into(), f.last_opcode],
            last: [f.last_ip, f.last_dp],
            mxcsr: f.mxcsr,
        }
    }

    /// The state that has these values.
    pub fn of(values: &DeepValues) -> Result<Self, Error> {
        let entry = |(index, data): &(u32, u64)| kvm_msr_entry { index: *index, data: *data, ..Default::default() };
        let msrs: Vec<_> = values.msrs.iter().map(entry).collect();
        let [a, b, c, d, dr6, dr7] = values.debug;
        let [fcw, fsw, ftw, last_opcode] = values.x87;
        Ok(Self {
            fpu: kvm_fpu {
                fpr: values.st,
                fcw,
                fsw,
                ftwx: ftw as u8,
                last_opcode,
                last_ip: values.last[0],
                last_dp: values.last[1],
                xmm: values.xmm,
                mxcsr: values.mxcsr,
                ..Default::default()
            },
            debug: kvm_debugregs { db: [a, b, c, d], dr6, dr7, ..Default::default() },
            msrs: Msrs::from_entries(&msrs).map_err(|_| Error::MissingCapability("room for the MSRs of a file"))?,
        })
    }

    /// The time-stamp counter.
    pub fn tsc(&self) -> u64 {
        self.msrs.as_slice().iter().rfind(|m| m.index == msr::TSC).map_or(0, |m| m.data)
    }
}

impl Vm {
    /// Gives the vCPU the host's CPUID, each entry as `edit` leaves it; where that
    /// says `false` the entry is left out. To be called before the first run.
    pub fn edit_cpuid(
        &mut self,
        host: &Host,
        mut edit: impl FnMut(&mut kvm_cpuid_entry2) -> bool,
    ) -> Result<(), Error> {
        let mut cpuid = host.cpuid().clone();
        cpuid.retain(|entry| edit(&mut entry.clone()));
        for entry in cpuid.as_mut_slice() {
            edit(entry);
        }
        self.vcpu.set_cpuid2(&cpuid).map_err(Error::ioctl("KVM_SET_CPUID2"))
    }

    /// A number for the CPUID that this host's KVM offers: equal where a guest sees the same
    /// features. What differs from CPU to CPU of one host is left out.
    pub fn cpuid_number(host: &Host) -> u64 {
        let mut bytes = Vec::new();
        for e in host.cpuid().as_slice() {
            let (ebx, edx) = match e.function {
                1 => (e.ebx & 0x00ff_ffff, e.edx),    // the initial APIC ID
                0xb | 0x1f | 0x8000_001e => continue, // the topology
                _ => (e.ebx, e.edx),
            };
            for word in [e.function, e.index, e.eax, ebx, e.ecx, edx] {
                bytes.extend(word.to_le_bytes());
            }
        }
        xxhash_rust::xxh3::xxh3_64(&bytes)
    }

    /// Whether CPUID shows features that it was told to hide: XSAVE, here.
    pub fn shows_hidden_cpuid(&self) -> bool {
        let shown = self.vcpu.get_cpuid2(kvm_bindings::KVM_MAX_CPUID_ENTRIES);
        shown.is_ok_and(|shown| shown.as_slice().iter().any(|e| e.function == 1 && e.ecx >> 26 & 1 != 0))
    }

    /// Has KVM note which pages the guest writes.
    pub fn log_dirty_pages(&mut self) -> Result<(), Error> {
        let region = kvm_bindings::kvm_userspace_memory_region {
            slot: 0,
            flags: kvm_bindings::KVM_MEM_LOG_DIRTY_PAGES,
            guest_phys_addr: 0,
            memory_size: self.ram.len(),
            userspace_addr: self.ram.host_address(),
        };
        // SAFETY: the region is the slot's own, which lives as long as the VM.
        unsafe { self.fd.set_user_memory_region(region) }.map_err(Error::ioctl("KVM_SET_USER_MEMORY_REGION"))
    }

    /// Appends the addresses of the pages that the guest wrote since the last call.
    /// What the VMM itself wrote is not among them.
    pub fn take_dirty_pages(&mut self, out: &mut Vec<u64>) -> Result<(), Error> {
        let bytes = self.ram.bytes().len();
        let bitmap = self.fd.get_dirty_log(0, bytes).map_err(Error::ioctl("KVM_GET_DIRTY_LOG"))?;
        for (i, word) in bitmap.into_iter().enumerate() {
            let mut left = word;
            while left != 0 {
                out.push((i as u64 * 64 + u64::from(left.trailing_zeros())) * 4096);
                left &= left - 1;
            }
        }
        Ok(())
    }

    /// Answers the port or memory read that the last run ended in, and lets the
    /// instruction complete.
    pub fn answer_read(&mut self, value: u64) -> Result<(), Error> {
        let run = self.vcpu.get_kvm_run();
        match run.exit_reason {
            KVM_EXIT_IO => {
                // SAFETY: for KVM_EXIT_IO the kernel fills this member of the union.
                let io = unsafe { run.__bindgen_anon_1.io };
                let data = std::ptr::from_mut(run).cast::<u8>().wrapping_add(io.data_offset as usize);
                let size = usize::from(io.size).min(8);
                for i in 0..io.count as usize {
                    let to = data.wrapping_add(i * size);
                    // SAFETY: data_offset lies in the mapping that holds `run`, with
                    // `size * count` bytes behind it (KVM API, KVM_EXIT_IO).
                    unsafe { std::ptr::copy_nonoverlapping(value.to_le_bytes().as_ptr(), to, size) };
                }
            }
            KVM_EXIT_MMIO => run.__bindgen_anon_1.mmio.data = value.to_le_bytes(),
            _ => return Ok(()),
        }
        self.complete_io()?;
        self.state.load(self.vcpu.sync_regs_mut());
        Ok(())
    }

    /// The state beyond [`Vm::state`].
    pub fn deep_state(&self) -> Result<DeepState, Error> {
        let mut msrs = Vec::new();
        for index in MSRS {
            match self.msr(*index)? {
                Some(data) if *index == msr::TSC => msrs.extend(tsc_entries(data)),
                Some(data) => msrs.push(kvm_msr_entry { index: *index, data, ..Default::default() }),
                None => {}
            }
        }
        Ok(DeepState {
            fpu: self.fpu()?,
            debug: self.vcpu.get_debug_regs().map_err(Error::ioctl("KVM_GET_DEBUGREGS"))?,
            msrs: Msrs::from_entries(&msrs).map_err(|_| Error::MissingCapability("room for a dozen MSRs"))?,
        })
    }

    /// Loads what [`Vm::deep_state`] returned.
    pub fn load_deep_state(&mut self, state: &DeepState) -> Result<(), Error> {
        self.set_fpu(&state.fpu)?;
        self.vcpu.set_msrs(&state.msrs).map_err(Error::ioctl("KVM_SET_MSRS"))?;
        self.vcpu.set_debug_regs(&state.debug).map_err(Error::ioctl("KVM_SET_DEBUGREGS"))
    }

    fn set_tsc(&mut self, value: u64) -> Result<(), Error> {
        let msrs = Msrs::from_entries(&tsc_entries(value)).map_err(|_| Error::MissingCapability("room for an MSR"))?;
        self.vcpu.set_msrs(&msrs).map_err(Error::ioctl("KVM_SET_MSRS")).map(|_| ())
    }

    /// A model-specific register; `None` where this host has none of that number.
    pub fn msr(&self, index: u32) -> Result<Option<u64>, Error> {
        let entry = kvm_msr_entry { index, ..Default::default() };
        let mut one = Msrs::from_entries(&[entry]).map_err(|_| Error::MissingCapability("room for one MSR"))?;
        match self.vcpu.get_msrs(&mut one).map_err(Error::ioctl("KVM_GET_MSRS"))? {
            0 => Ok(None),
            _ => Ok(one.as_slice().first().map(|e| e.data)),
        }
    }

    /// Sets a model-specific register; `false` where this host refuses it.
    pub fn set_msr(&mut self, index: u32, data: u64) -> Result<bool, Error> {
        let entry = kvm_msr_entry { index, data, ..Default::default() };
        let one = Msrs::from_entries(&[entry]).map_err(|_| Error::MissingCapability("room for one MSR"))?;
        Ok(self.vcpu.set_msrs(&one).map_err(Error::ioctl("KVM_SET_MSRS"))? == 1)
    }

    /// Puts the x87 and SSE control words to what firmware leaves behind.
    pub fn reset_fpu(&mut self) -> Result<(), Error> {
        let fpu = kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..Default::default() };
        self.set_fpu(&fpu)
    }

    /// The frequency of the guest's time-stamp counter, where this KVM tells it.
    pub fn tsc_khz(&self) -> Option<u32> {
        self.vcpu.get_tsc_khz().ok().filter(|khz| *khz > 0)
    }

    /// Moves the time-stamp counter on, as if so much time had gone by.
    pub fn advance_tsc(&mut self, nanos: u64) {
        let Some(khz) = self.tsc_khz() else { return };
        if let Ok(Some(now)) = self.msr(msr::TSC) {
            let ticks = u128::from(nanos) * u128::from(khz) / 1_000_000;
            if let Err(e) = self.set_tsc(now.wrapping_add(ticks as u64)) {
                log::debug!("the time-stamp counter cannot be set: {e}");
            }
        }
    }

    /// Whether a fault of the emulator left an exception behind it: it is taken away.
    pub fn drop_exception(&mut self) {
        self.state.events.exception = Default::default();
    }
}
