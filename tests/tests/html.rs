//! Pages: self-contained, readable without JavaScript, and opened in a real browser where there
//! is one.

mod common;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use common::browser::{self, Browser};
use common::{SMALL, campaign, failing_line, gcc, vmm};
use tempfile::TempDir;

/// What every page must be.
#[track_caller]
fn check(html: &str) {
    assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n") || html.ends_with("</html>"));
    for outside in ["http://", "https://", " src=", "@import", "url("] {
        assert!(!html.contains(outside), "a page needs nothing else, and has {outside}");
    }
    assert!(html.contains("prefers-color-scheme: dark") && html.contains("<h1>") && html.contains("lang=\"en\""));
}

/// A folder with a page of each kind, and their names. They are made once.
fn pages() -> (&'static Path, &'static [&'static str]) {
    static MADE: OnceLock<(TempDir, Vec<&'static str>)> = OnceLock::new();
    let (dir, names) = MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        make_pages(dir.path());
        let mut names = vec!["story", "explain", "matrix", "explore", "compare", "probe", "model", "hosts", "agree"];
        names.push("necessity");
        // These need compilers or a kernel, which the tests of kernels say where they are missing.
        if gcc::is_there() {
            make_pages_of_a_small_kernel(dir.path());
            names.extend(["kernel", "kernel-story", "kernel-search"]);
        }
        if cfg!(linux_test_kernel) {
            make_pages_of_linux(dir.path());
            names.extend(["linux", "linux-story", "linux-search"]);
        }
        if cfg!(debian_xen) {
            make_pages_of_xen(dir.path());
            names.extend(["xen", "xen-story", "xen-search"]);
        }
        (dir, names)
    });
    (dir.path(), names)
}

/// The value of `--format` that writes this page.
fn to(dir: &Path, name: &str) -> String {
    format!("html={}", dir.join(name).with_extension("html").display())
}

fn make_pages(dir: &Path) {
    let to = |name: &str| to(dir, name);
    let (story, explain, matrix, hosts) = (to("story"), to("explain"), to("matrix"), to("hosts"));
    vmm(&["replay", &failing_line(), "--format", &story]).exits(1);
    vmm(&["explain", &failing_line(), "--format", &explain]).exits(1);
    let results = dir.join("results.json").display().to_string();
    let surprise = SMALL.replace("violation(I5)", "shutdown");
    campaign(&surprise, &["--format", &matrix, "--format", &format!("json={results}")]).exits(1);
    vmm(&["explore", "--scheme", "naive", "--scenario", "short-ud-fault", "--format", &to("explore")]).exits(1);
    let compare =
        ["compare", "--schemes", "naive,xen-flag", "--scenario", "quiet", "--max-states", "0", "--rounds", "20"];
    vmm(&[&compare[..], &["--format", &to("compare")]].concat()).exits(0);
    let probed = dir.join("probe.json").display().to_string();
    vmm(&["probe", "--format", &to("probe"), "--format", &format!("json={probed}")]).exits(0);
    vmm(&["probe", "--compare", &probed, &probed, "--format", &hosts]).exits(0);
    vmm(&["agree", &results, &results, "--format", &to("agree")]).exits(0);
    vmm(&["probe", "--model", "--cases", "2", "--format", &to("model")]).exits(0);
    vmm(&["necessity", "--scheme", "naive", "--scenario", "quiet", "--format", &to("necessity")]).exits(0);
}

fn make_pages_of_a_small_kernel(dir: &Path) {
    let examples = gcc::copied_examples();
    let os = examples.path().join("os");
    gcc::must(Command::new("make").current_dir(&os));
    let image = os.join("os.elf").display().to_string();
    let run = |args: &[&str], page: &str| {
        let kernel = ["kernel", "--image", &image, "--counter", "nmi_count", "--panic", "panic"];
        vmm(&[&kernel, args, &["--format", &to(dir, page)]].concat()).exits(1);
    };
    run(&["--site", "work", "--sweep", "--case-limit", "20"], "kernel");
    run(&["--site", "work", "explore"], "kernel-search");
    // It never ends, so its middle is left out.
    run(&["--schedule", "nmi@work nmi@nmi_body"], "kernel-story");
}

fn make_pages_of_linux(dir: &Path) {
    let run = |args: &[&str], page: &str, code| {
        let kernel = ["--kernel", env!("LINUX_TEST_KERNEL"), "--ram", "64"];
        vmm(&[&["linux"], args, &kernel, &["--format", &to(dir, page)]].concat()).exits(code);
    };
    let broken = ["--mutate", "nmi_restore+0x1b=90"];
    run(&[&["--sweep", "--part", "second"], &broken[..]].concat(), "linux", 1);
    let schedule = "nmi@__do_sys_getppid unmask@nmi_restore+0x25 nmi@nmi_restore+0x25";
    run(&[&["--schedule", schedule], &broken[..]].concat(), "linux-story", 1);
    run(&["explore"], "linux-search", 0);
}

fn make_pages_of_xen(dir: &Path) {
    let file = |name: &str| format!("{}/{name}", env!("DEBIAN_XEN"));
    let run = |args: &[&str], page: &str, code| {
        let xen = ["xen", "--hypervisor", &file("xen.gz"), "--symbols", &file("xen-syms")];
        vmm(&[&xen, args, &["--format", &to(dir, page)]].concat()).exits(code);
    };
    run(&["--sweep", "--site", "pv_work", "--part", "second", "--shard", "0/40"], "xen", 0);
    run(&["--body", "ud", "--schedule", "nmi@pv_work nmi@pv_body"], "xen-story", 1);
    run(&["explore", "--max-states", "5000"], "xen-search", 0);
}

