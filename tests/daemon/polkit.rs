//! The real polkitd on the private bus: its rules decide who may load and manage models.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use hearth_proto::bus::{MODEL_STORE_INTERFACE, PATH};
use tempfile::TempDir;

use crate::harness::launch::group;
use crate::harness::{Daemon, Setup, error, hearthctl, ok, root, until};
use crate::not_checked::not_checked;

const POLKITD: &str = "/usr/lib/polkit-1/polkitd";
/// The account nobody stands in for hearthd, and sync for a member of the group hearth:
/// on Debian its group is nobody's.
const NOBODY: u32 = 65534;
const MEMBER: u32 = 4;

/// Rules of an administrator.
const RULES: &str = r#"
polkit.addRule(function(action, subject) {
    if (subject.user != "sync") return polkit.Result.NOT_HANDLED;
    if (action.id == "org.hearthd.remove-model") return polkit.Result.YES;
    if (action.id == "org.hearthd.unload-model") return polkit.Result.NO;
    return polkit.Result.NOT_HANDLED;
});
"#;

/// hearthctl, run by the member. It allows interactive authorization, but there is no
/// agent here.
fn member(daemon: &Daemon, args: &[&str]) -> Output {
    let group = group().to_string();
    Command::new("setpriv")
        .args(["--reuid", &MEMBER.to_string(), "--regid", &group])
        .args(["--groups", &group])
        .arg(hearthctl())
        .args(args)
        .env("DBUS_SYSTEM_BUS_ADDRESS", daemon.bus_address())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Starts polkitd with the shipped actions and the rules above, in place of the system's.
fn start_polkit(daemon: &Daemon, actions: &str) -> Child {
    let dir = daemon.dir.path();
    for (folder, file, text) in [
        ("actions", "org.hearthd.policy", actions),
        ("rules", "10-test.rules", RULES),
    ] {
        fs::create_dir_all(dir.join(folder)).unwrap();
        fs::write(dir.join(folder).join(file), text).unwrap();
    }
    let script = format!(
        "mount --bind {0}/actions /usr/share/polkit-1/actions && \
         mount --bind {0}/rules /etc/polkit-1/rules.d && exec {POLKITD}",
        dir.display()
    );
    let log = fs::File::create(dir.join("polkitd.log")).unwrap();
    let child = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .env("DBUS_SYSTEM_BUS_ADDRESS", daemon.bus_address())
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    until("polkitd has its name", || {
        daemon.owned("org.freedesktop.PolicyKit1")
    });
    child
}

/// Why the real polkitd cannot be used here.
fn missing() -> Option<&'static str> {
    let mount = Command::new("unshare").args(["-m", "true"]).status();
    if !nix::unistd::geteuid().is_root() {
        Some("several accounts need root")
    } else if !Path::new(POLKITD).exists() {
        // `packaging/setup-host.sh test` installs it: a CI without it is set up wrongly.
        let is_ci = std::env::var_os("CI").is_some();
        assert!(!is_ci, "polkitd is not installed");
        Some("polkitd is not installed")
    } else if !mount.is_ok_and(|status| status.success()) {
        Some("this machine allows no mount namespaces")
    } else {
        None
    }
}

/// A folder with polkit's own policy for the bus.
fn bus_policy() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let file = "org.freedesktop.PolicyKit1.conf";
    let installed = Path::new("/usr/share/dbus-1/system.d").join(file);
    fs::copy(installed, folder.path().join(file)).unwrap();
    folder
}

#[test]
fn polkit_decides_where_it_is_installed() {
    if let Some(why) = missing() {
        not_checked(&format!("polkit: {why}"));
        return;
    }
    let policies = bus_policy();
    let daemon = Daemon::start(Setup {
        user: NOBODY,
        policies: Some(policies.path().to_owned()),
        ..Setup::default()
    });
    let installed = || {
        fs::copy(
            root().join("packaging/demo-model/hearth-demo-q8_0.gguf"),
            daemon.models().join("mine.gguf"),
        )
        .unwrap();
    };
    // Without polkit, members load and unload, and root imports and removes.
    installed();
    ok(&member(&daemon, &["load", "fake"]));
    ok(&member(&daemon, &["unload"]));
    let said = error(&member(&daemon, &["remove", "mine"]));
    assert!(said.contains("only root may"), "{said}");
    ok(&daemon.call_at(
        PATH,
        MODEL_STORE_INTERFACE,
        "Remove",
        &["sa{sv}", "mine", "0"],
    ));
    installed();

    let shipped = fs::read_to_string(root().join("packaging/polkit/org.hearthd.policy")).unwrap();
    let actions = shipped.replace("unix-user:hearthd", "unix-user:nobody");
    let mut polkit = start_polkit(&daemon, &actions);
    let mut listed = Command::new("pkaction");
    let listed = listed.env("DBUS_SYSTEM_BUS_ADDRESS", daemon.bus_address());
    let listed = ok(&listed.output().unwrap());
    let listed: Vec<&str> = listed
        .lines()
        .filter_map(|action| action.strip_prefix("org.hearthd."))
        .collect();
    let actions = "clear-cache import-model load-model remove-model unload-model";
    assert_eq!(listed.join(" "), actions);
    // The shipped defaults, and the administrator's rules.
    ok(&member(&daemon, &["load", "fake"]));
    ok(&member(&daemon, &["cache", "clear"]));
    let said = error(&member(&daemon, &["unload"]));
    assert!(
        said.contains("does not allow it (action org.hearthd.unload-model)"),
        "{said}"
    );
    ok(&member(&daemon, &["remove", "mine"]));
    assert!(!daemon.models().join("mine.gguf").exists());
    let model = root().join("packaging/demo-model/hearth-demo-q8_0.gguf");
    let import = ["import", "--name", "mine", model.to_str().unwrap()];
    let said = error(&member(&daemon, &import));
    assert!(said.contains("administrator's password"), "{said}");
    // Root needs no authorization.
    ok(&daemon.call("UnloadModels", &["a{sv}", "0"]));
    polkit.kill().unwrap();
    polkit.wait().unwrap();
}

#[test]
fn polkit_without_the_actions_allows_nothing() {
    if let Some(why) = missing() {
        not_checked(&format!("polkit: {why}"));
        return;
    }
    let policies = bus_policy();
    let daemon = Daemon::start(Setup {
        policies: Some(policies.path().to_owned()),
        ..Setup::default()
    });
    let none = "<?xml version=\"1.0\"?>\n<policyconfig></policyconfig>\n";
    let mut polkit = start_polkit(&daemon, none);
    let said = error(&member(&daemon, &["load", "fake"]));
    assert!(
        said.contains("cannot query polkit") && said.contains("load-model"),
        "{said}"
    );
    // Requests need no permission other than that to use the service.
    assert!(ok(&member(&daemon, &["generate", "hello"])).contains("hello"));
    polkit.kill().unwrap();
    polkit.wait().unwrap();
}
