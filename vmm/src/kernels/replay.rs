//! The command line that runs a case again.

use super::fault_by::FaultBy;

/// A word as a shell reads it back.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,".contains(c);
    match word.chars().all(plain) && !word.is_empty() {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// The command line that runs the kernel of `command`, changed by `mutate`, and carries out a
/// schedule on it by the vCPU's events or in another `gear`.
pub fn replay(command: &str, mutate: &[String], by: FaultBy, gear: &str, case_limit: u64, schedule: &str) -> String {
    let by = if by.is_usual() { String::new() } else { format!(" --fault-by {}", by.word()) };
    let mutate: String = mutate.iter().map(|m| format!(" --mutate {}", quoted(m))).collect();
    format!("{command}{mutate}{by} --gear {gear} --case-limit {case_limit} --schedule {}", quoted(schedule))
}