#[test]
fn pages_are_whole_and_say_in_html_what_matters() {
    let (dir, names) = pages();
    for name in names {
        let html = std::fs::read_to_string(dir.join(name).with_extension("html")).unwrap();
        check(&html);
        assert!(html.len() < 3 << 20, "{name} has {} bytes", html.len());
        let words: &[&str] = match *name {
            "story" | "explain" => &["<svg", "NMI 2 is delivered", "frame overwritten", "vmm replay", "aria-live"],
            "matrix" => &[
                "✗ violation(I5) ≠",
                "✓ pass",
                "href=\"#cell-1\"",
                "id=\"cell-1\"",
                "sampled",
                "NMI 2 is delivered",
                "id=\"heat-naive\"",
                "ends here",
                "latched",
                "how cases with an NMI there ended",
                "✗ violation(I5) ×",
            ],
            "explore" => &["<svg", "Boundaries by context", "breaks", "id=\"heat-naive\""],
            "compare" => &["<rect", "xen-flag", "µs"],
            "agree" => &["the same on all hosts"],
            "model" => &["<table>", "as the model says"],
            "linux" | "kernel" => {
                &["<svg", "NMIs masked", "NMIs unmasked", "class=\"t-defect\"", "<details open", " defects"]
            }
            "xen" => &["<svg", "NMIs masked", "NMIs unmasked", "0 defects"],
            "kernel-search" | "linux-search" | "xen-search" => &["<table>", "states", "boundaries"],
            "kernel-story" => &["<svg", "An NMI is delivered at work", "are left out before this one", "nmi_body"],
            "linux-story" => &["<svg", "An NMI is delivered at", "--schedule"],
            "xen-story" => &["<svg", "An NMI is delivered at", ">NMI arrives<", "--schedule"],
            "necessity" => &["<table>", "I21", "not shown to be needed"],
            _ => &["<table>", "architecture", "✓ "],
        };
        words.iter().for_each(|w| assert!(html.contains(w), "{name}: {w} is missing"));
    }
    vmm(&["list", "schemes", "--format", "html"]).exits(2).says(&["nothing to write as html"]);
}

fn size(page: &Path) -> u64 {
    std::fs::metadata(page.with_extension("html")).unwrap().len()
}

/// Steps through the first story that is visible, to its end and back by one, by keys.
#[track_caller]
fn step_through(page: &mut Browser, name: &str, root: &str) {
    let number = |page: &mut Browser, what: &str| {
        page.value(&format!("+document.querySelector('{root}').{what}")).as_u64().unwrap()
    };
    page.value(&format!("document.querySelector('{root} input').focus() || 0"));
    page.press("Home", 36);
    let steps = number(page, "querySelector('input').max") + 1;
    // A story of a livelock is long; its beginning and its end are enough.
    for step in 0..steps.min(150) {
        assert_eq!(number(page, "dataset.now"), step, "{name}");
        page.press("ArrowRight", 39);
    }
    page.press("End", 35);
    let end = page.value(&format!("document.querySelector('{root} .say').textContent"));
    assert!(end.as_str().unwrap().contains("breaks"), "{name}: it ends with the rule: {end}");
    let words = page.value(&format!("document.querySelectorAll('{root} .stack .w:not([class=w])').length"));
    assert!(words.as_u64() > Some(10), "{name}: the stack's words are there");
    page.press("ArrowLeft", 37);
    assert_eq!(number(page, "dataset.now"), steps - 2, "{name}: and back");
    page.press("End", 35);
    assert_eq!(number(page, "dataset.now"), steps - 1, "{name}");
}

#[test]
#[allow(clippy::print_stdout)] // figures, and no limit: how busy the machine is decides them
fn a_browser_opens_every_page_and_steps_every_story_to_its_end() {
    let Some(mut page) = browser::start() else { return };
    let (dir, names) = pages();
    for name in names {
        page.open(&dir.join(name).with_extension("html"));
        let took = page.value("performance.getEntriesByType('navigation')[0].loadEventStart");
        println!("{name}: {} bytes, opened in {:.0} ms", size(&dir.join(name)), took.as_f64().unwrap());
        match *name {
            "story" | "explain" | "explore" | "kernel-story" | "linux-story" | "xen-story" => {
                step_through(&mut page, name, "article.story")
            }
            "matrix" => {
                let cells = page.value("document.querySelectorAll('td.v a').length").as_u64().unwrap();
                assert_eq!(cells, 4);
                for i in 0..cells {
                    let href = page.value(&format!("document.querySelectorAll('td.v a')[{i}].hash"));
                    let cell = href.as_str().unwrap().to_owned();
                    page.click(&format!("td.v a[href='{cell}']"));
                    page.until(&format!("document.querySelector('{cell}').open"));
                }
                let told = page
                    .value("[...document.querySelectorAll('details article.story')].map(s => s.closest('details').id)");
                let told = told.as_array().unwrap();
                assert!(!told.is_empty(), "a failing cell tells its story");
                step_through(&mut page, name, &format!("#{} article.story", told[0].as_str().unwrap()));
                page.click("#heat-naive summary");
                page.until("document.querySelector('#heat-naive').open");
            }
            _ => assert_eq!(page.value("document.querySelectorAll('article.story').length"), 0, "{name}"),
        }
        assert!(
            page.value("document.querySelectorAll('table').length + document.querySelectorAll('svg').length").as_u64()
                > Some(0)
        );
        assert_ne!(page.picture("light"), page.picture("dark"), "{name}: light and dark differ");
        assert_eq!(page.console(), [""; 0], "{name}: the console must be empty");
    }
}
