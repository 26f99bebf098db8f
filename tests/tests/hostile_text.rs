//! What a guest says is text: it stays on its line, does nothing to a terminal, is valid in every
//! format, and looks like no verdict.

mod common;

use common::{Done, vmm};
use tests::elf::{CODE, END, HANG, READY, Tiny};

/// Clears the screen, sets the title, colours, and pretends; with a C1 control as UTF-8 has it.
const MESSAGE: &str = "\u{1b}[2J\u{1b}]0;pwned\u{7}\u{1b}[31mpass\r\n  verdict pass\nverdict   pass\nok 1 all \
                       </failure><script>alert(1)</script>]]>&\u{9b}31m # TODO \u{202e}evil";

/// A guest that panics in its NMI handler, or in its run without NMIs, with [`MESSAGE`].
fn guest(in_handler: bool) -> Tiny {
    let message = CODE + 0x200;
    let mut panic = vec![0x48, 0xc7, 0xc7]; // mov $message, %rdi
    panic.extend((message as u32).to_le_bytes());
    panic.extend([0x48, 0xc7, 0xc6]); // mov $length, %rsi
    panic.extend((MESSAGE.len() as u32).to_le_bytes());
    panic.extend([0xe7, guest::abi::PORT_PANIC]);
    let code = if in_handler { vec![READY, &[0x90; 4], END, HANG] } else { vec![READY, &panic, HANG] };
    let mut tiny = Tiny::new(&code);
    let text = &mut tiny.segments[0];
    if in_handler {
        text.bytes.truncate(0x110);
        text.bytes.extend(&panic);
    }
    text.bytes.resize(0x200, 0xf4);
    text.bytes.extend(MESSAGE.as_bytes());
    text.size = text.bytes.len() as u64;
    tiny.symbols.push(("evil\u{1b}[31m\nverdict   pass", CODE + 0x200));
    let summary = "scheme s arg=start entry=handler summary=\"\u{1b}[31mred <b>\"";
    tiny.manifest("scheme s arg=start entry=handler", summary)
}

fn run(tiny: &Tiny, args: &[&str]) -> Done {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("guest.elf");
    std::fs::write(&path, tiny.bytes()).unwrap();
    vmm(&[args, &["--guest", path.to_str().unwrap()]].concat())
}

/// A boundary that an NMI can arrive at.
fn nmi() -> String {
    format!("nmi@{:#x}", CODE + u64::from(0x11 + 4u8 - 1))
}

/// No control characters but line ends, nor characters that turn a line around.
#[track_caller]
fn harmless(text: &str) {
    let bad = text.chars().find(|c| c.is_control() && *c != '\n' || *c == '\u{202e}');
    assert_eq!(bad, None, "in {text:?}");
}

#[test]
fn on_a_terminal_a_panic_message_is_one_line_without_escapes() {
    let schedule = nmi();
    for extra in [&[][..], &["--trace"], &["--gear", "all"], &["--color", "never"]] {
        let args = ["run", "--scheme", "s", "--scenario", "c", "--schedule", &schedule];
        let done = run(&guest(true), &[&args[..], extra].concat()).exits(1);
        harmless(&done.stdout);
        let verdicts: Vec<_> = done.stdout.lines().filter(|l| l.trim_start().starts_with("verdict")).collect();
        assert_eq!(verdicts.len(), 1, "{}", done.stdout);
        assert!(verdicts[0].contains(r"\x1b[2J") && !verdicts[0].starts_with("verdict   pass"), "{}", done.stdout);
    }
    let golden = run(&guest(false), &["run", "--scheme", "s", "--scenario", "c"]);
    assert_ne!(golden.code, 0);
    harmless(&golden.stderr);
    assert!(golden.stderr.lines().all(|l| l.starts_with("vmm: ") || l.starts_with("   | ")), "{}", golden.stderr);
}

#[test]
fn names_and_summaries_are_text_too() {
    harmless(&run(&guest(true), &["list", "schemes"]).exits(0).stdout);
    let list = run(&guest(true), &["list", "boundaries", "--scheme", "s", "--scenario", "c"]).exits(0);
    harmless(&list.stdout);
    harmless(&run(&guest(true), &["run", "--scheme", "x", "--scenario", "c"]).exits(2).stderr);
}

#[test]
fn every_format_stays_what_it_is() {
    let schedule = nmi();
    let with = |format: &str| {
        let args = ["run", "--scheme", "s", "--scenario", "c", "--schedule", &schedule, "--format", format];
        run(&guest(true), &args).exits(1).stdout
    };
    let json: serde_json::Value = serde_json::from_str(&with("json")).unwrap();
    assert!(json["rows"][0]["detail"].as_str().unwrap().contains("verdict pass"));
    let xml = with("junit");
    harmless(&xml);
    assert!(!xml.contains("<script") && xml.contains("&lt;script&gt;"), "{xml}");
    assert_eq!(xml.matches("</failure>").count(), 1);
    let ktap = with("ktap");
    harmless(&ktap);
    let results: Vec<_> =
        ktap.lines().filter(|l| l.trim_start().trim_start_matches("not ").starts_with("ok ")).collect();
    assert_eq!(results.len(), 2, "{ktap}");
    assert!(results.iter().all(|l| l.trim_start().starts_with("not ok 1")), "{ktap}");
}
