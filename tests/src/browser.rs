//! Chromium without a window, driven over a pair of pipes: the DevTools protocol, JSON messages that
//! end in a NUL.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tinyjson::JsonValue;

use crate::Scratch;

/// For one answer: a start from a cold disk, beside whatever else the machine does.
const LIMIT: Duration = Duration::from_secs(60);
const PROGRAM: &str = "chromium";

/// It asks nothing of anyone by itself. Root has no sandbox there, and a room may offer none.
const OPTIONS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--remote-debugging-pipe",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-breakpad",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "about:blank",
];

/// A browser with one page. Dropped, it is killed with all of its processes.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<JsonValue>,
    asked: u32,
    session: String,
    /// What the page reported besides answers, since the last [`Browser::open`].
    events: Vec<JsonValue>,
    _home: Scratch,
}

impl Browser {
    /// `None`: there is none on this machine.
    pub fn start() -> Option<Browser> {
        let version = Command::new(PROGRAM).arg("--version").stdin(Stdio::null()).output();
        version.ok().filter(|output| output.status.success())?;
        let home = Scratch::new();
        // It reads its descriptor 3 and writes its descriptor 4.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>&2", PROGRAM]);
        command.args(OPTIONS).arg(format!("--user-data-dir={}", home.at("profile").display()));
        command.env("HOME", home.at("")).env("TMPDIR", home.at("")).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (sender, from) = channel();
        let to = child.stdin.take().unwrap();
        let output = child.stdout.take().unwrap();
        thread::spawn(move || receive(output, &sender));
        let (asked, session, events) = (0, String::new(), Vec::new());
        let mut browser = Browser { child, to, from, asked, session, events, _home: home };
        browser.attach();
        Some(browser)
    }

