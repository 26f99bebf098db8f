//! Debian's chromium, without a window, driven by the DevTools protocol.
#![allow(dead_code)] // each test file uses a part of this

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

/// How long one answer may take, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program; `None` where none is installed.
fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let dirs = || std::env::split_paths(&path);
    let all = ["chromium", "chromium-browser", "google-chrome"];
    all.iter().find_map(|name| dirs().map(|dir| dir.join(name)).find(|path| path.is_file()))
}

/// A browser that was started; it ends with this.
pub struct Browser {
    child: Child,
    socket: WebSocket<TcpStream>,
    /// Of the page that is open.
    session: Option<String>,
    calls: u64,
    /// What the page's console has said.
    said: Vec<String>,
    /// Its profile, which goes with it.
    _profile: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the browser. Where none is installed, says loudly that nothing was checked; one that is
/// installed and does not start fails the test.
#[allow(clippy::print_stderr)] // a skipped test must be seen
pub fn start() -> Option<Browser> {
    let Some(path) = program() else {
        eprintln!("\n*** SKIPPED: no chromium is installed, so no page was opened in a browser ***\n");
        return None;
    };
    let profile = tempfile::tempdir().unwrap();
    let mut child = Command::new(path)
        // The tests may run as root, where there is no sandbox.
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"])
        .args(["--window-size=1400,1100", &format!("--user-data-dir={}", profile.path().display()), "about:blank"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("an installed chromium starts");
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let url = lines.find_map(|l| l.unwrap().strip_prefix("DevTools listening on ").map(str::to_owned));
    let url = url.expect("an installed chromium listens");
    // What it says besides must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    let stream = TcpStream::connect(url.trim_start_matches("ws://").split('/').next().unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (socket, _) = tungstenite::client(url.as_str(), stream).unwrap();
    Some(Browser { child, socket, session: None, calls: 0, said: Vec::new(), _profile: profile })
}

impl Browser {
    /// Calls a method of the protocol, and returns what it answers.
    #[track_caller]
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.calls += 1;
        let mut request = json!({ "id": self.calls, "method": method, "params": params });
        if let Some(session) = &self.session {
            request["sessionId"] = session.as_str().into();
        }
        self.socket.send(Message::text(request.to_string())).unwrap();
        loop {
            let answer = self.receive();
            if answer["id"] == self.calls {
                assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
                return answer["result"].clone();
            }
        }
    }

    /// The next message; what the console says is noted.
    fn receive(&mut self) -> Value {
        let message = self.socket.read().expect("the browser answers");
        let value: Value = serde_json::from_str(message.to_text().unwrap()).unwrap_or_default();
        if ["Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"]
            .iter()
            .any(|event| value["method"] == *event)
        {
            self.said.push(value["params"].to_string());
        }
        value
    }

    /// Opens a file in a page of its own, and waits until it is loaded.
    pub fn open(&mut self, file: &Path) {
        self.session = None;
        self.said.clear();
        let target = self.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let session = self.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        self.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Runtime", "Log", "Page"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
        self.call("Page.navigate", json!({ "url": format!("file://{}", file.display()) }));
        self.until("document.readyState === 'complete' && location.protocol === 'file:'");
    }

    /// Waits until an expression is true.
    #[track_caller]
    pub fn until(&mut self, expression: &str) {
        let begin = Instant::now();
        while self.value(expression) != true {
            assert!(begin.elapsed() < PATIENCE, "this never becomes true: {expression}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the console has said of this page: nothing, where it is right.
    pub fn console(&mut self) -> Vec<String> {
        // What was said before an answer has come before it.
        self.value("0");
        self.said.clone()
    }

    /// The value of an expression.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        let found = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        assert!(found["exceptionDetails"].is_null(), "{expression}: {}", found["exceptionDetails"]);
        found["result"]["value"].clone()
    }

    /// Presses a key that has a name.
    pub fn press(&mut self, key: &str, code: u64) {
        for kind in ["rawKeyDown", "keyUp"] {
            let event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Clicks with the mouse on what a selector finds first.
    #[track_caller]
    pub fn click(&mut self, selector: &str) {
        let place = self.value(&format!(
            "(() => {{ const e = document.querySelector(\"{selector}\"); e.scrollIntoView({{ block: 'center' }}); \
             const r = e.getClientRects()[0]; return [r.x + r.width / 2, r.y + r.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let at = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", at);
        }
    }

    /// A picture (PNG in base64) as it looks to one who likes `scheme`, `light` or `dark`.
    pub fn picture(&mut self, scheme: &str) -> String {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call("Emulation.setEmulatedMedia", json!({ "features": [feature] }));
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        picture["data"].as_str().expect("a picture").to_owned()
    }
}
