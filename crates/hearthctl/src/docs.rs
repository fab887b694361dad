//! Manual pages and shell completions, generated from the definition of the command line
//! from the introspection of the interface and from the schemas of the output with
//! `--json`, so that they always agree.

mod interface;
mod json;
mod roff;

use std::fs;
use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use hearth_proto::bus::NAME;

use crate::cli::Cli;
use crate::error::{CtlError, Result};

/// Writes `hearthctl.1`, a page for each visible command, one for the output with `--json`,
/// and one for the D-Bus interface.
pub fn man(dir: &Path) -> Result {
    // The page of `help` would duplicate the others.
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        page(dir, sub.clone())?;
    }
    page(dir, command)?;
    for (name, text) in [(NAME, interface::page()), ("hearthctl-json", json::page()?)] {
        let path = dir.join(format!("{name}.5"));
        fs::write(&path, text).map_err(|e| failed(&path, e))?;
    }
    Ok(())
}

/// Writes completions under the names that the shells expect, if these do not depend on
/// the folder: `hearthctl.bash`, `_hearthctl`, `hearthctl.fish`.
pub fn completions(dir: &Path) -> Result {
    let mut command = Cli::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, "hearthctl", dir)
            .map_err(|e| failed(dir, e))?;
    }
    Ok(())
}

fn page(dir: &Path, command: Command) -> Result {
    // No date, so that the output is reproducible.
    let man = Man::new(command)
        .source(concat!("hearthctl ", env!("CARGO_PKG_VERSION")))
        .manual("Hearthd");
    let path = dir.join(man.get_filename());
    let mut text = Vec::new();
    man.render(&mut text)?;
    let text = unfilled(&String::from_utf8_lossy(&text));
    fs::write(&path, text).map_err(|e| failed(&path, e))
}

/// Turns off filling for the text after the help: it contains lists, which roff would
/// join into justified paragraphs.
fn unfilled(page: &str) -> String {
    let Some((before, after)) = page.split_once("\n.SH EXTRA\n") else {
        return page.to_owned();
    };
    let (notes, rest) = after.split_at(after.find("\n.SH ").map_or(after.len(), |at| at + 1));
    format!("{before}\n.SH NOTES\n.nf\n{notes}.fi\n{rest}")
}

fn failed(path: &Path, source: io::Error) -> CtlError {
    CtlError::File {
        path: path.to_owned(),
        source,
    }
}
