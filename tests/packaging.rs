//! Files around the executables: systemd units, bus policy, Debian package.
//!
//! The checks are scripts that packagers and `.ci/run` use as well. Nothing is built
//! here: the package is checked if `make deb` has built one.

#[path = "common/not_checked.rs"]
mod not_checked;

use std::path::{Path, PathBuf};
use std::process::Command;

use not_checked::not_checked;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a script of `packaging/`; exit status 77 means that it cannot run here.
fn check(script: &str, args: &[&Path]) {
    let output = Command::new(root().join("packaging").join(script))
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("packaging/{script}: {error}"));
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    match output.status.code() {
        Some(0) => {}
        Some(77) => not_checked(said.trim()),
        _ => panic!("packaging/{script}: {}\n{said}", output.status),
    }
}

#[test]
fn units_are_valid_and_sandboxed() {
    check("check-units.sh", &[]);
}

#[test]
fn the_bus_policy_admits_only_the_group() {
    check("check-policy.sh", &[]);
}

/// polkit ignores a file that is not well-formed, and actions with missing elements.
/// `tests/daemon/polkit.rs` tests the effect of a valid file.
#[test]
fn polkit_actions_are_well_formed_and_complete() {
    let policy = std::fs::read_to_string(root().join("packaging/polkit/org.hearthd.policy"));
    let mut text = policy.unwrap();
    while let Some(begin) = text.find("<!--") {
        let end = begin + text[begin..].find("-->").unwrap();
        text.replace_range(begin..end + 3, "");
    }
    let mut open: Vec<&str> = Vec::new();
    for tag in text
        .split('<')
        .skip(1)
        .map(|t| t.split('>').next().unwrap())
    {
        let name = tag.split(' ').next().unwrap();
        match name.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(closed)),
            None if name.starts_with(['?', '!']) => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?} are not closed");
    let actions: Vec<&str> = text.split("<action id=\"org.hearthd.").skip(1).collect();
    assert_eq!(actions.len(), 5);
    for action in actions {
        for part in [
            "description",
            "message",
            "allow_any",
            "allow_inactive",
            "allow_active",
        ] {
            let value = action.split(&format!("<{part}>")).nth(1).unwrap();
            let value = value.split('<').next().unwrap();
            let known = [
                "yes",
                "no",
                "auth_self",
                "auth_admin",
                "auth_self_keep",
                "auth_admin_keep",
            ];
            assert!(
                !part.starts_with("allow") || known.contains(&value),
                "{value}"
            );
            assert!(!value.trim().is_empty(), "{part}: {action}");
        }
    }
}

/// The package that `make deb` built of this version for this machine, if any.
fn package() -> Option<PathBuf> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let name = format!("hearthd_{}-1_{architecture}.deb", env!("CARGO_PKG_VERSION"));
    let path = root().join("target/debian").join(name);
    path.exists().then_some(path)
}

#[test]
fn the_package_has_the_expected_files() {
    match package() {
        Some(deb) => check("check-deb.sh", &[&deb]),
        None => not_checked("the Debian package (make deb builds and checks it)"),
    }
}

/// The version in Cargo.toml, in Debian's changelog and in the package's name.
#[test]
fn the_changelog_begins_with_this_version() {
    let changelog = std::fs::read_to_string(root().join("packaging/debian/changelog")).unwrap();
    let begin = format!("hearthd ({}-", env!("CARGO_PKG_VERSION"));
    assert!(
        changelog.starts_with(&begin),
        "it does not begin with {begin}"
    );
}

/// The manual pages that are written by hand have the version as well.
#[test]
fn manual_pages_have_this_version() {
    for page in ["hearthd.8", "hearth-engine.8"] {
        let text = std::fs::read_to_string(root().join("packaging/man").join(page)).unwrap();
        let wanted = format!("\"hearthd {}\"", env!("CARGO_PKG_VERSION"));
        assert!(text.lines().next().unwrap().contains(&wanted), "{page}");
    }
}

/// The unit's stop timeout is longer than the drain time of the configuration.
#[test]
fn the_stop_timeout_is_longer_than_draining() {
    let unit = std::fs::read_to_string(root().join("systemd/hearthd.service")).unwrap();
    let limit: u32 = unit
        .lines()
        .find_map(|line| line.strip_prefix("TimeoutStopSec="))
        .and_then(|seconds| seconds.parse().ok())
        .unwrap();
    let drain = hearthd::config::Config::default().queue.drain_s;
    assert!(
        limit >= drain + 5,
        "TimeoutStopSec={limit}, drain_s = {drain}"
    );
}

/// Packages that a part of `setup-host.sh` installs.
fn installed_for(part: &str) -> Vec<String> {
    let script = std::fs::read_to_string(root().join("packaging/setup-host.sh")).unwrap();
    let (_, lines) = script.split_once(&format!("\n    {part})\n")).unwrap();
    let (lines, _) = lines.split_once("\n      ;;").unwrap();
    let packages = lines.lines().map(str::trim).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["need", _, package] | ["want", package] => Some(package.to_owned()),
            _ => None,
        }
    });
    packages.collect()
}

/// `cross` builds in its own image, which cannot be tested without Docker.
#[test]
fn the_image_of_cross_installs_the_packages_of_the_script() {
    let cross = std::fs::read_to_string(root().join("Cross.toml")).unwrap();
    let cross: toml::Table = cross.parse().unwrap();
    let steps = &cross["target"]["aarch64-unknown-linux-gnu"]["pre-build"];
    let steps: Vec<&str> = steps
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|s| s.as_str())
        .collect();
    let (_, packages) = steps[1].split_once("--no-install-recommends ").unwrap();
    let image: Vec<&str> = packages.split(' ').collect();
    let script = [installed_for("build"), installed_for("cross")].concat();
    // Not needed by the compiler, or present in every image of cross.
    let needless = [
        "git",
        "gcc",
        "g++",
        "ccache",
        "pkg-config",
        "curl",
        "xz-utils",
        "dbus-daemon",
        "systemd",
        "binutils-aarch64-linux-gnu",
        "qemu-user-static",
    ];
    for package in &script {
        let package = package.as_str();
        assert!(
            image.contains(&package) || needless.contains(&package),
            "{package} is missing"
        );
    }
    for package in image {
        // A dependency of the compiler's own package on Debian.
        let is_dependency = package == "libstdc++-12-dev-arm64-cross";
        assert!(
            script.iter().any(|p| p == package) || is_dependency,
            "{package}: what for?"
        );
    }
}
