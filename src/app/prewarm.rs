//! The files that `[[prewarm]]` tables name.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use hearth_api::openai::decode_tools;

use crate::config::{Config, PrewarmConfig};

/// Reads the files into the tables, so that an error in them is reported at startup.
///
/// # Errors
/// A message with the table and the file.
pub(super) fn read_files(config: &mut Config) -> Result<(), String> {
    let limit = config.queue.prompt_max_bytes;
    for (n, table) in (1..).zip(&mut config.prewarm) {
        fill(table, limit).map_err(|message| format!("[[prewarm]] number {n}: {message}"))?;
    }
    Ok(())
}

fn fill(table: &mut PrewarmConfig, limit: u32) -> Result<(), String> {
    if !table.system_file.as_os_str().is_empty() {
        let text = read(&table.system_file, limit)?;
        text.strip_suffix('\n')
            .unwrap_or(&text)
            .clone_into(&mut table.system);
        if table.system.trim().is_empty() {
            return Err(format!(
                "{} is empty: write the system prompt into it",
                table.system_file.display()
            ));
        }
    }
    if !table.tools_file.as_os_str().is_empty() {
        let text = read(&table.tools_file, limit)?;
        table.tools =
            decode_tools(&text).map_err(|e| format!("{}: {e}", table.tools_file.display()))?;
    }
    Ok(())
}

/// Reads a file of at most `limit` bytes; /dev/zero, for example, has no end.
fn read(path: &Path, limit: u32) -> Result<String, String> {
    let shown = path.display();
    let mut bytes = Vec::new();
    let size = File::open(path)
        .and_then(|file| file.take(u64::from(limit) + 1).read_to_end(&mut bytes))
        .map_err(|e| {
            format!("cannot read {shown}: {e}; the user of the service must be able to read it")
        })?;
    if size > limit as usize {
        return Err(format!(
            "{shown} has more than {limit} bytes: shorten it, or raise `queue.prompt_max_bytes`"
        ));
    }
    String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn table(system_file: &Path, tools_file: &Path) -> Config {
        let mut config = Config::default();
        config.queue.prompt_max_bytes = 100;
        config.prewarm = vec![PrewarmConfig {
            system_file: system_file.into(),
            tools_file: tools_file.into(),
            ..PrewarmConfig::default()
        }];
        config
    }

    #[test]
    fn the_files_are_read_into_the_table() {
        let dir = tempfile::tempdir().unwrap();
        let (system, tools) = (dir.path().join("system"), dir.path().join("tools"));
        fs::write(&system, "Be brief.\n").unwrap();
        fs::write(&tools, r#"[{"function": {"name": "f"}}]"#).unwrap();
        let mut config = table(&system, &tools);
        read_files(&mut config).unwrap();
        assert_eq!(config.prewarm[0].system, "Be brief.");
        assert_eq!(config.prewarm[0].tools[0]["function"]["name"], "f");
        let mut config = table(Path::new(""), Path::new(""));
        config.prewarm[0].system = "x".into();
        let before = config.clone();
        read_files(&mut config).unwrap();
        assert_eq!(config, before);
    }

    #[test]
    fn an_unusable_file_is_an_error_with_its_reason() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let fine = write("fine", b"x");
        for (system, tools, part) in [
            (Path::new("/nonexistent"), None, "cannot read /nonexistent"),
            (Path::new("/dev/zero"), None, "more than 100 bytes"),
            (&write("empty", b" \n"), None, "is empty"),
            (&write("binary", b"\xff"), None, "is not UTF-8"),
            (&fine, Some(write("broken", b"[")), "not valid JSON"),
            (&fine, Some(write("nameless", b"[{}]")), "nameless: each of"),
        ] {
            let tools = tools.unwrap_or_default();
            let message = read_files(&mut table(system, &tools)).unwrap_err();
            assert!(message.starts_with("[[prewarm]] number 1: "), "{message}");
            assert!(message.contains(part), "{message}");
        }
    }
}
