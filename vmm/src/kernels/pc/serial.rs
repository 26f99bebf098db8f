//! The serial line's state in a file. Its registers stand in the order of their ports.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use vm_superio::serial::SerialState;

/// Writes the state of the serial line.
pub fn serialize<S: Serializer>(state: &SerialState, to: S) -> Result<S::Ok, S::Error> {
    let s = state;
    let registers = [
        s.baud_divisor_low,
        s.baud_divisor_high,
        s.interrupt_enable,
        s.interrupt_identification,
        s.line_control,
        s.modem_control,
        s.line_status,
        s.modem_status,
        s.scratch,
    ];
    (registers, &s.in_buffer).serialize(to)
}

/// Reads it back.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SerialState, D::Error> {
    let (registers, in_buffer): ([u8; 9], Vec<u8>) = Deserialize::deserialize(from)?;
    let [low, high, enable, identification, line_control, modem_control, line_status, modem_status, scratch] =
        registers;
    Ok(SerialState {
        baud_divisor_low: low,
        baud_divisor_high: high,
        interrupt_enable: enable,
        interrupt_identification: identification,
        line_control,
        line_status,
        modem_control,
        modem_status,
        scratch,
        in_buffer,
    })
}
