//! Pages: self-contained, readable without JavaScript, and opened in a real browser where there
//! is one.

mod common;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{SMALL, campaign, failing_line, vmm};

/// The browser. Where there is none, the test says loudly that it checked nothing.
#[allow(clippy::print_stderr)] // a skipped test must be seen
fn chromium() -> Option<&'static str> {
    let there = |name: &&&str| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success());
    let found = ["chromium", "chromium-browser", "google-chrome"].iter().find(there).copied();
    if found.is_none() {
        eprintln!("\n*** SKIPPED: no chromium is installed, so no page was opened in a browser ***\n");
    }
    found
}

/// Runs the browser without a window on a page; returns its output, and what its console said.
fn browse(browser: &str, dir: &Path, page: &Path, args: &[&str]) -> (String, String) {
    let profile = format!("--user-data-dir={}", dir.join("profile").display());
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0", &profile]);
    let out = command.args(args).arg(format!("file://{}", page.display())).output().unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    let console = stderr.lines().filter(|l| l.contains("CONSOLE")).collect::<Vec<_>>().join("\n");
    (String::from_utf8_lossy(&out.stdout).into_owned(), console)
}

/// What every page must be.
#[track_caller]
fn check(html: &str) {
    assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n") || html.ends_with("</html>"));
    for outside in ["http://", "https://", " src=", "@import", "url("] {
        assert!(!html.contains(outside), "a page needs nothing else, and has {outside}");
    }
    assert!(html.contains("prefers-color-scheme: dark") && html.contains("<h1>") && html.contains("lang=\"en\""));
}

/// The pages, by name, in a folder.
fn pages(dir: &Path) -> Vec<String> {
    let to = |name: &str| format!("html={}", dir.join(name).with_extension("html").display());
    vmm(&["replay", &failing_line(), "--format", &to("story")]).exits(1);
    campaign(&SMALL.replace("violation(I5)", "shutdown"), &["--format", &to("matrix")]).exits(1);
    vmm(&["explore", "--scheme", "naive", "--scenario", "short-ud-fault", "--format", &to("explore")]).exits(1);
    let compare =
        ["compare", "--schemes", "naive,xen-flag", "--scenario", "quiet", "--max-states", "0", "--rounds", "20"];
    vmm(&[&compare[..], &["--format", &to("compare")]].concat()).exits(0);
    vmm(&["probe", "--format", &to("probe")]).exits(0);
    ["story", "matrix", "explore", "compare", "probe"].map(str::to_owned).to_vec()
}

#[test]
fn pages_are_whole_and_say_in_html_what_matters() {
    let dir = tempfile::tempdir().unwrap();
    for name in pages(dir.path()) {
        let html = std::fs::read_to_string(dir.path().join(&name).with_extension("html")).unwrap();
        check(&html);
        assert!(html.len() < 3 << 20, "{name} has {} bytes", html.len());
        let words: &[&str] = match name.as_str() {
            "story" => &["<svg", "NMI 2 is delivered", "frame overwritten", "vmm replay", "aria-live"],
            "matrix" => &["✗ violation(I5) ≠", "✓ pass", "href=\"#cell-1\"", "id=\"cell-1\"", "sampled"],
            "explore" => &["<svg", "Boundaries by context", "breaks"],
            "compare" => &["<rect", "xen-flag", "µs"],
            _ => &["<table>", "architecture", "✓ "],
        };
        words.iter().for_each(|w| assert!(html.contains(w), "{name}: {w} is missing"));
    }
    vmm(&["list", "schemes", "--format", "html"]).exits(2).says(&["nothing to write as html"]);
}

/// Steps through every story to its end by keys, opens every cell by its link, and leaves what it
/// found where `--dump-dom` shows it.
const DRIVER: &str = "<script>
const found = { stories: [], cells: 0 };
for (const s of document.querySelectorAll('article.story')) {
  const key = k => s.dispatchEvent(new KeyboardEvent('keydown', { key: k, bubbles: true }));
  const n = +s.querySelector('input').max + 1;
  key('Home'); let seen = new Set([s.dataset.now]);
  for (let i = 1; i < n; i++) { key('ArrowRight'); seen.add(s.dataset.now); }
  const end = s.querySelector('.say').textContent;
  key('ArrowLeft'); const back = +s.dataset.now;
  found.stories.push({ n, seen: seen.size, end, back, words: s.querySelectorAll('.stack .w:not([class=w])').length });
}
const links = [...document.querySelectorAll('td.v a')];
for (const a of links) { location.hash = a.hash; window.dispatchEvent(new HashChangeEvent('hashchange')); if (document.querySelector(a.hash).open) found.cells++; }
found.links = links.length;
const pre = document.createElement('pre'); pre.id = 'found'; pre.textContent = JSON.stringify(found); document.body.append(pre);
</script>";

#[test]
fn a_browser_opens_every_page_and_steps_every_story_to_its_end() {
    let Some(browser) = chromium() else { return };
    let dir = tempfile::tempdir().unwrap();
    for name in pages(dir.path()) {
        let page = dir.path().join(&name).with_extension("html");
        let html = std::fs::read_to_string(&page).unwrap();
        let driven = dir.path().join(format!("{name}-driven.html"));
        std::fs::write(&driven, html.replace("</body>", &format!("{DRIVER}</body>"))).unwrap();
        let begin = Instant::now();
        let (dom, console) = browse(browser, dir.path(), &driven, &["--dump-dom"]);
        assert!(begin.elapsed() < Duration::from_secs(60), "{name} took {:?}", begin.elapsed());
        assert_eq!(console, "", "{name}: the console must be empty");
        let text = dom.split("<pre id=\"found\">").nth(1).and_then(|t| t.split("</pre>").next());
        let text = text.unwrap_or_else(|| panic!("{name}: the driver did not come to its end"));
        let found: serde_json::Value = serde_json::from_str(&text.replace("&amp;", "&").replace("&gt;", ">")).unwrap();
        let stories = found["stories"].as_array().unwrap();
        assert_eq!(stories.is_empty(), !["story", "explore"].contains(&name.as_str()), "{name}: {found}");
        for story in stories {
            assert_eq!(story["n"], story["seen"], "{name}: {found}");
            assert_eq!(story["back"].as_u64(), story["n"].as_u64().map(|n| n - 2), "{name}: {found}");
            assert!(story["end"].as_str().unwrap().contains("breaks"), "{name}: {found}");
            assert!(story["words"].as_u64() > Some(10), "{name}: the stack's words are there: {found}");
        }
        assert_eq!(found["cells"], found["links"], "{name}: every link opens its cell: {found}");
        let picture = |scheme: &str| {
            let file = dir.path().join(format!("{name}-{scheme}.png"));
            let shot = format!("--screenshot={}", file.display());
            let colours = format!("--blink-settings=preferredColorScheme={}", u8::from(scheme == "light"));
            browse(browser, dir.path(), &page, &[&shot, &colours, "--window-size=1400,1100"]);
            std::fs::read(file).unwrap()
        };
        assert_ne!(picture("light"), picture("dark"), "{name}");
    }
}
