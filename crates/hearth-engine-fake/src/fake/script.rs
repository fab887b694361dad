//! The faults and delays of the fake backend.

use std::str::FromStr;
use std::time::Duration;

use hearth_proto::FailureKind;

/// Faults and delays. Written as `key=value`, separated by commas: `load-ms=N`,
/// `token-ms=N`, `prefill-us=N` (a prompt token), `load=KIND` with `not-found`,
/// `invalid`, `oom`, `abort` or `hang`, `fail-decode=N` (the N-th decode, from 1, fails
/// with code -3), `repeat=N` (the answer is repeated N times), `state=1` (a sequence
/// cannot be cut, as with Mamba), `clock=1` (each token is the time of its sampling
/// instead: the last nine digits of the microseconds since 1970).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    pub(super) load: Option<LoadFault>,
    pub(super) load_time: Duration,
    pub(super) token_time: Duration,
    pub(super) prefill_time: Duration,
    pub(super) fail_decode: Option<u64>,
    pub(super) repeat: usize,
    pub(super) state: bool,
    pub(super) clock: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoadFault {
    Fails(FailureKind),
    Aborts,
    Hangs,
}

impl FromStr for Script {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut script = Self::default();
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let unknown = || format!("{part:?} is not part of a script");
            let (key, value) = part.split_once('=').ok_or_else(unknown)?;
            let number = || value.parse::<u64>().map_err(|_| unknown());
            match key {
                "load-ms" => script.load_time = Duration::from_millis(number()?),
                "token-ms" => script.token_time = Duration::from_millis(number()?),
                "prefill-us" => script.prefill_time = Duration::from_micros(number()?),
                "fail-decode" => script.fail_decode = Some(number()?),
                "state" => script.state = number()? != 0,
                "clock" => script.clock = number()? != 0,
                "repeat" => script.repeat = usize::try_from(number()?).unwrap_or(1),
                "load" => {
                    script.load = Some(match value {
                        "not-found" => LoadFault::Fails(FailureKind::ModelNotFound),
                        "invalid" => LoadFault::Fails(FailureKind::ModelInvalid),
                        "oom" => LoadFault::Fails(FailureKind::OutOfMemory),
                        "abort" => LoadFault::Aborts,
                        "hang" => LoadFault::Hangs,
                        _ => return Err(unknown()),
                    });
                }
                _ => return Err(unknown()),
            }
        }
        Ok(script)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts() {
        let script: Script = "token-ms=5,load=oom,fail-decode=2".parse().unwrap();
        assert_eq!(script.token_time, Duration::from_millis(5));
        assert_eq!(
            script.load,
            Some(LoadFault::Fails(FailureKind::OutOfMemory))
        );
        assert_eq!("".parse(), Ok(Script::default()));
        for bad in ["x", "x=1", "token-ms=z", "load=z"] {
            assert!(bad.parse::<Script>().unwrap_err().contains(bad));
        }
    }
}