    fn attach(&mut self) {
        let target = self.ask("Target.createTarget", r#"{"url":"about:blank"}"#);
        let target = text(&target, "targetId");
        let order = format!(r#"{{"targetId":"{target}","flatten":true}}"#);
        self.session = text(&self.ask("Target.attachToTarget", &order), "sessionId");
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.ask(&format!("{domain}.enable"), "{}");
        }
    }

    /// Sends an order and waits for its answer, the member `result`.
    #[track_caller]
    pub fn ask(&mut self, method: &str, params: &str) -> JsonValue {
        self.asked += 1;
        let mut order = format!(r#"{{"id":{},"method":"{method}","params":{params}"#, self.asked);
        if !self.session.is_empty() {
            let _infallible = write!(order, r#","sessionId":"{}""#, self.session);
        }
        order.push_str("}\0");
        self.to.write_all(order.as_bytes()).unwrap();
        loop {
            let message = self.from.recv_timeout(LIMIT).expect(method);
            match member(&message, "id").and_then(JsonValue::get::<f64>) {
                Some(id) if *id == f64::from(self.asked) => {
                    let result = member(&message, "result").cloned();
                    return result.unwrap_or_else(|| panic!("{method}: {message:?}"));
                }
                Some(_) => {}
                None => self.events.push(message),
            }
        }
    }

    /// Opens a file, with what follows its `#`, and waits until it is drawn.
    #[track_caller]
    pub fn open(&mut self, path: &Path, fragment: &str) {
        self.ask("Page.navigate", r#"{"url":"about:blank"}"#);
        self.await_load();
        self.events.clear();
        let url = format!("file://{}{fragment}", path.display());
        self.ask("Page.navigate", &format!(r#"{{"url":{}}}"#, quoted(&url)));
        self.await_load();
    }

    fn await_load(&mut self) {
        let is_load = |e: &JsonValue| text(e, "method") == "Page.loadEventFired";
        while !self.events.iter().any(is_load) {
            let message = self.from.recv_timeout(LIMIT).expect("the page loads");
            self.events.push(message);
        }
        self.events.retain(|e| !is_load(e));
    }

    /// What an expression comes to, as text, once the page has dealt with what came before.
    #[track_caller]
    pub fn eval(&mut self, script: &str) -> String {
        let script =
            quoted(&format!("new Promise(d => setTimeout(d)).then(() => String({script}))"));
        let order = format!(r#"{{"expression":{script},"awaitPromise":true}}"#);
        let answer = self.ask("Runtime.evaluate", &order);
        assert!(member(&answer, "exceptionDetails").is_none(), "{script}: {answer:?}");
        text(member(&answer, "result").unwrap(), "value")
    }

    /// Waits until `script` says so: a dialog that closes, or a fragment that changes, is an event of its own later.
    #[track_caller]
    pub fn becomes(&mut self, script: &str, expected: &str) {
        let begun = Instant::now();
        let mut said = self.eval(script);
        while said != expected && begun.elapsed() < LIMIT {
            said = self.eval(script);
        }
        assert_eq!(said, expected);
    }

    /// A click with the mouse in the middle of the first element that `selector` matches.
    #[track_caller]
    pub fn click(&mut self, selector: &str) {
        let script = format!(
            "(e => {{ e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect();
             return [r.x + r.width / 2, r.y + r.height / 2]; }})(document.querySelector({}))",
            quoted(selector)
        );
        let place = self.eval(&script);
        let (x, y) = place.split_once(',').unwrap();
        for kind in ["mousePressed", "mouseReleased"] {
            let order =
                format!(r#"{{"type":"{kind}","x":{x},"y":{y},"button":"left","clickCount":1}}"#);
            self.ask("Input.dispatchMouseEvent", &order);
        }
    }

    /// Presses a key and lets it go: `Enter`, `Escape`, `Tab`, `ArrowDown`, …
    #[track_caller]
    pub fn press(&mut self, key: &str) {
        let (_, code, types) = KEYS.iter().find(|(name, ..)| *name == key).expect(key);
        let types = if types.is_empty() { String::new() } else { format!(r#","text":"{types}""#) };
        for kind in ["keyDown", "keyUp"] {
            let order = format!(
                r#"{{"type":"{kind}","key":"{key}","code":"{key}","windowsVirtualKeyCode":{code}{types}}}"#
            );
            self.ask("Input.dispatchKeyEvent", &order);
        }
    }

    /// Types text where the focus is.
    #[track_caller]
    pub fn type_text(&mut self, typed: &str) {
        self.ask("Input.insertText", &format!(r#"{{"text":{}}}"#, quoted(typed)));
    }

    /// What is seen from now on: a page of this size, in this scheme, `light` or `dark`.
    #[track_caller]
    pub fn look(&mut self, width: u32, height: u32, scheme: &str) {
        let size = format!(
            r#"{{"width":{width},"height":{height},"deviceScaleFactor":1,"mobile":false}}"#
        );
        self.ask("Emulation.setDeviceMetricsOverride", &size);
        let feature = format!(r#"{{"name":"prefers-color-scheme","value":"{scheme}"}}"#);
        self.ask("Emulation.setEmulatedMedia", &format!(r#"{{"features":[{feature}]}}"#));
    }

    /// What is seen, a PNG.
    #[track_caller]
    pub fn screenshot(&mut self) -> Vec<u8> {
        base64(&text(&self.ask("Page.captureScreenshot", r#"{"format":"png"}"#), "data"))
    }

    /// What is printed, a PDF.
    #[track_caller]
    pub fn print(&mut self) -> Vec<u8> {
        let order = r#"{"preferCSSPageSize":true,"printBackground":false}"#;
        base64(&text(&self.ask("Page.printToPDF", order), "data"))
    }

    /// Every line of the console and every exception, since the page was opened.
    pub fn console(&mut self) -> Vec<String> {
        self.eval("0"); // what the page has said by now is here before the answer
        let told = ["Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"];
        let is_told = |e: &&JsonValue| told.contains(&text(e, "method").as_str());
        self.events.iter().filter(is_told).map(|e| format!("{e:?}")).collect()
    }

    /// The address of everything that the page asked for.
    pub fn requests(&mut self) -> Vec<String> {
        self.eval("0");
        let asked = self.events.iter().filter(|e| text(e, "method") == "Network.requestWillBeSent");
        asked.map(|e| text(&e["params"]["request"], "url")).collect()
    }
}

/// Key, number in the protocol, what it types.
const KEYS: &[(&str, u32, &str)] = &[
    ("Tab", 9, ""),
    ("Enter", 13, "\\r"),
    ("Escape", 27, ""),
    ("End", 35, ""),
    ("Home", 36, ""),
    ("ArrowLeft", 37, ""),
    ("ArrowUp", 38, ""),
    ("ArrowRight", 39, ""),
    ("ArrowDown", 40, ""),
];

impl Drop for Browser {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.child.id()) {
            let _gone_is_as_good = agent_init::sys::kill(-group, libc::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

fn receive(output: ChildStdout, to: &Sender<JsonValue>) {
    for message in BufReader::new(output).split(0).map_while(Result::ok) {
        let message = String::from_utf8(message).unwrap();
        if to.send(message.parse().unwrap()).is_err() {
            return; // the test is over
        }
    }
}

fn member<'a>(value: &'a JsonValue, name: &str) -> Option<&'a JsonValue> {
    value.get::<HashMap<_, _>>()?.get(name)
}

/// A member that is a text; empty if there is none.
fn text(value: &JsonValue, name: &str) -> String {
    member(value, name).and_then(JsonValue::get::<String>).cloned().unwrap_or_default()
}

/// A text as JSON has it.
pub fn quoted(text: &str) -> String {
    JsonValue::String(text.to_owned()).stringify().unwrap()
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(text: &str) -> Vec<u8> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0_u32, 0);
    for digit in text.bytes().filter(|digit| *digit != b'=') {
        let value = DIGITS.iter().position(|d| *d == digit).expect("a digit of base64");
        bits = bits << 6 | u32::try_from(value).unwrap();
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff).try_into().unwrap());
        }
    }
    bytes
}
