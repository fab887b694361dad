//! The process around the loop: how it starts, and every way it ends.

use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use hearth_proto::{Event, framing};

use crate::ENGINE;
use crate::executables::beside;
use crate::harness::Engine;

const SOON: Duration = Duration::from_secs(10);

#[test]
fn only_the_engine_needs_llama() {
    // The file contains the names of the libraries that the dynamic linker is to load.
    let names = |file: &Path| {
        let bytes = std::fs::read(file).unwrap();
        ["libllama.so", "libggml.so", "libggml-base.so"]
            .into_iter()
            .filter(|name| bytes.windows(name.len()).any(|w| w == name.as_bytes()))
            .count()
    };
    assert_eq!(names(Path::new(ENGINE)), 3);
    assert_eq!(names(&beside(ENGINE, "hearthd")), 0);
    assert_eq!(names(&beside(ENGINE, "hearthctl")), 0);
}

#[test]
fn by_hand_it_says_who_starts_it() {
    let output = Process::new(ENGINE).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("started by hearthd"));
    let output = Process::new(ENGINE)
        .arg("--no-such-option")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn missing_kernels_are_named_with_the_folder() {
    let output = Process::new(ENGINE)
        .arg("cpu")
        .env("HEARTH_BACKEND_DIR", "/nonexistent")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("no CPU kernels") && text.contains("/nonexistent"),
        "{text}"
    );
}

#[test]
fn a_broken_frame_ends_it() {
    use std::io::Write as _;
    let (mut socket, theirs) = UnixStream::pair().unwrap();
    let mut child = Process::new(ENGINE)
        .stderr(Stdio::null())
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    socket.write_all(&[255; 8]).unwrap();
    assert_eq!(
        crate::harness::wait(&mut child, SOON).unwrap().code(),
        Some(1)
    );
}

#[test]
fn it_dies_with_its_parent() {
    let (socket, theirs) = UnixStream::pair().unwrap();
    // A shell between us and the engine; our end of the socket stays open, so only
    // the parent-death signal can end it.
    let mut shell = Process::new("sh")
        .args(["-c", "exec 3<&0; \"$0\" <&3 & echo $!; wait", ENGINE])
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(shell.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let stat = format!("/proc/{}/stat", line.trim());
    let hello: Option<Event> = framing::read(&mut &socket).unwrap();
    assert!(matches!(hello, Some(Event::Hello { .. })));
    shell.kill().unwrap();
    shell.wait().unwrap();
    let end = Instant::now() + SOON;
    // Gone, or a zombie that init has not reaped.
    while std::fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z ")) {
        assert!(Instant::now() < end, "the engine lives on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn it_offers_itself_to_the_oom_killer() {
    let engine = Engine::start(&[]);
    let score = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", engine.child.id()));
    assert_eq!(score.unwrap().trim(), "800");
}

/// A hostile template in the process that tests it: it neither hangs nor exhausts memory,
/// and reads no file.
#[test]
fn a_hostile_template_is_stopped() {
    let tried = |source: &str| {
        let mut child = Process::new(ENGINE)
            .arg("try-template")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, source.as_bytes()).unwrap();
        drop(input);
        child.wait_with_output().unwrap()
    };
    let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}\
                   {% set x = a %}{% endfor %}{% endfor %}{% endfor %}";
    let signal = std::os::unix::process::ExitStatusExt::signal(&tried(endless).status);
    assert_eq!(
        signal,
        Some(nix::sys::signal::Signal::SIGKILL as i32),
        "it ran on"
    );
    for harmless in [
        "{% include '/etc/passwd' %}",
        "{{ raise_exception('no') }}",
        "{% if %}",
        "{{ messages[0].content }}",
    ] {
        let tried = tried(harmless);
        assert!(tried.status.success(), "{harmless}: {:?}", tried.status);
        assert!(tried.stdout.is_empty(), "{harmless}");
    }
}
