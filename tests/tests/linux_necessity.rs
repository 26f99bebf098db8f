//! What each instruction of a real kernel's NMI entry code is needed for.

mod common;
use common::vmm;

const KERNEL: &str = env!("LINUX_TEST_KERNEL");

#[test]
#[cfg_attr(not(linux_test_kernel), ignore = "NOT RUN: no test kernel (scripts/linux/build-test-kernel)")]
fn each_instruction_of_the_entry_code_has_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("necessity");
    let folder = folder.to_str().unwrap();
    let asked = ["linux", "necessity", "--kernel", KERNEL, "--ram", "64", "--site", "user", "--part", "second"];
    let done = vmm(&[&asked[..], &["--shard", "0/12", "--out", folder, "--json"]].concat());
    let found = done.json();
    common::fits_schema("necessity", &found);
    let findings = found["findings"].as_array().expect("findings");
    assert!(findings.len() > 8, "{}", findings.len());
    assert_eq!(found["scenarios"][0]["scenario"], "user");
    // What gives the user's registers back is needed, and a line shows it.
    let pop = findings.iter().find(|f| f["instruction"].as_str().unwrap().starts_with("pop ")).expect("a pop");
    assert_eq!(pop["needs"][0]["rule"], "I6");
    let line = pop["needs"][0]["command"].as_str().unwrap().to_owned();
    let place = pop["place"].as_str().unwrap();
    assert!(line.contains(&format!("{place}=9")), "{line}");
    let words: Vec<&str> = line.split(' ').skip(1).map(|word| word.trim_matches('\'')).collect();
    vmm(&words).exits(1);
    // Whether it is known of all is what the exit code says.
    let unknown =
        findings.iter().any(|f| f["needs"].as_array().unwrap().is_empty() && f["unknown"] != serde_json::json!([]));
    done.exits(i32::from(unknown));
    // What is kept gives the same, and nothing is run again.
    let again = vmm(&["report", folder, "--json"]);
    assert_eq!(again.json()["findings"], found["findings"]);
    // It is not gone on with where something else is asked.
    for other in [["--case-limit", "251"], ["--mutate", "nmi_cpu_backtrace_handler=31c0c3"]] {
        let asked = [&asked[..], &other, &["--shard", "0/12", "--out", folder]].concat();
        vmm(&asked).exits(65).says(&["a question with"]);
    }
}
