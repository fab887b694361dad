//! Starts the bus and the daemon.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Engine, Setup, root};
use crate::executables::beside;

/// The group that stands in for `hearth`: one that does not require root.
pub fn group() -> u32 {
    if nix::unistd::geteuid().is_root() {
        65534
    } else {
        nix::unistd::getegid().as_raw()
    }
}

pub(super) fn start_bus(dir: &Path, setup: &Setup) -> Child {
    let policies = dir.join("system.d");
    fs::create_dir_all(&policies).unwrap();
    for entry in setup.policies.iter().flat_map(|p| fs::read_dir(p).unwrap()) {
        let path = entry.unwrap().path();
        fs::copy(&path, policies.join(path.file_name().unwrap())).unwrap();
    }
    let script = format!(
        ". packaging/private-bus.sh; private_bus {} {} {}; echo up; wait",
        dir.display(),
        setup.user,
        group()
    );
    // Child processes of the shell end with it only through a trap.
    let script = format!("trap 'kill $bus_pid' TERM EXIT; {script}");
    let mut bus = Command::new("bash")
        .args(["-c", &script])
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = [0; 3];
    bus.stdout.take().unwrap().read_exact(&mut up).unwrap();
    // Other users in the tests have to reach the bus.
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    bus
}

pub(super) fn spawn(dir: &Path, setup: &Setup) -> Child {
    let (engine, packaged) = engine_and_models(dir, &setup.engine);
    let config = format!(
        "[paths]\nmodels = {:?}\nmodels_packaged = {packaged:?}\nprompts = {:?}\ntuning = {:?}\nengine = {engine:?}\nsensors_root = {:?}\n[http]\nsocket = {:?}\n{}",
        dir.join("models"),
        dir.join("prompts"),
        dir.join("tuning.json"),
        dir.join("board"),
        dir.join("hearthd.sock"),
        setup.config
    );
    fs::write(dir.join("hearthd.toml"), config).unwrap();
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("hearthd.log"))
        .unwrap();
    let bus = if setup.bus {
        dir.join("bus")
    } else {
        dir.join("no-bus")
    };
    let mut words: Vec<String> = setup.wrapper.clone();
    if setup.user != nix::unistd::geteuid().as_raw() {
        let (user, group) = (setup.user.to_string(), group().to_string());
        let setpriv = [
            "setpriv",
            "--reuid",
            &user,
            "--regid",
            &group,
            "--clear-groups",
        ];
        words.extend(setpriv.map(str::to_owned));
    }
    words.extend([env!("CARGO_BIN_EXE_hearthd").into(), "--config".into()]);
    words.push(dir.join("hearthd.toml").display().to_string());
    Command::new(&words[0])
        .args(&words[1..])
        .env(
            "DBUS_SYSTEM_BUS_ADDRESS",
            format!("unix:path={}", bus.display()),
        )
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// The engine's executable and the folder of packaged models.
fn engine_and_models(dir: &Path, engine: &Engine) -> (PathBuf, PathBuf) {
    let real = beside(env!("CARGO_BIN_EXE_hearthd"), "hearth-engine");
    let Engine::Fake(script) = engine else {
        return (real, root().join("packaging/demo-model"));
    };
    let path = dir.join("engine");
    let fake = beside(env!("CARGO_BIN_EXE_hearthd"), "hearth-engine-fake");
    let (real, fake) = (real.display(), fake.display());
    // With arguments, the engine is to check a file, which the real one does.
    let body = format!("#!/bin/sh\n[ $# -gt 0 ] && exec {real} \"$@\"\nexec {fake} '{script}'\n");
    fs::write(&path, body).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let packaged = dir.join("packaged");
    fs::create_dir_all(&packaged).unwrap();
    // A header without keys and tensors.
    let mut header = b"GGUF\x03\0\0\0".to_vec();
    header.resize(24, 0);
    fs::write(packaged.join("fake.gguf"), header).unwrap();
    (path, packaged)
}
