//! Authorization by polkit, where it is installed.

use std::collections::HashMap;
use std::time::Duration;

use hearth_proto::{Failure, FailureKind};
use zbus::connection::Connection;
use zbus::message::{Flags, Header};
use zbus::{Variant, fdo, proxy};

use super::Error;
use super::callers::BusCaller;
use crate::caller::Permission;

/// Timeout for an answer that needs no user interaction; libdbus has the same default.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(25);
/// polkit's flag: the user may be asked for a password.
const ALLOW_USER_INTERACTION: u32 = 1;

/// The actions to authorize; each is defined in `packaging/polkit/org.hearthd.policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    LoadModel,
    UnloadModel,
    ImportModel,
    RemoveModel,
    ClearCache,
}

impl Action {
    fn id(self) -> &'static str {
        match self {
            Self::LoadModel => "org.hearthd.load-model",
            Self::UnloadModel => "org.hearthd.unload-model",
            Self::ImportModel => "org.hearthd.import-model",
            Self::RemoveModel => "org.hearthd.remove-model",
            Self::ClearCache => "org.hearthd.clear-cache",
        }
    }
}

/// Whether the action is authorized, whether authentication could authorize it, and details.
type Answer = (bool, bool, HashMap<String, String>);

/// The polkit authority: `org.freedesktop.PolicyKit1.Authority(3)`.
#[proxy(
    interface = "org.freedesktop.PolicyKit1.Authority",
    default_service = "org.freedesktop.PolicyKit1",
    default_path = "/org/freedesktop/PolicyKit1/Authority"
)]
trait Authority {
    fn check_authorization(
        &self,
        subject: &(&str, HashMap<&str, Variant<'_>>),
        action_id: &str,
        details: HashMap<&str, &str>,
        flags: u32,
        cancellation_id: &str,
    ) -> zbus::Result<Answer>;

    fn cancel_check_authorization(&self, cancellation_id: &str) -> zbus::Result<()>;
}

/// Checks whether a caller is authorized. Root and the service's own user are not checked;
/// without polkit the service's own rule applies.
pub(super) async fn check(
    peer: &BusCaller,
    header: &Header<'_>,
    connection: &Connection,
    action: Action,
) -> Result<Permission, Error> {
    let caller = &peer.caller;
    if caller.principal.is_admin() || !connection.is_bus() {
        return Ok(Permission::ByRule);
    }
    let is_interactive = header
        .primary()
        .flags()
        .contains(Flags::ALLOW_INTERACTIVE_AUTH);
    let authority = AuthorityProxy::new(connection).await?;
    let sender = caller.origin.to_string();
    let subject = (
        "system-bus-name",
        HashMap::from([("name", sender.as_str().into())]),
    );
    // Unique among the caller's checks: calls of one sender have different serials.
    let cancellation = format!("{sender}-{}", header.primary().serial_num());
    let check = authority.check_authorization(
        &subject,
        action.id(),
        HashMap::new(),
        if is_interactive {
            ALLOW_USER_INTERACTION
        } else {
            0
        },
        &cancellation,
    );
    let timeout = async {
        if is_interactive {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(ANSWER_TIMEOUT).await;
    };
    let answer = tokio::select! {
        answer = check => answer,
        () = timeout => return Err(denied(action, "polkit did not answer in time").into()),
        () = peer.disconnected() => {
            // The dialog may still be open; it may also have been answered.
            _ = authority.cancel_check_authorization(&cancellation).await;
            return Err(Failure::cancelled().into());
        }
    };
    Ok(permission(answer, action)?)
}

/// The permission that follows from polkit's answer.
fn permission(answer: zbus::Result<Answer>, action: Action) -> Result<Permission, Failure> {
    match answer {
        Ok((true, ..)) => Ok(Permission::Granted),
        Ok((false, true, _)) => Err(denied(
            action,
            "polkit requires an administrator's password, and interactive authentication is not possible: run this as root, or add a polkit rule",
        )),
        Ok((false, false, _)) => Err(denied(action, "polkit does not allow it")),
        Err(zbus::Error::FDO(error)) if matches!(*error, fdo::Error::ServiceUnknown(_)) => {
            Ok(Permission::ByRule)
        }
        Err(error) => Err(denied(action, &format!("cannot query polkit: {error}"))),
    }
}

fn denied(action: Action, why: &str) -> Failure {
    Failure::new(
        FailureKind::AccessDenied,
        format!("{why} (action {})", action.id()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_in_the_policy_and_no_other() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/packaging/polkit/org.hearthd.policy"
        );
        let policy = std::fs::read_to_string(path).unwrap();
        let mut declared: Vec<&str> = policy
            .split("<action id=\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        let mut actions = [
            Action::LoadModel,
            Action::UnloadModel,
            Action::ImportModel,
            Action::RemoveModel,
            Action::ClearCache,
        ]
        .map(Action::id);
        declared.sort_unstable();
        actions.sort_unstable();
        assert_eq!(declared, actions);
        // Without it polkit does not answer the service's user about other users.
        let owner = "policykit.owner\">unix-user:hearthd<";
        assert_eq!(policy.matches(owner).count(), actions.len());
    }
}
