//! When to draft again after drafts were rejected.

/// Longest pause after rejected drafts, in tokens.
const PAUSE_MAX: u32 = 64;

/// The pause of one answer between two drafts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftBackoff {
    /// Tokens to wait before the next draft.
    pause: u32,
    /// The pause after the next rejected draft.
    next_pause: u32,
}

impl Default for DraftBackoff {
    fn default() -> Self {
        Self {
            pause: 0,
            next_pause: 1,
        }
    }
}

impl DraftBackoff {
    /// Whether the next token comes without a draft; called once for each token.
    pub fn waits(&mut self) -> bool {
        let waits = self.pause > 0;
        self.pause = self.pause.saturating_sub(1);
        waits
    }

    /// Records how many of the drafted tokens were accepted: if fewer than half, the batch
    /// cost more than it gained, and the next draft is delayed.
    pub fn record(&mut self, drafted: usize, accepted: usize) {
        if accepted * 2 >= drafted {
            self.next_pause = 1;
        } else {
            self.pause = self.next_pause;
            self.next_pause = (self.next_pause * 2).min(PAUSE_MAX);
        }
    }
}
