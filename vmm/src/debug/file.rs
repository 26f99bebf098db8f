//! The image as gdb reads it: over the connection, so that symbols are there without a file.

use gdbstub::target::TargetResult;
use gdbstub::target::ext::exec_file::ExecFile;
use gdbstub::target::ext::host_io::{
    HostIo, HostIoClose, HostIoCloseOps, HostIoErrno, HostIoError, HostIoFstat, HostIoFstatOps, HostIoOpen,
    HostIoOpenFlags, HostIoOpenMode, HostIoOpenOps, HostIoPread, HostIoPreadOps, HostIoResult, HostIoStat,
};

use super::target::Debugged;

/// What the image is called there. No such file exists.
const NAME: &[u8] = b"/vmm/guest.elf";
/// The only file that can be open.
const HANDLE: u32 = 3;

/// Copies a part of `from`; returns how much.
fn copy(from: &[u8], offset: u64, count: usize, buf: &mut [u8]) -> usize {
    let rest = usize::try_from(offset).ok().and_then(|at| from.get(at..)).unwrap_or_default();
    let n = rest.len().min(count).min(buf.len());
    buf[..n].copy_from_slice(&rest[..n]);
    n
}

impl ExecFile for Debugged<'_> {
    fn get_exec_file(
        &self,
        _: Option<gdbstub::common::Pid>,
        offset: u64,
        length: usize,
        buf: &mut [u8],
    ) -> TargetResult<usize, Self> {
        Ok(copy(NAME, offset, length, buf))
    }
}

impl HostIo for Debugged<'_> {
    fn support_open(&mut self) -> Option<HostIoOpenOps<'_, Self>> {
        Some(self)
    }

    fn support_close(&mut self) -> Option<HostIoCloseOps<'_, Self>> {
        Some(self)
    }

    fn support_pread(&mut self) -> Option<HostIoPreadOps<'_, Self>> {
        Some(self)
    }

    fn support_fstat(&mut self) -> Option<HostIoFstatOps<'_, Self>> {
        Some(self)
    }
}

impl HostIoOpen for Debugged<'_> {
    fn open(&mut self, filename: &[u8], _: HostIoOpenFlags, _: HostIoOpenMode) -> HostIoResult<u32, Self> {
        if filename == NAME { Ok(HANDLE) } else { Err(HostIoError::Errno(HostIoErrno::ENOENT)) }
    }
}

impl HostIoClose for Debugged<'_> {
    fn close(&mut self, _: u32) -> HostIoResult<(), Self> {
        Ok(())
    }
}

impl HostIoPread for Debugged<'_> {
    fn pread(&mut self, fd: u32, count: usize, offset: u64, buf: &mut [u8]) -> HostIoResult<usize, Self> {
        if fd != HANDLE {
            return Err(HostIoError::Errno(HostIoErrno::EBADF));
        }
        Ok(copy(&self.file, offset, count, buf))
    }
}

impl HostIoFstat for Debugged<'_> {
    fn fstat(&mut self, fd: u32) -> HostIoResult<HostIoStat, Self> {
        if fd != HANDLE {
            return Err(HostIoError::Errno(HostIoErrno::EBADF));
        }
        let size = self.file.len() as u64;
        Ok(HostIoStat {
            st_dev: 0,
            st_ino: 0,
            st_mode: HostIoOpenMode::S_IFREG | HostIoOpenMode::S_IRUSR,
            st_nlink: 1,
            st_uid: 0,
            st_gid: 0,
            st_rdev: 0,
            st_size: size,
            st_blksize: 4096,
            st_blocks: size.div_ceil(512),
            st_atime: 0,
            st_mtime: 0,
            st_ctime: 0,
        })
    }
}
