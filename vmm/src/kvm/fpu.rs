//! x87 and SSE registers. KVM_GET_FPU and KVM_SET_FPU pass by the marks of which parts are in their
//! initial state (XSTATE_BV; SDM vol. 1, 13.4.2): what is set in a part that is not marked is not loaded
//! by the next run, and what is read of one may be stale. Symptom: on kvm_amd, below Xen, MXCSR was
//! 0x1f80 after a restore that had set 0x9f80. So the whole area is read and written.

use std::ops::Range;

use kvm_bindings::{kvm_fpu, kvm_xsave};

use super::{Error, Vm};

/// Places in the area, in bytes (SDM vol. 1, 10.5.1 and 13.4).
const FCW: usize = 0;
const FSW: usize = 2;
const FTW: usize = 4;
const FOP: usize = 6;
const LAST_IP: usize = 8;
const LAST_DP: usize = 16;
const MXCSR: usize = 24;
const ST: usize = 32;
const XMM: usize = 160;
const IN_USE: usize = 512;
/// Bytes of the area that are looked at.
const BYTES: usize = IN_USE + 8;
/// Marks of x87 and SSE.
const X87: u8 = 1 << 0;
const SSE: u8 = 1 << 1;

/// The beginning of an area, in bytes.
struct Area([u8; BYTES]);

impl Area {
    fn of(xsave: &kvm_xsave) -> Self {
        let mut bytes = [0; BYTES];
        for (to, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(&xsave.region) {
            *to = word.to_le_bytes();
        }
        Self(bytes)
    }

    fn put_into(&self, xsave: &mut kvm_xsave) {
        for (word, bytes) in xsave.region.iter_mut().zip(self.0.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
    }

    fn part<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(&self.0[at..at + N]);
        out
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn fill(&mut self, range: Range<usize>) {
        self.0[range].fill(0);
    }

    /// Parts that are not marked get their initial values (SDM vol. 1, 13.6).
    fn settle(&mut self) {
        let in_use = self.0[IN_USE];
        if in_use & X87 == 0 {
            self.fill(FCW..MXCSR);
            self.fill(ST..XMM);
            self.set(FCW, &INITIAL_FCW.to_le_bytes());
        }
        if in_use & SSE == 0 {
            self.fill(XMM..XMM + 256);
        }
        self.0[IN_USE] |= X87 | SSE;
    }
}

/// FCW after FNINIT.
const INITIAL_FCW: u16 = 0x37f;

impl Vm {
    /// The x87 and SSE registers.
    pub(super) fn fpu(&self) -> Result<kvm_fpu, Error> {
        let mut area = Area::of(&self.vcpu.get_xsave().map_err(Error::ioctl("KVM_GET_XSAVE"))?);
        area.settle();
        let mut out = kvm_fpu {
            fcw: u16::from_le_bytes(area.part(FCW)),
            fsw: u16::from_le_bytes(area.part(FSW)),
            ftwx: area.0[FTW],
            last_opcode: u16::from_le_bytes(area.part(FOP)),
            last_ip: u64::from_le_bytes(area.part(LAST_IP)),
            last_dp: u64::from_le_bytes(area.part(LAST_DP)),
            mxcsr: u32::from_le_bytes(area.part(MXCSR)),
            ..Default::default()
        };
        out.fpr.iter_mut().enumerate().for_each(|(i, st)| *st = area.part(ST + 16 * i));
        out.xmm.iter_mut().enumerate().for_each(|(i, xmm)| *xmm = area.part(XMM + 16 * i));
        Ok(out)
    }

    /// Sets the x87 and SSE registers, and leaves all others alone.
    pub(super) fn set_fpu(&mut self, fpu: &kvm_fpu) -> Result<(), Error> {
        let mut xsave = self.vcpu.get_xsave().map_err(Error::ioctl("KVM_GET_XSAVE"))?;
        let mut area = Area::of(&xsave);
        area.settle();
        area.set(FCW, &fpu.fcw.to_le_bytes());
        area.set(FSW, &fpu.fsw.to_le_bytes());
        area.set(FTW, &[fpu.ftwx]);
        area.set(FOP, &fpu.last_opcode.to_le_bytes());
        area.set(LAST_IP, &fpu.last_ip.to_le_bytes());
        area.set(LAST_DP, &fpu.last_dp.to_le_bytes());
        area.set(MXCSR, &fpu.mxcsr.to_le_bytes());
        area.set(ST, fpu.fpr.as_flattened());
        area.set(XMM, fpu.xmm.as_flattened());
        area.put_into(&mut xsave);
        // SAFETY: as in `set_vector`: the area was read from this vCPU, is 4096 bytes long, and no
        // feature beyond it was enabled.
        unsafe { self.vcpu.set_xsave(&xsave) }.map_err(Error::ioctl("KVM_SET_XSAVE"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_marked_has_its_initial_values_and_is_marked_then() {
        let settled = |in_use: u8| {
            let mut area = Area([0xaa; BYTES]);
            area.0[IN_USE] = in_use;
            area.settle();
            area
        };
        let none = settled(0);
        assert_eq!((none.part(FCW), none.part(ST), none.part(XMM)), (INITIAL_FCW.to_le_bytes(), [0; 16], [0; 16]));
        assert_eq!((none.part(MXCSR), none.0[IN_USE]), ([0xaa; 4], X87 | SSE), "MXCSR is nobody's part");
        let sse = settled(SSE);
        assert_eq!((sse.part(ST), sse.part(XMM)), ([0; 16], [0xaa; 16]));
        let all = settled(X87 | SSE | 4);
        assert_eq!((all.part(FCW), all.part(XMM), all.0[IN_USE]), ([0xaa; 2], [0xaa; 16], 7));
        let mut xsave = kvm_xsave::default();
        all.put_into(&mut xsave);
        assert_eq!(Area::of(&xsave).0, all.0);
    }
}
