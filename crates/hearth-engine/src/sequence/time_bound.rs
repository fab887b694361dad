//! The bound on the time of an answer.

use std::time::{Duration, Instant};

use crate::clock;
use crate::text_stream::TextStream;

/// As in llama.cpp's server: a line that is being written is finished, since editors fill in
/// whole lines.
#[derive(Debug)]
pub(super) struct TimeBound {
    most: Option<Duration>,
    /// When the first token was there.
    began: Option<Instant>,
}

impl TimeBound {
    pub(super) fn new(most_ms: Option<u32>) -> Self {
        Self {
            most: most_ms.map(|ms| Duration::from_millis(ms.into())),
            began: None,
        }
    }

    /// Whether an answer that has at least one token ends.
    pub(super) fn is_over(&mut self, stream: &TextStream) -> bool {
        let Some(most) = self.most else {
            return false;
        };
        let now = clock::now();
        let began = *self.began.get_or_insert(now);
        stream.has_line_break() && now.duration_since(began) > most
    }
}
