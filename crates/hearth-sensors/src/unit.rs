//! The systemd unit that a process belongs to, found by its control group (systemd:
//! `docs/CGROUP_DELEGATION.md`, `sd_pid_get_unit(3)`).

use std::path::Path;

use super::files::text;

/// The longest name that systemd gives a unit (`UNIT_NAME_MAX`).
const NAME_MAX: usize = 255;

/// The unit of a process: a system service or scope, or, below a user manager, the first
/// unit there. `None` if there is none, or it cannot be read.
pub(super) fn unit(root: &Path, pid: u32) -> Option<String> {
    let groups = text(&root.join(format!("proc/{pid}/cgroup")))?;
    // `0::PATH` in version 2, `N:name=systemd:PATH` where systemd uses version 1.
    let mut paths = groups.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (hierarchy, path) = rest.split_once(':')?;
        matches!(hierarchy, "" | "name=systemd").then_some(path)
    });
    paths.find_map(in_path)
}

fn in_path(path: &str) -> Option<String> {
    // Below its unit a service may use any names for groups; only a user manager
    // creates units there.
    let mut names = path.split('/').skip_while(|name| !is_unit(name));
    let outer = names.next()?;
    let inner = outer
        .starts_with("user@")
        .then(|| names.find(|name| is_unit(name)))
        .flatten();
    // systemd prefixes a name that collides with a kernel file by an underscore.
    let name = inner.unwrap_or(outer);
    Some(name.strip_prefix('_').unwrap_or(name).to_owned())
}

/// Whether a group is that of a unit with processes. Its name is shown to users, so only
/// valid characters pass.
fn is_unit(name: &str) -> bool {
    let valid = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let kind = name.rsplit_once('.').map(|(_, kind)| kind);
    name.len() <= NAME_MAX
        && name.chars().all(valid)
        && matches!(
            kind,
            Some("service" | "scope" | "socket" | "mount" | "swap")
        )
}

#[cfg(test)]
mod tests {
    use super::super::files::tests::tree;
    use super::*;

    #[test]
    fn systemd_units_are_found_in_cgroup_v1_and_v2() {
        let of_user = "/user.slice/user-1000.slice";
        let groups = [
            (
                "0::/system.slice/home-assistant.service\n",
                Some("home-assistant.service"),
            ),
            (
                "0::/system.slice/system-getty.slice/getty@tty1.service",
                Some("getty@tty1.service"),
            ),
            (
                "0::/system.slice/x.service/payload/evil.service",
                Some("x.service"),
            ),
            ("0::/system.slice/_cpu.service", Some("cpu.service")),
            ("0::/init.scope", Some("init.scope")),
            (
                &format!("0::{of_user}/session-3.scope"),
                Some("session-3.scope"),
            ),
            (
                &format!("0::{of_user}/user@1000.service/app.slice/app-chat-7.scope"),
                Some("app-chat-7.scope"),
            ),
            (
                &format!("0::{of_user}/user@1000.service/init.scope"),
                Some("init.scope"),
            ),
            (
                &format!("0::{of_user}/user@1000.service"),
                Some("user@1000.service"),
            ),
            (
                "12:memory:/other.service\n1:name=systemd:/system.slice/ssh.service\n0::/",
                Some("ssh.service"),
            ),
            ("0::/", None),
            ("0::/system.slice", None),
            ("0::/system.slice/a b.service", None),
            ("nonsense", None),
            ("", None),
        ];
        for (text, expected) in groups {
            let root = tree(&[("proc/7/cgroup", text)]);
            assert_eq!(unit(root.path(), 7).as_deref(), expected, "{text:?}");
            assert_eq!(unit(root.path(), 8), None);
        }
        let long = format!("0::/{}.service", "x".repeat(NAME_MAX));
        let root = tree(&[("proc/7/cgroup", &long)]);
        assert_eq!(unit(root.path(), 7), None);
    }
}
