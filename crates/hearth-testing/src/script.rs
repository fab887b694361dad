//! How an engine behaves.

use std::time::Duration;

use hearth_proto::{Failure, FailureKind, ModelKind};

use crate::answers::{Answers, echo};

/// What goes wrong before a model is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadFault {
    /// The engine never sends its hello.
    NoHello,
    /// It is of another version.
    OtherVersion,
    /// It reports that the model cannot be loaded, and ends.
    Fails(Failure),
    /// It ends without a word.
    Crashes,
    /// It makes no progress.
    Hangs,
}

/// The behaviour of an engine. The default loads at once, answers each prompt with the last
/// message, a token for each character, and takes no time for it.
#[derive(Clone, Debug)]
pub struct Script {
    /// What goes wrong before the model is ready.
    pub load: Option<LoadFault>,
    /// Time until the model is ready.
    pub load_time: Duration,
    /// Time for one token of an answer.
    pub token_time: Duration,
    /// Time for one token of a prompt.
    pub prefill_time: Duration,
    /// Time between `Shutdown` and the end.
    pub end_time: Duration,
    /// Requests at once; `None`: as the daemon asked for.
    pub slots: Option<u32>,
    /// Context in tokens; `None`: as the daemon asked for.
    pub context: Option<u32>,
    /// The kind of the model.
    pub kind: ModelKind,
    /// Why a draft model cannot be used; empty: it can.
    pub draft_problem: String,
    /// What is answered.
    pub answers: Answers,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            load: None,
            load_time: Duration::ZERO,
            token_time: Duration::ZERO,
            prefill_time: Duration::ZERO,
            end_time: Duration::ZERO,
            slots: None,
            context: None,
            kind: ModelKind::Chat,
            draft_problem: String::new(),
            answers: Answers::new(echo),
        }
    }
}

impl Script {
    /// An engine that takes so many milliseconds for a token of an answer.
    pub fn token_ms(ms: u64) -> Self {
        Self {
            token_time: Duration::from_millis(ms),
            ..Self::default()
        }
    }

    /// An engine that takes so many milliseconds to load.
    pub fn load_ms(ms: u64) -> Self {
        Self {
            load_time: Duration::from_millis(ms),
            ..Self::default()
        }
    }

    /// An engine that cannot load its model.
    pub fn fault(fault: LoadFault) -> Self {
        Self {
            load: Some(fault),
            ..Self::default()
        }
    }

    /// An engine that refuses its model with a failure of this kind.
    pub fn refuses(kind: FailureKind) -> Self {
        Self::fault(LoadFault::Fails(Failure::new(kind, "the script refuses")))
    }

    /// An engine with these answers.
    pub fn answering(answers: Answers) -> Self {
        Self {
            answers,
            ..Self::default()
        }
    }
}
