//! Ranges of the configuration's values, and rules across its keys.

use std::path::PathBuf;

use hearth_proto::Sampling;

use super::{Config, GovernorConfig, HttpConfig, PrewarmConfig, SamplingConfig};

/// Checks ranges and rules across keys; returns the last part of the wrong key. Longer
/// than a screen: a row for each rule.
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
        let message = format!("lookup_tokens = {n}: must be between 0 (off) and 8");
        return Err(("lookup_tokens", message));
    }
    if config.queue.length_max == 0 {
        return Err((
            "length_max",
            "length_max = 0: no request could be queued; use 1 or more".into(),
        ));
    }
    if config.queue.unread_s == 0 {
        return Err((
            "unread_s",
            "unread_s = 0: every write would time out; use 1 or more".into(),
        ));
    }
    let token = &config.http.token_file;
    if !token.is_absolute() && token.components().count() > 1 {
        return Err((
            "token_file",
            format!(
                "token_file = \"{}\": must be an absolute path, or the name of a systemd credential",
                token.display()
            ),
        ));
    }
    if config.engine.threads > 512 {
        return Err((
            "threads",
            format!("threads = {}: must be at most 512", config.engine.threads),
        ));
    }
    for (key, value) in [
        ("hang_timeout_s", config.engine.hang_timeout_s),
        ("load_timeout_s", config.engine.load_timeout_s),
    ] {
        if value < 5 {
            let message = format!("{key} = {value}: must be at least 5 seconds");
            return Err((key, message));
        }
    }
    check_http(&config.http)
}

fn check_http(h: &HttpConfig) -> Result<(), (&'static str, String)> {
    if !(1..=64).contains(&h.body_max_mib) {
        return Err((
            "body_max_mib",
            format!(
                "body_max_mib = {}: must be between 1 and 64",
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
            let message = format!("{key} = 0: no request could be received; use 1 or more");
            return Err((key, message));
        }
    }
    for origin in &h.origins {
        if !is_origin_pattern(origin) {
            let message = format!(
                "origins: {origin:?}: write a scheme and a host such as \"https://home.example\"; \
                 a `*` may follow `://` or `:`"
            );
            return Err(("origins", message));
        }
    }
    for host in &h.hosts {
        if host.is_empty() || host.contains(['/', '*', ' ']) {
            let message = format!("hosts: {host:?}: write a host's name, without scheme and port");
            return Err(("hosts", message));
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

/// A `*` after part of a name would allow hosts that only begin like it.
fn is_origin_pattern(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text == "null";
    };
    let host = rest.strip_suffix('*').unwrap_or(rest);
    let ends_well = host == rest || host.is_empty() || host.ends_with(':');
    !scheme.is_empty() && !rest.is_empty() && ends_well && !host.contains(['/', '*', ' '])
}

fn check_sampling(s: &SamplingConfig) -> Result<(), (&'static str, String)> {
    Sampling::from(s).check()
}

fn check_governor(g: &GovernorConfig) -> Result<(), (&'static str, String)> {
    if !(5..=100).contains(&g.power_percent) {
        return Err((
            "power_percent",
            format!(
                "power_percent = {}: must be between 5 and 100",
                g.power_percent
            ),
        ));
    }
    if g.temperature_limit_celsius != 0 && !(40..=110).contains(&g.temperature_limit_celsius) {
        return Err((
            "temperature_limit_celsius",
            format!(
                "temperature_limit_celsius = {}: must be 0 (the board's own limit) or between 40 and 110",
                g.temperature_limit_celsius
            ),
        ));
    }
    Ok(())
}

/// Checks the prewarm tables; returns the number of the wrong one, from 0.
pub(super) fn check_prewarm(tables: &[PrewarmConfig]) -> Result<(), (usize, String)> {
    for (n, table) in tables.iter().enumerate() {
        let from_file = !table.system_file.as_os_str().is_empty();
        let message = match (table.system.trim().is_empty(), from_file) {
            (true, false) => "set `system` or `system_file`".to_owned(),
            (false, true) => {
                "`system` and `system_file` are mutually exclusive: set one of them".to_owned()
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
                format!("{key} = \"{}\": must be an absolute path", path.display())
            }
        };
        return Err((n, message));
    }
    Ok(())
}
