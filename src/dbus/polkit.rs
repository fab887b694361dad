//! Authorization by polkit, where it is installed.

use std::collections::HashMap;
use std::time::Duration;

use zbus::connection::Connection;
use zbus::message::{Flags, Header};
use zbus::{Variant, fdo, proxy};

use super::Error;
use super::callers::Present;
use crate::caller::Permission;
use hearth_proto::{Failure, FailureKind};

/// Timeout for an answer that needs no user interaction; libdbus has the same default.
const PATIENCE: Duration = Duration::from_secs(25);
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
    ) -> zbus::Result<(bool, bool, HashMap<String, String>)>;

    fn cancel_check_authorization(&self, cancellation_id: &str) -> zbus::Result<()>;
}

/// Checks whether a caller is authorized. Root and the service's own user are not checked;
/// without polkit the service's own rule applies.
pub(super) async fn check(
    present: &Present,
    header: &Header<'_>,
    connection: &Connection,
    action: Action,
) -> Result<Permission, Error> {
    let caller = &present.caller;
    if caller.principal.is_admin() || !connection.is_bus() {
        return Ok(Permission::ByRule);
    }
    let may_ask = header
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
    let asked = authority.check_authorization(
        &subject,
        action.id(),
        HashMap::new(),
        if may_ask { ALLOW_USER_INTERACTION } else { 0 },
        &cancellation,
    );
    let patience = async {
        if may_ask {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(PATIENCE).await;
    };
    let answer = tokio::select! {
        answer = asked => answer,
        () = patience => return Err(denied(action, "polkit does not answer").into()),
        () = present.left() => {
            // The dialog may still be open; it may also have been answered.
            _ = authority.cancel_check_authorization(&cancellation).await;
            return Err(Failure::cancelled().into());
        }
    };
    match answer {
        Ok((true, ..)) => Ok(Permission::Granted),
        Ok((false, true, _)) => Err(denied(
            action,
            "polkit wants an administrator's password, and nobody can be asked for it here: be root, or write a rule for polkit",
        )
        .into()),
        Ok((false, false, _)) => Err(denied(action, "polkit does not allow it").into()),
        Err(zbus::Error::FDO(error)) if matches!(*error, fdo::Error::ServiceUnknown(_)) => {
            Ok(Permission::ByRule)
        }
        Err(error) => Err(denied(action, &format!("polkit cannot be asked: {error}")).into()),
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
        let mut asked = [
            Action::LoadModel,
            Action::UnloadModel,
            Action::ImportModel,
            Action::RemoveModel,
            Action::ClearCache,
        ]
        .map(Action::id);
        declared.sort_unstable();
        asked.sort_unstable();
        assert_eq!(declared, asked);
        // Without it polkit does not answer the service's user about other users.
        let owner = "policykit.owner\">unix-user:hearthd<";
        assert_eq!(policy.matches(owner).count(), asked.len());
    }
}
