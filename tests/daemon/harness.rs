//! Real executables on a private bus with the shipped policy.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

// With a path: the benchmark includes this file from another folder.
#[path = "harness/launch.rs"]
pub mod launch;

use crate::executables::beside;
use launch::{spawn, start_bus};

/// Generous: machines stall for seconds when something else builds.
pub const PATIENCE: Duration = Duration::from_mins(1);
pub const BUS_NAME: &str = "org.hearthd.Inference1";

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Path of the client.
pub fn hearthctl() -> PathBuf {
    beside(env!("CARGO_BIN_EXE_hearthd"), "hearthctl")
}

/// Which engine the daemon starts.
#[derive(Clone, Copy)]
pub enum Engine {
    /// hearth-engine with the demo model.
    Real,
    /// hearth-engine-fake with this script of faults.
    Fake(&'static str),
}

pub struct Setup {
    pub engine: Engine,
    pub bus: bool,
    /// More of the configuration; it starts in the table `[http]`.
    pub config: &'static str,
    /// A command that runs the daemon's command line.
    pub wrapper: Vec<String>,
    /// The user that the daemon runs as; only root can choose another one.
    pub user: u32,
    /// A folder with more files for the bus policy.
    pub policies: Option<PathBuf>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            engine: Engine::Fake(""),
            bus: true,
            config: "",
            wrapper: Vec::new(),
            user: nix::unistd::geteuid().as_raw(),
            policies: None,
        }
    }
}

pub struct Daemon {
    pub dir: TempDir,
    pub child: Child,
    setup: Setup,
    bus: Option<Child>,
}

impl Daemon {
    pub fn fake(script: &'static str) -> Self {
        Self::start(Setup {
            engine: Engine::Fake(script),
            ..Setup::default()
        })
    }

    pub fn real() -> Self {
        Self::start(Setup {
            engine: Engine::Real,
            ..Setup::default()
        })
    }

    pub fn start(setup: Setup) -> Self {
        let mut daemon = Self::launch(setup);
        daemon.wait_ready();
        daemon
    }

