//! The machine's ports: interrupt controllers, timer, serial line, clock, and
//! nothing else.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use vm_superio::serial::{NoEvents, SerialState};
use vm_superio::{Serial, Trigger};

use super::apic::Apic;
use super::pic::Pics;
use super::pit::{Nanos, Pit};

const COM1: std::ops::Range<u16> = 0x3f8..0x400;
const COM1_LINE: u8 = 4;
/// Where tests of kernels ask for the machine's end (QEMU's `isa-debug-exit`).
const EXIT: u16 = 0xf4;

/// What an OUT meant, where it is more than a device's own affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing that the machine must know.
    Done,
    /// The kernel asked for a reset.
    Reset,
    /// It wrote to the exit port.
    Exit(u32),
}

/// The interrupt line of the serial port.
#[derive(Clone, Debug, Default)]
struct Line(Arc<AtomicBool>);

impl Trigger for Line {
    type E = std::convert::Infallible;
    fn trigger(&self) -> Result<(), Self::E> {
        self.0.store(true, Relaxed);
        Ok(())
    }
}

/// The console: what the guest wrote, and where else it goes.
#[derive(Default)]
pub struct Console {
    text: Vec<u8>,
    echo: Option<Box<dyn Write + Send>>,
}

impl Write for Console {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.text.extend_from_slice(bytes);
        if let Some(echo) = &mut self.echo {
            // A reader that went away does not stop the kernel.
            let _ = echo.write_all(bytes).and_then(|()| echo.flush());
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// All devices.
pub struct Devices {
    /// The interrupt controllers.
    pub pics: Pics,
    /// The timer.
    pub pit: Pit,
    /// The local APIC, where there is one.
    pub apic: Option<Apic>,
    serial: Serial<Line, NoEvents, Console>,
    line: Line,
    cmos: u8,
    /// Whether the serial line was used since the last save or restore.
    touched: bool,
}

/// The devices' state; the console's text is cut back to its length then.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DeviceState {
    pics: Pics,
    pit: Pit,
    #[serde(default)]
    apic: Option<Apic>,
    #[serde(with = "super::serial")]
    serial: SerialState,
    text: usize,
    cmos: u8,
}

impl Devices {
    /// Devices in their reset state; the serial line goes to `echo` as well.
    pub fn new(apic: bool, echo: Option<Box<dyn Write + Send>>) -> Self {
        let line = Line::default();
        let serial = Serial::new(line.clone(), Console { text: Vec::new(), echo });
        let apic = apic.then(Apic::default);
        Self { pics: Pics::default(), pit: Pit::default(), apic, serial, line, cmos: 0, touched: false }
    }

    /// All that was written to the serial line.
    pub fn console(&self) -> &[u8] {
        &self.serial.writer().text
    }

    /// No longer copies the serial line anywhere.
    pub fn end_echo(&mut self) {
        self.serial.writer_mut().echo = None;
    }

    /// An OUT.
    pub fn write(&mut self, port: u16, value: u32, now: Nanos) -> Effect {
        let byte = value as u8;
        if self.pics.write(port, byte) || self.pit.write(port, byte, now) {
            return Effect::Done;
        }
        match port {
            port if COM1.contains(&port) => {
                // Its only error is the trigger's, which has none.
                let _ = self.serial.write((port - COM1.start) as u8, byte);
                self.pass_line();
            }
            0x70 => self.cmos = byte & 0x7f,
            EXIT => return Effect::Exit(value),
            0x64 if byte == 0xfe => return Effect::Reset,
            0xcf9 if byte & 4 != 0 => return Effect::Reset,
            _ => {}
        }
        Effect::Done
    }

    /// An IN. Where nothing is, all bits read as one.
    pub fn read(&mut self, port: u16, now: Nanos) -> u64 {
        if let Some(byte) = self.pics.read(port).or_else(|| self.pit.read(port, now)) {
            return byte.into();
        }
        match port {
            port if COM1.contains(&port) => {
                let byte = self.serial.read((port - COM1.start) as u8);
                self.pass_line();
                byte.into()
            }
            // A clock that stands at the first of January, binary, 24 hours, valid.
            0x71 => match self.cmos {
                7 | 8 => 1,
                9 => 0x26,
                0xa => 0x26,
                0xb => 2,
                0xd => 0x80,
                _ => 0,
            },
            _ => u64::MAX,
        }
    }

    fn pass_line(&mut self) {
        self.touched = true;
        if self.line.0.swap(false, Relaxed) {
            self.pics.raise(COM1_LINE);
        }
    }

    /// A copy of the state.
    pub fn save(&mut self) -> DeviceState {
        self.touched = false;
        DeviceState {
            pics: self.pics,
            pit: self.pit,
            apic: self.apic.clone(),
            serial: self.serial.state(),
            text: self.console().len(),
            cmos: self.cmos,
        }
    }

    /// Puts a state from a file into new devices, with all that the console had shown.
    pub fn resume(&mut self, from: &DeviceState, text: &[u8]) {
        self.serial.writer_mut().text = text.to_vec();
        self.touched = true;
        self.restore(from);
    }

    /// Puts a saved state back.
    pub fn restore(&mut self, from: &DeviceState) {
        (self.pics, self.pit, self.cmos) = (from.pics, from.pit, from.cmos);
        self.apic.clone_from(&from.apic);
        if !std::mem::take(&mut self.touched) {
            return;
        }
        let mut console = std::mem::take(self.serial.writer_mut());
        console.text.truncate(from.text);
        match Serial::from_state(&from.serial, self.line.clone(), NoEvents, console) {
            Ok(serial) => self.serial = serial,
            Err(e) => log::error!("the serial line's state was refused: {e:?}"),
        }
        self.line.0.store(false, Relaxed);
    }
}
