//! Makes probes in a process of their own: one that hangs in the kernel, or dies,
//! costs its own row and nothing else.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use super::report::Row;
use super::spec::Probe;

/// How long one probe may take; most take milliseconds.
pub const LIMIT: Duration = Duration::from_secs(20);
/// How long a killed process may take to go.
const GOING: Duration = Duration::from_secs(2);

/// Makes `probes`, each of whose names `command` takes as a further argument, and
/// answers with one line of JSON (a [`Row`]) each, in their order.
pub fn measure(command: impl Fn() -> Command, probes: &[&Probe], limit: Duration) -> std::io::Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    while rows.len() < probes.len() {
        let ids = probes[rows.len()..].iter().map(|p| p.id);
        let mut child =
            command().args(ids).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let (why, reader) = collect(&mut child, limit, probes, &mut rows).inspect_err(|_| {
            let _ = finish(&mut child, true);
        })?;
        let end = finish(&mut child, why.is_some());
        // Its pipe has ended with the process, unless that is beyond being ended.
        if end.is_ok() {
            reader.into_iter().for_each(|thread| drop(thread.join()));
        }
        let end = end.unwrap_or_else(|why| why);
        if rows.len() < probes.len() {
            let why = why.unwrap_or_default() + &end;
            rows.push(Row::new(probes[rows.len()], Err(why)));
        }
    }
    Ok(rows)
}

/// Takes rows until all are there (or the process ends), or one takes too long: then
/// says so. Returns the thread that reads what the process writes, too.
fn collect(
    child: &mut Child,
    limit: Duration,
    probes: &[&Probe],
    rows: &mut Vec<Row>,
) -> std::io::Result<(Option<String>, Option<JoinHandle<()>>)> {
    let Some(out) = child.stdout.take() else { return Ok((None, None)) };
    let (send, lines) = channel();
    let reader = Builder::new().spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
    })?;
    while rows.len() < probes.len() {
        match lines.recv_timeout(limit) {
            Ok(line) => match serde_json::from_str::<Row>(&line) {
                Ok(row) if row.id == probes[rows.len()].id => rows.push(row),
                _ => log::warn!("not the row of {}: {line}", probes[rows.len()].id),
            },
            Err(RecvTimeoutError::Timeout) => {
                return Ok((Some(format!("no answer within {} s; ", limit.as_secs())), Some(reader)));
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    Ok((None, Some(reader)))
}

/// Waits for the end of a process, which is killed first where it hangs; says how it ended, or
/// why it did not.
fn finish(child: &mut Child, hangs: bool) -> Result<String, String> {
    if hangs && let Err(e) = child.kill() {
        return Err(format!("it cannot be killed: {e}"));
    }
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(format!("the process ended by {status}")),
            Ok(None) if start.elapsed() > GOING => {
                return Err("its process hangs in the kernel and ignores SIGKILL".into());
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            Err(e) => return Err(e.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;

    const PROBES: [Probe; 3] = [probe("a"), probe("b"), probe("c")];

    const fn probe(id: &'static str) -> Probe {
        Probe { id, property: "", right: &["yes"], source: "", lab: "", measure: |_| Ok("yes".into()) }
    }

    /// A shell that answers for each name it is given, with `case` for some.
    fn shell(case: &'static str) -> impl Fn() -> Command {
        move || {
            let answer = r#"echo '{"id":"'$id'","property":"","right":["yes"],"source":"","answer":"yes","status":"ok","lab":""}'"#;
            let mut c = Command::new("sh");
            c.args(["-c", &format!("for id; do case $id in {case} esac; {answer}; done"), "sh"]);
            c
        }
    }

    fn answers(case: &'static str) -> Vec<(Status, String)> {
        let probes: Vec<&Probe> = PROBES.iter().collect();
        let rows = measure(shell(case), &probes, Duration::from_millis(500)).unwrap();
        rows.into_iter().map(|r| (r.status, r.answer.or(r.detail).unwrap())).collect()
    }

    #[test]
    fn all_answer() {
        assert_eq!(answers("x) ;;"), vec![(Status::Ok, "yes".into()); 3]);
    }

    #[test]
    fn one_that_hangs_costs_its_own_row() {
        let rows = answers("b) exec sleep 60 ;;");
        assert_eq!((rows[0].0, rows[1].0, rows[2].0), (Status::Ok, Status::Unknown, Status::Ok));
        assert!(rows[1].1.starts_with("no answer within"), "{}", rows[1].1);
    }

    #[test]
    fn one_that_dies_costs_its_own_row() {
        let rows = answers("a) kill -9 $$ ;;");
        assert_eq!((rows[0].0, rows[1].0, rows[2].0), (Status::Unknown, Status::Ok, Status::Ok));
        assert!(rows[0].1.contains("signal: 9"), "{}", rows[0].1);
    }
}
