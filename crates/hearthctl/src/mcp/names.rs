//! The names under which the tools are offered to the model.

use std::collections::HashSet;

/// The longest name that the APIs of models accept.
const MAX: usize = 64;

/// `server__tool`, of letters, digits, `_` and `-` only. Names that would be equal get a
/// number.
#[derive(Debug, Default)]
pub struct Names {
    taken: HashSet<String>,
}

impl Names {
    /// A name that was not given before.
    pub fn give(&mut self, server: &str, tool: &str) -> String {
        let name = valid(&format!("{server}__{tool}"));
        let mut unique = shortened(&name, "");
        let mut n = 2u32;
        while !self.taken.insert(unique.clone()) {
            unique = shortened(&name, &format!("_{n}"));
            n += 1;
        }
        unique
    }
}

fn valid(name: &str) -> String {
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    name.chars()
        .map(|c| if valid(c) { c } else { '_' })
        .collect()
}

/// Cuts the end off, which is ASCII, so that the suffix fits.
fn shortened(name: &str, suffix: &str) -> String {
    let end = name.len().min(MAX - suffix.len());
    format!("{}{suffix}", &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_and_unique() {
        let mut names = Names::default();
        let long = "x".repeat(100);
        let given = [
            names.give("files", "read"),
            names.give("my files", "rèad.all"),
            names.give("my_files", "r_ad_all"),
            names.give("files", "read"),
            names.give(&long, "a"),
            names.give(&long, "b"),
        ];
        assert_eq!(
            given[..4],
            [
                "files__read",
                "my_files__r_ad_all",
                "my_files__r_ad_all_2",
                "files__read_2"
            ]
        );
        assert_eq!(given[4], "x".repeat(64));
        assert_eq!(given[5], format!("{}_2", "x".repeat(62)));
    }
}
