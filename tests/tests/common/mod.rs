//! Runs the program and looks at what it did.
#![allow(dead_code)] // each test file uses a part of this

pub mod browser;
pub mod gcc;

use std::path::{Path, PathBuf};

use serde_json::Value;

/// The program.
pub const VMM: &str = env!("CARGO_BIN_EXE_vmm-under-test");

/// What a command did.
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// The JSON document on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no JSON ({e}): {}\n{}", self.stdout, self.stderr))
    }

    /// Checks the exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// Checks that standard output holds all of these.
    #[track_caller]
    pub fn prints(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stdout.contains(word), "{word:?} is missing in:\n{}\n{}", self.stdout, self.stderr);
        }
        self
    }

    /// Checks that the error message holds all of these.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is missing in:\n{}", self.stderr);
        }
        self
    }
}

/// A command that runs the program.
pub fn command() -> std::process::Command {
    let mut command = std::process::Command::new(VMM);
    command.env_remove("RUST_LOG").env_remove("VMM_KVM");
    command
}

/// Runs the program.
pub fn vmm(args: &[&str]) -> Done {
    let out = assert_cmd::Command::from_std(command()).args(args).output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = out.status.code().expect("the program ends by itself");
    Done { code, stdout: text(&out.stdout), stderr: text(&out.stderr) }
}

/// Runs a campaign of this text.
pub fn campaign(text: &str, args: &[&str]) -> Done {
    let (_dir, path) = campaign_file(text);
    let path = path.display().to_string();
    vmm(&[&["campaign", &path], args].concat())
}

/// A file that holds a campaign.
pub fn campaign_file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("campaign.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

/// A campaign of seconds that has passes and failures.
pub const SMALL: &str = r#"
name = "small"
schemes = ["naive", "xen-flag"]
scenarios = ["quiet", "vmalloc-fault"]
generate = "pairs"

[window]
first_every = 120

[expect.naive]
vmalloc-fault = "violation(I5)"
"#;

/// Every file of a result folder with its bytes, but for timings.
pub fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.file_name() != "timings.json")
        .map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// The first boundary of the golden run, as schedules name it.
pub fn first_boundary(scheme: &str, scenario: &str) -> String {
    let list = vmm(&["list", "boundaries", "--scheme", scheme, "--scenario", scenario, "--json"]).exits(0).json();
    let place = list["boundaries"][0]["place"].as_str().expect("a golden run has a boundary");
    format!("{place}#1")
}

/// A replay line of a failure that is there on every image: naive's nested NMI.
pub fn failing_line() -> String {
    let first = first_boundary("naive", "vmalloc-fault");
    let schedule = format!("nmi@{first} nmi@exit_iret#1");
    let run = vmm(&["run", "--scheme", "naive", "--scenario", "vmalloc-fault", "--schedule", &schedule, "--json"]);
    run.exits(1).json()["rows"][0]["replay"].as_str().unwrap().to_owned()
}

/// Checks a document against docs/guide/json.md.
#[track_caller]
pub fn check_document(document: &Value) {
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let has = |value: &Value, wanted: &[&str]| {
        for key in wanted {
            assert!(value.get(key).is_some(), "{key} is missing: {:?}", keys(value));
        }
    };
    is_documented(document, &["counts", "changed"]);
    fits_schema("run", document);
    has(document, &["host", "image", "complete", "rows", "summary"]);
    has(&document["host"], &["fingerprint", "kernel", "kvm", "cpu"]);
    let summary =
        ["cases", "disagreed", "expected", "host_limit", "no_cases", "not_stepped", "open", "rechecked", "unexpected"];
    assert_eq!(keys(&document["summary"]), summary);
    for row in document["rows"].as_array().unwrap() {
        has(row, &["scheme", "scenario", "mode", "cases", "verdict", "expected", "as_expected"]);
        has(row, &["schedule", "replay", "invariant", "detail", "counts", "failures", "rechecked", "disagreements"]);
        let words = ["pass", "violation", "livelock", "shutdown", "host-limit", "no-cases"];
        assert!(words.contains(&row["verdict"].as_str().unwrap()));
        let clean = row["verdict"] == "pass" || row["verdict"] == "no-cases";
        assert_eq!(clean, row["invariant"].is_null() && row["detail"].is_null());
        let counts = row["counts"].as_object().unwrap();
        assert_eq!(counts.values().map(|n| n.as_u64().unwrap()).sum::<u64>(), row["cases"].as_u64().unwrap());
        for failure in row["failures"].as_array().unwrap() {
            has(failure, &["verdict", "invariant", "detail", "cases", "schedule", "replay"]);
        }
    }
}

/// The schema of a command's JSON, docs/schemas/NAME.json.
pub fn schema(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas").join(name).with_extension("json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Checks a document against the schema that is published for it.
#[track_caller]
pub fn fits_schema(name: &str, document: &Value) {
    let validator = jsonschema::validator_for(&schema(name)).unwrap();
    let wrong: Vec<String> =
        validator.iter_errors(document).take(5).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(wrong.is_empty(), "docs/schemas/{name}.json: {}", wrong.join("\n"));
}

/// Checks that docs/guide/json.md describes every key of a document, but for those in `apart`,
/// which are names that the user chose.
#[track_caller]
pub fn is_documented(document: &Value, apart: &[&str]) {
    const PAGE: &str = include_str!("../../../docs/guide/json.md");
    match document {
        Value::Object(map) => {
            for (key, value) in map {
                let told = [format!("`{key}`"), format!("\"{key}\"")].iter().any(|k| PAGE.contains(k));
                assert!(told, "docs/guide/json.md does not describe {key}");
                if !apart.contains(&key.as_str()) {
                    is_documented(value, apart);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| is_documented(item, apart)),
        _ => {}
    }
}
