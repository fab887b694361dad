//! LoRA adapters: which of those that are loaded a request applies.

use std::collections::BTreeMap;

use hearth_proto::{AdapterRef, Failure, FailureKind, Lora};
use xxhash_rust::xxh3::Xxh3;

use super::backend::LoadedAdapter;

/// The adapters of a request with their scales.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct AdapterSet {
    identity: u64,
    scales: Vec<(usize, f32)>,
}

impl AdapterSet {
    /// Finds the adapters that a request names. Of one that it names twice the last scale counts;
    /// one with a scale of 0 is not applied.
    ///
    /// # Errors
    /// `InvalidArgs` where there is no such adapter, `ModelInvalid` where it could not be loaded.
    pub(super) fn new(wanted: &[Lora], loaded: &[LoadedAdapter]) -> Result<Self, Failure> {
        let mut chosen = BTreeMap::new();
        for lora in wanted {
            let (at, identity) = find(&lora.adapter, loaded)?;
            chosen.insert(at, (identity, lora.scale));
        }
        chosen.retain(|_, (_, scale)| *scale != 0.0);
        Ok(Self {
            identity: identity(chosen.values().copied()),
            scales: chosen
                .iter()
                .map(|(at, (_, scale))| (*at, *scale))
                .collect(),
        })
    }

    /// Identifies the adapters by their contents, and their scales; 0 where there are none.
    pub(super) fn identity(&self) -> u64 {
        self.identity
    }

    /// The numbers of the adapters among those loaded, ascending, and their scales.
    pub(super) fn scales(&self) -> &[(usize, f32)] {
        &self.scales
    }
}

fn find(wanted: &AdapterRef, loaded: &[LoadedAdapter]) -> Result<(usize, u128), Failure> {
    let is_it = |adapter: &LoadedAdapter| match wanted {
        AdapterRef::Name(name) => adapter.name == *name,
        // The daemon has replaced it with the name.
        AdapterRef::Id(_) => false,
    };
    let Some(at) = loaded.iter().position(is_it) else {
        let names: Vec<&str> = loaded.iter().map(|adapter| &*adapter.name).collect();
        let message = format!(
            "the adapter {wanted} is not in memory (there are: {}): memory was short when the \
             model was loaded; unload other models and this one, then ask again",
            names.join(", ")
        );
        return Err(Failure::invalid(message).about("lora"));
    };
    match &loaded[at].loaded {
        Ok(identity) => Ok((at, *identity)),
        Err(problem) => {
            let message = format!("the adapter {wanted} cannot be used: {problem}");
            Err(Failure::new(FailureKind::ModelInvalid, message).about("lora"))
        }
    }
}

fn identity(set: impl Iterator<Item = (u128, f32)>) -> u64 {
    let mut all: Vec<(u128, u32)> = set.map(|(id, scale)| (id, scale.to_bits())).collect();
    if all.is_empty() {
        return 0;
    }
    all.sort_unstable();
    let mut hash = Xxh3::new();
    for (id, scale) in all {
        hash.update(&id.to_le_bytes());
        hash.update(&scale.to_le_bytes());
    }
    hash.digest().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(wanted: &[(&str, f32)]) -> Result<AdapterSet, Failure> {
        let loaded = [("a", Ok(1)), ("b", Ok(2)), ("bad", Err("why".to_owned()))];
        let loaded = loaded.map(|(name, loaded)| LoadedAdapter {
            name: name.into(),
            loaded,
        });
        let wanted: Vec<Lora> = wanted
            .iter()
            .map(|(name, scale)| Lora {
                adapter: AdapterRef::Name((*name).into()),
                scale: *scale,
            })
            .collect();
        AdapterSet::new(&wanted, &loaded)
    }

    #[test]
    fn a_set_is_its_adapters_and_scales() {
        let both = set(&[("b", 0.5), ("a", 1.0)]).unwrap();
        assert_eq!(both.scales(), [(0, 1.0), (1, 0.5)]);
        assert_eq!(both, set(&[("a", 1.0), ("b", 7.0), ("b", 0.5)]).unwrap());
        let others = [
            set(&[]),
            set(&[("a", 1.0)]),
            set(&[("a", 0.5), ("b", 1.0)]),
            set(&[("a", 1.0), ("b", 1.0)]),
        ];
        for other in others {
            assert_ne!(both.identity(), other.unwrap().identity());
        }
    }

    #[test]
    fn a_scale_of_zero_is_no_adapter() {
        let none = AdapterSet::default();
        assert_eq!(set(&[("a", 0.0), ("b", -0.0)]).unwrap(), none);
        assert_eq!(none.identity(), 0);
    }

    #[test]
    fn what_cannot_be_applied_is_refused() {
        let failure = set(&[("c", 1.0)]).unwrap_err();
        assert_eq!(failure.kind, FailureKind::InvalidArgs);
        assert!(failure.message.contains("a, b, bad"), "{failure}");
        let failure = set(&[("bad", 0.0)]).unwrap_err();
        assert_eq!(failure.kind, FailureKind::ModelInvalid);
        assert!(failure.message.contains("why"), "{failure}");
    }
}
