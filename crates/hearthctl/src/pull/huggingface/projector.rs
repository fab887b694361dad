//! The projector of a model among the files of its repository. Names are conventions: the
//! model's with `mmproj` before or after it, or `mmproj` alone where the repository has one
//! model, each with the type of its weights.

use hearth_gguf::PartName;

use super::{Candidate, Entry, base, is_gguf, quant};

/// Preferred types of weights. Projectors are not mapped but copied to memory, and in eight
/// bits they are as good as in sixteen.
const PREFERRED: [&str; 4] = ["Q8_0", "F16", "BF16", "F32"];
/// What names contain besides the model's.
const WORD: &str = "mmproj";
/// Names that say nothing about the model.
const PLAIN: [&str; 2] = ["", "model"];

/// The projectors among the files.
pub(super) fn all(entries: &[Entry]) -> Vec<Entry> {
    let is_one = |entry: &&Entry| {
        let name = base(&entry.path).to_ascii_lowercase();
        is_gguf(&name) && name.contains(WORD) && PartName::parse(&name).is_none()
    };
    entries.iter().filter(is_one).cloned().collect()
}

/// The projector that belongs to a model of the repository, in the preferred type; one in the
/// model's folder comes first.
///
/// # Errors
/// The names of several, of which none has the model's.
pub(super) fn choose(
    mut projectors: Vec<Entry>,
    model: &Candidate,
    models: &[Candidate],
) -> Result<Option<Entry>, String> {
    let own = plain(&model.stem);
    let others = models.iter().map(|other| plain(&other.stem));
    let others: Vec<String> = others.filter(|other| *other != own).collect();
    projectors.retain(|projector| !others.contains(&plain(base(&projector.path))));
    let folder = model.parts.first().map_or("", |part| folder(&part.path));
    if projectors.iter().any(|p| self::folder(&p.path) == folder) {
        projectors.retain(|p| self::folder(&p.path) == folder);
    }
    let mut names: Vec<String> = projectors.iter().map(|p| plain(base(&p.path))).collect();
    names.sort_unstable();
    names.dedup();
    let is_plain = |name: &&String| PLAIN.contains(&name.as_str());
    let begins = |name: &&String| !is_plain(name) && own.starts_with(name.as_str());
    let name = match names.as_slice() {
        [] => return Ok(None),
        [only] => only,
        several => {
            let same = several.iter().find(|name| **name == own);
            let longest = || several.iter().filter(begins).max_by_key(|name| name.len());
            let found = same.or_else(longest);
            found
                .or_else(|| several.iter().find(is_plain))
                .ok_or_else(|| list(&projectors))?
        }
    };
    projectors.retain(|projector| plain(base(&projector.path)) == *name);
    Ok(projectors.into_iter().min_by_key(|projector| {
        let quant = quant(base(&projector.path));
        let at = PREFERRED.iter().position(|preferred| *preferred == quant);
        (at.unwrap_or(PREFERRED.len()), projector.size)
    }))
}

fn list(projectors: &[Entry]) -> String {
    let names: Vec<&str> = projectors.iter().map(|p| p.path.as_str()).collect();
    names.join(", ")
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The model's name in the name of a file: without the type of the weights, `mmproj` and
/// punctuation.
fn plain(name: &str) -> String {
    let name = name.trim_end_matches(".gguf");
    let quant = quant(name);
    let lower = name.to_ascii_lowercase();
    let words = lower
        .split(['-', '.'])
        .filter(|word| !is_quant(word, &quant));
    let joined: String = words.collect();
    let without = joined.replace(WORD, "");
    without
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .collect()
}

fn is_quant(word: &str, quant: &str) -> bool {
    let quant = quant.to_ascii_lowercase();
    // `quant` calls fp16 f16.
    let half = word.strip_prefix("fp");
    !quant.is_empty() && (word == quant || half.is_some() && half == quant.strip_prefix('f'))
}

#[cfg(test)]
mod tests {
    use super::super::candidates;
    use super::*;

    /// What is chosen with the first of the files.
    fn chosen(paths: &[&str]) -> Result<Option<String>, String> {
        let entry = |path: &&str| Entry {
            path: (*path).to_owned(),
            size: 1,
            lfs: None,
        };
        let entries: Vec<Entry> = paths.iter().map(entry).collect();
        let projectors = all(&entries);
        let models = candidates(entries);
        let is_first = |model: &&Candidate| model.parts[0].path == paths[0];
        let model = models.iter().find(is_first).unwrap();
        let found = choose(projectors, model, &models)?;
        Ok(found.map(|entry| entry.path))
    }

    #[test]
    fn the_projector_of_a_model_is_found_by_its_name() {
        for (paths, expected) in [
            (&["a-Q4_K_M.gguf", "a-Q8_0.gguf"][..], None),
            (
                &[
                    "smol-Q8_0.gguf",
                    "mmproj-smol-f16.gguf",
                    "mmproj-smol-Q8_0.gguf",
                ],
                Some("mmproj-smol-Q8_0.gguf"),
            ),
            (
                &[
                    "gemma-3-4b-it-Q4_K_M.gguf",
                    "mmproj-BF16.gguf",
                    "mmproj-F32.gguf",
                ],
                Some("mmproj-BF16.gguf"),
            ),
            (
                &["gemma-3-4b-it-Q4_K_M.gguf", "mmproj-model-f16.gguf"],
                Some("mmproj-model-f16.gguf"),
            ),
            (
                &["moon2-text-model-f16.gguf", "moon2-mmproj-f16.gguf"],
                Some("moon2-mmproj-f16.gguf"),
            ),
            (
                &[
                    "ab-Q8_0.gguf",
                    "a-Q8_0.gguf",
                    "mmproj-a-f16.gguf",
                    "mmproj-ab-f16.gguf",
                ],
                Some("mmproj-ab-f16.gguf"),
            ),
            (&["b-Q8_0.gguf", "a-Q8_0.gguf", "mmproj-a-f16.gguf"], None),
            (
                &[
                    "q8/a-Q8_0.gguf",
                    "mmproj-a-Q8_0.gguf",
                    "q8/mmproj-a-fp16.gguf",
                ],
                Some("q8/mmproj-a-fp16.gguf"),
            ),
        ] {
            assert_eq!(chosen(paths), Ok(expected.map(str::to_owned)), "{paths:?}");
        }
        let unclear = chosen(&["a-Q8_0.gguf", "mmproj-b.gguf", "mmproj-c.gguf"]);
        assert_eq!(unclear, Err("mmproj-b.gguf, mmproj-c.gguf".to_owned()));
    }
}