    /// Starts it and does not wait until it is ready.
    pub fn launch(setup: Setup) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("models")).unwrap();
        for path in [dir.path(), &dir.path().join("models")] {
            chown(path, Some(setup.user), None).unwrap();
        }
        let bus = setup.bus.then(|| start_bus(dir.path(), &setup));
        let child = spawn(dir.path(), &setup);
        Self {
            dir,
            child,
            setup,
            bus,
        }
    }

    /// Stops the bus, as an update of its package might.
    pub fn stop_bus(&mut self) {
        if let Some(mut bus) = self.bus.take() {
            // The shell ends the bus in its trap.
            let pid = nix::unistd::Pid::from_raw(bus.id().cast_signed());
            _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            _ = bus.wait();
        }
    }

    /// Starts the bus again, at the same address.
    pub fn start_bus(&mut self) {
        _ = fs::remove_file(self.dir.path().join("bus"));
        self.bus = Some(start_bus(self.dir.path(), &self.setup));
    }

    /// Starts the daemon again after it ended.
    pub fn restart(&mut self) {
        self.child = spawn(self.dir.path(), &self.setup);
        self.wait_ready();
    }

    pub fn wait_ready(&mut self) {
        let bus = self.bus.is_some();
        until("the daemon is ready", || {
            let up = UnixStream::connect(self.socket()).is_ok();
            up && (!bus || self.has_name())
        });
    }

    fn has_name(&self) -> bool {
        self.owned(BUS_NAME)
    }

    /// Whether the name has an owner on the bus.
    pub fn owned(&self, name: &str) -> bool {
        let mut ask = Command::new("busctl");
        let ask = ask.arg(self.address()).args([
            "call",
            "org.freedesktop.DBus",
            "/org/freedesktop/DBus",
            "org.freedesktop.DBus",
            "NameHasOwner",
            "s",
            name,
        ]);
        ask.output().is_ok_and(|o| o.stdout.starts_with(b"b true"))
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("hearthd.sock")
    }

    pub fn models(&self) -> PathBuf {
        self.dir.path().join("models")
    }

    pub fn bus_address(&self) -> String {
        format!("unix:path={}", self.dir.path().join("bus").display())
    }

    fn address(&self) -> String {
        format!("--address={}", self.bus_address())
    }

    /// `busctl call` on the manager, with the signature and arguments of busctl.
    pub fn call(&self, method: &str, args: &[&str]) -> Output {
        self.call_at("/org/hearthd/Inference1", BUS_NAME, method, args)
    }

    pub fn call_at(&self, path: &str, interface: &str, method: &str, args: &[&str]) -> Output {
        let mut busctl = Command::new("busctl");
        busctl.arg(self.address()).args([
            "--timeout=60",
            "call",
            BUS_NAME,
            path,
            interface,
            method,
        ]);
        busctl.args(args).output().unwrap()
    }

    pub fn property(&self, name: &str) -> String {
        let mut busctl = Command::new("busctl");
        let busctl = busctl.arg(self.address());
        let output = busctl
            .args([
                "get-property",
                BUS_NAME,
                "/org/hearthd/Inference1",
                BUS_NAME,
                name,
            ])
            .output()
            .unwrap();
        text(&output.stdout)
    }

    pub fn ctl(&self, args: &[&str]) -> Output {
        self.ctl_command(args).output().unwrap()
    }

    pub fn ctl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(hearthctl());
        command
            .args(args)
            .env("DBUS_SYSTEM_BUS_ADDRESS", self.bus_address())
            .stdin(Stdio::null());
        command
    }

    pub fn curl(&self, path: &str, args: &[&str]) -> Output {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--max-time", "120", "--unix-socket"])
            .arg(self.socket());
        curl.args(args)
            .arg(format!("http://localhost{path}"))
            .output()
            .unwrap()
    }

    pub fn chat(&self, body: &str) -> serde_json::Value {
        let output = self.curl("/v1/chat/completions", &["-d", body]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
    }

    /// Sends a streamed request and joins the answer; every part must arrive in order.
    pub fn stream_chat(&self, mut body: serde_json::Value) -> String {
        body["stream"] = true.into();
        let output = self.curl("/v1/chat/completions", &["-N", "-d", &body.to_string()]);
        let lines = text(&output.stdout);
        assert!(lines.trim_end().ends_with("data: [DONE]"), "{lines}");
        lines
            .lines()
            .filter_map(|l| l.strip_prefix("data: ").filter(|l| *l != "[DONE]"))
            .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap())
            .filter_map(|c| Some(c["choices"][0]["delta"]["content"].as_str()?.to_owned()))
            .collect()
    }

    /// Opens a streamed chat and returns the socket after the first bytes have arrived.
    pub fn open_chat(&self, content: &str) -> UnixStream {
        let body =
            serde_json::json!({"stream": true, "messages": [{"role": "user", "content": content}]})
                .to_string();
        let mut socket = UnixStream::connect(self.socket()).unwrap();
        write!(
            socket,
            "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut first = [0; 512];
        let n = socket.read(&mut first).unwrap();
        assert!(
            text(&first[..n]).starts_with("HTTP/1.1 200"),
            "{}",
            text(&first[..n])
        );
        socket
    }

    pub fn health(&self) -> serde_json::Value {
        let output = self.curl("/health", &[]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
    }

    pub fn engine_pid(&self) -> Option<i32> {
        i32::try_from(self.health()["service"]["engine_pid"].as_i64()?).ok()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("hearthd.log")).unwrap_or_default()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        self.stop_bus();
        if std::thread::panicking() {
            eprintln!("--- hearthd said:\n{}", self.log());
        }
    }
}

/// Waits for a condition, without asserting how long that takes.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    text(&output.stdout)
}

/// The error output of a failed command.
pub fn error(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    text(&output.stderr)
}

/// A command prefix that mounts a file system with these options on one of the daemon's
/// folders; `None` if the machine does not allow it. The third word of the daemon's
/// command line is its configuration file, whose folder contains the others.
pub fn mount_wrapper(folder: &str, options: &str) -> Option<Vec<String>> {
    let mount = format!(
        "dir=\"$(dirname \"$3\")/{folder}\" && mkdir -p \"$dir\" && mount -t tmpfs -o {options} none \"$dir\" && exec \"$@\""
    );
    let mut wrapper: Vec<String> = vec!["unshare".into()];
    if !nix::unistd::geteuid().is_root() {
        wrapper.push("-r".into());
    }
    wrapper.push("-m".into());
    let possible = Command::new("unshare")
        .args(&wrapper[1..])
        .arg("true")
        .status();
    wrapper.extend(["sh".into(), "-c".into(), mount, "sh".into()]);
    possible.is_ok_and(|s| s.success()).then_some(wrapper)
}
