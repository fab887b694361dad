//! Ranges of the configuration's values, and rules across its keys.

use std::path::PathBuf;

use hearth_proto::Sampling;

use super::{Config, GovernorConfig, HttpConfig, PrewarmConfig, SamplingConfig};

/// Rules across keys and ranges; returns the offending key's last part.
pub(super) fn check(config: &Config) -> Result<(), (&'static str, String)> {
    check_sampling(&config.sampling)?;
    check_governor(&config.governor)?;
    if config.model.context != 0 && config.model.context < 64 {
        return Err((
            "context",
            format!(
                "context = {}: must be 0 (the model's own) or at least 64 tokens",
                config.model.context
            ),
        ));
    }
    if config.model.context_max < 64 {
        return Err((
            "context_max",
            "context_max: must be at least 64 tokens".into(),
        ));
    }
    if config.engine.lookup_tokens > 8 {
        let n = config.engine.lookup_tokens;
        let message = format!("lookup_tokens = {n}: must lie between 0 (none) and 8");
        return Err(("lookup_tokens", message));
    }
    if config.queue.length_max == 0 {
        return Err((
            "length_max",
            "length_max = 0: nothing could ever wait; use 1 or more".into(),
        ));
    }
    if config.queue.unread_s == 0 {
        return Err((
            "unread_s",
            "unread_s = 0: nobody reads that fast; use 1 or more".into(),
        ));
    }
    let token = &config.http.token_file;
    if !token.is_absolute() && token.components().count() > 1 {
        return Err((
            "token_file",
            format!(
                "token_file = \"{}\": must be an absolute path, or the plain name of a credential",
                token.display()
            ),
        ));
    }
    if config.engine.threads > 512 {
        return Err((
            "threads",
            format!(
                "threads = {}: no board has as many cores",
                config.engine.threads
            ),
        ));
    }
    if config.engine.hang_timeout_s < 5 || config.engine.load_timeout_s < 5 {
        return Err((
            "hang_timeout_s",
            "timeouts below 5 seconds kill healthy engines".into(),
        ));
    }
    check_http(&config.http)
}

fn check_http(h: &HttpConfig) -> Result<(), (&'static str, String)> {
    if !(1..=64).contains(&h.body_max_mib) {
        return Err((
            "body_max_mib",
            format!(
                "body_max_mib = {}: must lie between 1 and 64",
                h.body_max_mib
            ),
        ));
    }
    for (key, value) in [
        ("body_s", h.body_s),
        ("connections_max", h.connections_max),
        ("idle_s", h.idle_s),
    ] {
        if value == 0 {
            let message = format!("{key} = 0: no request could ever arrive; use 1 or more");
            return Err((key, message));
        }
    }
    if h.socket_mode().is_none() {
        return Err((
            "socket_mode",
            format!(
                "socket_mode = {:?}: must be an octal number such as \"0660\"",
                h.socket_mode
            ),
        ));
    }
    Ok(())
}

fn check_sampling(s: &SamplingConfig) -> Result<(), (&'static str, String)> {
    Sampling::from(s).check()
}

fn check_governor(g: &GovernorConfig) -> Result<(), (&'static str, String)> {
    if !(5..=100).contains(&g.power_percent) {
        return Err((
            "power_percent",
            format!(
                "power_percent = {}: must lie between 5 and 100",
                g.power_percent
            ),
        ));
    }
    if g.temperature_limit_celsius != 0 && !(40..=110).contains(&g.temperature_limit_celsius) {
        return Err((
            "temperature_limit_celsius",
            format!(
                "temperature_limit_celsius = {}: must be 0 (the board's own) or lie between 40 and 110",
                g.temperature_limit_celsius
            ),
        ));
    }
    Ok(())
}

/// Rules for the prompts to compute; returns the offending one's number, from 0.
pub(super) fn check_prewarm(tables: &[PrewarmConfig]) -> Result<(), (usize, String)> {
    for (n, table) in tables.iter().enumerate() {
        let from_file = !table.system_file.as_os_str().is_empty();
        let message = match (table.system.trim().is_empty(), from_file) {
            (true, false) => "give `system` or `system_file`".to_owned(),
            (false, true) => {
                "`system` and `system_file` exclude each other; give one of them".to_owned()
            }
            _ => {
                let files = [
                    ("system_file", &table.system_file),
                    ("tools_file", &table.tools_file),
                ];
                let is_wrong =
                    |file: &&(_, &PathBuf)| !file.1.as_os_str().is_empty() && !file.1.is_absolute();
                let Some((key, path)) = files.iter().find(is_wrong) else {
                    continue;
                };
                format!(
                    "{key} = \"{}\": must be an absolute path, from the root `/` on",
                    path.display()
                )
            }
        };
        return Err((n, message));
    }
    Ok(())
}
