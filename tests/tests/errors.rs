//! Every mistake that a user can make has its exit code and a message that says what
//! would fit.

mod common;
use common::{SMALL, campaign, command, failing_line, first_boundary, vmm};

const NAIVE: [&str; 5] = ["run", "--scheme", "naive", "--scenario", "quiet"];

#[test]
fn a_wrong_command_line_exits_2() {
    vmm(&[]).exits(2);
    vmm(&["campagin"]).exits(2).says(&["campaign"]);
    vmm(&["run"]).exits(2).says(&["--scheme", "--scenario"]);
    vmm(&[&NAIVE[..], &["--gear", "fast"]].concat()).exits(2).says(&["arm", "step", "jump"]);
    vmm(&[&NAIVE[..], &["--gear", "arm", "--trace"]].concat()).exits(2).says(&["step"]);
    for jobs in ["0", "257", "1000", "99999999999999999999"] {
        vmm(&["campaign", "x.toml", "--jobs", jobs]).exits(2).says(&["--jobs"]);
        vmm(&["explore", "--scheme", "naive", "--scenario", "quiet", "--jobs", jobs]).exits(2).says(&["--jobs"]);
    }
    vmm(&["merge", "x", "--guest", "y"]).exits(2).says(&["--guest"]);
    vmm(&["probe", "--transport", "port"]).exits(2).says(&["--transport"]);
    vmm(&["agree", "x", "y", "--entry", "z"]).exits(2).says(&["--entry"]);
    vmm(&["list", "schemes", "--format", "junit"]).exits(2).says(&["nothing to write as junit"]);
    vmm(&["list", "schemes", "--format", "yaml"]).exits(2).says(&["expected one of text, json"]);
    vmm(&[&NAIVE[..], &["--format", "json", "--format", "ktap"]].concat()).exits(2).says(&["cannot both go"]);
    vmm(&["campaign", "x.toml", "--shard", "4/4"]).exits(2).says(&["0 to 3"]);
    vmm(&["campaign", "x.toml", "--fresh"]).exits(2).says(&["--out"]);
}

#[test]
fn names_that_the_image_does_not_have_exit_2_and_hint() {
    let scheme = vmm(&["run", "--scheme", "niave", "--scenario", "quiet"]).exits(2);
    scheme.says(&["no scheme \"niave\"", "did you mean naive?", "xen-flag"]);
    let scenario = vmm(&["run", "--scheme", "naive", "--scenario", "quite"]).exits(2);
    scenario.says(&["no scenario \"quite\"", "did you mean quiet?", "vmalloc-fault"]);
    let mode = vmm(&[&NAIVE[..], &["--mode", "pv"]].concat()).exits(2);
    mode.says(&["naive runs in mode native, not pv", "xen-flag"]);
    vmm(&["list", "boundaries", "--scheme", "x", "--scenario", "quiet"]).exits(2);
}

#[test]
fn a_bad_schedule_exits_65() {
    let with = |schedule: &str| vmm(&[&NAIVE[..], &["--schedule", schedule]].concat()).exits(65);
    with("nmi").says(&["nmi@PLACE"]);
    with("init@exit_iret").says(&["expected nmi, unmask, mce, irq"]);
    with("fault@exit_iret").says(&["only a real kernel's handler"]);
    with("nmi@exit_irte").says(&["no label \"exit_irte\"", "exit_iret"]);
    with("nmi@exit_iret#0").says(&["from 1 on"]);
    with("nmi@body+0x1").says(&["not where an instruction", "body"]);
    with("nmi@0x10").says(&["not where an instruction"]);
    with("nmi@body+zz").says(&["no number"]);
}

#[test]
fn a_boundary_that_is_never_reached_exits_65() {
    let with = |schedule: &str| vmm(&[&NAIVE[..], &["--schedule", schedule]].concat()).exits(65);
    with("nmi@exit_iret").says(&["never stands at exit_iret", "vmm list boundaries"]);
    let first = first_boundary("naive", "quiet");
    with(&format!("nmi@{first} nmi@exit_iret#5")).says(&["stands at exit_iret only once"]);
}

#[test]
fn a_bad_replay_line_exits_65() {
    vmm(&["replay", "nonsense"]).exits(65).says(&["no replay line"]);
    vmm(&["replay", "naive/quiet/real@0 x"]).exits(65).says(&["no replay line"]);
    let line = failing_line();
    let (head, schedule) = line.split_once(' ').unwrap();
    let (target, image) = head.split_once('@').unwrap();
    vmm(&["replay", &format!("{target}@0123456789abcdef {schedule}")])
        .exits(65)
        .says(&["guest image 0123456789abcdef", image]);
    vmm(&["replay", &format!("{head} colour=red {schedule}")]).exits(65).says(&["faulting-iret"]);
    vmm(&["replay", &line.replace("naive/", "nive/")]).exits(65).says(&["did you mean naive?"]);
    vmm(&["replay", &line.replace("/native@", "/pv@")]).exits(65).says(&["mode native, not pv"]);
}

