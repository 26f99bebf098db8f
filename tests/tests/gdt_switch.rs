//! A context switch that has no GDT for one instruction (Xen 27a9d6d6143f).

mod common;

use common::{campaign, vmm};

#[test]
fn an_nmi_between_cr3_and_gdtr_ends_in_a_triple_fault_and_nowhere_else() {
    let text = "name = \"switch\"\nschemes = [\"bug-gdt-switch\", \"naive\"]\nscenarios = [\"gdt-switch\"]\n\
                generate = \"points\"\n[expect.bug-gdt-switch]\ngdt-switch = \"shutdown\"\n";
    let json = campaign(text, &["--json"]).exits(0).json();
    let [bug, twin] = [0, 1].map(|i| &json["rows"][i]);
    // Twice the new address space is another than the old one.
    assert_eq!(
        (&bug["counts"]["shutdown"], &bug["schedule"]),
        (&2.into(), &"nmi@gdt_switch.window#2".into()),
        "{bug:#}"
    );
    assert_eq!(twin["counts"]["pass"], twin["cases"]);
    assert_eq!(json["summary"]["disagreed"], 0);
}

#[test]
fn the_window_is_that_of_a_gdt_that_the_new_address_space_lacks() {
    let trace = |scheme: &str, schedule: &str| {
        let run = ["run", "--scheme", scheme, "--scenario", "gdt-switch", "--schedule", schedule, "--trace"];
        vmm(&run).stdout
    };
    let bug = trace("bug-gdt-switch", "nmi@gdt_switch.window#2");
    let lines: Vec<_> = bug.lines().collect();
    let arrival = lines.iter().position(|l| l.contains("an NMI arrives")).unwrap_or_else(|| panic!("{bug}"));
    assert!(lines[arrival - 1].contains("cr3="), "the last instruction: {}", lines[arrival - 1]);
    assert!(bug.contains("the delivery of the NMI fails") && bug.contains("shutdown(triple fault)"), "{bug}");
    // The repaired switch loads GDTR before CR3, and again behind it.
    let twin = trace("naive", "");
    let switch: Vec<_> = twin.lines().filter(|l| l.contains(" gdt_switch.to")).collect();
    let tells = |line: &str, what: &str| assert!(line.contains(what), "{what}: {line}");
    tells(switch[4], "lgdt (%rdx)");
    tells(switch[5], "mov %rdi, %cr3");
    tells(switch[6], "lgdt (%rsi)");
}