#[test]
fn a_bad_image_exits_65() {
    vmm(&["list", "schemes", "--guest", "/nonexistent"]).exits(65).says(&["/nonexistent"]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let name = path.to_str().unwrap();
    std::fs::write(&path, "#!/bin/sh\n").unwrap();
    vmm(&["list", "schemes", "--guest", name]).exits(65).says(&["not a usable ELF"]);
    let program = std::fs::read(common::VMM).unwrap();
    std::fs::write(&path, program).unwrap();
    vmm(&["list", "schemes", "--guest", name]).exits(65).says(&["ET_DYN"]);
    let mut image = vmm::image::file::BUILTIN.to_vec();
    image.truncate(image.len() / 2);
    std::fs::write(&path, image).unwrap();
    vmm(&["list", "schemes", "--guest", name]).exits(65);
}

#[test]
fn a_bad_campaign_exits_65_with_its_line() {
    vmm(&["campaign", "/nonexistent.toml"]).exits(65).says(&["cannot read /nonexistent.toml"]);
    let with = |from: &str, to: &str| {
        assert!(SMALL.contains(from));
        campaign(&SMALL.replace(from, to), &[]).exits(65)
    };
    with("name =", "nam =").says(&[".toml:2:", "unknown field `nam`", "`name`"]);
    with("\"small\"", "\"small").says(&[".toml:2:"]);
    with("\"naive\",", "\"niave\",").says(&[".toml:3:", "did you mean naive?"]);
    with("\"quiet\",", "\"quite\",").says(&[".toml:4:", "did you mean quiet?"]);
    with("\"naive\",", "\"naive\", \"naive\",").says(&[".toml:3:", "named twice"]);
    with("\"naive\",", "\"zz*\",").says(&[".toml:3:", "no scheme fits"]);
    with("\"pairs\"", "\"pears\"").says(&[".toml:5:", "points", "depth", "random"]);
    with("\"pairs\"", "{ depth = 9 }").says(&[".toml:5:", "from 1 to 4"]);
    with("\"pairs\"", "{ random = { count = 9000000000000, seed = 1 } }").says(&[".toml:5:", "1000000 is the most"]);
    with("\"pairs\"", &format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000))).says(&[".toml:5:"]);
    with("\"pairs\"", "{ random = { count = 3 } }").says(&[".toml:5:", "seed"]);
    with("[window]", "modes = [\"pv\"]\n[window]").says(&[".toml:3:", "naive runs in mode native"]);
    with("[window]", "modes = [\"real\"]\n[window]").says(&["native", "pv"]);
    with("first_every = 120", "around = [\"zz*\"]").says(&["no label fits \"zz*\"", "exit_iret"]);
    with("first_every = 120", "first_evry = 60").says(&["first_evry", "first_every"]);
    let all = format!("I1 to I{}", vmm::oracle::Invariant::ALL.len());
    with("violation(I5)", "violation(I55)").says(&[".toml:11:", &all]);
    with("[expect.naive]", "[expect.niave]").says(&[".toml:10:", "did you mean naive?"]);
    with("[expect.naive]", "[expect.mainline]").says(&["mainline", "does not run"]);
}

#[test]
fn a_schedule_of_a_campaign_that_does_not_fit_exits_65() {
    let with = |schedule: &str| {
        let generate = format!("{{ schedules = [\"{schedule}\"] }}");
        campaign(&SMALL.replace("\"pairs\"", &generate).replace("[window]\nfirst_every = 120\n", ""), &[]).exits(65)
    };
    with("nmi@nowhere").says(&[".toml:5:", "no label \"nowhere\""]);
    with("nmi@exit_iret#9").says(&["never stands at exit_iret"]);
}

#[test]
fn without_kvm_the_exit_code_is_69_and_the_message_says_what_to_do() {
    let with = |device: &str| {
        let out = command().args(NAIVE).env("VMM_KVM", device).output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (code, message) = with("/nonexistent");
    assert_eq!(code, Some(69));
    assert!(message.contains("kvm_intel") && message.contains("nested virtualisation"), "{message}");
    let (code, message) = with("/dev/null");
    assert_eq!(code, Some(69), "{message}");
}

#[test]
fn a_folder_that_cannot_be_written_exits_74() {
    campaign(SMALL, &["--out", "/proc/nothing"]).exits(74).says(&["/proc/nothing"]);
}
